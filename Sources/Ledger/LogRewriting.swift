import Glibc

/// Puts a file on the disk that may be whole in memory only: where a sync has failed, the kernel takes its pages for clean, and no later sync
/// writes them. It takes no space.
enum LogRewriting {
  /// Octets that are read and written together.
  private static let pieceOctets = 1 << 20

  /// Writes a file's octets over themselves, and syncs it; one that is missing needs nothing.
  static func rewrite(_ path: String) throws(LedgerError) {
    let descriptor = Glibc.open(path, O_RDWR | O_CLOEXEC)
    guard descriptor >= 0 else {
      if errno == ENOENT { return }
      throw failure()
    }
    defer { Glibc.close(descriptor) }
    var piece = [UInt8](repeating: 0, count: pieceOctets)
    var offset: off_t = 0
    while true {
      let count = pread(descriptor, &piece, piece.count, offset)
      if count < 0 { throw failure() }
      if count == 0 { break }
      // A part that was written is read and written again with the rest.
      let written = pwrite(descriptor, piece, count, offset)
      guard written > 0 else { throw failure() }
      offset += off_t(written)
    }
    guard fdatasync(descriptor) == 0 else { throw failure() }
  }

  private static func failure() -> LedgerError { errno == ENOSPC ? .full : .file(.database, code: errno) }
}
