internal import CLinux
internal import Glibc

/// What came of starting a connect.
public enum ConnectResult: Sendable {
  /// The connection stands already.
  case connected(Int32)
  /// It will be writable, or failed, when it is decided.
  case started(Int32)
  /// Refused at once; errno.
  case failed(Int32)
  /// No descriptor is left.
  case exhausted
}

/// Opens outgoing connections without blocking.
public enum Connector {
  /// Starts a connect to an address.
  public static func connect(to address: SocketAddress) -> ConnectResult {
    let descriptor = clinux_stream_socket(Int32(address.family.rawValue))
    guard descriptor >= 0 else { return refusal(descriptor) }
    _ = clinux_no_delay(descriptor)
    return outcome(
      descriptor,
      clinux_connect_inet(descriptor, address.octets, address.port, Int32(address.family.rawValue)))
  }

  /// Starts a connect to a Unix socket.
  public static func connect(toUnixPath path: String) -> ConnectResult {
    let descriptor = clinux_stream_socket(0)
    guard descriptor >= 0 else { return refusal(descriptor) }
    return outcome(descriptor, clinux_connect_unix(descriptor, path))
  }

  private static func refusal(_ result: Int32) -> ConnectResult {
    switch -result {
    case EMFILE, ENFILE, ENOBUFS, ENOMEM: .exhausted
    default: .failed(-result)
    }
  }

  private static func outcome(_ descriptor: Int32, _ result: Int32) -> ConnectResult {
    if result >= 0 { return .connected(descriptor) }
    if result == -EINPROGRESS { return .started(descriptor) }
    Syscalls.close(descriptor)
    return .failed(-result)
  }
}
