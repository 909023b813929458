import Glibc

/// Keeps a second process out: an advisory lock on a file that names the process.
final class LockFile: Sendable {
  private let descriptor: Int32

  /// Takes the lock at once, or throws `locked`.
  init(path: String) throws(LedgerError) {
    let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw .file(.lock, code: errno) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let code = errno
      let owner = Self.readOwner(descriptor)
      Glibc.close(descriptor)
      throw code == EWOULDBLOCK ? .locked(process: owner) : .file(.lock, code: code)
    }
    self.descriptor = descriptor
    let text = Array("\(getpid())\n".utf8)
    // The content only serves the other process's message; the lock itself does not depend on it.
    if ftruncate(descriptor, 0) == 0 { _ = pwrite(descriptor, text, text.count, 0) }
  }

  deinit {
    // A child that was forked and has not replaced itself yet has the descriptor, too: only this frees the lock for whoever opens next.
    _ = flock(descriptor, LOCK_UN)
    Glibc.close(descriptor)
  }

  private static func readOwner(_ descriptor: Int32) -> Int32? {
    var octets = [UInt8](repeating: 0, count: 16)
    let count = pread(descriptor, &octets, octets.count, 0)
    guard count > 0 else { return nil }
    return Int32(String(decoding: octets[..<count].prefix { $0 != 0x0A }, as: UTF8.self))
  }
}

/// Disk space kept back, so that closes and refunds can be committed when the disk is full.
struct DiskReserve {
  let path: String
  let folder: String
  let octets: Int

  /// Writes the reserve, so that its blocks are really taken; false when the disk has no room for it.
  func fill() -> Bool {
    if octets == 0 { return true }
    let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { return false }
    defer { Glibc.close(descriptor) }
    guard posix_fallocate(descriptor, 0, octets) == 0 else {
      _ = ftruncate(descriptor, 0)
      return false
    }
    return true
  }

  /// Gives the space back to the file system.
  func release() {
    _ = truncate(path, 0)
  }

  /// What is free for us on the ledger's file system, in octets; nil when that cannot be told.
  func free() -> UInt64? {
    var status = statvfs()
    guard statvfs(folder, &status) == 0 else { return nil }
    return UInt64(status.f_bavail) &* UInt64(status.f_frsize)
  }

  /// Whether the reserve stands.
  var isFilled: Bool {
    var status = stat()
    return octets == 0 || (stat(path, &status) == 0 && status.st_size >= octets)
  }
}

/// Puts a folder's names on the disk: a file that is created or renamed is lost in a power cut as long as its name is.
func synchroniseFolder(of path: String) throws(LedgerError) {
  let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
  let descriptor = Glibc.open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
  guard descriptor >= 0 else { throw .folderNotWritable(code: errno) }
  defer { Glibc.close(descriptor) }
  // File systems without such a call keep names as they please.
  guard fsync(descriptor) == 0 || errno == EINVAL else { throw .folderNotWritable(code: errno) }
}

/// Makes sure that a folder exists and can be written.
func prepareFolder(_ path: String) throws(LedgerError) {
  if mkdir(path, 0o700) == 0 {
    try synchroniseFolder(of: path)
  } else if errno != EEXIST {
    throw .folderNotWritable(code: errno)
  }
  guard access(path, R_OK | W_OK | X_OK) == 0 else { throw .folderNotWritable(code: errno) }
}
