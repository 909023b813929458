import Bytes
import Configuration
import HTTP
import Ledger
import Metering
import Methods
import Payments
import Testing

@testable import Proxy

/// Exchanges whose price is one sum over several counts: what may leave, and what may be asked for at all.
@Suite struct CashierTallyTests {
  /// A token, and an octet, costs one base unit.
  private static func shop() throws -> Shop {
    var settings = try shopSettings()
    settings.routes = try [("octets", "1 USDC per MB, at most 5 USDC"), ("tokens", "1 USDC per M output tokens")].map { id, words in
      var route = Settings.Route(id: id, path: .prefix("/\(id)"))
      route.offer = .priced(try Price(parsing: words, currencies: [cashierCurrency]))
      route.merchant = "acme"
      route.usage.refusesBeyondBudget = false
      return route
    }
    return try Shop(settings)
  }

  private static let chat = "/tokens/v1/chat/completions"

  private static func answer(_ octets: Int, tokens: Int) -> [UInt8] {
    let text = String(repeating: "w", count: octets)
    return Array(
      #"{"choices":[{"message":{"content":"\#(text)"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":\#(tokens),"total_tokens":\#(tokens + 1)}}"#.utf8)
  }

  /// Gives the answer's head to the cashier.
  private func begin(_ shop: Shop, _ exchange: inout PaidExchange, _ type: String) throws {
    let text = Array("HTTP/1.1 200 OK\r\nContent-Type: \(type)\r\nTransfer-Encoding: chunked\r\n\r\n".utf8)
    var fields = ByteBuffer()
    try text.withUnsafeBytes { octets in
      var head = ResponseHead()
      try #require(try ResponseDecoder.decode(octets, limits: .standard, requestMethod: .post, into: &head))
      shop.cashier.read(exchange, head: head, octets)
    }
    _ = shop.cashier.answered(&exchange, status: 200, isEventStream: false, contentLength: nil, fields: &fields, at: shop.now)
  }

  /// How many octets of a portion were granted, and what leaves of them.
  private struct Passed: Equatable {
    let count: Int
    let output: [UInt8]
  }

  /// Asks for a portion, and waits for the disk where it must; nil where the budget is used up.
  private func pass(_ shop: Shop, _ exchange: PaidExchange, _ portion: [UInt8]) throws -> Passed? {
    while true {
      switch portion.withUnsafeBytes({ shop.cashier.grantPortion(exchange, $0, at: shop.now) }) {
      case .granted(let count):
        var output = ByteBuffer()
        shop.cashier.appendPortion(exchange, to: &output)
        shop.cashier.deliveredPortions(exchange)
        return Passed(count: Int(count), output: output.array())
      case .waitDurable(let entry): try #require(shop.ledger.awaitDurable(entry))
      case .dry: return nil
      case .stop: throw ShopError.unexpectedVerdict
      }
    }
  }

  private func topUp(_ shop: Shop, _ target: String, _ amount: UInt128, _ secret: SessionSecret) throws {
    let credential = PrepaidCredential.topUp(try shop.challenge(target, "session"), additionalDeposit: amount, session: secret.id, wallet: shop.wallet)
    #expect(try shop.answer(target, authorization(credential)).status == 200)
  }

  private func spent(_ shop: Shop, _ secret: SessionSecret) throws -> UInt128 {
    try #require(shop.ledger.session(secret.id).flatMap { shop.ledger.figures($0) }).spent
  }

  @Test func whatCameWhileAPortionWaitedIsAskedForNext() throws {
    let shop = try Self.shop()
    let (_, secret) = try shop.openSession("/octets", deposit: 50)
    var exchange = try shop.pay("/octets", short(secret))
    try begin(shop, &exchange, "text/plain")
    let content = (0..<200).map { UInt8($0) }
    #expect(try pass(shop, exchange, Array(content[..<100])) == nil)
    try topUp(shop, "/octets", 500, secret)
    // More has come by now: what was shown first leaves, and nothing of the rest is lost or free.
    #expect(try pass(shop, exchange, content) == Passed(count: 100, output: Array(content[..<100])))
    #expect(try pass(shop, exchange, Array(content[100...])) == Passed(count: 100, output: Array(content[100...])))
    _ = shop.cashier.finish(&exchange, .complete, at: shop.now)
    #expect(try spent(shop, secret) == 200)
    shop.settleBooks()
  }

  @Test func anAnswerThatComesWithItsReportIsNotFree() throws {
    let shop = try Self.shop()
    let (_, secret) = try shop.openSession(Self.chat, deposit: 100)
    let body = #"{"model":"m","messages":[],"max_tokens":2000}"#
    var exchange = try shop.pay(Self.chat, method: "POST", short(secret), body: body)
    try begin(shop, &exchange, "application/json")
    let content = Self.answer(4000, tokens: 1000)
    #expect(try pass(shop, exchange, content) == nil)
    try topUp(shop, Self.chat, 2000, secret)
    #expect(try pass(shop, exchange, content) == Passed(count: content.count, output: content))
    var rest = ByteBuffer()
    #expect(!shop.cashier.completePortions(exchange, into: &rest) && rest.isEmpty)
    _ = shop.cashier.finish(&exchange, .complete, at: shop.now)
    #expect(try spent(shop, secret) == 1000)
    shop.settleBooks()
  }

  @Test func contentDoesNotWaitForWhatOnlyTheReportKnows() throws {
    let shop = try Self.shop()
    let (_, secret) = try shop.openSession(Self.chat, deposit: 1100)
    var exchange = try shop.pay(Self.chat, method: "POST", short(secret), body: #"{"model":"m","messages":[],"max_tokens":5000}"#)
    try begin(shop, &exchange, "application/json")
    let content = Self.answer(4000, tokens: 3000)
    #expect(try pass(shop, exchange, content) == Passed(count: content.count, output: content))
    var rest = ByteBuffer()
    #expect(!shop.cashier.completePortions(exchange, into: &rest))
    _ = shop.cashier.finish(&exchange, .complete, at: shop.now)
    // Never more than was held.
    #expect(try spent(shop, secret) == 1100)
    shop.settleBooks()
  }

  @Test func whatCannotBeReadIsNotSoldByTheToken() throws {
    let shop = try Self.shop()
    let (_, secret) = try shop.openSession(Self.chat, deposit: 1000)
    let readable = #"{"model":"m","max_tokens":9}"#
    let cases: [([(String, String)], String)] = [
      ([("Content-Encoding", "gzip")], readable), ([], #"{"max_tokens":90000,"x":NaN}"#), ([], "max_tokens=9"), ([], #"{"max_tokens":9,"max_tokens":90000}"#),
    ]
    for (fields, body) in cases {
      let answer = try shop.answer(Self.chat, method: "POST", short(secret) + fields, body: body)
      #expect(answer.status == 400 && answer.problem == "bad-request", "\(body)")
    }
    var exchange = try shop.pay(Self.chat, method: "POST", short(secret), body: readable)
    _ = try shop.finish(&exchange, status: 500)
    // Where requests have no known format only their size tells.
    var upload = try shop.pay("/tokens/files", method: "POST", short(secret) + [("Content-Encoding", "gzip")], body: "\u{1F}")
    _ = try shop.finish(&upload, status: 500)
    #expect(try spent(shop, secret) == 0)
  }
}
