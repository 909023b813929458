import Bytes
import Crypto
import Encoding
import Gateway
import HTTP

// Requests that want to go over to another protocol, and the upstream's answer to them.
extension Worker {
  /// Connections of a worker that may be switched at once.
  static var tunnelPlaces: Int { connectionPlaces }

  /// Notes that a request wants to switch where its route allows that; says what to answer where it cannot be served so.
  mutating func prepareUpgrade(_ index: Int, _ octets: UnsafeRawBufferPointer) -> Answer? {
    releaseTunnel(index)
    let connection = downstreams.pointer(index)
    let isTunnel = connection.pointee.has(.tunnelAsked)
    let place = Int(connection.pointee.route)
    let offered = plan.routes[place].upgrades
    guard !offered.isEmpty, let choice = UpgradeField.chosen(requestHead.pointee, octets, among: offered) else {
      // A stream that asks for a tunnel is no request that could go on without.
      return isTunnel ? Self.upgradeAnswer(501, "This path does not serve the protocol.") : nil
    }
    var tunnel = Tunnel(name: offered[choice])
    if tunnel.isWebSocket {
      switch WebSocketHandshake.fault(requestHead.pointee, octets, isTunnel: isTunnel) {
      case .keyInvalid: return Self.upgradeAnswer(400, "Sec-WebSocket-Key is not 16 octets in base64.")
      case .versionUnsupported:
        return Self.upgradeAnswer(426, "Only version 13 of WebSocket is served.", lines: "Sec-WebSocket-Version: 13\r\n", name: tunnel.name)
      case nil: break
      }
      let given = WebSocketHandshake.key(requestHead.pointee, octets).map { [UInt8]($0) }
      // The upstream gets one key: what a stream's client sends without need goes on like any other field.
      if given == nil { tunnel.key = Array(Base64.encode(Random.bytes(16)).utf8) }
      tunnel.accept = Self.accept(given ?? tunnel.key)
    }
    guard let made = tunnels.insert(tunnel) else { return Failure.upstreamBusy.answer() }
    connection.pointee.tunnel = Int32(truncatingIfNeeded: made)
    return nil
  }

  /// 426 where a route serves nothing but what a switch leads to; nil for what asks for one, or only for the price.
  func refusedWithoutUpgrade(_ index: Int) -> Answer? {
    let connection = downstreams.pointer(index)
    guard plan.routes[Int(connection.pointee.route)].requiresUpgrade, connection.pointee.tunnel < 0 else { return nil }
    let route = plan.routes[Int(connection.pointee.route)]
    guard !route.isPriced || connection.pointee.has(.carriesCredential) else { return nil }
    return Self.upgradeAnswer(426, "This path is served over an upgraded connection only.", name: route.upgrades.first ?? [])
  }

  /// What proves that a server understood a key (RFC 6455 section 4.2.2).
  private static func accept(_ key: [UInt8]) -> [UInt8] {
    var octets = key
    WebSocketHandshake.accepting.withUTF8Buffer { octets.append(contentsOf: $0) }
    return Array(Base64.encode(SHA1.hash(octets)).utf8)
  }

  private static func upgradeAnswer(
    _ status: UInt16, _ detail: StaticString, lines: StaticString = "", name: [UInt8] = []
  ) -> Answer {
    var fields = ByteBuffer()
    fields.append("Content-Type: application/problem+json\r\nCache-Control: no-store\r\n")
    fields.append(lines)
    if !name.isEmpty {
      fields.append("Upgrade: ")
      fields.append(name)
      fields.append("\r\nConnection: Upgrade\r\n")
    }
    var body = ByteBuffer()
    body.append("{\"type\":\"about:blank\",\"title\":\"")
    body.append(Status.reason(status))
    body.append("\",\"status\":")
    body.append(decimal: UInt64(status))
    body.append(",\"detail\":\"")
    body.append(detail)
    body.append("\"}\n")
    return Answer(status: status, fields: fields.array(), body: body.array())
  }

  /// Appends to the upstream's head, which is complete, what asks it to switch.
  func appendUpgrade(_ index: Int, to buffer: inout ByteBuffer) {
    let place = Int(downstreams.pointer(index).pointee.tunnel)
    guard place >= 0 else { return }
    let tunnel = tunnels.pointer(place)
    buffer.truncate(to: buffer.count - 2)
    buffer.append("Upgrade: ")
    buffer.append(tunnel.pointee.name)
    buffer.append("\r\nConnection: Upgrade\r\n")
    if !tunnel.pointee.key.isEmpty {
      buffer.append("Sec-WebSocket-Key: ")
      buffer.append(tunnel.pointee.key)
      buffer.append("\r\n")
    }
    buffer.append("\r\n")
  }

  /// Whether a connection's request asked for a switch.
  @inline(__always)
  func maySwitch(_ index: Int) -> Bool { downstreams.pointer(index).pointee.tunnel >= 0 }

  /// Frees what is kept of a switch.
  mutating func releaseTunnel(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.tunnel >= 0 else { return }
    if tunnels.pointer(Int(connection.pointee.tunnel)).pointee.isOpen { metrics.tunnelsOpen.subtract() }
    tunnels.remove(Int(connection.pointee.tunnel))
    connection.pointee.tunnel = -1
  }

  // MARK: The answer

  /// Whether the upstream has served something else than the switch without which it has no price, or, on a stream, would be taken
  /// for the switch.
  func isSwitchMissing(_ index: Int) -> Bool {
    let connection = downstreams.pointer(index)
    guard connection.pointee.tunnel >= 0, (200..<300).contains(responseHead.pointee.status) else { return false }
    return connection.pointee.has(.tunnelAsked) || plan.routes[Int(connection.pointee.route)].requiresUpgrade
  }

  /// Whether the upstream's 101 is what was asked for.
  func isSwitchSound(_ index: Int, _ octets: UnsafeRawBufferPointer) -> Bool {
    let connection = downstreams.pointer(index)
    guard connection.pointee.tunnel >= 0, connection.pointee.upstream >= 0 else { return false }
    let tunnel = tunnels.pointer(Int(connection.pointee.tunnel))
    guard UpgradeField.switches(responseHead.pointee, octets, to: tunnel.pointee.name) else { return false }
    guard upstreams.pointer(Int(connection.pointee.upstream)).pointee.unsentCount == 0 else { return false }
    guard tunnel.pointee.isWebSocket else { return true }
    return WebSocketHandshake.accept(responseHead.pointee, octets).map { $0.elementsEqual(tunnel.pointee.accept) } ?? false
  }

  /// Takes the upstream's 101: settles with the cashier, answers the client, and passes octets from then on.
  mutating func beginTunnel(_ slot: Int, _ index: Int, _ octets: UnsafeRawBufferPointer) {
    guard isSwitchSound(index, octets) else { return upstreamFailed(slot, .upstreamMalformed) }
    let connection = downstreams.pointer(index)
    let upstream = upstreams.pointer(slot)
    let tunnel = tunnels.pointer(Int(connection.pointee.tunnel))
    noteAnswered(index, status: 101)
    tunnel.pointee.isOpen = true
    metrics.tunnels.add()
    metrics.tunnelsOpen.add()
    connection.pointee.flags.insert(.headSeen)
    connection.pointee.responseStatus = 101
    fields.removeAll()
    if connection.pointee.has(.paid) {
      let gate = cashier.answered(
        &connection.pointee.exchange, status: 101, isEventStream: false, contentLength: nil, fields: &fields, at: wall)
      if connection.pointee.has(.gone) { return endAbandoned(index, slot: slot) }
      // What is switched to cannot be collected, so the gate only tells the entry.
      if case .reply(let after) = gate { setGate(index, max(after, connection.pointee.exchange.replyAfter)) }
    } else if connection.pointee.has(.carriesCredential) {
      fields.append("Cache-Control: private\r\n")
    }
    fields.append("Upgrade: ")
    fields.append(tunnel.pointee.name)
    fields.append("\r\nConnection: Upgrade\r\n")
    writeSwitchHead(index, octets)
    upstream.pointee.flags.remove([.replayable, .persistent])
    upstream.pointee.flags.insert(.headSeen)
    upstream.pointee.output.removeAll()
    upstream.pointee.sentCount = 0
    let exchange = connection.pointee.exchange
    let isPaid = connection.pointee.has(.paid)
    let extensions = tunnel.pointee.isWebSocket ? WebSocketHandshake.extensions(responseHead.pointee, octets) : .none
    tunnel.pointee.fromClient = TunnelFlow(sender: .client, extensions: extensions)
    tunnel.pointee.fromUpstream = TunnelFlow(sender: .server, extensions: extensions)
    tunnel.pointee.fromClient.metersOctets = isPaid && exchange.metersRequest
    tunnel.pointee.fromClient.metersMessages = isPaid && exchange.metersRequestMessages
    tunnel.pointee.fromUpstream.metersOctets = isPaid && exchange.metersResponse
    tunnel.pointee.fromUpstream.metersMessages = isPaid && exchange.metersResponseMessages
    if isPaid, exchange.metersSeconds { tunnel.pointee.secondEnds = now }
    tunnel.pointee.idleDeadline = now &+ times(index).idle
    connection.pointee.state = .tunnel
    transmit(index)
    guard connection.pointee.state == .tunnel else { return }
    tickTunnel(index)
    guard connection.pointee.state == .tunnel else { return }
    if isDraining { return drainTunnel(index) }
    scheduleTunnel(index)
    if !connection.pointee.input.isEmpty || connection.pointee.has(.readable) { makeReady(downstream: index) }
  }

  private mutating func writeSwitchHead(_ index: Int, _ octets: UnsafeRawBufferPointer) {
    let connection = downstreams.pointer(index)
    // A break has to look like one, as where content ends with the connection.
    connection.pointee.responseFraming = .untilClose
    metrics.count(status: 101)
    noteStatus(index, 101)
    // Safe because: neither `fields` nor the date changes while the head is written.
    let additional = fields.withUnsafeBytes { $0 }
    let line = date.withUnsafeBytes { $0 }
    ResponseRewriter.append(
      responseHead.pointee, octets: octets, delivery: ResponseDelivery(framing: .none, keepAlive: true),
      fields: plan.routes[Int(connection.pointee.route)].responseFields, additional: additional, date: line, to: &outgoing)
    markHead(index)
  }
}
