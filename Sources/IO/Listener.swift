internal import CLinux
internal import Glibc

/// What came of accepting.
public enum AcceptResult: Sendable {
  /// A connection, non-blocking, with the peer's address.
  case accepted(descriptor: Int32, peer: SocketAddress)
  /// Nobody waits.
  case wouldBlock
  /// The process or the system has no descriptor (or memory) left.
  case exhausted
  /// The connection died before it was accepted; try the next one.
  case aborted
}

/// A listening socket, closed when it goes away.
public struct Listener: ~Copyable {
  /// The socket.
  public let descriptor: Int32
  /// The port that it has (also where 0 was asked for), 0 for a Unix socket.
  public let port: UInt16
  private var unixPath: String?

  /// Listens on an address, shared by all threads that do the same (SO_REUSEPORT).
  public init(address: SocketAddress, backlog: Int32 = 4096) throws(IOError) {
    let opened = clinux_stream_socket(Int32(address.family.rawValue))
    guard opened >= 0 else { throw .cannotOpen(code: -opened) }
    let bound = clinux_bind_inet(opened, address.octets, address.port, Int32(address.family.rawValue), 1)
    guard bound >= 0 else {
      Syscalls.close(opened)
      throw .cannotBind(code: -bound)
    }
    let listening = clinux_listen(opened, backlog)
    guard listening >= 0 else {
      Syscalls.close(opened)
      throw .cannotListen(code: -listening)
    }
    descriptor = opened
    port = UInt16(clamping: clinux_local_port(opened))
    unixPath = nil
  }

  /// Refuses an address on which another process listens: with SO_REUSEPORT alone, two proxies would share its connections.
  public static func checkUnused(_ address: SocketAddress) throws(IOError) {
    let opened = clinux_stream_socket(Int32(address.family.rawValue))
    guard opened >= 0 else { throw .cannotOpen(code: -opened) }
    defer { Syscalls.close(opened) }
    let bound = clinux_bind_inet(opened, address.octets, address.port, Int32(address.family.rawValue), 0)
    guard bound >= 0 else { throw .cannotBind(code: -bound) }
  }

  /// Refuses a Unix socket on which another process listens; what else would stop a listener is left to opening it.
  public static func checkUnused(unixPath: String) throws(IOError) {
    guard clinux_unix_is_listening(unixPath) != 1 else { throw .cannotBind(code: EADDRINUSE) }
  }

  /// Listens on a Unix socket; a file left over by a dead process is replaced, one in use is refused.
  ///
  /// - Parameter mode: the file's permissions, set before anybody can connect; nil: what the process's mask leaves.
  public init(unixPath: String, mode: UInt32? = nil, backlog: Int32 = 4096) throws(IOError) {
    let opened = clinux_stream_socket(0)
    guard opened >= 0 else { throw .cannotOpen(code: -opened) }
    var bound = clinux_bind_unix(opened, unixPath)
    if bound == -EADDRINUSE && clinux_unix_is_stale(unixPath) == 1 {
      unlink(unixPath)
      bound = clinux_bind_unix(opened, unixPath)
    }
    guard bound >= 0 else {
      Syscalls.close(opened)
      throw bound == -ENAMETOOLONG ? .pathTooLong : .cannotBind(code: -bound)
    }
    if let mode { chmod(unixPath, mode) }
    let listening = clinux_listen(opened, backlog)
    guard listening >= 0 else {
      Syscalls.close(opened)
      throw .cannotListen(code: -listening)
    }
    descriptor = opened
    port = 0
    self.unixPath = unixPath
  }

  /// Makes another owner of a socket that listens, for a further thread. It does not own a Unix socket's file.
  public init(duplicating descriptor: Int32) throws(IOError) {
    let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
    guard copy >= 0 else { throw .cannotOpen(code: errno) }
    self.init(descriptor: copy, port: UInt16(clamping: clinux_local_port(copy)))
  }

  /// Takes over a socket on which another process, or systemd, has begun to listen.
  ///
  /// - Parameter unixPath: the file that goes away with the listener; nil where it is somebody else's.
  public init(adopting descriptor: Int32, unixPath: String?) throws(IOError) {
    guard clinux_is_listening(descriptor) == 1 else { throw .cannotListen(code: EINVAL) }
    let result = min(clinux_close_on_exec(descriptor), clinux_set_nonblocking(descriptor))
    guard result >= 0 else { throw .cannotOpen(code: -result) }
    self.init(descriptor: descriptor, port: UInt16(clamping: clinux_local_port(descriptor)))
    self.unixPath = unixPath
  }

  /// Tells where a socket is bound; with the path of a Unix socket. Nil where it is no such socket.
  public static func place(of descriptor: Int32) -> (address: SocketAddress, unixPath: String?)? {
    var octets = [UInt8](repeating: 0, count: 16)
    var port: UInt16 = 0
    var path = [CChar](repeating: 0, count: 109)
    let family = clinux_local_place(descriptor, &octets, &port, &path, path.count)
    guard let family = UInt8(exactly: family).flatMap({ SocketAddress.Family(rawValue: $0) }) else { return nil }
    if family == .unix {
      return (.unix, String(decoding: path.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
    }
    return (octets.withUnsafeBufferPointer { SocketAddress(octets: $0, family: family, port: port) }, nil)
  }

  /// Changes the permissions of a Unix socket's file.
  public static func setMode(_ mode: UInt32, unixPath: String) { chmod(unixPath, mode) }

  /// Leaves a Unix socket's file where it is when this listener goes away: another process listens on the socket.
  public mutating func leaveFile() { unixPath = nil }

  private init(descriptor: Int32, port: UInt16) {
    self.descriptor = descriptor
    self.port = port
    unixPath = nil
  }

  deinit {
    Syscalls.close(descriptor)
    if let unixPath { unlink(unixPath) }
  }

  /// Takes the next connection that waits.
  public borrowing func accept() -> AcceptResult {
    var address: (UInt64, UInt64) = (0, 0)
    var port: UInt16 = 0
    var family: Int32 = 0
    let descriptor = withUnsafeMutableBytes(of: &address) { octets in
      clinux_accept(self.descriptor, octets.bindMemory(to: UInt8.self).baseAddress, &port, &family)
    }
    if descriptor >= 0 {
      let kind: SocketAddress.Family = family == 4 ? .inet : family == 6 ? .inet6 : .unix
      if kind != .unix { _ = clinux_no_delay(descriptor) }
      let peer = SocketAddress(
        family: kind, high: UInt64(bigEndian: address.0), low: UInt64(bigEndian: address.1), port: port)
      return .accepted(descriptor: descriptor, peer: peer)
    }
    switch -descriptor {
    case EAGAIN: return .wouldBlock
    case EMFILE, ENFILE, ENOBUFS, ENOMEM: return .exhausted
    default: return .aborted
    }
  }
}
