import Bytes
import Configuration
import Encoding
import Gateway
import Glibc
import HTTP
import Ledger
import Metering
import Methods
import Payments
import Testing
import Usage

@testable import Proxy

/// Random streams, cut, topped up, left and broken at random places, against arithmetic of the tests' own.
@Suite struct TallyDifferentialTests {
  /// 2,000 cases in the tests, 100,000 in `scripts/fuzz` (not where it is told to be brief).
  private static var caseCount: Int {
    let seconds = getenv("FAREBOX_FUZZ_SECONDS").flatMap { UInt64(String(cString: $0)) } ?? 0
    return seconds >= 60 ? 100_000 : 2000
  }

  @Test func fuzzedStreamsCostWhatTheModelSays() throws {
    let seed = getenv("FAREBOX_FUZZ_SEED").flatMap { UInt64(String(cString: $0)) } ?? 0x5EED
    var random = SplitMix(state: seed)
    var cases = 0
    var seen = StreamCoverage()
    while cases < Self.caseCount {
      // A ledger for a few hundred sessions, so that its memory and its books stay those of a test.
      let shop = try Shop(try Tariff.settings(), funds: 1_000_000_000_000_000)
      for _ in 0..<200 where cases < Self.caseCount {
        let state = random.state
        do {
          var streams = try SoldStreams(shop, &random)
          cases += try streams.run(&random, &seen)
        } catch {
          Issue.record("seed \(state): \(error)")
          throw error
        }
      }
      shop.settleBooks()
    }
    #expect(seen.isComplete, "\(seen)")
  }
}

/// What the cases have to have come by, or they prove little.
private struct StreamCoverage {
  var complete = 0
  var dry = 0
  var toppedUp = 0
  var timedOut = 0
  var left = 0
  var broken = 0
  var refused = 0
  var failed = 0
  var capped = 0

  var isComplete: Bool { [complete, dry, toppedUp, timedOut, left, broken, refused, failed, capped].allSatisfy { $0 > 10 } }
}

private struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }

  mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &self) < percent }
}

/// What is counted, in the tests' own numbers: millionths of a base unit.
private struct Counts {
  var octets: UInt128 = 0
  var events: UInt128 = 0
  var seconds: UInt128 = 0
  var input: UInt128 = 0
  var cached: UInt128 = 0
  var output: UInt128 = 0
}

/// The routes of the cases, and what each costs.
private struct Tariff {
  let route: String
  let words: String
  var minimum: UInt128 = 0
  var maximum: UInt128 = .max
  let millionths: @Sendable (Counts) -> UInt128

  func cost(_ counts: Counts) -> UInt128 {
    let upper = maximum == .max ? UInt128.max : maximum * 1_000_000
    return min(max(millionths(counts), minimum * 1_000_000), upper)
  }

  static let all: [Tariff] = [
    Tariff(route: "tokens", words: "0.15 USDC per M input tokens + 0.60 USDC per M output tokens") {
      ($0.input + $0.cached) * 150_000 + $0.output * 600_000
    },
    Tariff(route: "cached", words: "0.3 USDC per M input tokens + 0.03 USDC per M cached input tokens + 1.2 USDC per M output tokens + 0.000003 USDC per request") {
      $0.input * 300_000 + $0.cached * 30_000 + $0.output * 1_200_000 + 3_000_000
    },
    Tariff(route: "mixed", words: "0.7 USDC per M output tokens + 0.000013 USDC per event + 0.11 USDC per MB", minimum: 40, maximum: 900) {
      $0.output * 700_000 + $0.events * 13_000_000 + $0.octets * 110_000
    },
    Tariff(route: "ticks", words: "0.000021 USDC per 3 events") { $0.events * 7_000_000 },
    Tariff(route: "timed", words: "0.00006 USDC per minute + 0.000002 USDC per event") { $0.seconds * 1_000_000 + $0.events * 2_000_000 },
  ]

  static func settings() throws -> Settings {
    var settings = try shopSettings()
    settings.routes = try all.map { tariff in
      var route = Settings.Route(id: tariff.route, path: .prefix("/\(tariff.route)"))
      let price = try Price(parsing: tariff.words, currencies: [cashierCurrency])
      route.offer = .priced(try #require(Price(currency: cashierCurrency, parts: price.parts, minimum: tariff.minimum, maximum: tariff.maximum)))
      route.merchant = "acme"
      route.usage.defaultOutputTokens = 300
      route.usage.refusesBeyondBudget = tariff.route != "mixed"
      return route
    }
    return settings
  }
}

/// An upstream's stream: events of a chat completion, with comments between them, and the lines ended in one of three ways.
private struct Upstream {
  var octets: [UInt8] = []
  /// What the client is to get.
  var expected: [UInt8] = []
  /// What was used when so many of the octets have been looked at.
  var marks: [(position: Int, counts: Counts)] = []
  var reported: Counts?

  init(isFiltered: Bool, estimatedInput: UInt128, _ random: inout SplitMix) {
    var counts = Counts()
    counts.input = estimatedInput
    marks = [(0, counts)]
    let end = ["\n", "\r\n", "\n"].randomElement(using: &random)!
    var text = 0
    for _ in 0..<Int.random(in: 0...12, using: &random) {
      if random.chance(15) { append(": ping\(end)\(end)", counts, isEvent: false, &counts) }
      let size = random.chance(3) ? Int.random(in: 20_000...70_000, using: &random) : Int.random(in: 0...60, using: &random)
      text += size
      counts.output = UInt128((text + 3) / 4)
      let content = String(repeating: "w", count: size)
      append("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\(content)\"}}],\"usage\":null}\(end)\(end)", counts, isEvent: true, &counts)
    }
    append("data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\(end)\(end)", counts, isEvent: true, &counts)
    if random.chance(80) {
      let (prompt, cached) = (Int.random(in: 0...400, using: &random), Int.random(in: 0...100, using: &random))
      let completion = random.chance(10) ? Int.random(in: 0...5000, using: &random) : Int.random(in: 0...200, using: &random)
      counts.input = UInt128(max(0, prompt - cached))
      counts.cached = UInt128(min(prompt, cached))
      counts.output = UInt128(completion)
      reported = counts
      let chunk = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":\(prompt),\"completion_tokens\":\(completion),"
        + "\"total_tokens\":\(prompt + completion),\"prompt_tokens_details\":{\"cached_tokens\":\(min(prompt, cached))}}}\(end)\(end)"
      if isFiltered {
        octets += Array(chunk.utf8)
        marks.append((octets.count, counts))
      } else {
        append(chunk, counts, isEvent: true, &counts)
      }
    }
    append("data: [DONE]\(end)\(end)", counts, isEvent: true, &counts)
  }

  private mutating func append(_ text: String, _ counts: Counts, isEvent: Bool, _ after: inout Counts) {
    octets += Array(text.utf8)
    expected += Array(text.utf8)
    after.octets = UInt128(expected.count)
    if isEvent { after.events += 1 }
    marks.append((octets.count, after))
  }
}

/// One session, and the streams that it buys.
private struct SoldStreams {
  let shop: Shop
  let tariff: Tariff
  let challenge: Challenge
  let secret: SessionSecret
  var deposit: UInt128
  /// Millionths of a base unit.
  var total: UInt128

  private var target: String { "/\(tariff.route)/v1/chat/completions" }

  init(_ shop: Shop, _ random: inout SplitMix) throws {
    self.shop = shop
    tariff = Tariff.all.randomElement(using: &random)!
    let least: UInt128 = 400
    deposit = least + UInt128.random(in: 0...(random.chance(50) ? 400 : 20_000), using: &random)
    (challenge, secret) = try shop.openSession("/\(tariff.route)/v1/chat/completions", deposit: deposit)
    // The open's own request had no content, and its response none either.
    total = tariff.cost(Counts())
  }

  private func ceiling(_ millionths: UInt128) -> UInt128 { (millionths + 999_999) / 1_000_000 }

  mutating func run(_ random: inout SplitMix, _ seen: inout StreamCoverage) throws -> Int {
    let count = Int.random(in: 1...3, using: &random)
    for _ in 0..<count {
      guard try sell(&random, &seen) else { break }
      let view = try #require(shop.ledger.session(secret.id).flatMap { shop.ledger.figures($0) })
      try expect(view.spent == ceiling(total), "spent \(view.spent), the model says \(ceiling(total))")
      try expect(view.spent <= deposit, "spent beyond the deposit")
    }
    let closed = try shop.answer(target, authorization(PrepaidCredential.close(challenge, secret: secret)))
    let result = try SessionClosed(parsing: closed.json)
    try expect(result == SessionClosed(spent: ceiling(total), refunded: deposit - ceiling(total)), "\(result), the model says \(ceiling(total))")
    return count
  }

  private func expect(_ condition: Bool, _ words: @autoclosure () -> String) throws {
    if !condition { throw DifferentialError(words: "\(tariff.route): \(words())") }
  }

  /// Sells one stream; false where the session cannot pay for its beginning.
  private mutating func sell(_ random: inout SplitMix, _ seen: inout StreamCoverage) throws -> Bool {
    let prompt = String(repeating: "p", count: Int.random(in: 0...300, using: &random))
    let limit = random.chance(60) ? ",\"max_tokens\":\(Int.random(in: 1...300, using: &random))" : ""
    let asksForUsage = random.chance(30)
    let option = asksForUsage ? ",\"stream_options\":{\"include_usage\":true}" : ""
    let body = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"\(prompt)\"}],\"stream\":true\(limit)\(option)}"
    var exchange: PaidExchange
    switch try shop.send(target, method: "POST", short(secret), body: body) {
    case .paid(let paid): exchange = paid
    case .answer(let answer):
      try expect(answer.status == 402 && answer.json["required"] != nil, "\(answer.status) \(String(decoding: answer.body, as: UTF8.self))")
      seen.refused += 1
      return false
    default: throw DifferentialError(words: "another verdict")
    }
    let octets = try Array(body.utf8).withUnsafeBytes { try RequestReading($0.bytes, format: .openAIChat).contentOctets }
    let countsTokens = tariff.words.contains("tokens")
    let isFiltered = countsTokens && !asksForUsage
    try expect(exchange.changesContent == isFiltered, "the request is changed: \(exchange.changesContent)")
    let upstream = Upstream(isFiltered: isFiltered, estimatedInput: UInt128((octets + 3) / 4), &random)
    if random.chance(4) {
      try answer(&exchange, status: 500)
      _ = shop.cashier.finish(&exchange, .complete, at: shop.now)
      seen.failed += 1
      return true
    }
    try answer(&exchange, status: 200)
    total += try deliver(&exchange, upstream, &random, &seen)
    return true
  }

  private func answer(_ exchange: inout PaidExchange, status: UInt16) throws {
    let text = Array("HTTP/1.1 \(status) X\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".utf8)
    var fields = ByteBuffer()
    try text.withUnsafeBytes { octets in
      var head = ResponseHead()
      try #require(try ResponseDecoder.decode(octets, limits: .standard, requestMethod: .post, into: &head))
      shop.cashier.read(exchange, head: head, octets)
    }
    _ = shop.cashier.answered(&exchange, status: status, isEventStream: true, contentLength: nil, fields: &fields, at: shop.now)
  }

  /// Delivers a stream as the relay does, until it is whole or something ends it; tells what it must have cost, in millionths.
  private mutating func deliver(
    _ exchange: inout PaidExchange, _ upstream: Upstream, _ random: inout SplitMix, _ seen: inout StreamCoverage
  ) throws -> UInt128 {
    var events = EventPassage()
    var held = ByteBuffer()
    var output: [UInt8] = []
    var clock = EventClock(now: shop.cashier.clock)
    var position = 0
    var isWhole = false
    var end = ExchangeEnd.complete
    let leavesAt = random.chance(12) ? Int.random(in: 0...upstream.octets.count, using: &random) : Int.max
    let breaksAt = random.chance(12) ? Int.random(in: 0...upstream.octets.count, using: &random) : Int.max
    stream: while true {
      shop.cashier.clock += Int64.random(in: 0...700_000_000, using: &random)
      if position >= min(leavesAt, breaksAt) {
        end = leavesAt <= breaksAt ? .clientLeft(requestForwarded: true, headSeen: true, safe: false) : .upstreamBroke
        break
      }
      if position < upstream.octets.count {
        let size = min(upstream.octets.count - position, random.chance(20) ? 1 : Int.random(in: 1...900, using: &random))
        upstream.octets[position..<(position + size)].withUnsafeBytes { events.take($0, into: &held) }
        position += size
      } else {
        isWhole = true
        events.finish(into: &held)
      }
      while let portion = portion(events, held, isWhole) {
        let result = portion.withUnsafeBytes { shop.cashier.grantPortion(exchange, $0, at: shop.now) }
        switch result {
        case .granted(let granted):
          let portion = portion.prefix(Int(granted))
          var passed = ByteBuffer()
          shop.cashier.appendPortion(exchange, to: &passed)
          shop.cashier.deliveredPortions(exchange)
          portion.withUnsafeBytes { events.deliver($0.count, of: $0) }
          held.removeFirst(portion.count)
          output += passed.array()
          clock.passed(at: shop.cashier.clock)
        case .waitDurable(let entry):
          try expect(shop.ledger.awaitDurable(entry), "a commit failed")
          // More may come while a portion waits.
          let size = min(upstream.octets.count - position, Int.random(in: 0...900, using: &random))
          guard size > 0, position + size <= min(leavesAt, breaksAt), random.chance(40) else { continue }
          upstream.octets[position..<(position + size)].withUnsafeBytes { events.take($0, into: &held) }
          position += size
        case .dry(let dry):
          seen.dry += 1
          clock.paused(at: shop.cashier.clock)
          _ = dry
          shop.cashier.clock += Int64.random(in: 0...5_000_000_000, using: &random)
          guard random.chance(60) else {
            end = random.chance(50) ? .holdTimeout : .clientLeft(requestForwarded: true, headSeen: true, safe: false)
            break stream
          }
          try topUp(UInt128.random(in: 1...300, using: &random))
          clock.resumes = shop.cashier.clock
          seen.toppedUp += 1
        case .stop: throw DifferentialError(words: "stopped")
        }
      }
      if isWhole { break }
    }
    return try finish(&exchange, upstream, end, output, Int(events.delivered), clock, &seen)
  }

  private func portion(_ events: EventPassage, _ held: borrowing ByteBuffer, _ isWhole: Bool) -> [UInt8]? {
    guard !held.isEmpty else { return nil }
    return held.withUnsafeBytes { octets in
      let whole = events.completeCount(heldCount: octets.count)
      if whole > 0 { return Array(octets[..<events.firstEvent(in: UnsafeRawBufferPointer(rebasing: octets[..<whole]))]) }
      return octets.count >= Worker.eventHoldLimit || isWhole ? Array(octets) : nil
    }
  }

  private mutating func topUp(_ amount: UInt128) throws {
    let credential = PrepaidCredential.topUp(
      try shop.challenge(target, "session"), additionalDeposit: amount, session: secret.id, wallet: shop.wallet)
    try expect(try shop.answer(target, authorization(credential)).status == 200, "the top-up is refused")
    deposit += amount
  }

  private func finish(
    _ exchange: inout PaidExchange, _ upstream: Upstream, _ end: ExchangeEnd, _ output: [UInt8], _ position: Int, _ clock: EventClock,
    _ seen: inout StreamCoverage
  ) throws -> UInt128 {
    try expect(upstream.expected.starts(with: output), "the stream was altered")
    var counts = try #require(upstream.marks.last { $0.position <= position }).counts
    counts.seconds = clock.seconds
    switch end {
    case .complete:
      var rest = ByteBuffer()
      let isUnreported = shop.cashier.completePortions(exchange, into: &rest)
      try expect(rest.isEmpty && output == upstream.expected, "the stream is not whole")
      try expect(isUnreported == (tariff.words.contains("tokens") && upstream.reported == nil), "unreported: \(isUnreported)")
      counts.seconds = clock.seconds(at: shop.cashier.clock)
      seen.complete += 1
    case .holdTimeout: seen.timedOut += 1
    case .upstreamBroke: seen.broken += 1
    default: seen.left += 1
    }
    let tally = try #require(shop.cashier.exchanges[exchange.place].tally)
    shop.cashier.coverUsed(exchange.place, at: shop.now)
    let (most, used) = (Self.millionths(tally.tab.debited) + Self.millionths(tally.tab.held), Self.millionths(tally.used))
    let entry = shop.cashier.finish(&exchange, end, at: shop.now).after
    try expect(entry == 0 || shop.ledger.awaitDurable(entry), "a commit failed")
    if tariff.cost(counts) > most { seen.capped += 1 }
    let cost = min(tariff.cost(counts), most)
    // In the middle of a large event a part of its content has been delivered, and of that the model knows no more than the bounds.
    guard let next = upstream.marks.first(where: { $0.position >= position }), next.position != position else {
      try expect(used == cost, "used \(used), the model says \(cost)")
      return cost
    }
    var bound = next.counts
    bound.seconds = counts.seconds
    try expect(used >= cost && used <= min(tariff.cost(bound), most), "used \(used), between \(cost) and \(tariff.cost(bound))")
    return used
  }

  /// The tests' prices have no finer fractions.
  private static func millionths(_ cost: ExactCost) -> UInt128 {
    cost.whole * 1_000_000 + cost.numerator / (ExactCost.denominator / 1_000_000)
  }
}

/// The clock of the time that is sold, in the tests' own arithmetic.
private struct EventClock {
  var now: Int64
  var start: Int64?
  var pausedAt: Int64?
  var resumes: Int64?
  private(set) var seconds: UInt128 = 0

  init(now: Int64) { self.now = now }

  mutating func paused(at time: Int64) { if pausedAt == nil { pausedAt = time } }

  mutating func passed(at time: Int64) {
    if let paused = pausedAt, let began = start { start = began + (time - paused) }
    pausedAt = nil
    if start == nil { start = time }
    seconds = max(seconds, seconds(at: time))
  }

  func seconds(at time: Int64) -> UInt128 {
    guard let start else { return 0 }
    return max(seconds, UInt128((min(time, pausedAt ?? time) - start) / 1_000_000_000) + 1)
  }
}

private struct DifferentialError: Error, CustomStringConvertible {
  let words: String
  var description: String { words }
}
