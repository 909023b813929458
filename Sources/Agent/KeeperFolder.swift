import Glibc

/// Reads and replaces the small private files of one folder.
///
/// The folder is made with mode 0700 and the files with 0600. A file is replaced whole: written beside, synced, renamed,
/// so that a reader or a crash sees the old octets or the new ones. Writers of several processes take turns by a lock file.
struct KeeperFolder: Sendable {
  /// The most octets of one file; what the keeper writes stays far below.
  static let byteLimit = 1 << 20
  /// The most files that a listing looks at.
  static let listLimit = 4096

  let path: String

  /// Reads a file whole; nil where there is none.
  ///
  /// - Throws: `.tooOpen` where others of this machine may read or write the file, as ssh does with its keys.
  func read(_ name: String) throws(AgentError) -> [UInt8]? {
    try Self.read(path: path + "/" + name)
  }

  static func read(path: String) throws(AgentError) -> [UInt8]? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      if errno == ENOENT { return nil }
      throw .keeper(.unreadable(path: path, code: errno))
    }
    defer { _ = close(descriptor) }
    var facts = stat()
    guard fstat(descriptor, &facts) == 0 else { throw .keeper(.unreadable(path: path, code: errno)) }
    guard facts.st_mode & S_IFMT == S_IFREG else { throw .keeper(.unreadable(path: path, code: EINVAL)) }
    guard facts.st_mode & 0o077 == 0 else { throw .keeper(.tooOpen(path: path)) }
    guard facts.st_size <= byteLimit else { throw .keeper(.malformed(path: path)) }
    return try drain(descriptor, path: path)
  }

  private static func drain(_ descriptor: Int32, path: String) throws(AgentError) -> [UInt8] {
    var octets: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 16384)
    while octets.count <= byteLimit {
      // Safe because: the array's own storage and count are passed.
      let count = chunk.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress, $0.count) }
      if count == 0 { return octets }
      guard count > 0 else {
        if errno == EINTR { continue }
        throw .keeper(.unreadable(path: path, code: errno))
      }
      octets.append(contentsOf: chunk[..<count])
    }
    throw .keeper(.malformed(path: path))
  }

  /// Puts `octets` in the place of the file, in one step.
  func replace(_ name: String, with octets: [UInt8]) throws(AgentError) {
    try prepare()
    try Self.replace(path: path + "/" + name, with: octets, exclusive: false)
    sync()
  }

  /// Writes a file beside its final place and moves it there.
  ///
  /// - Parameter exclusive: keeps a file that is already there, and throws `.exists`.
  static func replace(path: String, with octets: [UInt8], exclusive: Bool) throws(AgentError) {
    let beside = "\(path).\(getpid()).new"
    _ = unlink(beside)
    let descriptor = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw .keeper(.unwritable(path: path, code: errno)) }
    let failure = write(octets, to: descriptor)
    _ = close(descriptor)
    if failure != 0 {
      _ = unlink(beside)
      throw .keeper(.unwritable(path: path, code: failure))
    }
    // A link, unlike a rename, never takes the place of a file that is there.
    let code = exclusive ? link(beside, path) : rename(beside, path)
    let cause = errno
    if exclusive || code != 0 { _ = unlink(beside) }
    guard code == 0 else {
      throw .keeper(cause == EEXIST ? .exists(path: path) : .unwritable(path: path, code: cause))
    }
  }

  /// Writes and syncs all octets; returns the errno, 0 when all are on the disk.
  private static func write(_ octets: [UInt8], to descriptor: Int32) -> Int32 {
    octets.withUnsafeBytes { buffer in
      var sent = 0
      while sent < buffer.count {
        // Safe because: the remainder of the array's own storage is passed with its own count.
        let count = Glibc.write(descriptor, buffer.baseAddress.map { $0 + sent }, buffer.count - sent)
        if count < 0 {
          if errno == EINTR { continue }
          return errno
        }
        sent += count
      }
      return fsync(descriptor) == 0 ? 0 : errno
    }
  }

  /// Removes a file; a missing one is no error.
  func remove(_ name: String) throws(AgentError) {
    guard unlink(path + "/" + name) == 0 || errno == ENOENT else {
      throw .keeper(.unwritable(path: path + "/" + name, code: errno))
    }
    sync()
  }

  /// Names the files with the given ending, in order.
  func names(ending suffix: String) throws(AgentError) -> [String] {
    guard let folder = opendir(path) else {
      if errno == ENOENT { return [] }
      throw .keeper(.unreadable(path: path, code: errno))
    }
    defer { _ = closedir(folder) }
    var names: [String] = []
    // Safe because: readdir's entry is valid until the next call, and the name is copied out before.
    while names.count < Self.listLimit, let entry = readdir(folder) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name.hasSuffix(suffix) { names.append(name) }
    }
    return names.sorted()
  }

  /// Runs `body` while no other process does the same on this folder.
  func withLock<R>(_ body: () throws(AgentError) -> R) throws(AgentError) -> R {
    try prepare()
    let name = path + "/lock"
    let descriptor = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw .keeper(.unwritable(path: name, code: errno)) }
    defer { _ = close(descriptor) }
    while flock(descriptor, LOCK_EX) != 0 {
      guard errno == EINTR else { throw .keeper(.unwritable(path: name, code: errno)) }
    }
    return try body()
  }

  /// Makes the folder, and the ones above it, where they are missing.
  func prepare() throws(AgentError) {
    var facts = stat()
    if stat(path, &facts) == 0, facts.st_mode & S_IFMT == S_IFDIR {
      guard facts.st_mode & 0o077 != 0 else { return }
      guard chmod(path, 0o700) == 0 else { throw .keeper(.tooOpen(path: path)) }
      return
    }
    var made = ""
    for part in path.split(separator: "/") {
      made += "/" + part
      guard mkdir(made, 0o700) == 0 || errno == EEXIST else { throw .keeper(.unwritable(path: made, code: errno)) }
    }
  }

  private func sync() {
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    _ = fsync(descriptor)
    _ = close(descriptor)
  }
}
