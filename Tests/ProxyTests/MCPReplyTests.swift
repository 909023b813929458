import Bytes
import Configuration
import Encoding
import Gateway
import HTTP
import Ledger
import MCP
import Metering
import Payments
import Testing

@testable import Proxy

/// What answers of our own are in messages, and which calls lead to which price.
@Suite struct MCPReplyTests {
  private static func route(_ change: (inout Settings.Route) -> Void = { _ in }) throws -> MCPRoute {
    var route = Settings.Route(id: "tools", path: .exact("/mcp"))
    route.selector = .mcp
    func price(_ words: String) throws -> Price { try Price(parsing: words, currencies: [cashierCurrency]) }
    route.variants = [
      Settings.Variant(name: "a", patterns: ["tools/call:db.*"], price: try price("0.001 USDC per call")),
      Settings.Variant(name: "b", patterns: ["tools/call:db.gift"], price: nil),
      Settings.Variant(name: "c", patterns: ["resources/read:file:///r/*"], price: try price("0.002 USDC per call")),
    ]
    change(&route)
    return try #require(MCPRoute(route, places: [5, 6, 7]))
  }

  private static func exchange(isBatch: Bool = false, dialect: MCPExchange.Dialect = .messages, ids: [String] = ["1"]) throws -> MCPExchange {
    let exchange = MCPExchange(try route(), memory: MCPMemory(WorkerMetrics()), dialect: dialect, isBatch: isBatch)
    for id in ids {
      let text = Array(#"{"jsonrpc":"2.0","id":\#(id),"method":"tools/call","params":{"name":"db.x"}}"#.utf8)
      let message = try text.withUnsafeBytes { try MCPRequest($0) }.messages[0]
      exchange.calls.append(MCPExchange.Call(identifier: try #require(message.identifier), subject: message.subject))
    }
    return exchange
  }

  private static func answer(_ status: UInt16, _ type: String) -> Answer {
    Answer(
      status: status, fields: Array("Content-Type: application/problem+json\r\nCache-Control: no-store\r\nRetry-After: 5\r\nX: y\r\n".utf8),
      body: Array(#"{"type":"https://paymentauth.org/problems/\#(type)","title":"t","status":\#(status),"detail":"d"}"#.utf8))
  }

  @Test func thePriceIsTheClosestPatterns() throws {
    let route = try Self.route()
    func choice(_ kind: CallKind, _ name: String) throws -> MCPRoute.Choice { route.choice(of: try CallTarget(kind: kind, name: name)) }
    #expect(try choice(.tool, "db.read") == .priced(5))
    #expect(try choice(.tool, "db.gift") == .free)
    #expect(try choice(.tool, "other") == .free)
    #expect(try choice(.resource, "file:///r/a") == .priced(7))
    #expect(try choice(.prompt, "db.read") == .free)
    #expect(route.sold == [5, 7])
    let plain = Settings.Route(id: "x", path: .exact("/"))
    #expect(MCPRoute(plain, places: []) == nil)
  }

  /// What is free as it is written, and sold once a server has undone its escapes, is neither.
  @Test(arguments: [
    ("file:///r/a%20b", false), ("file:///o/a%20b", false), ("app://x/a:b", false), ("app://x/a%3Ab", true), ("app://x/%61:b", true),
    ("app://x/c%2Bd", false), ("app://x/%C3%A9", true),
  ])
  func anEscapeIsNoWayRoundAPrice(uri: String, isAmbiguous: Bool) throws {
    let route = try Self.route { route in
      route.variants[0].patterns = ["resources/read:app://x/a:b*", "resources/read:app://x/c%2Bd", "resources/read:app://x/é"]
    }
    let text = Array(#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"\#(uri)"}}"#.utf8)
    let message = try text.withUnsafeBytes { try MCPRequest($0) }.messages[0]
    #expect(route.isAmbiguous(message) == isAmbiguous)
  }

  @Test(arguments: [
    (402, "payment-required", false, -32042, 200), (402, "invalid-challenge", true, -32043, 200), (402, "payment-required", true, -32043, 200),
    (402, "malformed-credential", true, -32602, 200), (400, "bad-request", true, -32602, 200), (403, "already-paid", true, -32000, 200),
    (409, "payment-in-flight", true, -32000, 200), (410, "session/channel-finalized", true, -32000, 200), (422, "idempotency-mismatch", true, -32000, 200),
    (429, "rate-limited", false, -32000, 429), (500, "internal-payment-error", true, -32603, 500), (502, "x", true, -32603, 502),
    (503, "ledger-unavailable", false, -32603, 503),
  ] as [(UInt16, String, Bool, Int, UInt16)])
  func problemsHaveCodes(status: UInt16, type: String, presents: Bool, code: Int, told: UInt16) throws {
    let exchange = try Self.exchange()
    exchange.calls[0].presentsCredential = presents
    let reply = exchange.translated(Self.answer(status, type))
    #expect(reply.status == told)
    let message = try JSON.parse(reply.body)
    #expect(message["error"]?["code"]?.intValue == code)
    #expect(message["id"]?.intValue == 1)
    #expect(message["error"]?["data"]?["httpStatus"]?.intValue == Int(status))
    #expect(message["error"]?["data"]?["problem"]?["detail"] == "d")
    #expect((message["error"]?["data"]?["failure"]?["reason"] == .string(String(type.split(separator: "/").last ?? ""))) == (code == -32043))
    let fields = String(decoding: reply.fields, as: UTF8.self)
    #expect(fields == "Content-Type: application/json\r\nCache-Control: no-store\r\nRetry-After: 5\r\nX: y\r\n")
    // Once is enough.
    #expect(exchange.translated(reply).body == reply.body)
  }

  @Test func clientsOfFieldsKeepTheirs() throws {
    let exchange = try Self.exchange(dialect: .fields)
    let answer = Self.answer(402, "payment-required")
    #expect(exchange.translated(answer).body == answer.body)
    let both = try Self.exchange(dialect: .both).translated(answer)
    #expect(both.status == 402)
    #expect(try JSON.parse(both.body)["error"]?["code"]?.intValue == -32042)
  }

  @Test func everyRequestOfABatchIsAnswered() throws {
    let exchange = try Self.exchange(isBatch: true, ids: ["1", "\"b\"", "3"])
    exchange.calls[1].answer = Self.answer(402, "payment-required")
    let messages = try #require(try JSON.parse(exchange.refusedBatch().body).arrayValue)
    #expect(messages.map { $0["error"]?["code"]?.intValue } == [-32000, -32042, -32000])
    #expect(messages.map { $0["id"] } == [1, "b", 3])
    #expect(exchange.call(for: exchange.calls[2].identifier) == 2)
  }

  @Test func refusalsNameTheirRule() throws {
    for (rule, code) in [(MCPError.notJSON(offset: 3), -32700), (.duplicateMember(offset: 1), -32600), (.ambiguousURI, -32602), (.missingTarget, -32602)] {
      let refusal = MCPReply.refusal(rule, id: .null)
      let message = try JSON.parse(refusal.body)
      #expect(refusal.status == 400 && message["error"]?["code"]?.intValue == code && message["id"]?.isNull == true)
      #expect(message["error"]?["data"]?["detail"] == .string(rule.detail))
    }
  }
}

@Suite struct MCPMemoryTests {
  @Test func whatExchangesKeepIsBoundedTogether() throws {
    let settings = try shopSettings()
    var route = try #require(settings.routes.first)
    route.selector = .mcp
    let endpoint = try #require(MCPRoute(route, places: []))
    let metrics = WorkerMetrics()
    let memory = MCPMemory(metrics)
    let first = MCPExchange(endpoint, memory: memory, dialect: .messages)
    #expect(first.keep(MCPMemory.limit - 10))
    do {
      let second = MCPExchange(endpoint, memory: memory, dialect: .messages)
      #expect(second.keep(10))
      #expect(!second.keep(11))
      #expect(metrics.octetsOfMessages.read() == UInt64(MCPMemory.limit + 1))
      // To keep nothing is always possible.
      #expect(second.keep(0))
    }
    #expect(first.keep(10))
    #expect(metrics.octetsOfMessages.read() == 10)
  }

  @Test func aCallIsKnownByWhereItsIdentifierIsUnique() throws {
    let calls = CallsInFlight()
    let (one, two) = (ClientAddress(ipv4: 1), ClientAddress(ipv4: 2))
    func scope(_ session: String, _ client: ClientAddress) -> Digest32 { CallsInFlight.scope(upstream: 0, session: Array(session.utf8), client: client) }
    #expect(scope("s", one) == scope("s", two) && scope("", one) != scope("", two) && scope("s", one) != scope("t", one))
    let first = calls.enter(scope("s", one), .null)
    let second = calls.enter(scope("", one), .null)
    calls.cancel(.null, in: scope("t", one))
    calls.cancelAll(scope("", two))
    #expect(!first.isCancelled && !second.isCancelled)
    calls.cancel(.null, in: scope("s", two))
    calls.cancelAll(scope("", one))
    #expect(first.isCancelled && second.isCancelled && calls.count == 2)
    calls.leave(scope("s", one), [first, second])
    #expect(calls.count == 1)
    calls.leave(scope("", one), [second])
    #expect(calls.count == 0)
  }
}
