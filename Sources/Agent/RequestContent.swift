import Bytes
import Crypto
import Encoding
import Glibc

/// Holds what a request carries; it can be sent more than once, since a paid request is sent at least twice.
public enum RequestContent: Equatable, Sendable {
  case none
  case octets([UInt8])
  /// A file that is read again each time the request is sent.
  case file(path: String)

  /// The octets handed to the socket at a time.
  static let stepByteCount = 65536

  /// Counts the octets of the content.
  ///
  /// - Throws: `.contentUnreadable` where a file is missing or is no regular file.
  func byteCount() throws(AgentError) -> UInt64 {
    switch self {
    case .none: return 0
    case .octets(let octets): return UInt64(octets.count)
    case .file(let path):
      var facts = stat()
      guard stat(path, &facts) == 0 else { throw .contentUnreadable(path: path, code: errno) }
      guard facts.st_mode & S_IFMT == S_IFREG else { throw .contentUnreadable(path: path, code: EINVAL) }
      return UInt64(max(0, facts.st_size))
    }
  }

  var isEmpty: Bool {
    switch self {
    case .none: true
    case .octets(let octets): octets.isEmpty
    case .file: false
    }
  }

  /// Hands the content to `body` step by step until it says false; every step is at most `stepByteCount` octets.
  ///
  /// - Returns: whether all of it was taken.
  func forEachStep(_ body: (UnsafeRawBufferPointer) throws(AgentError) -> Bool) throws(AgentError) -> Bool {
    switch self {
    case .none: return true
    case .octets(let octets):
      var start = 0
      while start < octets.count {
        let end = min(octets.count, start + Self.stepByteCount)
        guard try Self.lend(octets[start..<end], to: body) else { return false }
        start = end
      }
      return true
    case .file(let path): return try Self.forEachStep(ofFile: path, body)
    }
  }

  private static func lend(
    _ octets: ArraySlice<UInt8>, to body: (UnsafeRawBufferPointer) throws(AgentError) -> Bool
  ) throws(AgentError) -> Bool {
    // The closure of withUnsafeBytes keeps the error's type only by way of a result.
    let result: Result<Bool, AgentError> = octets.withUnsafeBytes { buffer in
      do throws(AgentError) { return .success(try body(buffer)) } catch { return .failure(error) }
    }
    return try result.get()
  }

  private static func forEachStep(
    ofFile path: String, _ body: (UnsafeRawBufferPointer) throws(AgentError) -> Bool
  ) throws(AgentError) -> Bool {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .contentUnreadable(path: path, code: errno) }
    defer { _ = close(descriptor) }
    var step = [UInt8](repeating: 0, count: stepByteCount)
    while true {
      // Safe because: the array's own storage and count are passed.
      let count = step.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress, $0.count) }
      if count == 0 { return true }
      guard count > 0 else {
        if errno == EINTR { continue }
        throw .contentUnreadable(path: path, code: errno)
      }
      guard try lend(step[..<count], to: body) else { return false }
    }
  }

  /// Hashes the content; a challenge with a digest names this one (RFC 9530 `sha-256`).
  func digest() throws(AgentError) -> Digest32 {
    var hash = SHA256()
    _ = try forEachStep { (octets) throws(AgentError) in
      hash.update(octets)
      return true
    }
    return hash.finalize()
  }
}
