import Bytes
import Configuration
import Encoding
import Glibc
import HTTP
import IO
import Proxy
import Synchronization
import Testing

/// What goes wrong: slow, dead and lying peers, limits, the end of the server.
@Suite(.timeLimit(.minutes(2))) struct RelayFailureTests {
  private static let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

  private func answering() throws -> ScriptedUpstream { try .answering { _ in Self.ok } }

  // MARK: Upstreams

  @Test func anUnreachableUpstreamIs502() throws {
    let gone = try answering()
    let port = gone.port
    gone.close()
    let relay = try RelayFixture(upstreamPort: port)
    let wire = try relay.connect()
    let response = try wire.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(response.status == 502)
    #expect(response.body.contains("\"status\":502"))
    // The client's connection lasts.
    #expect(try wire.request("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").status == 200)
  }

  @Test func anUpstreamThatFailsIsNoticedOnceAndSoIsItsReturn() throws {
    let answers = Answers()
    let upstream = try ScriptedUpstream { wire, _ in
      guard (try? wire.read(through: "\r\n\r\n")) != nil else { return }
      if answers.isWell.load(ordering: .sequentiallyConsistent) { wire.send(Self.ok) }
    }
    let seen = Notices()
    let relay = try RelayFixture(upstreamPort: upstream.port, notify: { notice in seen.list.withLock { $0.append(notice) } })
    for _ in 0..<3 { #expect(try relay.get().status == 502) }
    answers.isWell.store(true, ordering: .sequentiallyConsistent)
    for _ in 0..<3 { #expect(try relay.get().status == 200) }
    let list = seen.list.withLock { $0 }
    #expect(list == [.upstreamFails(upstream: "upstream", .closedEarly), .upstreamServesAgain(upstream: "upstream")])
  }

  private final class Answers: Sendable {
    let isWell = Atomic<Bool>(false)
  }

  private final class Notices: Sendable {
    let list = Mutex<[ServerNotice]>([])
  }

  @Test func aSilentUpstreamIs504() throws {
    let upstream = try ScriptedUpstream { wire, _ in _ = wire.readToEnd() }
    let relay = try RelayFixture(upstreamPort: upstream.port) { $0.timeouts.firstOctet = .milliseconds(300) }
    #expect(try relay.get().status == 504)
  }

  @Test(arguments: [
    "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "",
  ])
  func aLyingUpstreamIs502(answer: String) throws {
    let upstream = try ScriptedUpstream { wire, _ in
      _ = try? wire.read(through: "\r\n\r\n")
      wire.send(answer)
    }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    #expect(try relay.get().status == 502)
  }

  @Test func aSafeRequestOnADeadReusedConnectionIsSentAgain() throws {
    let upstream = try ScriptedUpstream { wire, number in
      guard (try? wire.read(through: "\r\n\r\n")) != nil else { return }
      wire.send(Self.ok)
      // The first connection takes another request and dies with it.
      guard number == 1 else {
        while (try? wire.read(through: "\r\n\r\n")) != nil { wire.send(Self.ok) }
        return
      }
      _ = try? wire.read(through: "\r\n\r\n")
    }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let wire = try relay.connect()
    #expect(try wire.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status == 200)
    #expect(try wire.request("GET /again HTTP/1.1\r\nHost: a\r\n\r\n").status == 200)
    #expect(upstream.connectionCount == 2)
    #expect(relay.metric("upstream_retries_total") == 1)
  }

  @Test func anUnsafeRequestIsNotSentAgain() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      guard (try? wire.read(through: "\r\n\r\n")) != nil else { return }
      wire.send(Self.ok)
      _ = try? wire.read(through: "\r\n\r\n")
    }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let wire = try relay.connect()
    #expect(try wire.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status == 200)
    #expect(try wire.request("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxx").status == 502)
    #expect(upstream.connectionCount == 1)
  }

  @Test func aNewConnectionThatDiesIsNotTriedAgain() throws {
    let upstream = try ScriptedUpstream { wire, _ in _ = try? wire.read(through: "\r\n\r\n") }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    #expect(try relay.get().status == 502)
    #expect(upstream.connectionCount == 1)
  }

  @Test func aResponseCutShortIsSeenToBe() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      guard let head = try? wire.read(through: "\r\n\r\n") else { return }
      if head.contains("/chunked") {
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
      } else {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
      }
    }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let chunked = try relay.connect()
    chunked.send("GET /chunked HTTP/1.1\r\nHost: a\r\n\r\n")
    let text = chunked.readToEnd()
    #expect(text.contains("abc"))
    #expect(!text.contains("\r\n0\r\n"))
    let sized = try relay.connect()
    sized.send("GET /sized HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(sized.readToEnd().hasSuffix("\r\n\r\nabc"))
  }

  @Test func anEarlyRefusalIsPassedOnThoughTheUpstreamCloses() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      guard (try? wire.read(through: "\r\n\r\n")) != nil else { return }
      wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
    }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    for _ in 0..<5 {
      let wire = try relay.connect()
      wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
      let sender = try LoopThread(name: "sender") { wire.send([UInt8](repeating: 1, count: 3_000_000)) }
      let response = try wire.response()
      sender.join()
      #expect(response.status == 413)
      #expect(response.body == "big")
    }
  }

  @Test func octetsBehindAResponseReachNobody() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      while (try? wire.read(through: "\r\n\r\n")) != nil { wire.send(Self.ok + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil") }
    }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let wire = try relay.connect()
    for _ in 0..<5 { #expect(try wire.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n").body == "ok") }
    #expect(upstream.connectionCount == 5)
  }

  @Test func requestsWaitForAFullPool() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      while (try? wire.read(through: "\r\n\r\n")) != nil {
        Pause.milliseconds(20)
        wire.send(Self.ok)
      }
    }
    let relay = try RelayFixture(upstreamPort: upstream.port) {
      $0.upstreams[0].maxConnections = 2
      $0.upstreams[0].maxIdle = 1
    }
    let wires = try (0..<12).map { _ in try relay.connect() }
    for wire in wires { wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n") }
    for wire in wires { #expect(try wire.response().status == 200) }
    #expect(upstream.connectionCount <= 4)
  }

  // MARK: Clients

  @Test func slowHeadsAre408() throws {
    let upstream = try answering()
    let relay = try RelayFixture(upstreamPort: upstream.port) { $0.timeouts.headerRead = .milliseconds(300) }
    let wire = try relay.connect()
    wire.send("GET / HT")
    #expect(try wire.response().status == 408)
    #expect(wire.isEnded())
    let silent = try relay.connect()
    #expect(silent.isEnded())
  }

  @Test func slowContentIs408() throws {
    let upstream = try ScriptedUpstream { wire, _ in _ = wire.readToEnd() }
    let relay = try RelayFixture(upstreamPort: upstream.port) { $0.timeouts.bodyIdle = .milliseconds(300) }
    let wire = try relay.connect()
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    #expect(try wire.response().status == 408)
    #expect(wire.isEnded())
  }

  @Test func contentThatTricklesIs408() throws {
    let upstream = try ScriptedUpstream { wire, _ in _ = wire.readToEnd() }
    let relay = try RelayFixture(upstreamPort: upstream.port) {
      $0.timeouts.bodyMinimumRate = 1 << 20
      $0.timeouts.bodyMinimumRateAfter = .milliseconds(300)
    }
    let wire = try relay.connect()
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
    var isAnswered = false
    for _ in 0..<100 where !isAnswered {
      wire.send("x")
      var poll = pollfd(fd: wire.descriptor, events: Int16(POLLIN), revents: 0)
      isAnswered = Glibc.poll(&poll, 1, 50) > 0
    }
    #expect(try wire.response().status == 408)
  }

  @Test func idleConnectionsAreClosed() throws {
    let upstream = try answering()
    let relay = try RelayFixture(upstreamPort: upstream.port) { $0.timeouts.idle = .milliseconds(300) }
    let wire = try relay.connect()
    #expect(try wire.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status == 200)
    #expect(wire.isEnded())
  }

  @Test func limitsAnswerWithTheirStatus() throws {
    let upstream = try answering()
    let relay = try RelayFixture(upstreamPort: upstream.port) {
      $0.limits.requestLine = 100
      $0.limits.headBytes = 1000
      $0.limits.headerCount = 10
      $0.limits.bodyBytes = 20
    }
    #expect(try relay.get("/" + String(repeating: "a", count: 200)).status == 414)
    #expect(try relay.get(fields: "X: " + String(repeating: "a", count: 2000) + "\r\n").status == 431)
    #expect(try relay.get(fields: (0..<20).map { "X\($0): 1\r\n" }.joined()).status == 431)
    let large = try relay.connect()
    #expect(try large.request("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 21\r\n\r\n" + String(repeating: "x", count: 21)).status == 413)
    let chunked = try relay.connect()
    chunked.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunked.send("15\r\n" + String(repeating: "x", count: 21) + "\r\n0\r\n\r\n")
    #expect(try chunked.response().status == 413)
  }

  @Test func requestsOfAConnectionAreLimited() throws {
    let upstream = try answering()
    let relay = try RelayFixture(upstreamPort: upstream.port) { $0.limits.requestsPerConnection = 2 }
    let wire = try relay.connect()
    #expect(try wire.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n").field("Connection") == nil)
    #expect(try wire.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n").field("Connection") == "close")
    #expect(wire.isEnded())
  }

  @Test func connectionsOfAClientAreLimited() throws {
    let upstream = try answering()
    let relay = try RelayFixture(upstreamPort: upstream.port) { $0.limits.connectionsPerClient = 3 }
    let wires = try (0..<3).map { _ in try relay.connect() }
    for wire in wires { #expect(try wire.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status == 200) }
    #expect(try relay.connect().isEnded())
    #expect(relay.metric("connections_refused_total") == 1)
    #expect(try wires[0].request("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status == 200)
  }

  @Test func connectionsOfAClientAreCountedOverAllWorkers() throws {
    let upstream = try answering()
    let relay = try RelayFixture(upstreamPort: upstream.port) {
      $0.workers = 4
      $0.limits.connectionsPerClient = 8
    }
    var wires = try (0..<8).map { _ in try relay.connect() }
    for wire in wires { #expect(try wire.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status == 200) }
    // Whichever workers these meet.
    for _ in 0..<8 { #expect(try relay.connect().isEnded()) }
    #expect(relay.metric("connections_refused_total") == 8)
    wires[0].send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    #expect(try wires[0].response().status == 200 && wires[0].isEnded())
    wires.removeFirst()
    // A worker may accept before another one has seen that the first connection is over.
    var another = try relay.connect()
    for _ in 0..<500 {
      guard (try? another.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status) != 200 else { break }
      Pause.milliseconds(10)
      another = try relay.connect()
    }
    #expect(try another.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status == 200)
    #expect(try relay.connect().isEnded())
  }

  @Test func anUnreadRequestContentIsSkippedOrEndsTheConnection() throws {
    let upstream = try answering()
    let relay = try RelayFixture(upstreamPort: upstream.port) {
      $0.routes = [Settings.Route(id: "one", path: .exact("/one"))]
    }
    let wire = try relay.connect()
    #expect(try wire.request("POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345").status == 404)
    #expect(try wire.request("GET /one HTTP/1.1\r\nHost: a\r\n\r\n").status == 200)
    #expect(try wire.request("POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n").status == 404)
    #expect(wire.isEnded())
  }

  @Test func aHalfClosedClientGetsItsAnswer() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      guard (try? wire.read(through: "\r\n\r\n")) != nil else { return }
      Pause.milliseconds(100)
      wire.send(Self.ok)
    }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let wire = try relay.connect()
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    wire.finish()
    #expect(try wire.response().body == "ok")
    #expect(wire.isEnded())
  }

  @Test func aClientThatLeavesFreesTheUpstream() throws {
    let ended = Ended()
    let upstream = try ScriptedUpstream { wire, _ in
      guard (try? wire.read(through: "\r\n\r\n")) != nil else { return }
      wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
      for _ in 0..<2000 {
        wire.send("3\r\nabc\r\n")
        Pause.milliseconds(2)
        var poll = pollfd(fd: wire.descriptor, events: Int16(POLLIN), revents: 0)
        if Glibc.poll(&poll, 1, 0) > 0 { return ended.value.store(true, ordering: .sequentiallyConsistent) }
      }
    }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    do {
      let wire = try relay.connect()
      wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
      _ = try wire.read(through: "abc")
      wire.resetOnClose()
    }
    for _ in 0..<100 where !ended.value.load(ordering: .sequentiallyConsistent) { Pause.milliseconds(20) }
    let hasEnded = ended.value.load(ordering: .sequentiallyConsistent)
    #expect(hasEnded)
  }

  private final class Ended: Sendable {
    let value = Atomic<Bool>(false)
  }

  // MARK: The server's end

  @Test func drainingFinishesWhatRuns() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      guard (try? wire.read(through: "\r\n\r\n")) != nil else { return }
      Pause.milliseconds(300)
      wire.send(Self.ok)
    }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let busy = try relay.connect()
    let idle = try relay.connect()
    #expect(try idle.request("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").status == 200)
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    Pause.milliseconds(100)
    relay.server.drain()
    #expect(idle.isEnded())
    let response = try busy.response()
    #expect(response.body == "ok")
    relay.server.join()
    #expect(throws: WireError.self) { try relay.connect() }
  }

  @Test func stoppingEndsEverythingAtOnce() throws {
    let upstream = try ScriptedUpstream { wire, _ in _ = wire.readToEnd() }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let busy = try relay.connect()
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    Pause.milliseconds(100)
    relay.server.stop()
    relay.server.join()
    #expect(busy.isEnded())
  }

  @Test func manyClientsAtOnceAreServed() throws {
    let upstream = try ScriptedUpstream.answering { head in
      let target = String(head.split(separator: " ")[1])
      return "HTTP/1.1 200 OK\r\nContent-Length: \(target.utf8.count)\r\n\r\n\(target)"
    }
    let relay = try RelayFixture(upstreamPort: upstream.port) { $0.workers = 2 }
    let wires = try (0..<100).map { _ in try relay.connect() }
    for round in 0..<10 {
      for (number, wire) in wires.enumerated() { wire.send("GET /\(number)/\(round) HTTP/1.1\r\nHost: a\r\n\r\n") }
      for (number, wire) in wires.enumerated() { #expect(try wire.response().body == "/\(number)/\(round)") }
    }
    #expect(relay.metric("requests_total") == 1000)
  }

  @Test func aPortThatAnotherProxyServesIsAnError() throws {
    let upstream = try answering()
    let relay = try RelayFixture(upstreamPort: upstream.port)
    #expect(throws: ServerError.cannotListen(listener: 0, .cannotBind(code: EADDRINUSE))) {
      _ = try RelayFixture(upstreamPort: upstream.port) { $0.listeners = [.init(.address("127.0.0.1", port: relay.port))] }
    }
  }

  @Test func anAddressOfAnotherMachineIsAnError() throws {
    let upstream = try answering()
    var settings = Settings()
    settings.workers = 1
    settings.listeners = [.init(.address("192.0.2.1", port: 1))]
    settings.upstreams = [Settings.Upstream(name: "u", endpoint: .host("127.0.0.1", port: upstream.port))]
    settings.routes = [Settings.Route(id: "all", path: .prefix("/"))]
    let folder = "/tmp/farebox-relay-\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
    let server = try Server(settings: settings, ledger: nil, keys: try KeyRing.open(folder, at: .now()))
    #expect(throws: ServerError.cannotListen(listener: 0, .cannotBind(code: EADDRNOTAVAIL))) { try server.start() }
  }
}
