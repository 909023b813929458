public import Bytes
import Glibc

/// Reads files whose size has a limit.
public enum SmallFile {
  /// Names why a file could not be read.
  public enum Failure: Error, Hashable, Sendable {
    /// Nothing has this name.
    case notFound
    /// This user may not read it.
    case notPermitted
    /// It is a folder.
    case isFolder
    /// It is longer than it may be.
    case tooLarge
    /// Others may read it, to whom it has to be a secret.
    case exposed
    /// Reading failed in another way.
    case failed(errno: Int32)

    /// The reason in words.
    public var reason: String {
      switch self {
      case .notFound: "a file that exists"
      case .notPermitted: "a file that this user may read"
      case .isFolder: "a file, not a folder"
      case .tooLarge: "a file of at most \(Quantity.words(UInt64(Document.byteLimit)))"
      case .exposed: "a file that only its owner may read, of mode 0600"
      case .failed(let number): "a file that can be read (\(String(cString: strerror(number))))"
      }
    }
  }

  /// Reads a whole file of at most `limit` octets.
  public static func read(_ path: String, limit: Int) throws(Failure) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw failure(errno) }
    defer { close(descriptor) }
    var octets: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = Glibc.read(descriptor, &chunk, chunk.count)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw failure(errno) }
      guard count > 0 else { return octets }
      octets += chunk[..<count]
      guard octets.count <= limit else { throw .tooLarge }
    }
  }

  /// Reads a whole regular file of at most `limit` octets straight into memory that is erased after use.
  ///
  /// - Parameter hidden: permissions that the file must not give, such as 0o077.
  public static func readSecret(_ path: String, limit: Int, hidden: UInt32 = 0) throws(Failure) -> SecretBytes {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw failure(errno) }
    defer { close(descriptor) }
    var found = stat()
    guard fstat(descriptor, &found) == 0 else { throw failure(errno) }
    guard found.st_mode & S_IFMT != S_IFDIR else { throw .isFolder }
    guard found.st_mode & hidden == 0 else { throw .exposed }
    guard found.st_size <= limit else { throw .tooLarge }
    var refused: Int32 = 0
    let secret = SecretBytes(count: Int(found.st_size)) { room in
      var filled = 0
      while filled < room.count {
        // Safe because: what is left of the room begins at `filled`.
        let count = Glibc.read(descriptor, room.baseAddress.map { $0 + filled }, room.count - filled)
        if count < 0, errno == EINTR { continue }
        if count < 0 { refused = errno }
        guard count > 0 else { return }
        filled += count
      }
    }
    guard refused == 0 else { throw failure(refused) }
    return secret
  }

  /// Tells whether users beside the owner and the group of a file may read it.
  static func isReadableByOthers(_ path: String) -> Bool {
    var found = stat()
    return stat(path, &found) == 0 && found.st_mode & S_IROTH != 0
  }

  private static func failure(_ number: Int32) -> Failure {
    switch number {
    case ENOENT, ENOTDIR: .notFound
    case EACCES, EPERM: .notPermitted
    case EISDIR: .isFolder
    default: .failed(errno: number)
    }
  }
}
