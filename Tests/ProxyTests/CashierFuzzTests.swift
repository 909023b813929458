import Bytes
import Crypto
import Encoding
import Glibc
import HTTP
import Ledger
import Methods
import Payments
import Testing

@testable import Proxy

/// A generator whose every run is the same, unless `FAREBOX_FUZZ_SEED` says otherwise.
private struct Seeded {
  private var state: UInt64

  init(state: UInt64) { self.state = Fuzzing.variable("FAREBOX_FUZZ_SEED") ?? state }

  mutating func next(_ bound: Int) -> Int {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Int((state >> 33) % UInt64(max(1, bound)))
  }
}

/// How long the fuzzing lasts: a count of rounds in the tests, seconds in `scripts/fuzz`.
private enum Fuzzing {
  /// So many rounds, or as many as `FAREBOX_FUZZ_SECONDS` allow.
  static func rounds(_ count: Int) -> some Sequence<Int> {
    let end = variable("FAREBOX_FUZZ_SECONDS").map { ContinuousClock.now + .seconds(Int64(clamping: $0)) }
    return (0...).lazy.prefix { number in end.map { ContinuousClock.now < $0 } ?? (number < count) }
  }

  static func variable(_ name: String) -> UInt64? { getenv(name).flatMap { UInt64(String(cString: $0)) } }
}

@Suite struct CashierFuzzTests {
  /// Members of valid credentials are moved, doubled, dropped and replaced: only exact repetitions of valid ones are ever paid for.
  @Test func alteredCredentialsNeverPayAndNeverCrash() throws {
    let shop = try Shop()
    let (challenge, secret) = try shop.openSession("/weather", deposit: 10000)
    let charge = try shop.challenge("/weather", "charge")
    let originals = [
      PrepaidCredential.transfer(charge, wallet: shop.wallet),
      PrepaidCredential.open(try shop.challenge("/weather", "session"), deposit: 9000, secret: .generate(), wallet: shop.wallet),
      PrepaidCredential.topUp(try shop.challenge("/weather", "session"), additionalDeposit: 9, session: secret.id, wallet: shop.wallet),
      PrepaidCredential.close(challenge, session: secret.id, wallet: shop.wallet),
    ]
    let funds = shop.funds
    var random = Seeded(state: 11)
    for _ in Fuzzing.rounds(1500) {
      let original = originals[random.next(originals.count)]
      var altered = original
      for part in ["challenge", "payload"] {
        guard random.next(2) == 0, var object = altered[part]?.objectValue, !object.members.isEmpty else { continue }
        let member = object.members[random.next(object.members.count)]
        switch random.next(4) {
        case 0: object.remove(member.name)
        case 1: object.set(member.name, [.null, true, 7, "", "x", [], [:]][random.next(7)])
        case 2: object.set(member.name, .string((member.value.stringValue ?? "") + "0"))
        default: object.set(member.name, object.members[random.next(object.members.count)].value)
        }
        altered.set(part, .object(object))
      }
      // The description is shown, not bound, but the signature covers it; leaving a member out of the echo is seen as well.
      guard altered != original else { continue }
      guard case .answer(let answer) = try shop.send("/weather", authorization(altered)) else {
        Issue.record("an altered credential was served")
        continue
      }
      #expect([400, 402, 403, 410, 429].contains(answer.status), "\(answer.status) \(altered)")
    }
    #expect(shop.funds == funds)
    shop.settleBooks()
  }

  @Test func randomFieldValuesAreAnswered() throws {
    let shop = try Shop()
    let pieces = ["Payment", " ", "e30", "eyJ", ",", ";", "key=", String(repeating: "a", count: 64), "=", "\"", "Bearer", "payment", "-_"]
    var random = Seeded(state: 12)
    for _ in Fuzzing.rounds(1000) {
      let value = (0..<random.next(6)).map { _ in pieces[random.next(pieces.count)] }.joined()
      let name = ["Authorization", "Payment-Authorization", "Prepaid-Session"][random.next(3)]
      guard case .answer(let answer) = try shop.send("/weather", [(name, value)]) else { throw ShopError.unexpectedVerdict }
      #expect([400, 402, 410].contains(answer.status))
    }
    #expect(shop.earned() == 0)
  }

  /// However pieces are cut, granted and delivered, the cost is that of the sum, and nothing passes the budget.
  @Test func streamsInRandomPiecesCostTheirSum() throws {
    let shop = try Shop(funds: 1_000_000_000_000_000)
    var random = Seeded(state: 13)
    for _ in Fuzzing.rounds(20) {
      let deposit = UInt128(random.next(30000) + 1)
      let (challenge, secret) = try shop.openSession("/bytes", deposit: deposit)
      let before = shop.earned()
      var exchange = try shop.pay("/bytes/file", short(secret))
      var fields = ByteBuffer()
      _ = shop.cashier.answered(&exchange, status: 200, isEventStream: false, contentLength: nil, fields: &fields, at: shop.now)
      let total = UInt64(random.next(3_000_000))
      var delivered: UInt64 = 0
      loop: while delivered < total {
        let wanted = min(total - delivered, UInt64(random.next(100_000) + 1))
        switch shop.cashier.grant(&exchange, wanted: wanted, atLeast: 1, at: shop.now) {
        case .granted(let granted):
          #expect(granted <= wanted)
          // The client's side may take less than was granted.
          let taken = UInt64(random.next(Int(granted))) + 1
          shop.cashier.delivered(&exchange, taken)
          delivered += taken
        case .waitDurable(let entry): #expect(shop.ledger.awaitDurable(entry))
        case .dry, .stop: break loop
        }
      }
      _ = shop.cashier.finish(&exchange, .complete, at: shop.now)
      let cost = UInt128((delivered + 99) / 100)
      #expect(cost <= deposit)
      #expect(delivered == total || delivered == UInt64(deposit) * 100)
      #expect(shop.earned() == before + Int128(cost))
      let closed = try shop.answer("/bytes", authorization(PrepaidCredential.close(challenge, secret: secret)))
      #expect(try SessionClosed(parsing: closed.json) == SessionClosed(spent: cost, refunded: deposit - cost))
    }
    shop.settleBooks()
  }
}
