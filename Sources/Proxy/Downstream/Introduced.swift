import HTTP
import IO

// The PROXY protocol from the proxies in front of us.
extension Worker {
  /// Takes a new connection, which first says whom it is with where the listener wants to know. Only a trusted proxy, or
  /// whoever may reach the Unix socket, is listened to there.
  mutating func meet(_ descriptor: Int32, _ address: SocketAddress, _ listener: Int32) {
    let peer = ClientAddress(address)
    guard plan.listeners[Int(listener)].acceptsIntroduction else {
      welcome(descriptor, peer, port: address.port, listener)
      return
    }
    guard peer == .none || Forwarded.isTrusted(peer, plan.trustedProxies) else {
      metrics.connectionsRefused.add()
      return Syscalls.close(descriptor)
    }
    if let index = welcome(descriptor, peer, port: address.port, listener) {
      downstreams.pointer(index).pointee.flags.insert(.awaitsIntroduction)
    }
  }

  /// Reads the header that a connection begins with, before anything else looks at its octets. False where it has not come
  /// whole, or the connection was closed.
  ///
  /// It is looked at and left in the socket until it is whole, and then taken out exactly: what follows belongs to TLS or HTTP.
  mutating func takeIntroduction(_ index: Int) -> Bool {
    let connection = downstreams.pointer(index)
    let space = UnsafeMutableRawBufferPointer(rebasing: received[..<ProxyProtocol.longestHeader])
    guard case .moved(let available) = Syscalls.peek(connection.pointee.descriptor, into: space) else {
      return introductionMissing(index)
    }
    var count = 0
    let header: ProxyProtocol.Header?
    do { header = try ProxyProtocol.decode(UnsafeRawBufferPointer(rebasing: space[..<available]), count: &count) } catch {
      metrics.connectionsRefused.add()
      closeDownstream(index)
      return false
    }
    guard let header else { return introductionMissing(index) }
    let whole = UnsafeMutableRawBufferPointer(rebasing: space[..<count])
    guard Syscalls.receive(connection.pointee.descriptor, into: whole) == .moved(count) else {
      closeDownstream(index)
      return false
    }
    connection.pointee.flags.remove(.awaitsIntroduction)
    switch header {
    case .unspecified: return true
    case .relayed(let source, _): return become(index, source)
    }
  }

  /// More of the header must come, if the peer has not ended.
  private mutating func introductionMissing(_ index: Int) -> Bool {
    let connection = downstreams.pointer(index)
    connection.pointee.flags.remove(.readable)
    if connection.pointee.has(.peerClosing) { closeDownstream(index) }
    return false
  }

  /// From here on the connection is the client's; false where that one has as many as it may have.
  private mutating func become(_ index: Int, _ client: ProxyProtocol.Endpoint) -> Bool {
    let connection = downstreams.pointer(index)
    connection.pointee.peer = client.address
    connection.pointee.peerPort = client.port
    connection.pointee.client = client.address
    guard client.address != .none, !Forwarded.isTrusted(client.address, plan.trustedProxies) else { return true }
    guard control.clients.enter(client.address) else {
      metrics.connectionsRefused.add()
      closeDownstream(index)
      return false
    }
    connection.pointee.isCounted = true
    return true
  }
}
