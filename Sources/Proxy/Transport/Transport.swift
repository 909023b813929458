/// What carries a connection's octets.
enum Transport: UInt8 {
  /// The socket as it is.
  case plain
  /// TLS on the socket.
  case tls
  /// A stream of an HTTP/2 session, which has a connection of its own.
  case stream
}
