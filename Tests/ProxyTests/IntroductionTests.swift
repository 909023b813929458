import Bytes
import Configuration
import HTTP
import Testing

@testable import Proxy

/// The PROXY protocol on a listener that is configured for it.
@Suite struct IntroductionTests {
  private static let line = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"
  private static let request = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"

  /// A proxy whose upstream answers with the address that it was told.
  private func relay(trusting: String? = "127.0.0.1", _ configure: @escaping (inout Settings) -> Void = { _ in }) throws -> RelayFixture {
    let upstream = try ScriptedUpstream.answering { head in
      let told = head.split(separator: "\r\n").first { $0.lowercased().hasPrefix("x-forwarded-for:") }.map { $0.split(separator: " ")[1] } ?? "-"
      return "HTTP/1.1 200 OK\r\nContent-Length: \(told.utf8.count)\r\n\r\n\(told)"
    }
    return try RelayFixture(
      upstreamPort: upstream.port,
      { settings in
        settings.listeners[0].acceptsProxyProtocol = true
        settings.trustedProxies = trusting.flatMap { CIDR($0) }.map { [$0] } ?? []
        configure(&settings)
      })
  }

  @Test func connectionsAreTheClientsThatTheHeaderNames() throws {
    let relay = try relay()
    for (octets, address) in [(Self.line, "192.0.2.7"), ("PROXY TCP6 2001:db8::7 ::1 1 2\r\n", "2001:db8::7"), ("PROXY UNKNOWN\r\n", "127.0.0.1")] {
      let wire = try relay.connect()
      wire.send(octets)
      for _ in 0..<2 { #expect(try wire.request(Self.request).body == address) }
    }
  }

  @Test func headersComeInAnyParts() throws {
    let relay = try relay()
    for count in 1..<Self.line.utf8.count {
      let octets = Array((Self.line + Self.request).utf8)
      let wire = try relay.connect()
      wire.send(Array(octets[..<count]))
      if count % 8 == 0 { Pause.milliseconds(5) }
      wire.send(Array(octets[count...]))
      #expect(try wire.response().body == "192.0.2.7")
    }
    let wire = try relay.connect()
    for octet in Self.line.utf8 {
      wire.send([octet])
      Pause.milliseconds(1)
    }
    #expect(try wire.request(Self.request).body == "192.0.2.7")
  }

  @Test(arguments: ["GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "\u{16}\u{3}\u{1}"])
  func whatIsNoHeaderEndsTheConnection(text: String) throws {
    let relay = try relay()
    let wire = try relay.connect()
    wire.send(text)
    #expect(wire.isEnded())
    #expect(relay.metric("requests_total") == 0 && relay.metric("connections_refused_total") == 1)
  }

  @Test func halfAHeaderEndsWithItsConnectionOrItsTime() throws {
    let relay = try relay { $0.timeouts.headerRead = .milliseconds(200) }
    let ended = try relay.connect()
    ended.send("PROXY TCP4 1.2")
    ended.finish()
    #expect(ended.isEnded())
    let slow = try relay.connect()
    slow.send("PROXY TCP4 1.2")
    #expect(slow.isEnded())
  }

  @Test func strangersAreNotListenedTo() throws {
    let relay = try relay(trusting: "10.0.0.0/8")
    let wire = try relay.connect()
    wire.send(Self.line + Self.request)
    #expect(wire.isEnded())
  }

  @Test func limitsCountTheClientThatIsNamed() throws {
    let relay = try relay { $0.limits.connectionsPerClient = 2 }
    let wires = try (0..<3).map { _ in try relay.connect() }
    for wire in wires[..<2] { #expect(try wire.request(Self.line + Self.request).status == 200) }
    wires[2].send(Self.line + Self.request)
    #expect(wires[2].isEnded())
    // Another one is still welcome, and so is the first when it has a place again.
    #expect(try relay.connect().request("PROXY TCP4 192.0.2.8 1.1.1.1 1 1\r\n" + Self.request).status == 200)
    wires[0].finish()
    #expect(wires[0].isEnded())
    #expect(try relay.connect().request(Self.line + Self.request).status == 200)
  }
}
