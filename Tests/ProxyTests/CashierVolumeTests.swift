import Bytes
import Configuration
import Encoding
import Gateway
import HTTP
import Ledger
import Metering
import Methods
import Payments
import Testing

@testable import Proxy

/// Free requests by wallet and address, and tiers.
@Suite struct CashierVolumeTests {
  private static func price(_ words: String) throws -> Price { try Price(parsing: words, currencies: [cashierCurrency]) }

  private static func shop(free: [Settings.FreeUnits] = [], tiers: [(String, UInt64)] = [], route: String = "weather") throws -> Shop {
    var settings = try shopSettings()
    let index = try #require(settings.routes.firstIndex { $0.id == route })
    settings.routes[index].freeUnits = free
    settings.routes[index].tiers = try tiers.map { Settings.Tier(price: try price($0.0), beyond: $0.1, period: .day) }
    return try Shop(settings)
  }

  private static func wallet(_ count: UInt64) -> Settings.FreeUnits { Settings.FreeUnits(count: count, subject: .wallet, period: .day) }

  private func spent(_ shop: Shop, _ secret: SessionSecret) throws -> UInt128 {
    try #require(shop.ledger.session(secret.id).flatMap { shop.ledger.view($0) }).spent
  }

  @Test func aWalletsFreeRequestsCostItsSessionsNothing() throws {
    let shop = try Self.shop(free: [Self.wallet(3)])
    let (_, secret) = try shop.openSession("/weather", deposit: 100_000)
    // The open's own request was the first.
    for expected in [0, 0, 2000, 4000] as [UInt128] {
      var exchange = try shop.pay("/weather", short(secret))
      let (fields, _) = try shop.finish(&exchange)
      #expect(!lines(fields, "Payment-Receipt").isEmpty)
      #expect(try spent(shop, secret) == expected)
    }
    // Another session of the wallet has no others; charges pay what they quote.
    let (_, second) = try shop.openSession("/weather", deposit: 100_000)
    #expect(try spent(shop, second) == 2000)
    var charge = try shop.pay("/weather", try shop.chargeFields("/weather"))
    try shop.finish(&charge)
    #expect(shop.earned() == 4000 + 2000 + 2000)
    shop.now = shop.now + .seconds(86_400)
    var next = try shop.pay("/weather", short(secret))
    try shop.finish(&next)
    #expect(try spent(shop, secret) == 4000)
    shop.settleBooks()
  }

  @Test func whatCostsNothingIsNotCounted() throws {
    let shop = try Self.shop(free: [Self.wallet(2)])
    let (_, secret) = try shop.openSession("/weather", deposit: 100_000)
    for status in [500, 404, 503] as [UInt16] {
      var exchange = try shop.pay("/weather", short(secret))
      try shop.finish(&exchange, status: status)
    }
    var left = try shop.pay("/weather", short(secret))
    _ = shop.cashier.finish(&left, .clientLeft(requestForwarded: false, headSeen: false, safe: true), at: shop.now)
    #expect(try spent(shop, secret) == 0)
    var last = try shop.pay("/weather", short(secret))
    try shop.finish(&last)
    #expect(try spent(shop, secret) == 0)
    var paid = try shop.pay("/weather", short(secret))
    try shop.finish(&paid)
    #expect(try spent(shop, secret) == 2000)
    shop.settleBooks()
  }

  @Test func ofTwoAtOnceOneIsFree() throws {
    let shop = try Self.shop(free: [Self.wallet(2)])
    let (_, secret) = try shop.openSession("/weather", deposit: 100_000)
    var first = try shop.pay("/weather", short(secret))
    var second = try shop.pay("/weather", short(secret))
    #expect(try spent(shop, secret) == 2000)
    try shop.finish(&second)
    // The free one fails, and is there again.
    try shop.finish(&first, status: 500)
    var third = try shop.pay("/weather", short(secret))
    try shop.finish(&third)
    #expect(try spent(shop, secret) == 2000)
    shop.settleBooks()
  }

  @Test func aFreeRequestIsNotMetered() throws {
    let shop = try Self.shop(free: [Self.wallet(1)], route: "bytes")
    let challenge = try shop.challenge("/bytes", "session")
    let secret = SessionSecret.generate()
    let open = authorization(PrepaidCredential.open(challenge, deposit: 1_000_000, secret: secret, wallet: shop.wallet))
    var exchange = try shop.pay("/bytes", open)
    #expect(!exchange.isMetered)
    try shop.finish(&exchange)
    var next = try shop.pay("/bytes", short(secret))
    #expect(next.metersResponse)
    try shop.finish(&next)
    shop.settleBooks()
  }

  @Test func tiersCostLessBeyondTheirVolume() throws {
    let shop = try Self.shop(free: [Self.wallet(1)], tiers: [("0.001 USDC per request", 3), ("0.0005 USDC per request", 5)])
    let (_, secret) = try shop.openSession("/weather", deposit: 100_000)
    var costs: [UInt128] = []
    for _ in 0..<6 {
      let before = try spent(shop, secret)
      var exchange = try shop.pay("/weather", short(secret))
      try shop.finish(&exchange)
      costs.append(try spent(shop, secret) - before)
    }
    #expect(costs == [2000, 2000, 1000, 1000, 500, 500])
    // A request that fails does not bring the next tier nearer.
    shop.now = shop.now + .seconds(86_400)
    for status in [200, 500, 500, 200, 200] as [UInt16] {
      var exchange = try shop.pay("/weather", short(secret))
      try shop.finish(&exchange, status: status)
    }
    #expect(try spent(shop, secret) == 7000 + 0 + 2000 + 2000)
    shop.settleBooks()
  }

  @Test func theChallengeTellsWhatVolumeIsWorth() throws {
    let shop = try Self.shop(free: [Self.wallet(7)], tiers: [("0.001 USDC per request", 30)])
    let details = try #require(try shop.challenge("/weather", "session").requestObject()["methodDetails"]?.objectValue)
    #expect(details["freeUnits"] == ["unitType": "request", "units": "7", "period": "day"])
    let tier = try #require(details["tiers"]?.arrayValue?.first?.objectValue)
    #expect(tier["beyond"] == "30" && tier["period"] == "day" && tier["prices"]?.arrayValue?.first?.objectValue?["amount"] == "1000")
    #expect(try shop.challenge("/weather", "charge").requestObject()["methodDetails"]?.objectValue?["freeUnits"] == nil)
  }

  @Test func anAddressHasRequestsFree() throws {
    let shop = try Self.shop(free: [Settings.FreeUnits(count: 2, subject: .address, period: .hour)])
    func isFree(_ client: ClientAddress) throws -> Bool {
      switch try shop.send("/weather", client: client) {
      case .free: return true
      case .answer(let answer):
        #expect(answer.status == 402)
        return false
      case .paid, .pending, .collectBody, .awaitPrice, .awaitSettlement: throw ShopError.unexpectedVerdict
      }
    }
    let first = ClientAddress(ipv4: 0x0A00_0001)
    let network = [ClientAddress(high: 0x2001_0DB8, low: 1), ClientAddress(high: 0x2001_0DB8, low: 2)]
    #expect(try (0..<3).map { _ in try isFree(first) } == [true, true, false])
    #expect(try isFree(ClientAddress(ipv4: 0x0A00_0002)))
    #expect(try (0..<4).map { try isFree(network[$0 % 2]) } == [true, true, false, false])
    #expect(try (0..<3).map { _ in try isFree(ClientAddress(ipv4: 0x7F00_0001)) } == [true, true, false])
    // A credential is used as what it is.
    var paid = try shop.pay("/weather", try shop.chargeFields("/weather"))
    try shop.finish(&paid)
    #expect(shop.earned() == 2000)
    shop.now = shop.now + .seconds(3600)
    #expect(try isFree(first))
  }

  @Test func whatAddressesUseIsBounded() {
    let volumes = AddressVolumes()
    let noon = Timestamp(rfc3339: "2026-11-21T12:00:00Z")!
    let scope = Digest32()
    for number in 0..<AddressVolumes.limit {
      #expect(volumes.take(scope, ClientAddress(ipv4: UInt32(number)), .hour, below: 1, at: noon) != nil)
    }
    let late = ClientAddress(ipv4: .max)
    #expect(volumes.take(scope, late, .hour, below: 1, at: noon) == nil)
    #expect(volumes.take(scope, ClientAddress(ipv4: 1), .hour, below: 2, at: noon) != nil)
    // A clock that is set back gives nothing twice; a new hour has room again.
    #expect(volumes.take(scope, ClientAddress(ipv4: 2), .hour, below: 1, at: noon + .seconds(-7200)) == nil)
    #expect(volumes.take(scope, late, .hour, below: 1, at: noon + .seconds(3600)) != nil)
  }
}
