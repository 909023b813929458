import Configuration
import Synchronization
import Testing

@testable import Proxy

private let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

private final class Switch: Sendable {
  private let value = Atomic<Bool>(false)
  func set() { value.store(true, ordering: .sequentiallyConsistent) }
  var isSet: Bool { value.load(ordering: .sequentiallyConsistent) }
}

/// Requests that wait for a place at a server, and what is kept for clients meanwhile.
@Suite(.timeLimit(.minutes(2))) struct UpstreamPlaceTests {
  private func farm(_ servers: [Settings.Upstream.Server], _ configure: @escaping (inout Settings) -> Void = { _ in }) throws -> RelayFixture {
    try RelayFixture(upstreamPort: 1) { settings in
      settings.upstreams = [Settings.Upstream(name: "farm", servers: servers)]
      configure(&settings)
    }
  }

  /// A server that keeps every request until it is told to go on.
  private func holding(_ goesOn: @escaping @Sendable () -> Bool, _ answer: String) throws -> ScriptedUpstream {
    try ScriptedUpstream { wire, _ in
      while (try? wire.read(through: "\r\n\r\n")) != nil {
        for _ in 0..<1000 where !goesOn() { Pause.milliseconds(10) }
        wire.send(answer)
      }
    }
  }

  /// A client's request that was given up leaves its place in the queue; its next request, which waits for another upstream, must
  /// not be served by that.
  @Test func whatWasGivenUpBringsNoRequestToAnotherUpstream() throws {
    let goesOn = [Switch(), Switch()]
    let first = try holding({ goesOn[0].isSet }, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
    let second = try holding({ goesOn[1].isSet }, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond")
    let relay = try farm([.init(.host("127.0.0.1", port: first.port))]) { settings in
      settings.upstreams.append(Settings.Upstream(name: "other", endpoint: .host("127.0.0.1", port: second.port)))
      for place in 0..<2 { settings.upstreams[place].maxConnections = 1 }
      settings.routes = [Settings.Route(id: "first", path: .exact("/first")), Settings.Route(id: "second", path: .exact("/second"))]
      settings.routes[0].upstreamTimeouts.connect = .milliseconds(200)
      settings.routes[1].upstream = 1
    }
    func ask(_ wire: Wire, _ path: String) { wire.send("GET \(path) HTTP/1.1\r\nHost: a\r\n\r\n") }
    let (busy, alsoBusy) = (try relay.connect(), try relay.connect())
    ask(busy, "/first")
    ask(alsoBusy, "/second")
    while first.connectionCount == 0 || second.connectionCount == 0 { Pause.milliseconds(5) }
    let wire = try relay.connect()
    #expect(try wire.request("GET /first HTTP/1.1\r\nHost: a\r\n\r\n").status == 503)
    ask(wire, "/second")
    Pause.milliseconds(100)
    goesOn[0].set()
    #expect(try busy.response().body == "first")
    Pause.milliseconds(100)
    goesOn[1].set()
    #expect(try alsoBusy.response().body == "second")
    #expect(try wire.response().body == "second")
  }

  @Test func everybodyWhoWaitsForAServerThatGoesIsAnswered() throws {
    let goes = Switch()
    let upstream = try ScriptedUpstream { wire, _ in
      _ = try? wire.read(through: "\r\n\r\n")
      for _ in 0..<1000 where !goes.isSet { Pause.milliseconds(10) }
    }
    let relay = try farm([.init(.host("127.0.0.1", port: upstream.port))]) { settings in
      settings.upstreams[0].maxConnections = 1
      settings.routes[0].upstreamTimeouts.connect = .seconds(30)
      settings.limits.connectionsPerClient = 1000
    }
    let wires = try (0..<300).map { _ in try relay.connect() }
    for wire in wires { wire.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n") }
    while upstream.connectionCount == 0 || relay.metric("requests_total") != 300 { Pause.milliseconds(5) }
    upstream.close()
    goes.set()
    for wire in wires { #expect(try wire.response().status == 502) }
  }

  @Test func interimResponsesDoNotPileUp() throws {
    let hint = "HTTP/1.1 103 Early Hints\r\nX-Pad: \(String(repeating: "x", count: 1000))\r\n\r\n"
    let upstream = try ScriptedUpstream.answering { _ in String(repeating: hint, count: 1000) + ok }
    let relay = try farm([.init(.host("127.0.0.1", port: upstream.port))])
    let wire = try relay.connect()
    for _ in 0..<2 {
      wire.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
      var hints = 0
      while try wire.read(through: "\r\n\r\n").hasPrefix("HTTP/1.1 103 ") { hints += 1 }
      #expect(hints == 100)
      #expect(try wire.read(2) == Array("ok".utf8))
    }
  }
}
