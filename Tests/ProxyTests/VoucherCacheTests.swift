import Bytes
import Encoding
import Ethereum
import Gateway
import HTTP
import Ledger
import Metering
import Methods
import Payments
import Testing

@testable import Proxy

struct VoucherCacheTests {
  private static let channelID = Digest32(bytes: [UInt8](repeating: 7, count: 32)) ?? Digest32()

  private static func challenge(_ id: String, padding: Int = 0) -> JSONObject {
    [
      "expires": "2026-11-22T05:00:00Z", "id": .string(id), "intent": "session", "method": "evm",
      "opaque": .string(String(repeating: "o", count: 60 + padding)), "realm": "api.example.com", "request": "{\\\"\\\"}",
    ]
  }

  private static func voucher(_ amount: UInt128) -> SessionVoucher {
    SessionVoucher(channelID: channelID, cumulativeAmount: amount, signature: [UInt8](repeating: UInt8(truncatingIfNeeded: amount), count: 65))
  }

  private static func field(
    _ id: String, _ amount: UInt128, padding: Int = 0, source: String? = nil, scheme: String = "Payment "
  ) -> [UInt8] {
    let payload = ChannelPayload.voucher(voucher(amount), descriptor: nil, topUp: nil).object(rules: .evm)
    var object: JSONObject = ["challenge": .object(challenge(id, padding: padding)), "payload": .object(payload)]
    if let source { object.set("source", .string(source)) }
    return Array(scheme.utf8) + Base64URL.encodeOctets(JCS.serialize(object))
  }

  /// A session of a ledger that is in memory only as far as this goes.
  private static func session() throws -> (Shop, ResolvedSession) {
    let shop = try Shop()
    let order = SessionOrder(
      challengeID: Digest32(), sessionID: channelID, wallet: shop.wallet.publicKey.octets, deposit: 10,
      terms: SessionTerms(realm: "api.example.com", currency: "usdc", merchant: "acme", routes: []), idleTimeout: .seconds(60),
      expires: shop.now + .seconds(60))
    let (handle, _) = try shop.ledger.open(order, at: shop.now) { _ in [] }
    let stored = StoredChannel(
      escrow: SessionEscrow(rules: .evm, chain: 1, address: .zero), channel: ChannelDescriptor(payer: .zero, payee: .zero, token: .zero, salt: channelID))
    let seat = ChannelSeat(id: channelID, stored, challengeID: "a", minimumDelta: 0)
    let price = try Price(parsing: "0.002 USDC per request", currencies: [cashierCurrency])
    return (shop, ResolvedSession(handle: handle, id: channelID, wallet: seat.payer, price: price, source: .channel(seat)))
  }

  private func look(_ cache: borrowing VoucherCache, _ octets: [UInt8], field: FieldName = .authorization, route: RouteIndex = 3) -> String {
    octets.withUnsafeBytes { octets in
      let value = PresentedCredential.Value(octets: octets, field: field)
      switch cache.find(value, route: route) {
      case nil: return "unknown"
      case .repeated(let entry): return "repeated \(entry.voucher.cumulativeAmount)"
      case .fresh(let entry, let start):
        guard let payload = VoucherCache.payload(of: value, after: entry, start: start),
          let parsed = try? ChannelPayload(parsing: payload, rules: .evm)
        else { return "unreadable" }
        return "fresh \(parsed.voucher?.cumulativeAmount ?? 0)"
      }
    }
  }

  @Test(arguments: [0, 1, 2, 3])
  func findsTheSameCredentialAndTheNextVoucher(padding: Int) throws {
    let (shop, session) = try Self.session()
    defer { withExtendedLifetime(shop) {} }
    var cache = VoucherCache(seed: 5)
    let first = Self.field("a", 100, padding: padding)
    #expect(look(cache, first) == "unknown")
    first.withUnsafeBytes {
      cache.insert(PresentedCredential.Value(octets: $0, field: .authorization), route: 3, session, Self.voucher(100))
    }
    #expect(look(cache, first) == "repeated 100")
    #expect(look(cache, Self.field("a", 101, padding: padding)) == "fresh 101")
    #expect(look(cache, Self.field("a", 12_345_678, padding: padding, source: "did:pkh:eip155:1:0x00")) == "fresh 12345678")
    // Another challenge, field or route is another credential.
    #expect(look(cache, Self.field("b", 101, padding: padding)) == "unknown")
    #expect(look(cache, first, field: .paymentAuthorization) == "unknown")
    #expect(look(cache, first, route: 4) == "unknown")
  }

  @Test func theNextVoucherTakesItsPredecessorsPlace() throws {
    let (shop, session) = try Self.session()
    defer { withExtendedLifetime(shop) {} }
    var cache = VoucherCache(seed: 5)
    Self.field("a", 1).withUnsafeBytes {
      cache.insert(PresentedCredential.Value(octets: $0, field: .authorization), route: 3, session, Self.voucher(1))
    }
    for amount in UInt128(2)...50 {
      let octets = Self.field("a", amount)
      octets.withUnsafeBytes {
        let value = PresentedCredential.Value(octets: $0, field: .authorization)
        guard case .fresh(let entry, _)? = cache.find(value, route: 3) else { return }
        cache.replace(entry, by: value, Self.voucher(amount))
      }
      #expect(look(cache, octets) == "repeated \(amount)")
      #expect(look(cache, Self.field("a", amount - 1)) == "fresh \(amount - 1)")
    }
    Self.field("a", 50).withUnsafeBytes { cache.remove(PresentedCredential.Value(octets: $0, field: .authorization), route: 3) }
    #expect(look(cache, Self.field("a", 50)) == "unknown")
  }

  @Test func aSecondChallengeBehindThePayloadIsReadWhole() throws {
    let (shop, session) = try Self.session()
    defer { withExtendedLifetime(shop) {} }
    var cache = VoucherCache(seed: 5)
    Self.field("a", 1).withUnsafeBytes {
      cache.insert(PresentedCredential.Value(octets: $0, field: .authorization), route: 3, session, Self.voucher(1))
    }
    let payload = ChannelPayload.voucher(Self.voucher(2), descriptor: nil, topUp: nil).object(rules: .evm)
    let whole: JSONObject = ["challenge": .object(Self.challenge("a")), "payload": .object(payload)]
    let honest = JCS.serialize(whole)
    for tail in [",\"challenge\":{}}", ",\"payload\":{}}", "}}", ""] {
      let text = honest.dropLast() + Array(tail.utf8)
      #expect(look(cache, Array("Payment ".utf8) + Base64URL.encodeOctets(Array(text))) == "unreadable")
    }
    // What stands before the payload has to be the challenge alone.
    for text in ["{\"source\":\"x\",\"challenge\":{},\"payload\":{}}", "{\"challenge\":{},\"source\":\"x\",\"payload\":{}}", "{\"challenge\":{\"a\":\"", "{}", ""] {
      #expect(VoucherCache.payload(in: Array(text.utf8)) == nil)
    }
    let odd = "{\"challenge\":{\"a\":\"}\\\"{\",\"b\":[{}]},\"payload\":{}}"
    #expect(VoucherCache.payload(in: Array(odd.utf8)) == odd.utf8.count - 13)
  }
}
