import Configuration
import Glibc
import HTTP
import HTTP2
import Methods
import Synchronization
import Testing

@testable import Proxy

/// What peers of HTTP/2 do that no well-behaved one does, or do at the worst moment.
@Suite(.timeLimit(.minutes(4))) struct HTTP2HardeningTests {
  private static let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

  private final class Flag: Sendable {
    private let value = Atomic<Bool>(false)
    func set() { value.store(true, ordering: .sequentiallyConsistent) }
    func wait() {
      for _ in 0..<2000 where !value.load(ordering: .sequentiallyConsistent) { Pause.milliseconds(5) }
    }
  }

  private final class Seen: Sendable { let text = Mutex("") }

  /// A proxy whose upstream is spoken to in HTTP/2 without TLS.
  private func relay(_ upstream: ScriptedUpstream, _ configure: (inout Settings) -> Void = { _ in }) throws -> RelayFixture {
    try RelayFixture(upstreamPort: upstream.port) { settings in
      settings.upstreams[0].http2 = .always
      configure(&settings)
    }
  }

  /// The code of the GOAWAY that ends a connection, and nothing behind it.
  private func ending(_ wire: Wire) -> UInt32? {
    var code: UInt32?
    while let frame = try? RawFrame(from: wire) {
      if frame.type == RawFrames.goAwayType { code = frame.payload.dropFirst(4).prefix(4).reduce(0) { $0 << 8 | UInt32($1) } }
    }
    return code
  }

  // MARK: Clients

  @Test func whatComesWithAFloodIsNotServed() throws {
    let upstream = try ScriptedUpstream.answering { _ in Self.ok }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let wire = try Wire(port: relay.port)
    let requests = RawFrames.request(1, "POST", "/x", ends: false) + RawFrames.data(1, "abc") + RawFrames.request(3, "GET", "/y", ends: true)
    wire.send(RawFrames.preface + RawFrames.settings() + requests + (0..<100).flatMap { _ in RawFrames.ping })
    #expect(ending(wire) == HTTP2ErrorCode.enhanceYourCalm.rawValue)
    #expect(relay.metric("http2_streams_total") == 0)
    #expect(relay.metric("http2_sessions_broken_total") == 1)
    #expect(upstream.connectionCount == 0)
    #expect(try relay.get().body == "ok")
  }

  @Test func sessionsThatBreakARuleAreCounted() throws {
    let upstream = try ScriptedUpstream.answering { _ in Self.ok }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let wire = try Wire(port: relay.port)
    wire.send(RawFrames.preface + RawFrames.settings() + RawFrames.data(1, "idle"))
    #expect(ending(wire) == HTTP2ErrorCode.protocolError.rawValue)
    #expect(relay.metric("http2_sessions_broken_total") == 1)
  }

  @Test func aDrainIsSaidThoughTheSocketIsNeverEmpty() throws {
    let content = String(repeating: "0123456789abcdef", count: 2 << 20)
    let upstream = try ScriptedUpstream.answering { _ in "HTTP/1.1 200 OK\r\nContent-Length: \(content.utf8.count)\r\n\r\n\(content)" }
    let relay = try RelayFixture(upstreamPort: upstream.port) { $0.limits.requestsPerConnection = 1 }
    let wire = try Wire(port: relay.port)
    let windows = RawFrames.settings([(4, 0x7fff_ffff)]) + RawFrames.windowUpdate(0, 0x7fff_0000)
    wire.send(RawFrames.preface + windows + RawFrames.request(1, "GET", "/x", ends: true))
    var (received, lasts) = (0, [UInt32]())
    while received < content.utf8.count {
      let frame = try RawFrame(from: wire)
      if frame.type == RawFrames.goAwayType { lasts.append(frame.number) }
      if frame.type == RawFrames.dataType { received += frame.payload.count }
      // Slowly enough that it takes two seconds, and there is something to send throughout.
      if frame.type == RawFrames.dataType, received / 16_384 % 16 == 0 { Pause.milliseconds(15) }
    }
    #expect(lasts == [0x7fff_ffff, 1])
  }

  /// A paid request that a server drops, and whose client leaves while another one, which is told whose request it is, lets it wait.
  /// Calls `body` with that server's end of the connection, once it has heard the request.
  private func leave(abandon: Duration, _ body: (PaidRelay, SessionSecret, Wire) throws -> Void) throws {
    let dropped = Flag()
    let first = try ScriptedUpstream { wire, _ in
      guard let head = try? wire.read(through: "\r\n\r\n") else { return }
      if head.contains("/slow") { return dropped.set() }
      wire.send(Self.ok)
    }
    let second = try CongestedServer()
    let relay = try PaidRelay(upstreamPort: first.port) { settings in
      settings.upstreams[0].servers = [
        .init(.host("127.0.0.1", port: first.port), weight: 100), .init(.host("127.0.0.1", port: second.port), weight: 1),
      ]
      settings.upstreams[0].proxyProtocol = .v1
      settings.timeouts.abandon = abandon
    }
    let secret = try relay.openSession("/weather/x", deposit: 100_000)
    let peer = HTTP2Peer(try Wire(port: relay.port), .client(isSecure: false))
    let stream = try peer.request(PaidRelay.request("/weather/slow", short(secret)))
    peer.flush()
    dropped.wait()
    Pause.milliseconds(200)
    peer.reset(stream, .cancel)
    Pause.milliseconds(100)
    let wire = try second.relieve()
    #expect(try wire.read(through: "\r\n") == "PROXY UNKNOWN\r\n")
    _ = try wire.read(through: "\r\n\r\n")
    try body(relay, secret, wire)
    #expect(try relay.send("/free/x").status == 200)
    #expect(relay.ledger.verify().isBalanced)
  }

  @Test func aClientThatLeavesWhileItsRequestGoesElsewhereIsNoHarm() throws {
    try leave(abandon: .seconds(20)) { relay, secret, wire in
      wire.send(Self.ok)
      // It was served, and the client's leaving does not undo that.
      #expect(relay.wait { (try? relay.view(secret).spent) == 4000 })
    }
  }

  /// From the moment on that the client left, and not from when a connection stood.
  @Test func whatNobodyWaitsForIsGivenUpInTime() throws {
    try leave(abandon: .seconds(3)) { relay, secret, _ in
      let spent = try relay.view(secret).spent
      #expect(spent == 4000)
      #expect(relay.wait { (try? relay.view(secret).spent) == 2000 })
    }
  }

  // MARK: Upstreams

  @Test func requestsThatWaitForASessionGetTheNextOne() throws {
    let upstream = try ScriptedUpstream { wire, number in
      let peer = HTTP2Peer(wire, .server)
      if number == 1 {
        _ = wire.receiveSome()
        peer.goAway()
        // Closed at once over what was not read, the connection would be reset.
        return Pause.milliseconds(200)
      }
      var heard = 0
      while peer.run(until: { $0.order.count > heard }) {
        peer.answer(peer.order[heard], Self.ok.replacing("ok", with: ""), "ok")
        heard += 1
      }
    }
    let relay = try relay(upstream) { $0.upstreams[0].maxConnections = 1 }
    #expect(try relay.connect().request("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").body == "ok")
    #expect(upstream.connectionCount == 2)
  }

  @Test func aSessionThatHasGoneSilentTakesNoMoreRequests() throws {
    let isOver = Flag()
    defer { isOver.set() }
    let upstream = try ScriptedUpstream { wire, number in
      let peer = HTTP2Peer(wire, .server)
      var heard = 0
      while peer.run(until: { $0.order.count > heard }) {
        if number == 1, heard == 1 { return isOver.wait() }
        peer.answer(peer.order[heard], Self.ok.replacing("ok", with: ""), "ok")
        heard += 1
      }
    }
    let relay = try relay(upstream) { $0.timeouts.firstOctet = .milliseconds(300) }
    #expect(try relay.get("/one").body == "ok")
    #expect(try relay.get("/two").status == 504)
    #expect(try relay.get("/three").body == "ok")
    #expect(upstream.connectionCount == 2)
  }

  /// As every call of gRPC is.
  @Test func aRefusedRequestWithoutALengthIsSentAgain() throws {
    let seen = Seen()
    let upstream = try ScriptedUpstream { wire, number in
      let peer = HTTP2Peer(wire, .server)
      guard peer.run(until: { !$0.ended.isEmpty }) else { return }
      if number == 1 {
        peer.reset(peer.order[0], .refusedStream)
        _ = peer.run { _ in false }
        return
      }
      seen.text.withLock { $0 = String(decoding: peer.content[peer.order[0]] ?? [], as: UTF8.self) }
      peer.answer(peer.order[0], Self.ok.replacing("ok", with: ""), "ok")
      _ = peer.run { _ in false }
    }
    let relay = try relay(upstream)
    let chunked = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n3\r\n of\r\n0\r\n\r\n"
    #expect(try relay.connect().request(chunked).body == "ok")
    #expect(seen.text.withLock { $0 } == "body of")
  }

  @Test func aStreamThatTheServerResetsIsNotSentAgainToIt() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      let peer = HTTP2Peer(wire, .server)
      var heard = 0
      while peer.run(until: { $0.order.count > heard }) {
        peer.reset(peer.order[heard], .internalError)
        heard += 1
      }
    }
    let relay = try relay(upstream)
    #expect(try relay.get().status == 502)
    #expect(relay.metric("upstream_http2_streams_total") == 1)
  }

  /// What clients may send bounds nothing of what upstreams answer.
  @Test func aSmallLimitOfHeadsIsForRequestsOnly() throws {
    let field = "X-Large: " + String(repeating: "x", count: 20_000) + "\r\n"
    let upstream = try ScriptedUpstream { wire, _ in
      let peer = HTTP2Peer(wire, .server)
      guard peer.run(until: { !$0.ended.isEmpty }) else { return }
      peer.answer(peer.order[0], "HTTP/1.1 200 OK\r\n\(field)Content-Length: 2\r\n\r\n", "ok")
      _ = peer.run { _ in false }
    }
    let relay = try relay(upstream) { ($0.limits.headBytes, $0.limits.requestLine) = (2048, 1024) }
    let response = try relay.get()
    #expect(response.status == 200 && response.head.utf8.count > 20_000)
  }

  @Test func contentThatNobodyTakesDoesNotKeepItsStream() throws {
    let seen = Seen()
    let upstream = try ScriptedUpstream { wire, _ in
      guard (try? wire.read(24)) != nil else { return }
      wire.send(RawFrames.settings())
      while let frame = try? RawFrame(from: wire) {
        // Its window is used up when the first 65,535 octets are here.
        if frame.type == RawFrames.headersType {
          Pause.milliseconds(300)
          wire.send(RawFrames.ok(frame.stream, ends: true))
        }
        if frame.type == RawFrames.resetType { return seen.text.withLock { $0 = "reset \(frame.stream)" } }
      }
    }
    let relay = try relay(upstream)
    let content = String(repeating: "x", count: 100_000)
    #expect(try relay.connect().request("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + content).status == 200)
    for _ in 0..<500 where seen.text.withLock({ $0 }).isEmpty { Pause.milliseconds(10) }
    #expect(seen.text.withLock { $0 } == "reset 1")
  }
}

/// What gRPC's clients are told, and what their calls cost.
@Suite(.timeLimit(.minutes(4))) struct GRPCRelayTests {
  private static func call(_ path: String, _ fields: [(String, String)]) -> String {
    PaidRelay.request(path, method: "POST", [("Content-Type", "application/grpc"), ("TE", "trailers")] + fields)
  }

  private func relay(_ upstream: ScriptedUpstream) throws -> PaidRelay {
    try PaidRelay(upstreamPort: upstream.port) { settings in
      for index in settings.routes.indices {
        settings.routes[index].tellsGRPC = true
        settings.routes[index].holdTimeout = .milliseconds(100)
      }
    }
  }

  @Test func aCallThatFailsBeforeAnythingWasSaidCostsNothing() throws {
    let upstream = try ScriptedUpstream.answering { head in
      let status = head.contains("/fails") ? "14" : "0"
      return "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: \(status)\r\nContent-Length: 0\r\n\r\n"
    }
    let relay = try relay(upstream)
    let secret = try relay.openSession("/weather/x", deposit: 100_000)
    let peer = HTTP2Peer(try Wire(port: relay.port), .client(isSecure: false))
    for (path, cost) in [("/weather/fails", UInt128(2000)), ("/weather/passes", 4000)] {
      let stream = try peer.request(Self.call(path, short(secret)))
      #expect(peer.run { $0.ended.contains(stream) })
      #expect(peer.heads[stream]?.hasPrefix("HTTP/1.1 200") == true)
      #expect(peer.heads[stream]?.lowercased().contains("payment-receipt") == (cost == 4000))
      #expect(try relay.view(secret).spent == cost)
    }
  }

  @Test func aBudgetThatRunsOutIsToldInTheTrailers() throws {
    let content = String(repeating: "0123456789abcdef", count: 4_000_000 / 16)
    let upstream = try ScriptedUpstream.answering { head in
      guard head.contains("/bytes/file") else { return "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx" }
      return "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n3d0900\r\n\(content)\r\n0\r\n\r\n"
    }
    let relay = try relay(upstream)
    let secret = try relay.openSession("/bytes/first", deposit: 20_000)
    let peer = HTTP2Peer(try Wire(port: relay.port), .client(isSecure: false))
    let stream = try peer.request(Self.call("/bytes/file", short(secret)))
    #expect(peer.run { $0.ended.contains(stream) || $0.resets[stream] != nil })
    #expect(peer.resets[stream] == nil)
    #expect(peer.trailers[stream]?.contains("grpc-status: 8\r\n") == true)
    #expect((1_900_000..<2_000_000).contains(peer.content[stream]?.count ?? 0))
  }
}

/// A server that lets nobody in until it is told to.
final class CongestedServer {
  let port: UInt16
  private let listener: Int32
  /// Takes the only place that waits to be accepted.
  private let first: Wire

  init() throws {
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var count = socklen_t(MemoryLayout<sockaddr_in>.size)
    let descriptor = listener
    let isListening = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        bind(descriptor, address, count) == 0 && listen(descriptor, 0) == 0 && getsockname(descriptor, address, &count) == 0
      }
    }
    try #require(isListening)
    port = UInt16(bigEndian: address.sin_port)
    first = try Wire(port: port)
    var limit = timeval(tv_sec: 10, tv_usec: 0)
    setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
  }

  deinit { close(listener) }

  /// Lets in who has waited; the kernel says so again within a second or two.
  func relieve() throws -> Wire {
    let (filling, next) = (accept(listener, nil, nil), accept(listener, nil, nil))
    close(filling)
    try #require(next >= 0)
    return Wire(descriptor: next)
  }
}
