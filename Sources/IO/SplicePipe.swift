internal import CLinux
internal import Glibc

/// A pipe that carries octets from one socket to another inside the kernel (splice(2)): they are counted, and never copied.
public struct SplicePipe: ~Copyable {
  private let output: Int32
  private let input: Int32
  /// Octets that are in it.
  public private(set) var count = 0

  /// Opens a pipe for `capacity` octets; nil where the system gives none of that size.
  public init?(capacity: Int) {
    var ends: (Int32, Int32) = (-1, -1)
    let result = withUnsafeMutablePointer(to: &ends) { pointer in
      pointer.withMemoryRebound(to: Int32.self, capacity: 2) { clinux_pipe($0, Int32(clamping: capacity)) }
    }
    guard result >= 0 else { return nil }
    (output, input) = ends
  }

  deinit {
    _ = clinux_close(output)
    _ = clinux_close(input)
  }

  /// Whether an error says that a socket's octets cannot be moved this way at all.
  public static func isUnsupported(_ code: Int32) -> Bool { code == EINVAL || code == ENOSYS || code == EOPNOTSUPP || code == EPERM }

  /// Moves at most `limit` octets (at least 1) of a socket into the pipe, which must be empty: a full one looks like an empty socket.
  public mutating func fill(from socket: Int32, limit: Int) -> TransferResult {
    let moved = clinux_splice(socket, input, limit)
    if moved == 0 { return .ended }
    guard moved > 0 else { return Syscalls.failure(moved) }
    count += moved
    return .moved(moved)
  }

  /// Moves what the pipe holds, at least one octet, into a socket as far as that has room.
  public mutating func drain(to socket: Int32) -> TransferResult {
    let moved = clinux_splice(output, socket, count)
    guard moved > 0 else { return moved == 0 ? .wouldBlock : Syscalls.failure(moved) }
    count -= moved
    return .moved(moved)
  }
}
