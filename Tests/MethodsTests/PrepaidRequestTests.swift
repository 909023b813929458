import Encoding
import Metering
import Methods
import Payments
import Testing

private let resource = Resource(method: "GET", url: "https://api.example.com/v1/weather?city=Bern")
private let details = PrepaidDetails(decimals: 6, ledger: "example", resource: resource)
private let usdc = Currency(code: "usdc", decimals: 6)!

private func session(_ words: String) throws -> PrepaidSession {
  let price = try Price(parsing: words, currencies: [usdc])
  return PrepaidSession(
    rates: price.parts, currency: "usdc", recipient: "acme", suggestedDeposit: 1_000_000, minimumDeposit: 10000, idleTimeout: 600,
    minimum: price.minimum, maximum: price.maximum, details: details)
}

private func text(_ object: JSONObject) -> String { String(decoding: JCS.serialize(.object(object)), as: UTF8.self) }

@Suite struct PrepaidRequestTests {
  @Test func chargeReadsBack() throws {
    let charge = PrepaidCharge(
      amount: 2000, currency: "usdc", recipient: "acme", description: "Weather", externalId: "order-1", details: details)
    #expect(try PrepaidCharge(parsing: charge.object) == charge)
    #expect(
      text(charge.object)
        == #"{"amount":"2000","currency":"usdc","description":"Weather","externalId":"order-1","methodDetails":{"decimals":6,"ledger":"example","resource":{"method":"GET","url":"https://api.example.com/v1/weather?city=Bern"}},"recipient":"acme"}"#
    )
  }

  @Test(arguments: [
    "0.01 USDC per MB", "0.002 USDC per request", "0.01 USDC per MB of both", "0.001 USDC per request + 0.01 USDC per MB",
    "0.001 USDC per request + 0.01 USDC per MB + 0.02 USDC per KiB of request", "0.0001 USDC per event", "0.01 USDC per call",
    "0.01 USDC per second", "0.01 USDC per unit, at most 1 USDC", "0.15 USDC per M input tokens",
    "0.001 USDC per request + 0.15 USDC per M input tokens + 0.07 USDC per M cached input tokens + 0.6 USDC per M output tokens, at least 0.002 USDC, at most 0.5 USDC",
  ])
  func sessionReadsBack(words: String) throws {
    let request = try session(words)
    let read = try PrepaidSession(parsing: request.object)
    #expect(read == request)
    // Who reads the challenge knows the price to the last digit.
    #expect(try read.price == Price(parsing: words, currencies: [usdc]))
  }

  @Test func boundsAndTokensAreTold() throws {
    let tokens = text(try session("0.6 USDC per M output tokens, at least 0.002 USDC, at most 0.5 USDC").object)
    #expect(tokens.contains(#""maximum":"500000","minimum":"2000""#))
    #expect(tokens.contains(#""prices":[{"amount":"600000","direction":"output","unitSize":"1000000","unitType":"token"}]"#))
    let object = try session("0.01 USDC per event, at least 0.002 USDC, at most 0.5 USDC").object
    for (member, value, error) in [
      ("minimum", "500001", PrepaidError.contradiction(.minimum)), ("maximum", "0", .invalid(.maximum)), ("maximum", "-1", .invalid(.maximum)),
      ("minimum", "1.5", .invalid(.minimum)),
    ] {
      var altered = object
      var details = try #require(object["methodDetails"]?.objectValue)
      details.set(member, .string(value))
      altered.set("methodDetails", .object(details))
      #expect(throws: error) { _ = try PrepaidSession(parsing: altered) }
    }
  }

  @Test func aMegabyteIsTenToTheSixth() throws {
    #expect(
      text(try session("0.01 USDC per MB").object)
        == #"{"amount":"10000","currency":"usdc","methodDetails":{"decimals":6,"idleTimeout":"600","ledger":"example","minimumDeposit":"10000","resource":{"method":"GET","url":"https://api.example.com/v1/weather?city=Bern"},"unitSize":"1000000"},"recipient":"acme","suggestedDeposit":"1000000","unitType":"byte"}"#
    )
    let several = text(try session("0.001 USDC per request + 0.01 USDC per MB").object)
    #expect(
      several.contains(
        #""prices":[{"amount":"1000","unitSize":"1","unitType":"request"},{"amount":"10000","unitSize":"1000000","unitType":"byte"}]"#))
  }

  @Test func randomPricesReadBackFromTheWire() throws {
    var state: UInt64 = 0x5EED
    func next(_ bound: UInt64) -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return (state >> 33) % bound
    }
    let sizes: [UInt64] = [1, 60, 1000, 1024, 1_000_000]
    for _ in 0..<1000 {
      var units = Unit.allCases
      let rates = (0...next(8)).prefix(8).compactMap { _ in
        Rate(amount: UInt128(next(1 << 20)) + 1, unitSize: sizes[Int(next(5))], unit: units.remove(at: Int(next(UInt64(units.count)))))
      }
      let minimum = next(2) == 0 ? 0 : UInt128(next(1000))
      let maximum = next(2) == 0 ? UInt128.max : 1000 + UInt128(next(1000))
      let made = PrepaidSession(
        rates: rates, currency: "usdc", recipient: "acme", suggestedDeposit: 1, minimumDeposit: 1, idleTimeout: 600, minimum: minimum, maximum: maximum,
        details: details)
      var octets = JSON.serialize(.object(made.object))
      let read = try PrepaidSession(parsing: try #require(try JSON.parse(octets).objectValue))
      #expect(read == made)
      #expect(read.price == Price(currency: usdc, parts: rates, minimum: minimum, maximum: maximum))
      // What was altered on the way is read as something or refused, and never traps.
      octets[Int(next(UInt64(octets.count)))] = UInt8(next(128))
      if let object = (try? JSON.parse(octets))?.objectValue, let other = try? PrepaidSession(parsing: object) { _ = other.price }
    }
  }

  @Test func pricesMustNotContradictTheLeadingOne() throws {
    let object = try session("0.001 USDC per request + 0.01 USDC per MB").object
    for (member, error) in [("amount", PrepaidError.contradiction(.amount)), ("unitType", .contradiction(.unitType))] {
      var altered = object
      altered.set(member, member == "amount" ? "999" : "byte")
      #expect(throws: error) { _ = try PrepaidSession(parsing: altered) }
    }
  }

  @Test func unitSizeDefaultsToOne() throws {
    var object = try session("0.002 USDC per request").object
    var members = try #require(object["methodDetails"]?.objectValue)
    members.remove("unitSize")
    object.set("methodDetails", .object(members))
    #expect(try PrepaidSession(parsing: object).rates.first?.unitSize == 1)
  }

  @Test func everyMemberThatIsNeededIsMissed() throws {
    let charge = PrepaidCharge(amount: 2000, currency: "usdc", recipient: "acme", details: details).object
    for member in charge.members {
      var without = charge
      without.remove(member.name)
      #expect(throws: PrepaidError.self) { _ = try PrepaidCharge(parsing: without) }
      var wrong = charge
      wrong.set(member.name, true)
      #expect(throws: PrepaidError.self) { _ = try PrepaidCharge(parsing: wrong) }
    }
    let session = try session("0.01 USDC per MB").object
    for member in session.members {
      var without = session
      without.remove(member.name)
      #expect(throws: PrepaidError.self) { _ = try PrepaidSession(parsing: without) }
    }
  }
}
