internal import CLinux
internal import Glibc

/// What came of a receive or send on a non-blocking socket.
@frozen public enum TransferResult: Equatable, Sendable {
  /// So many octets were moved (at least one).
  case moved(Int)
  /// Nothing can be moved before the next readiness event.
  case wouldBlock
  /// The peer has finished sending (receive only).
  case ended
  /// The connection is dead; errno.
  case failed(Int32)
}

/// The system calls of the data path: thin, without state, every result checked.
public enum Syscalls {
  static func eventDescriptor() throws(IOError) -> Int32 {
    let descriptor = clinux_eventfd()
    guard descriptor >= 0 else { throw .cannotOpen(code: -descriptor) }
    return descriptor
  }

  static func wake(_ descriptor: Int32) { _ = clinux_eventfd_wake(descriptor) }

  /// Closes a descriptor.
  public static func close(_ descriptor: Int32) { _ = clinux_close(descriptor) }

  /// Receives into `octets`, which must not be empty.
  public static func receive(_ descriptor: Int32, into octets: UnsafeMutableRawBufferPointer) -> TransferResult {
    let count = clinux_receive(descriptor, octets.baseAddress, octets.count)
    if count > 0 { return .moved(count) }
    if count == 0 { return .ended }
    return failure(count)
  }

  /// Receives into `octets`, which must not be empty, and leaves everything to be received again.
  public static func peek(_ descriptor: Int32, into octets: UnsafeMutableRawBufferPointer) -> TransferResult {
    let count = clinux_peek(descriptor, octets.baseAddress, octets.count)
    if count > 0 { return .moved(count) }
    return count == 0 ? .ended : failure(count)
  }

  /// Gives the address that a connection came to; nil for a Unix socket.
  public static func localAddress(_ descriptor: Int32) -> SocketAddress? {
    var address: (UInt64, UInt64) = (0, 0)
    var port: UInt16 = 0
    var family: Int32 = 0
    let result = withUnsafeMutableBytes(of: &address) { octets in
      clinux_local_address(descriptor, octets.bindMemory(to: UInt8.self).baseAddress, &port, &family)
    }
    guard result >= 0, family != 0 else { return nil }
    return SocketAddress(
      family: family == 4 ? .inet : .inet6, high: UInt64(bigEndian: address.0), low: UInt64(bigEndian: address.1), port: port)
  }

  /// Sends `octets`, which must not be empty. `moreFollows` delays a short last segment (MSG_MORE).
  public static func send(_ descriptor: Int32, _ octets: UnsafeRawBufferPointer, moreFollows: Bool = false) -> TransferResult {
    let count = clinux_send(descriptor, octets.baseAddress, octets.count, moreFollows ? 1 : 0)
    return count >= 0 ? .moved(count) : failure(count)
  }

  /// Sends two ranges with one system call.
  public static func send(
    _ descriptor: Int32, _ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer
  ) -> TransferResult {
    let count = clinux_send_two(descriptor, first.baseAddress, first.count, second.baseAddress, second.count)
    return count >= 0 ? .moved(count) : failure(count)
  }

  /// Ends our direction of a connection; the peer's stays open.
  public static func shutdownWrite(_ descriptor: Int32) { _ = clinux_shutdown_write(descriptor) }

  /// Makes the coming close a reset, so that the peer sees that something was cut short.
  public static func resetOnClose(_ descriptor: Int32) { _ = clinux_reset_on_close(descriptor) }

  /// Takes the pending error of a socket: 0 when a connect has succeeded, else the errno.
  public static func socketError(_ descriptor: Int32) -> Int32 { -clinux_socket_error(descriptor) }

  /// Opens a descriptor of no use, to be given up when none is left (so that a connection can be accepted and closed).
  public static func spareDescriptor() -> Int32? {
    let descriptor = clinux_open_null()
    return descriptor >= 0 ? descriptor : nil
  }

  /// Raises the descriptor limit to what the system allows, and returns it.
  @discardableResult public static func raiseDescriptorLimit() -> Int { Int(clinux_raise_descriptor_limit()) }

  /// Has a crash leave no image of the memory, which holds keys and secrets. Whoever wants one raises the limit of the running process.
  public static func forbidCoreDumps() { clinux_forbid_core_dumps() }

  /// Sets the allocator up for a long-running server.
  public static func tuneAllocator() { clinux_tune_allocator() }

  /// Counts the cores that this process may use; at least 1.
  public static var coreCount: Int { max(1, Int(clinux_core_count())) }

  static func failure(_ result: Int) -> TransferResult {
    let code = Int32(truncatingIfNeeded: -result)
    return code == EAGAIN || code == EWOULDBLOCK ? .wouldBlock : .failed(code)
  }
}
