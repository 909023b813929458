import Bytes
import Crypto
import Glibc

/// Reads, copies and writes the files of backups.
enum BackupFile {
  /// Octets that are copied at once.
  private static let chunk = 1 << 20

  /// Reads a short file whole.
  static func read(_ path: String, limit: Int) throws(LedgerError) -> [UInt8] {
    let descriptor = try open(path)
    defer { Glibc.close(descriptor) }
    var octets: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while octets.count <= limit {
      let count = Glibc.read(descriptor, &buffer, buffer.count)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw .backup(.unreadable(path, code: errno)) }
      if count == 0 { return octets }
      octets += buffer[..<count]
    }
    throw .backup(.unreadable(path, code: EFBIG))
  }

  static func open(_ path: String) throws(LedgerError) -> Int32 {
    let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .backup(.unreadable(path, code: errno)) }
    return descriptor
  }

  /// What a copy came to.
  struct Copied {
    var octets: UInt64 = 0
    var digest = Digest32()
    /// Whole lines.
    var lines: UInt64 = 0
  }

  /// Copies an open file from its start into a new one of mode 0600, at most so many lines, and puts it on the disk.
  static func copy(
    _ source: Int32, named name: String, to path: String, lines limit: UInt64 = .max, progress: (Int) -> Void = { _ in }
  ) throws(LedgerError) -> Copied {
    let target = Glibc.open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard target >= 0 else { throw .backup(.unwritable(path, code: errno)) }
    defer { Glibc.close(target) }
    let copied = try pass(source, named: name, lines: limit) { (octets) throws(LedgerError) in
      try write(octets, to: target, path)
      progress(octets.count)
    }
    guard fsync(target) == 0 else { throw unwritable(path) }
    return copied
  }

  /// Reads a file through for its length and digest.
  static func digest(_ path: String, progress: (Int) -> Void = { _ in }) throws(LedgerError) -> Copied {
    let descriptor = try open(path)
    defer { Glibc.close(descriptor) }
    return try pass(descriptor, named: path, lines: .max) { (octets) throws(LedgerError) in progress(octets.count) }
  }

  /// Hands a file's octets to a closure, up to the end of so many lines.
  private static func pass(
    _ source: Int32, named name: String, lines limit: UInt64, _ body: (UnsafeRawBufferPointer) throws(LedgerError) -> Void
  ) throws(LedgerError) -> Copied {
    var copied = Copied()
    var hash = SHA256()
    var buffer = [UInt8](repeating: 0, count: chunk)
    while copied.lines < limit {
      let count = pread(source, &buffer, buffer.count, off_t(copied.octets))
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw .backup(.unreadable(name, code: errno)) }
      if count == 0 { break }
      try buffer.lend { (raw) throws(LedgerError) in
        var end = count
        for offset in 0..<count where raw[offset] == 0x0A {
          copied.lines += 1
          guard copied.lines == limit else { continue }
          end = offset + 1
          break
        }
        let part = UnsafeRawBufferPointer(rebasing: raw[..<end])
        hash.update(part)
        copied.octets += UInt64(end)
        try body(part)
      }
    }
    copied.digest = hash.finalize()
    return copied
  }

  private static func write(_ octets: UnsafeRawBufferPointer, to descriptor: Int32, _ path: String) throws(LedgerError) {
    var rest = octets
    while !rest.isEmpty {
      let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw unwritable(path) }
      rest = UnsafeRawBufferPointer(rebasing: rest[count...])
    }
  }

  /// Writes a small file whole, puts it on the disk, and then into its place.
  static func write(_ octets: [UInt8], to path: String) throws(LedgerError) {
    let temporary = path + ".new"
    unlink(temporary)
    let descriptor = Glibc.open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw unwritable(path) }
    defer { Glibc.close(descriptor) }
    try octets.lend { (raw) throws(LedgerError) in try write(raw, to: descriptor, path) }
    guard fsync(descriptor) == 0, rename(temporary, path) == 0 else { throw unwritable(path) }
    try synchroniseFolder(of: path)
  }

  /// What the system said of the last write.
  static func unwritable(_ path: String) -> LedgerError {
    let code = errno
    return code == ENOSPC || code == EDQUOT ? .backup(.full) : .backup(.unwritable(path, code: code))
  }

  static func exists(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0
  }

  /// Opens a folder, and none that a link leads to; nil where it is none.
  static func open(folder: String) -> Int32? {
    let descriptor = Glibc.open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    return descriptor >= 0 ? descriptor : nil
  }

  /// The names in a folder but for `.` and `..`; nil where it is none, or a link to one.
  static func names(in folder: String) -> [String]? {
    guard let descriptor = open(folder: folder) else { return nil }
    return names(in: descriptor)
  }

  /// The same of an open folder, which is closed.
  private static func names(in descriptor: Int32) -> [String]? {
    guard let stream = fdopendir(descriptor) else {
      Glibc.close(descriptor)
      return nil
    }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      // Safe because: d_name ends with a zero and is read before the next call to readdir.
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: MemoryLayout.size(ofValue: $0.pointee)) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }

  /// Removes a folder of ours with the files in it that may be; folders in it are not looked into, and links to folders are not followed.
  static func remove(folder: String, where mayGo: (String) -> Bool = { _ in true }) {
    guard let descriptor = open(folder: folder) else { return }
    defer { Glibc.close(descriptor) }
    guard isOurs(descriptor) else { return }
    for name in names(in: dup(descriptor)) ?? [] where mayGo(name) { unlinkat(descriptor, name, 0) }
    rmdir(folder)
  }

  /// Whether an open folder belongs to this user. Root is given those of the proxy's user too.
  private static func isOurs(_ descriptor: Int32) -> Bool {
    var status = stat()
    return fstat(descriptor, &status) == 0 && (geteuid() == 0 || status.st_uid == geteuid())
  }

  /// Refuses a database that was closed while a part of it still stands in its log: alone it is not whole.
  static func checkFolded(_ path: String) throws(LedgerError) {
    var status = stat()
    guard lstat(path + "-wal", &status) == 0, status.st_size > 0 else { return }
    throw .backup(.unwritable(path, code: EIO))
  }
}
