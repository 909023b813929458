internal import CLinux
internal import Glibc
internal import Synchronization

/// One end of a channel to another process: messages, each with a descriptor where that is wanted.
public final class MessageChannel: Sendable {
  /// What came of receiving.
  public enum Received: Sendable {
    /// A message; the descriptor that came with it is the receiver's, to be closed.
    case message([UInt8], descriptor: Int32?)
    /// Nothing came in time.
    case nothing
    /// The other process has closed its end, or died.
    case ended
  }

  /// Octets of the longest message.
  public static let messageLimit = 96 << 10
  /// Milliseconds that a sender waits for room.
  private static let patience: Int32 = 1000

  /// The socket.
  public let descriptor: Int32
  private let failed = Atomic<Bool>(false)

  /// Whether a message could not be sent: the other end is gone, or takes nothing.
  public var hasFailed: Bool { failed.load(ordering: .relaxed) }

  /// Takes an end over that another process made.
  public init(adopting descriptor: Int32) {
    self.descriptor = descriptor
    _ = clinux_close_on_exec(descriptor)
  }

  /// Makes a channel: this end, and the one for the other process.
  public static func pair() throws(IOError) -> (own: MessageChannel, other: MessageChannel) {
    var ends: [Int32] = [-1, -1]
    let result = clinux_socket_pair(&ends)
    guard result >= 0 else { throw .cannotOpen(code: -result) }
    return (MessageChannel(adopting: ends[0]), MessageChannel(adopting: ends[1]))
  }

  deinit { Syscalls.close(descriptor) }

  /// Sends a message, with a copy of a descriptor where one is given. False where the other end is gone, or takes nothing for a second;
  /// whoever sends many had better look at ``hasFailed`` then.
  public func send(_ octets: [UInt8], descriptor passed: Int32? = nil) -> Bool {
    precondition(!octets.isEmpty && octets.count <= Self.messageLimit)
    let isSent = clinux_send_message(descriptor, octets, octets.count, passed ?? -1, Self.patience) >= 0
    if !isSent { failed.store(true, ordering: .relaxed) }
    return isSent
  }

  /// Waits for a message.
  public func receive(milliseconds: Int32) -> Received {
    var octets = [UInt8](repeating: 0, count: Self.messageLimit)
    var passed: Int32 = -1
    let count = clinux_receive_message(descriptor, &octets, octets.count, &passed, milliseconds)
    if count == -Int(EAGAIN) { return .nothing }
    guard count > 0 else { return .ended }
    return .message(Array(octets[..<count]), descriptor: passed >= 0 ? passed : nil)
  }
}
