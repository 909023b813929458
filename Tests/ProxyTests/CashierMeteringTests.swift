import Bytes
import Configuration
import Crypto
import Encoding
import HTTP
import Ledger
import Metering
import Methods
import Payments
import Testing

@testable import Proxy

/// What a stream got before it ended or ran dry.
private enum StreamEnd: Equatable {
  case delivered(UInt64)
  case dry(UInt64, event: String)
  case stopped(UInt64)
}

extension Shop {
  /// Delivers content in pieces as the relay does, waiting for the disk where it must.
  fileprivate func stream(_ exchange: inout PaidExchange, _ count: UInt64, piece: UInt64 = 16384) -> StreamEnd {
    var delivered: UInt64 = 0
    while delivered < count {
      switch cashier.grant(&exchange, wanted: min(piece, count - delivered), atLeast: 1, at: now) {
      case .granted(let granted):
        cashier.delivered(&exchange, granted)
        delivered += granted
      case .waitDurable(let entry):
        guard ledger.awaitDurable(entry) else { return .stopped(delivered) }
      case .dry(let dry): return .dry(delivered, event: String(decoding: dry.event, as: UTF8.self))
      case .stop: return .stopped(delivered)
      }
    }
    return .delivered(delivered)
  }

  fileprivate func answered(_ exchange: inout PaidExchange, isEventStream: Bool = false, length: UInt64? = nil) -> String {
    var fields = ByteBuffer()
    _ = cashier.answered(
      &exchange, status: 200, isEventStream: isEventStream, contentLength: length, fields: &fields, at: now)
    return fields.string()
  }

  fileprivate func topUp(_ target: String, _ amount: UInt128, _ secret: SessionSecret) throws {
    let challenge = try challenge(target, "session")
    let topUp = PrepaidCredential.topUp(challenge, additionalDeposit: amount, session: secret.id, wallet: wallet)
    #expect(try answer(target, authorization(topUp)).status == 200)
  }
}

@Suite struct CashierMeteringTests {
  @Test func aStreamCostsWhatWasDelivered() throws {
    let shop = try Shop()
    let start = shop.funds
    let (challenge, secret) = try shop.openSession("/bytes", deposit: 1_000_000)
    #expect(shop.earned() == 0)
    var exchange = try shop.pay("/bytes/file", short(secret))
    #expect(exchange.metersResponse)
    #expect(!exchange.metersRequest)
    _ = shop.answered(&exchange, length: 3_000_001)
    #expect(shop.stream(&exchange, 3_000_001) == .delivered(3_000_001))
    _ = shop.cashier.finish(&exchange, .complete, at: shop.now)
    // 0.01 USDC a megabyte, rounded up once.
    #expect(shop.earned() == 30001)
    let answer = try shop.answer("/bytes", authorization(PrepaidCredential.close(challenge, secret: secret)))
    #expect(try SessionClosed(parsing: answer.json) == SessionClosed(spent: 30001, refunded: 969_999))
    #expect(shop.funds == start - 30001)
    shop.settleBooks()
  }

  @Test func nothingIsDeliveredBeyondTheBudgetAndATopUpGoesOn() throws {
    let shop = try Shop()
    // Half of what the file costs.
    let (challenge, secret) = try shop.openSession("/bytes", deposit: 20000)
    var exchange = try shop.pay("/bytes/file", short(secret))
    _ = shop.answered(&exchange, length: 4_000_000)
    #expect(shop.stream(&exchange, 4_000_000) == .dry(2_000_000, event: ""))
    #expect(shop.stream(&exchange, 2_000_000) == .dry(0, event: ""))
    let status = try shop.answer("/bytes", authorization(PrepaidCredential.status(challenge, secret: secret)))
    #expect(try SessionStatus(parsing: status.json).remaining == 0)
    // A piece of 16,384 octets at 0.01 a megabyte.
    #expect(try SessionStatus(parsing: status.json).required == 1)
    try shop.topUp("/bytes", 20000, secret)
    #expect(shop.stream(&exchange, 2_000_000) == .delivered(2_000_000))
    _ = shop.cashier.finish(&exchange, .complete, at: shop.now)
    #expect(shop.earned() == 40000)
    shop.settleBooks()
  }

  @Test func atTheStartARequestThatCannotBePaidIsNotForwarded() throws {
    let shop = try Shop()
    let (_, secret) = try shop.openSession("/bytes", deposit: 1)
    var exchange = try shop.pay("/bytes/file", short(secret))
    _ = shop.answered(&exchange)
    #expect(shop.stream(&exchange, 1000) == .dry(100, event: ""))
    let answer = try shop.answer("/bytes/file", short(secret))
    #expect(answer.status == 402)
    #expect(answer.problem == "session/insufficient-balance")
    _ = shop.cashier.finish(&exchange, .upstreamBroke, at: shop.now)
    #expect(shop.earned() == 1)
    shop.settleBooks()
  }

  @Test func anEventStreamIsToldOnceThatItWaitsAndOnceThatItIsOver() throws {
    let shop = try Shop()
    let (_, secret) = try shop.openSession("/bytes", deposit: 10)
    var exchange = try shop.pay("/bytes/events", short(secret))
    _ = shop.answered(&exchange, isEventStream: true)
    let event = "event: payment-need-topup\ndata: {\"balanceRequired\":\"1\",\"balanceSpent\":\"10\",\"sessionId\":\"\(secret.id.hex)\"}\n\n"
    #expect(shop.stream(&exchange, 2000, piece: 100) == .dry(1000, event: event))
    #expect(shop.stream(&exchange, 1000, piece: 100) == .dry(0, event: ""))
    try shop.topUp("/bytes", 5, secret)
    #expect(shop.stream(&exchange, 1000, piece: 100) == .dry(500, event: event.replacing("\"10\"", with: "\"15\"")))
    let parts = shop.cashier.finish(&exchange, .holdTimeout, at: shop.now)
    #expect(String(decoding: parts.event, as: UTF8.self).hasPrefix("event: session-timeout\ndata: {\"balanceRequired\":\"1\""))
    #expect(shop.earned() == 15)
    shop.settleBooks()
  }

  @Test func anEventThatTheBudgetCannotPayWholeIsNotCut() throws {
    let shop = try Shop()
    let (_, secret) = try shop.openSession("/bytes", deposit: 1)
    var exchange = try shop.pay("/bytes/events", short(secret))
    _ = shop.answered(&exchange, isEventStream: true)
    _ = shop.ledger.awaitDurable(shop.ledger.applied)
    guard case .dry = shop.cashier.grant(&exchange, wanted: 150, atLeast: 101, at: shop.now) else {
      throw ShopError.unexpectedVerdict
    }
    guard case .granted(let granted) = shop.cashier.grant(&exchange, wanted: 150, atLeast: 100, at: shop.now) else {
      throw ShopError.unexpectedVerdict
    }
    #expect(granted == 100)
    _ = shop.cashier.finish(&exchange, .holdTimeout, at: shop.now)
    #expect(shop.earned() == 0)
  }

  @Test func theFinalReceiptShowsTheFinalState() throws {
    let shop = try Shop()
    let (_, secret) = try shop.openSession("/bytes", deposit: 100_000)
    var exchange = try shop.pay("/bytes/events", short(secret) + [("TE", "trailers"), ("Connection", "TE")])
    #expect(exchange.wantsTrailer)
    let head = shop.answered(&exchange, isEventStream: true)
    #expect(lines(head, "Payment-Receipt").count == 1)
    #expect(shop.stream(&exchange, 1_000_000) == .delivered(1_000_000))
    let parts = shop.cashier.finish(&exchange, .complete, at: shop.now)
    #expect(parts.after > 0)
    let trailer = try #require(lines(String(decoding: parts.trailer, as: UTF8.self), "Payment-Receipt").first)
    let receipt = try Receipt.parse(trailer)
    #expect(receipt.amount == 10000)
    #expect(receipt.session?.spent == 10000)
    #expect(receipt.session?.remaining == 90000)
    #expect(receipt.session?.units == 1_000_000)
    #expect(String(decoding: parts.event, as: UTF8.self) == "event: payment-receipt\ndata: \(trailer)\n\n")
  }

  @Test func bothDirectionsCount() throws {
    let shop = try Shop()
    let (_, secret) = try shop.openSession("/both", deposit: 1_000_000)
    let before = shop.earned()
    let body = String(repeating: "x", count: 5000)
    guard case .paid(var exchange) = try shop.send("/both/x", method: "POST", short(secret), body: body, streaming: true) else {
      throw ShopError.unexpectedVerdict
    }
    #expect(exchange.metersRequest)
    _ = shop.ledger.awaitDurable(exchange.forwardAfter)
    var sent: UInt64 = 0
    while sent < 5000 {
      guard case .granted(let granted) = shop.cashier.sent(&exchange, 5000 - sent, at: shop.now) else { throw ShopError.unexpectedVerdict }
      sent += granted
    }
    _ = shop.answered(&exchange, length: 2000)
    #expect(shop.stream(&exchange, 2000) == .delivered(2000))
    _ = shop.cashier.finish(&exchange, .complete, at: shop.now)
    // 0.0001 for the request, and 7,000 octets at 0.001 a kilobyte.
    #expect(shop.earned() == before + 100 + 7000)
    shop.settleBooks()
  }

  @Test func aHeadRequestHasNoContentToPay() throws {
    let shop = try Shop()
    let (_, secret) = try shop.openSession("/bytes", deposit: 100)
    var exchange = try shop.pay("/bytes/file", method: "HEAD", short(secret))
    #expect(!exchange.metersResponse)
    _ = shop.answered(&exchange, length: 1 << 40)
    _ = shop.cashier.finish(&exchange, .complete, at: shop.now)
    #expect(shop.earned() == 0)
    shop.settleBooks()
  }

  @Test func whatAStreamsEndCosts() throws {
    let shop = try Shop()
    let (_, secret) = try shop.openSession("/both", deposit: 1_000_000)
    let ends: [(ExchangeEnd, Bool)] = [
      (.upstreamBroke, true), (.clientLeft(requestForwarded: true, headSeen: true, safe: true), true), (.sessionStopped, true),
      (.upstreamFailed(beforeHead: false), true),
    ]
    for (end, _) in ends {
      let before = shop.earned()
      var exchange = try shop.pay("/both/x", short(secret))
      _ = shop.answered(&exchange)
      #expect(shop.stream(&exchange, 3000) == .delivered(3000))
      _ = shop.cashier.finish(&exchange, end, at: shop.now)
      #expect(shop.earned() == before + 3100, "\(end)")
    }
    // A status that costs nothing makes its content free, too.
    let before = shop.earned()
    var exchange = try shop.pay("/both/x", short(secret))
    var fields = ByteBuffer()
    _ = shop.cashier.answered(&exchange, status: 500, isEventStream: false, contentLength: nil, fields: &fields, at: shop.now)
    #expect(!exchange.metersResponse)
    #expect(shop.stream(&exchange, 1_000_000) == .delivered(1_000_000))
    _ = shop.cashier.finish(&exchange, .complete, at: shop.now)
    #expect(shop.earned() == before)
    // No head in time: what may have changed something is paid for, what cannot have is not.
    for (method, safe, cost) in [("POST", false, Int128(100)), ("GET", true, 0)] {
      let before = shop.earned()
      var exchange = try shop.pay("/both/x", method: method, short(secret))
      _ = shop.cashier.finish(&exchange, .abandoned(safe: safe), at: shop.now)
      #expect(shop.earned() == before + cost, "\(method)")
    }
    shop.settleBooks()
  }

  @Test func aCloseStopsAStreamInTheMiddle() throws {
    let shop = try Shop()
    let start = shop.funds
    let (challenge, secret) = try shop.openSession("/bytes", deposit: 1_000_000)
    var exchange = try shop.pay("/bytes/file", short(secret))
    _ = shop.answered(&exchange)
    #expect(shop.stream(&exchange, 100_000) == .delivered(100_000))
    guard case .pending(var pending) = try shop.send("/bytes", authorization(PrepaidCredential.close(challenge, secret: secret))) else {
      throw ShopError.unexpectedVerdict
    }
    // What was debited already may still pass; the next step is refused.
    let end = shop.stream(&exchange, 100_000_000)
    guard case .stopped(let more) = end else { throw ShopError.unexpectedVerdict }
    #expect(more <= Meter.largestStep)
    _ = shop.cashier.finish(&exchange, .sessionStopped, at: shop.now)
    let answer = try #require(shop.cashier.resume(&pending, at: shop.now))
    let closed = try SessionClosed(parsing: answer.json)
    #expect(closed.spent == UInt128((100_000 + more + 99) / 100))
    #expect(shop.funds == start - closed.spent)
    shop.settleBooks()
  }

  @Test func aHundredStreamsShareOneBudget() throws {
    let shop = try Shop()
    let (_, secret) = try shop.openSession("/bytes", deposit: 10000)
    var exchanges: [PaidExchange] = []
    for _ in 0..<100 {
      guard case .paid(let exchange) = try shop.send("/bytes/file", short(secret)) else { break }
      exchanges.append(exchange)
    }
    var delivered: UInt64 = 0
    for index in exchanges.indices {
      _ = shop.answered(&exchanges[index])
      switch shop.stream(&exchanges[index], 100_000) {
      case .delivered(let count), .dry(let count, _), .stopped(let count): delivered += count
      }
    }
    for index in exchanges.indices { _ = shop.cashier.finish(&exchanges[index], .upstreamBroke, at: shop.now) }
    // 10,000 base units pay for 1,000,000 octets, and for no octet more.
    #expect(delivered == 1_000_000)
    #expect(shop.earned() == 10000)
    shop.settleBooks()
  }
}
