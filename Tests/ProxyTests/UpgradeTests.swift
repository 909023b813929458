import Bytes
import Configuration
import Encoding
import HTTP
import Ledger
import Metering
import Methods
import Payments
import Synchronization
import Testing

@testable import Proxy

/// WebSocket and other protocols through the running proxy, over raw sockets.
@Suite(.timeLimit(.minutes(2))) struct UpgradeTests {
  private final class Seen<Value: Sendable>: Sendable {
    private let values = Mutex<[Value]>([])
    func add(_ value: Value) { values.withLock { $0.append(value) } }
    var all: [Value] { values.withLock { $0 } }
  }

  // MARK: charges

  @Test func anUnpaidHandshakeIsToldThePrice() throws {
    let upstream = try ScriptedUpstream.echoing()
    let relay = try PaidRelay.selling("0.002 USDC per request", upstreamPort: upstream.port)
    let (head, _) = try relay.upgrade("/live")
    #expect(head.hasPrefix("HTTP/1.1 402 "))
    #expect(upstream.connectionCount == 0)
  }

  @Test func aChargePaysForAConnection() throws {
    let upstream = try ScriptedUpstream.echoing()
    let relay = try PaidRelay.selling("0.002 USDC per request", upstreamPort: upstream.port)
    let (head, peer) = try relay.upgrade("/live", relay.chargeFields("/live"))
    #expect(head.hasPrefix("HTTP/1.1 101 Switching Protocols\r\n"))
    #expect(lines(head, "Payment-Receipt").count == 1)
    #expect(lines(head, "Upgrade") == ["websocket"] && lines(head, "Connection") == ["Upgrade"])
    peer.send("hello")
    #expect(try peer.receive().text == "hello")
    peer.send(9, [1, 2])
    #expect(try peer.receive() == WebSocketPeer.Frame(opcode: 10, payload: [1, 2]))
    peer.send(1, Array("a".utf8), isFinal: false)
    peer.send(9, [])
    peer.send(0, Array("b".utf8))
    #expect(try (0..<3).map { _ in try peer.receive().opcode } == [1, 10, 0])
    let large = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    peer.send(2, large)
    #expect(try peer.receive().payload == large)
    peer.close()
    #expect(try peer.receive().code == 1000)
    #expect(peer.wire.isEnded())
    #expect(relay.funds == 1_000_000_000 - 2000)
  }

  @Test(arguments: [
    "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
    "HTTP/1.1 101 x\r\nUpgrade: other\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
  ])
  func whatIsNoSwitchCostsNothing(answer: String) throws {
    let upstream = try ScriptedUpstream.answering { _ in answer }
    let relay = try PaidRelay.selling("0.002 USDC per request", upstreamPort: upstream.port)
    let (head, _) = try relay.upgrade("/live", relay.chargeFields("/live"))
    #expect(head.hasPrefix(answer.hasPrefix("HTTP/1.1 404") ? "HTTP/1.1 404 " : "HTTP/1.1 502 "))
    #expect(relay.wait { relay.funds == 1_000_000_000 })
  }

  // MARK: sessions

  @Test func messagesWaitForMoneyAndGoOn() throws {
    let upstream = try ScriptedUpstream.echoing()
    let relay = try PaidRelay.selling("0.001 USDC per message of both", upstreamPort: upstream.port)
    let (secret, head, peer) = try relay.upgradeOpening("/live", deposit: 4000)
    #expect(lines(head, "Payment-Receipt").count == 1)
    for text in ["one", "two"] {
      peer.send(text)
      #expect(try peer.receive().text == text)
    }
    peer.send(9, [5])
    #expect(try peer.receive().opcode == 10)
    peer.send("three")
    #expect(relay.wait { (try? relay.view(secret).required) == 1000 })
    try relay.topUp("/live", 1000, secret)
    // The message went on, and its echo waits.
    #expect(relay.wait { (try? relay.view(secret).spent) == 5000 && (try? relay.view(secret).required) == 1000 })
    try relay.topUp("/live", 5000, secret)
    #expect(try peer.receive().text == "three")
    peer.close()
    #expect(try peer.receive().code == 1000)
    #expect(relay.wait { relay.hasSpent(6000, secret) })
    #expect(try relay.view(secret).inFlight == 0)
  }

  @Test func whoDoesNotPayIsClosed() throws {
    let frames = Seen<WebSocketPeer.Frame>()
    let upstream = try ScriptedUpstream { wire, _ in
      guard let (peer, _) = WebSocketPeer.accept(wire) else { return }
      while let frame = try? peer.receive() { frames.add(frame) }
    }
    let relay = try PaidRelay.selling("0.001 USDC per message of request", upstreamPort: upstream.port, hold: .seconds(1))
    let (secret, _, peer) = try relay.upgradeOpening("/live", deposit: 2000)
    for _ in 0..<3 { peer.send("x") }
    let close = try peer.receive()
    #expect(close.opcode == 8 && close.code == 1008)
    #expect(close.reason.contains("budget"))
    #expect(relay.wait { frames.all.last?.opcode == 8 })
    #expect(frames.all.map(\.opcode) == [1, 1, 8])
    #expect(frames.all.last?.code == 1001)
    #expect(relay.hasSpent(2000, secret))
  }

  @Test func octetsAreThoseOfMessages() throws {
    let upstream = try ScriptedUpstream.echoing()
    let relay = try PaidRelay.selling("1 USDC per MB of both", upstreamPort: upstream.port)
    let (secret, _, peer) = try relay.upgradeOpening("/live", deposit: 400_000)
    peer.send(2, [UInt8](repeating: 1, count: 100_000))
    #expect(try peer.receive().payload.count == 100_000)
    peer.send(9, [1, 2, 3])
    #expect(try peer.receive().opcode == 10)
    peer.send("12345")
    #expect(try peer.receive().text == "12345")
    peer.close()
    _ = try peer.receive()
    #expect(relay.wait { relay.hasSpent(200_010, secret) })
  }

  @Test func aFrameThatCannotBePaidWaitsWhole() throws {
    let upstream = try ScriptedUpstream.echoing()
    let relay = try PaidRelay.selling("1 USDC per MB", upstreamPort: upstream.port, hold: .seconds(1))
    let (secret, _, peer) = try relay.upgradeOpening("/live", deposit: 150)
    peer.send(2, [UInt8](repeating: 1, count: 100))
    #expect(try peer.receive().payload.count == 100)
    peer.send(2, [UInt8](repeating: 1, count: 100))
    // Half of it is paid for; none of it comes, and what was reserved goes back.
    #expect(try peer.receive().code == 1008)
    #expect(relay.wait { relay.hasSpent(100, secret) })
  }

  @Test func secondsAreWhatTheConnectionLasts() throws {
    let upstream = try ScriptedUpstream.echoing()
    let relay = try PaidRelay.selling("0.001 USDC per second", upstreamPort: upstream.port, hold: .seconds(1))
    let (secret, _, peer) = try relay.upgradeOpening("/live", deposit: 1000)
    peer.send("a")
    #expect(try peer.receive().text == "a")
    #expect(relay.wait { (try? relay.view(secret).required) == 1000 })
    // Nothing passes while nobody pays, and no time does.
    peer.send("b")
    try relay.topUp("/live", 1000, secret)
    #expect(try peer.receive().text == "b")
    #expect(try peer.receive().code == 1008)
    #expect(relay.wait { relay.hasSpent(2000, secret) })
  }

  @Test func noTimeIsFreeWhileTheClientWaitsForMoney() throws {
    let mayTalk = Atomic<Bool>(false)
    let upstream = try ScriptedUpstream { wire, _ in
      guard let (peer, _) = WebSocketPeer.accept(wire) else { return }
      for _ in 0..<1000 where !mayTalk.load(ordering: .sequentiallyConsistent) { Pause.milliseconds(10) }
      peer.send(9, [7])
      for _ in 0..<20 { peer.send("for nothing") }
      _ = wire.readToEnd()
    }
    let relay = try PaidRelay.selling("0.001 USDC per second + 1 USDC per MB of request", upstreamPort: upstream.port, hold: .seconds(1))
    let (secret, _, peer) = try relay.upgradeOpening("/live", deposit: 20_000)
    // A frame longer than the budget is announced: it waits, and with it the clock.
    peer.wire.send([0x82, 0xFE, 0xFF, 0xFF, 0, 0, 0, 0])
    #expect(relay.wait { (try? relay.view(secret).required).map { $0 > 0 } == true })
    mayTalk.store(true, ordering: .sequentiallyConsistent)
    // Control frames pass, and nothing else.
    #expect(try peer.receive() == WebSocketPeer.Frame(opcode: 9, payload: [7]))
    #expect(try peer.receive().code == 1008)
    #expect(relay.wait { (1...3).contains { relay.hasSpent($0 * 1000, secret) } })
  }

  @Test func moneyThatOnePriceHasNotUsedPaysAnother() throws {
    let frames = Seen<WebSocketPeer.Frame>()
    let upstream = try ScriptedUpstream { wire, _ in
      guard let (peer, _) = WebSocketPeer.accept(wire) else { return }
      while let frame = try? peer.receive() { frames.add(frame) }
    }
    let relay = try PaidRelay.selling(
      "0.001 USDC per message of request + 0.002 USDC per message", upstreamPort: upstream.port, hold: .seconds(1))
    // The first steps of both take everything ahead.
    let (secret, _, peer) = try relay.upgradeOpening("/live", deposit: 12_000)
    for number in 0..<13 { peer.send("\(number)") }
    #expect(try peer.receive().code == 1008)
    #expect(relay.wait { frames.all.last?.opcode == 8 })
    #expect(frames.all.dropLast().map(\.text) == (0..<12).map { "\($0)" })
    #expect(relay.wait { relay.hasSpent(12_000, secret) })
  }

  @Test func aHoldLastsAsLongAsItSays() throws {
    let upstream = try ScriptedUpstream.echoing()
    let relay = try PaidRelay.selling("0.001 USDC per message", upstreamPort: upstream.port, hold: .seconds(1)) { settings in
      settings.routes[settings.routes.count - 1].upstreamTimeouts.idle = .milliseconds(300)
    }
    let (_, _, peer) = try relay.upgradeOpening("/live", deposit: 1000)
    for _ in 0..<2 { peer.send("x") }
    #expect(try peer.receive().text == "x")
    #expect(try peer.receive().code == 1008)
  }

  @Test func pingsPassWhileTheClockWaitsForMoney() throws {
    let upstream = try ScriptedUpstream.echoing()
    let relay = try PaidRelay.selling("0.001 USDC per second", upstreamPort: upstream.port)
    let (secret, _, peer) = try relay.upgradeOpening("/live", deposit: 2000)
    #expect(relay.wait { (try? relay.view(secret).required) == 1000 })
    peer.send(9, [1])
    #expect(try peer.receive() == WebSocketPeer.Frame(opcode: 10, payload: [1]))
    peer.send("late")
    peer.send(9, [2])
    try relay.topUp("/live", 100_000, secret)
    #expect(try peer.receive().text == "late")
    #expect(try peer.receive().payload == [2])
    var text = ByteBuffer()
    relay.server.appendMetrics(to: &text)
    for line in [
      "timeouts_total 0", "tunnels_total 1", "tunnels_open 1", "tunnels_unpaid_total 0", "tunnel_messages_total{from=\"client\"} 1",
      "tunnel_messages_total{from=\"upstream\"} 1",
    ] { #expect(text.string().contains("\nfarebox_\(line)\n"), "\(line)") }
  }

  @Test func whoSaidCloseAndLeftIsNotBilledOn() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      guard WebSocketPeer.accept(wire) != nil else { return }
      _ = wire.readToEnd()
    }
    let relay = try PaidRelay.selling("0.001 USDC per second", upstreamPort: upstream.port)
    let (secret, _, peer) = try relay.upgradeOpening("/live", deposit: 100_000)
    peer.close()
    peer.wire.finish()
    // The server never answers; it has five seconds.
    #expect(relay.wait { (try? relay.view(secret).inFlight) == 0 } || relay.wait { (try? relay.view(secret).inFlight) == 0 })
    #expect(relay.hasSpent(1000, secret) || relay.hasSpent(2000, secret))
  }

  @Test func closingTheSessionClosesTheConnection() throws {
    let upstream = try ScriptedUpstream.echoing()
    let relay = try PaidRelay.selling("0.001 USDC per message", upstreamPort: upstream.port)
    let (secret, _, peer) = try relay.upgradeOpening("/live", deposit: 10_000)
    peer.send("a")
    #expect(try peer.receive().text == "a")
    let challenge = try relay.challenge("/live", "session")
    let credential = PrepaidCredential.close(challenge, secret: secret)
    let answer = try relay.send("/live", method: "POST", authorization(credential))
    #expect(answer.status == 200)
    #expect(answer.body.contains("\"spent\":\"1000\""))
    #expect(try peer.receive().code == 1008)
    #expect(relay.funds == 1_000_000_000 - 1000)
  }

  @Test func freezingTheWalletClosesTheConnection() throws {
    let upstream = try ScriptedUpstream.echoing()
    let relay = try PaidRelay.selling("0.001 USDC per message", upstreamPort: upstream.port)
    let (_, _, peer) = try relay.upgradeOpening("/live", deposit: 10_000)
    _ = try relay.ledger.freeze(relay.wallet.publicKey.octets, at: .now())
    #expect(try peer.receive().code == 1008)
  }

  @Test func aFrameThatIsPassingIsPassedBeforeTheEnd() throws {
    let rest = Atomic<Bool>(false)
    let upstream = try ScriptedUpstream { wire, _ in
      guard WebSocketPeer.accept(wire) != nil else { return }
      let frame = WebSocketPeer.octets(2, [UInt8](repeating: 7, count: 100), isMasked: false)
      wire.send(Array(frame[..<50]))
      for _ in 0..<500 where !rest.load(ordering: .sequentiallyConsistent) { Pause.milliseconds(10) }
      wire.send(Array(frame[50...]) + WebSocketPeer.octets(2, [1], isMasked: false))
      _ = wire.readToEnd()
    }
    let relay = try PaidRelay.selling("1 USDC per MB", upstreamPort: upstream.port)
    let (secret, _, peer) = try relay.upgradeOpening("/live", deposit: 10_000)
    let start = try peer.wire.read(50)
    #expect(start.prefix(2) == [0x82, 100])
    _ = try relay.ledger.freeze(relay.wallet.publicKey.octets, at: .now())
    rest.store(true, ordering: .sequentiallyConsistent)
    #expect(try peer.wire.read(52) == [UInt8](repeating: 7, count: 52))
    #expect(try peer.receive().code == 1008)
    #expect(relay.wait { relay.hasSpent(100, secret) })
  }

  @Test func aFrameThatDoesNotGoOnIsCutOff() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      guard WebSocketPeer.accept(wire) != nil else { return }
      wire.send(Array(WebSocketPeer.octets(2, [UInt8](repeating: 7, count: 100), isMasked: false)[..<52]))
      _ = wire.readToEnd()
    }
    let relay = try PaidRelay.selling("1 USDC per MB", upstreamPort: upstream.port)
    let (secret, _, peer) = try relay.upgradeOpening("/live", deposit: 10_000)
    #expect(try peer.wire.read(52).count == 52)
    _ = try relay.ledger.freeze(relay.wallet.publicKey.octets, at: .now())
    #expect(peer.wire.isEnded())
    // What passed is paid for, and no more.
    #expect(relay.wait { relay.hasSpent(50, secret) })
  }

  @Test(arguments: [Carrier.plain, .tls]) func whateverIsBelowPassesAlike(carrier: Carrier) throws {
    try Carrier.$current.withValue(carrier) {
      let upstream = try ScriptedUpstream.echoing()
      let relay = try PaidRelay.selling("1 USDC per MB of both", upstreamPort: upstream.port)
      let (secret, _, peer) = try relay.upgradeOpening("/live", deposit: 3_000_000)
      let large = (0..<1_000_000).map { UInt8(truncatingIfNeeded: $0 &* 13) }
      peer.send(2, large)
      #expect(try peer.receive().payload == large)
      peer.close()
      #expect(try peer.receive().code == 1000)
      #expect(relay.wait { relay.hasSpent(2_000_000, secret) })
    }
  }

  // MARK: ends

  @Test func anUpstreamThatBreaksOffIsReported() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      guard let (peer, _) = WebSocketPeer.accept(wire) else { return }
      peer.send("bye")
    }
    let relay = try PaidRelay.selling("0.001 USDC per message", upstreamPort: upstream.port)
    let (secret, _, peer) = try relay.upgradeOpening("/live", deposit: 10_000)
    #expect(try peer.receive().text == "bye")
    #expect(try peer.receive().code == 1011)
    #expect(relay.wait { relay.hasSpent(1000, secret) })
  }

  @Test func malformedFramesEndTheConnection() throws {
    let frames = Seen<WebSocketPeer.Frame>()
    let upstream = try ScriptedUpstream { wire, _ in
      guard let (peer, _) = WebSocketPeer.accept(wire) else { return }
      while let frame = try? peer.receive() { frames.add(frame) }
    }
    let relay = try PaidRelay.selling("0.002 USDC per request", upstreamPort: upstream.port)
    let (_, peer) = try relay.upgrade("/live", relay.chargeFields("/live"))
    peer.wire.send(WebSocketPeer.octets(1, [1], isMasked: false))
    #expect(try peer.receive().code == 1002)
    #expect(relay.wait { frames.all.first?.code == 1001 })
    #expect(frames.all.count == 1)
  }

  @Test func aMalformedFrameOfTheUpstreamIsItsFault() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      guard let (peer, _) = WebSocketPeer.accept(wire) else { return }
      wire.send(WebSocketPeer.octets(3, [1], isMasked: false))
      while (try? peer.receive()) != nil {}
    }
    let relay = try PaidRelay.selling("0.002 USDC per request", upstreamPort: upstream.port)
    let (_, peer) = try relay.upgrade("/live", relay.chargeFields("/live"))
    #expect(try peer.receive().code == 1011)
  }

  @Test func aClientThatLeavesIsReported() throws {
    let frames = Seen<WebSocketPeer.Frame>()
    let upstream = try ScriptedUpstream { wire, _ in
      guard let (peer, _) = WebSocketPeer.accept(wire) else { return }
      while let frame = try? peer.receive() { frames.add(frame) }
    }
    let relay = try PaidRelay.selling("0.001 USDC per message of request", upstreamPort: upstream.port)
    let secret: SessionSecret
    do {
      let (opened, _, peer) = try relay.upgradeOpening("/live", deposit: 10_000)
      secret = opened
      peer.send("a")
      #expect(relay.wait { frames.all.count == 1 })
    }
    #expect(relay.wait { frames.all.last?.code == 1001 })
    #expect(relay.wait { relay.hasSpent(1000, secret) })
  }

  @Test func aDrainSaysThatTheServerGoesAway() throws {
    let frames = Seen<WebSocketPeer.Frame>()
    let upstream = try ScriptedUpstream { wire, _ in
      guard let (peer, _) = WebSocketPeer.accept(wire) else { return }
      while let frame = try? peer.receive() { frames.add(frame) }
    }
    let relay = try PaidRelay.selling("0.002 USDC per request", upstreamPort: upstream.port)
    let (_, peer) = try relay.upgrade("/live", relay.chargeFields("/live"))
    relay.server.drain()
    #expect(try peer.receive().code == 1001)
    #expect(relay.wait { frames.all.last?.code == 1001 })
  }

  // MARK: routes

  @Test func withoutTheKeyUpgradeIsIgnored() throws {
    let upstream = try ScriptedUpstream.answering { "HTTP/1.1 200 OK\r\nContent-Length: \($0.utf8.count)\r\n\r\n\($0)" }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let response = try relay.connect().request(WebSocketPeer.handshake("/x"))
    #expect(response.status == 200)
    #expect(!response.body.lowercased().contains("upgrade: websocket"))
    #expect(try relay.get("/x").status == 200)
  }

  @Test func anUnsoundHandshakeIsRefused() throws {
    let upstream = try ScriptedUpstream.echoing()
    let relay = try PaidRelay.selling("0.002 USDC per request", upstreamPort: upstream.port)
    func answer(_ fields: [(String, String)]) throws -> Wire.Response {
      try relay.send("/live", [("Upgrade", "websocket"), ("Connection", "Upgrade")] + fields)
    }
    #expect(try answer([("Sec-WebSocket-Version", "13")]).status == 400)
    let other = try answer([("Sec-WebSocket-Version", "12"), ("Sec-WebSocket-Key", WebSocketPeer.key)])
    #expect(other.status == 426 && other.field("Sec-WebSocket-Version") == "13")
    #expect(upstream.connectionCount == 0)
  }

  @Test func whatIsSoldByMessagesDemandsASwitch() throws {
    let upstream = try ScriptedUpstream.answering { _ in "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfree" }
    let relay = try PaidRelay.selling("0.001 USDC per message", upstreamPort: upstream.port)
    let secret = SessionSecret.generate()
    let credential = PrepaidCredential.open(
      try relay.challenge("/live", "session"), deposit: 5000, secret: secret, wallet: relay.wallet)
    let refused = try relay.send("/live", authorization(credential))
    #expect(refused.status == 426 && refused.field("Upgrade") == "websocket")
    #expect(relay.funds == 1_000_000_000)
    // Nor may the upstream give it away by not switching.
    let (head, _) = try relay.upgrade("/live", authorization(credential))
    #expect(head.hasPrefix("HTTP/1.1 502 "))
    #expect(relay.wait { relay.hasSpent(0, secret) })
  }

  @Test func otherProtocolsPassAsOctets() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      guard (try? wire.read(through: "\r\n\r\n")) != nil else { return }
      wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: shout\r\nConnection: Upgrade\r\n\r\nready.")
      let text = wire.readToEnd()
      wire.send(text.uppercased())
    }
    let relay = try PaidRelay.selling("1 USDC per MB of both", upstreamPort: upstream.port) { $0.routes[$0.routes.count - 1].upgrades = ["shout"] }
    let secret = SessionSecret.generate()
    let credential = PrepaidCredential.open(
      try relay.challenge("/live", "session"), deposit: 1000, secret: secret, wallet: relay.wallet)
    let wire = try relay.connect()
    wire.send(PaidRelay.request("/live", [("Upgrade", "shout"), ("Connection", "Upgrade")] + authorization(credential)))
    #expect(try wire.read(through: "\r\n\r\n").hasPrefix("HTTP/1.1 101 "))
    #expect(try wire.read(6) == Array("ready.".utf8))
    wire.send("hello")
    wire.finish()
    #expect(wire.readToEnd() == "HELLO")
    #expect(relay.wait { relay.hasSpent(16, secret) })
  }

  @Test func aFreeRouteSwitchesToo() throws {
    let upstream = try ScriptedUpstream.echoing()
    let relay = try RelayFixture(upstreamPort: upstream.port) { $0.routes[0].upgrades = ["websocket"] }
    let wire = try relay.connect()
    wire.send(WebSocketPeer.handshake("/x"))
    #expect(try wire.read(through: "\r\n\r\n").hasPrefix("HTTP/1.1 101 "))
    let peer = WebSocketPeer(wire: wire, isClient: true)
    // What an endless stream of messages brings passes under back-pressure.
    for number in 0..<200 { peer.send(2, [UInt8](repeating: UInt8(number), count: 1000)) }
    for number in 0..<200 { #expect(try peer.receive().payload.last == UInt8(number)) }
    peer.close()
    #expect(try peer.receive().opcode == 8)
  }
}
