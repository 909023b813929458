import Bytes
import Configuration
import Crypto
import Encoding
import Glibc
import HTTP
import IO
import Ledger
import Methods
import Payments
import Synchronization
import Testing

@testable import Proxy

/// Payments through the running proxy, over raw sockets.
@Suite(.timeLimit(.minutes(2))) struct PaidRelayTests {
  private final class Count: Sendable {
    let value = Atomic<Int>(0)
    func add() { value.add(1, ordering: .sequentiallyConsistent) }
    var now: Int { value.load(ordering: .sequentiallyConsistent) }
  }

  private static func ok(_ body: String, _ fields: String = "") -> String {
    "HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\n\(fields)\r\n\(body)"
  }

  @Test func aChargePaysOnceAndOnlyOnce() throws {
    let served = Count()
    let upstream = try ScriptedUpstream.answering { head in
      served.add()
      return Self.ok(head, "Payment-Receipt: forged\r\nWWW-Authenticate: Payment id=\"x\"\r\n")
    }
    let relay = try PaidRelay(upstreamPort: upstream.port)
    let fields = try relay.chargeFields("/weather/today")
    #expect(served.now == 0)
    let paid = try relay.send("/weather/today", fields)
    #expect(paid.status == 200)
    #expect(lines(paid.head, "Payment-Receipt").count == 1)
    #expect(!paid.head.contains("forged"))
    #expect(!paid.head.contains("WWW-Authenticate"))
    #expect(paid.field("Cache-Control")?.contains("private") == true)
    #expect(!paid.body.contains("Authorization"))
    #expect(relay.funds == 1_000_000_000 - 2000)
    #expect(try relay.send("/weather/today", fields).status == 403)
    #expect(served.now == 1)
  }

  @Test func challengesAreReportedThoughNothingFollowsThem() throws {
    let upstream = try ScriptedUpstream.answering { _ in Self.ok("") }
    let relay = try PaidRelay(upstreamPort: upstream.port, challengeReport: .milliseconds(100))
    func reported() -> UInt64 {
      relay.auditLines("challenges").reduce(0) { $0 + ($1["count"]?.stringValue.flatMap { UInt64($0) } ?? 0) }
    }
    for _ in 0..<3 { #expect(try relay.send("/weather/today").status == 402) }
    // Nothing more comes: only its own clock can wake the loop.
    #expect(relay.wait { reported() == 3 })
    #expect(try relay.send("/weather/today").status == 402)
    #expect(relay.wait { reported() == 4 })
    #expect(relay.auditLines("challenges").count <= 4)
  }

  @Test func concurrentUsesOfOneCredentialServeOnce() throws {
    let served = Count()
    let upstream = try ScriptedUpstream.answering { _ in
      served.add()
      return Self.ok("x")
    }
    let relay = try PaidRelay(upstreamPort: upstream.port) { $0.workers = 2 }
    let request = PaidRelay.request("/weather/x", try relay.chargeFields("/weather/x"))
    let wires = try (0..<64).map { _ in try relay.connect() }
    for wire in wires { wire.send(request) }
    let statuses = try wires.map { try $0.response().status }
    #expect(statuses.filter { $0 == 200 }.count == 1)
    #expect(statuses.allSatisfy { [200, 403, 409].contains($0) })
    #expect(served.now == 1)
    #expect(relay.funds == 1_000_000_000 - 2000)
  }

  @Test func aFailedUpstreamCostsNothing() throws {
    let isBroken = Count()
    let upstream = try ScriptedUpstream { wire, _ in
      while (try? wire.read(through: "\r\n\r\n")) != nil {
        isBroken.add()
        switch isBroken.now {
        case 1: wire.send("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
        case 2: return
        default: wire.send(Self.ok("fine"))
        }
      }
    }
    let relay = try PaidRelay(upstreamPort: upstream.port)
    let fields = try relay.chargeFields("/weather/y", method: "POST")
    let failed = try relay.send("/weather/y", method: "POST", fields)
    #expect(failed.status == 500)
    #expect(failed.field("Payment-Receipt") == nil)
    #expect(relay.funds == 1_000_000_000)
    #expect(try relay.send("/weather/y", method: "POST", fields).status == 502)
    #expect(relay.funds == 1_000_000_000)
    #expect(try relay.send("/weather/y", method: "POST", fields).body == "fine")
    #expect(relay.funds == 1_000_000_000 - 2000)
  }

  @Test func aBudgetForAHundredServesAHundred() throws {
    let upstream = try ScriptedUpstream.answering { _ in Self.ok("x") }
    let relay = try PaidRelay(upstreamPort: upstream.port) { $0.workers = 2 }
    let secret = try relay.openSession("/weather/s", deposit: 2000 * 101)
    let request = PaidRelay.request("/weather/s", short(secret))
    let wires = try (0..<50).map { _ in try relay.connect() }
    for wire in wires { wire.send(String(repeating: request, count: 4)) }
    var served = 0
    var refused = 0
    for wire in wires {
      for _ in 0..<4 {
        switch try wire.response().status {
        case 200: served += 1
        case 402: refused += 1
        default: Issue.record("neither served nor refused")
        }
      }
    }
    #expect(served == 100)
    #expect(refused == 100)
    #expect(try relay.view(secret).spent == 2000 * 101)
  }

  @Test func meteredContentStopsWhereTheBudgetEndsAndGoesOnAfterATopUp() throws {
    let size = 4_000_000
    let content = String(repeating: "0123456789abcdef", count: size / 16)
    let upstream = try ScriptedUpstream { wire, _ in
      while let head = try? wire.read(through: "\r\n\r\n") {
        wire.send(head.contains("/first") ? Self.ok("") : Self.ok(content))
      }
    }
    let relay = try PaidRelay(upstreamPort: upstream.port)
    // 0.01 USDC a megabyte: 20,000 base units buy two million octets.
    let secret = try relay.openSession("/bytes/first", deposit: 20_000)
    let wire = try relay.connect()
    wire.send(PaidRelay.request("/bytes/file", short(secret)))
    _ = try wire.read(through: "\r\n\r\n")
    let half = try wire.read(2_000_000)
    #expect(wire.receivesNothing(for: 300))
    #expect(try relay.view(secret).spent == 20_000)
    try relay.topUp("/bytes/file", 25_000, secret)
    let rest = try wire.read(2_000_000)
    #expect(half + rest == Array(content.utf8))
    #expect(relay.wait { (try? relay.view(secret).spent) == 40_000 })
    // The connection is as good as before.
    wire.send("GET /free/x HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(try wire.response().status == 200)
  }

  @Test func aDryStreamIsCutAfterTheHoldTimeout() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      while let head = try? wire.read(through: "\r\n\r\n") {
        if head.contains("/first") {
          wire.send(Self.ok(""))
        } else {
          wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
          for _ in 0..<40 { wire.send("2710\r\n" + String(repeating: "x", count: 10_000) + "\r\n") }
          wire.send("0\r\n\r\n")
        }
      }
    }
    let relay = try PaidRelay(upstreamPort: upstream.port) {
      for index in $0.routes.indices { $0.routes[index].holdTimeout = .milliseconds(300) }
    }
    let secret = try relay.openSession("/bytes/first", deposit: 1000)
    let wire = try relay.connect()
    wire.send(PaidRelay.request("/bytes/file", short(secret)))
    let text = wire.readToEnd()
    let content = text.components(of: "\r\n\r\n").dropFirst().joined()
    #expect(content.filter { $0 == "x" }.count == 100_000)
    #expect(!text.hasSuffix("0\r\n\r\n"))
    #expect(relay.wait { (try? relay.view(secret).inFlight) == 0 })
    #expect(try relay.view(secret).spent == 1000)
  }

  @Test func eventStreamsAreToldAndNeverCutInside() throws {
    let event = "event: payment-receipt\ndata: \(String(repeating: "e", count: 950))\n\n"
    let upstream = try ScriptedUpstream { wire, _ in
      while let head = try? wire.read(through: "\r\n\r\n") {
        if head.contains("/first") {
          wire.send(Self.ok(""))
        } else {
          wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
          for _ in 0..<200 { wire.send(String(event.utf8.count, radix: 16) + "\r\n" + event + "\r\n") }
          wire.send("0\r\n\r\n")
        }
      }
    }
    let relay = try PaidRelay(upstreamPort: upstream.port)
    // 1,000 base units buy 100,000 octets: a hundred events and a part of one.
    let secret = try relay.openSession("/bytes/first", deposit: 1000)
    let wire = try relay.connect()
    wire.send(PaidRelay.request("/bytes/file", short(secret)))
    let start = try wire.read(through: "event: payment-need-topup")
    let renamed = start.components(of: "event: foreign-receipt").count - 1
    #expect(renamed == 100_000 / event.utf8.count)
    #expect(start.hasSuffix("\n\n\r\n") || start.contains("\n\n"))
    let need = try wire.read(through: "\n\n")
    #expect(need.contains("balanceRequired"))
    #expect(wire.receivesNothing(for: 200))
    try relay.topUp("/bytes/file", 5000, secret)
    let rest = try wire.read(through: "0\r\n\r\n")
    #expect(rest.components(of: "event: foreign-receipt").count - 1 == 200 - renamed)
    #expect(rest.components(of: "event: payment-receipt").count - 1 == 1)
    #expect(relay.wait { (try? relay.view(secret).spent) == UInt128((200 * event.utf8.count + 99) / 100) })
  }

  @Test func aClosedSessionStopsItsStream() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      while let head = try? wire.read(through: "\r\n\r\n") {
        guard !head.contains("/first") else {
          wire.send(Self.ok(""))
          continue
        }
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in 0..<2000 {
          wire.send("3e8\r\n" + String(repeating: "x", count: 1000) + "\r\n")
          Pause.milliseconds(5)
        }
      }
    }
    let relay = try PaidRelay(upstreamPort: upstream.port)
    let secret = try relay.openSession("/bytes/first", deposit: 1_000_000)
    let wire = try relay.connect()
    wire.send(PaidRelay.request("/bytes/file", short(secret)))
    _ = try wire.read(20_000)
    let close = PrepaidCredential.close(try relay.challenge("/bytes/file", "session"), secret: secret)
    let answer = try relay.send("/bytes/file", method: "POST", authorization(close))
    #expect(answer.status == 200)
    #expect(answer.body.contains("closed"))
    #expect(!wire.readToEnd().hasSuffix("0\r\n\r\n"))
    let spent = 1_000_000_000 - relay.funds
    #expect(spent > 150 && spent < 20_000)
  }

  @Test func aClientThatLeavesPaysWhatTheMethodSays() throws {
    let seen = Count()
    let upstream = try ScriptedUpstream { wire, _ in
      guard (try? wire.read(through: "\r\n\r\n")) != nil else { return }
      seen.add()
      _ = wire.readToEnd()
    }
    let relay = try PaidRelay(upstreamPort: upstream.port) { $0.timeouts.abandon = .milliseconds(300) }
    for (method, cost) in [("GET", UInt128(0)), ("POST", 2000)] {
      let before = relay.funds
      let already = seen.now
      do {
        let wire = try relay.connect()
        wire.send(PaidRelay.request("/weather/l", method: method, try relay.chargeFields("/weather/l", method: method)))
        #expect(relay.wait { seen.now > already })
        #expect(relay.funds == before - 2000)
      }
      #expect(relay.wait { relay.ledger.balances().allSatisfy { $0.held == 0 } })
      #expect(relay.wait { relay.funds == before - cost })
    }
  }

  @Test func anIdempotentRequestIsAnsweredFromWhatWasStored() throws {
    let served = Count()
    let upstream = try ScriptedUpstream.answering { _ in
      served.add()
      return Self.ok("outcome \(served.now)", "X-Once: 1\r\n")
    }
    let relay = try PaidRelay(upstreamPort: upstream.port)
    let secret = try relay.openSession("/weather/first", deposit: 100_000)
    let fields = short(secret) + [("Idempotency-Key", "\"k1\"")]
    let first = try relay.send("/weather/i", method: "POST", fields)
    #expect(first.status == 200)
    let spent = try relay.view(secret).spent
    let second = try relay.send("/weather/i", method: "POST", fields)
    #expect(second.status == 200)
    #expect(second.body == first.body)
    #expect(second.field("X-Once") == "1")
    #expect(served.now == 2)
    #expect(try relay.view(secret).spent == spent)
  }

  @Test func trailersCarryTheFinalReceipt() throws {
    let upstream = try ScriptedUpstream.answering { _ in Self.ok(String(repeating: "x", count: 5000)) }
    let relay = try PaidRelay(upstreamPort: upstream.port)
    let secret = try relay.openSession("/bytes/first", deposit: 100_000)
    let response = try relay.send("/bytes/file", short(secret) + [("TE", "trailers")])
    #expect(response.body.utf8.count == 5000)
    #expect(response.trailers.contains("Payment-Receipt: "))
    #expect(response.field("Content-Length") == nil)
  }

  @Test func requestContentIsMeteredToo() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      while let head = try? wire.read(through: "\r\n\r\n") {
        guard !head.hasPrefix("GET") else {
          wire.send(Self.ok(""))
          continue
        }
        guard let body = try? wire.read(50_000) else { return }
        wire.send(Self.ok("\(body.count)"))
      }
    }
    // 0.0001 a request and 0.001 a kilobyte both ways: 50,000 octets cost 50,000 base units, and the request 100.
    let relay = try PaidRelay(upstreamPort: upstream.port)
    let secret = try relay.openSession("/both/first", deposit: 20_000)
    let wire = try relay.connect()
    wire.send(PaidRelay.request("/both/file", method: "POST", short(secret), body: String(repeating: "u", count: 50_000)))
    #expect(wire.receivesNothing(for: 300))
    try relay.topUp("/both/file", 60_000, secret)
    #expect(try wire.response().body == "50000")
    #expect(relay.wait { (try? relay.view(secret).spent) == 50_000 + 5 + 200 })
  }

  @Test func contentIsCollectedForItsDigest() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      while let head = try? wire.read(through: "\r\n\r\n") {
        let length = head.components(of: "Content-Length: ").dropFirst().first.flatMap { Int($0.prefix { $0.isNumber }) } ?? 0
        guard let body = try? wire.read(length) else { return }
        wire.send(Self.ok(String(decoding: body, as: UTF8.self)))
      }
    }
    let relay = try PaidRelay(upstreamPort: upstream.port)
    let fields = try relay.chargeFields("/upload/x", method: "POST", body: "the content")
    let changed = try relay.send("/upload/x", method: "POST", fields, body: "the c0ntent")
    #expect(changed.status == 402)
    let wire = try relay.connect()
    wire.send("POST /upload/x HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n")
    wire.send("\(fields[0].0): \(fields[0].1)\r\n\r\n")
    #expect(try wire.read(through: "\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n")
    wire.send("4\r\nthe \r\n7\r\ncontent\r\n0\r\n\r\n")
    let response = try wire.response()
    #expect(response.status == 200)
    #expect(response.body == "the content")
    #expect(try relay.send("/upload/x", method: "POST", body: String(repeating: "z", count: 1001)).status == 413)
  }

  @Test func withoutALedgerPricedRoutesAreUnavailableAndFreeOnesServed() throws {
    let upstream = try ScriptedUpstream.answering { _ in Self.ok("free") }
    let folder = try CashierFolder()
    var settings = try shopSettings()
    settings.listeners = [.init(.address("127.0.0.1", port: 0))]
    settings.workers = 1
    settings.upstreams = [Settings.Upstream(name: "up", endpoint: .host("127.0.0.1", port: upstream.port))]
    let server = try Server(settings: settings, ledger: nil, keys: try KeyRing.open("\(folder.path)/keys", at: .now()))
    try server.start()
    let port = try #require(server.ports.first)
    #expect(try Wire(port: port).request(PaidRelay.request("/weather/x")).status == 503)
    #expect(try Wire(port: port).request(PaidRelay.request("/free/x")).body == "free")
    server.drain()
    server.join()
  }
}

extension Wire {
  /// Whether nothing arrives for so many milliseconds.
  func receivesNothing(for milliseconds: Int32) -> Bool {
    var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return Glibc.poll(&poll, 1, milliseconds) == 0
  }
}

extension String {
  /// The parts between occurrences of a separator.
  func components(of separator: String) -> [Substring] {
    var parts: [Substring] = []
    var rest = self[...]
    while let range = rest.firstRange(of: separator) {
      parts.append(rest[..<range.lowerBound])
      rest = rest[range.upperBound...]
    }
    return parts + [rest]
  }
}
