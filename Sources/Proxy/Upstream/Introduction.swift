import Bytes
import Gateway
import HTTP
import IO

// The PROXY protocol towards upstreams.
extension Worker {
  /// Tells a new connection whose request it carries, where the upstream wants to know. False where that did not go out.
  ///
  /// It goes straight to the socket, before TLS or anything else, and a new one has room for so little.
  mutating func introduce(_ index: Int, _ slot: Int) -> Bool {
    let upstream = upstreams.pointer(slot)
    guard let version = plan.upstreams[plan.servers[upstream.pointee.pool].upstream].proxyProtocol else { return true }
    // It tells of this client, so no other's request may follow.
    upstream.pointee.flags.insert(.last)
    var header = ByteBuffer(capacity: 256)
    ProxyProtocol.append(introduction(index), version, to: &header)
    let descriptor = upstream.pointee.descriptor
    return header.withUnsafeBytes { Syscalls.send(descriptor, $0) == .moved($0.count) }
  }

  /// The client and the address that it came to; nothing where one of them is no internet address.
  private func introduction(_ index: Int) -> ProxyProtocol.Header {
    let connection = downstreams.pointer(index)
    let client = connection.pointee.client
    // A stream whose client has left while its request went elsewhere has no session any more.
    guard connection.pointee.transport != .stream || connection.pointee.session >= 0 else { return .unspecified }
    let carrier = connection.pointee.transport == .stream ? sessions.pointer(Int(connection.pointee.session)).pointee.socket : index
    guard client != .none, let local = Syscalls.localAddress(downstreams.pointer(carrier).pointee.descriptor) else { return .unspecified }
    let isDirect = client == connection.pointee.peer
    return .relayed(
      source: ProxyProtocol.Endpoint(client, port: isDirect ? downstreams.pointer(carrier).pointee.peerPort : 0),
      destination: ProxyProtocol.Endpoint(ClientAddress(local), port: local.port))
  }
}
