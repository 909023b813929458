import Bytes
import Encoding
import Ethereum
import Payments
import Testing

@testable import Methods

/// Whatever a payer sends, nothing traps, and nothing but what was signed is accepted.
@Suite struct ChainChargeFuzzTests {
  private static let rounds = 1500
  private static let texts: [JSONValue] = [
    "", "0x", "0", "1", "-1", "0x00", .string(String(repeating: "9", count: 79)), .string(Word256.maximum.decimal),
    .string("0x" + String(repeating: "f", count: 64)), .string("0x" + String(repeating: "f", count: 130)), .null, true, 0, [], [:],
    "permit2", "transaction", "hash", "proof", "authorization", .string(EVMVector.payer), "ſ\u{301}\u{1F4B8}",
  ]

  /// Changes one value somewhere inside, or removes it.
  private func mutate(_ value: JSONValue, _ random: inout EVMRandom) -> JSONValue {
    switch value {
    case .object(var object) where !object.isEmpty && Int.random(in: 0..<8, using: &random) > 0:
      let name = object.names[Int.random(in: 0..<object.count, using: &random)]
      if Int.random(in: 0..<10, using: &random) == 0 {
        object.remove(name)
      } else {
        object.set(name, mutate(object[name] ?? .null, &random))
      }
      return .object(object)
    case .array(var elements) where !elements.isEmpty && Int.random(in: 0..<8, using: &random) > 0:
      let index = Int.random(in: 0..<elements.count, using: &random)
      switch Int.random(in: 0..<8, using: &random) {
      case 0: elements.remove(at: index)
      case 1: elements.append(elements[index])
      default: elements[index] = mutate(elements[index], &random)
      }
      return .array(elements)
    case .string(let text) where text.utf8.count > 2 && Bool.random(using: &random):
      var octets = [UInt8](text.utf8)
      let index = Int.random(in: 0..<octets.count, using: &random)
      switch Int.random(in: 0..<3, using: &random) {
      case 0: octets[index] = UInt8.random(in: 0x30...0x39, using: &random)
      case 1: octets.remove(at: index)
      default: octets.insert(UInt8.random(in: 0x61...0x66, using: &random), at: index)
      }
      return .string(String(decoding: octets, as: UTF8.self))
    default: return Self.texts[Int.random(in: 0..<Self.texts.count, using: &random)]
    }
  }

  private func mutate(_ object: JSONObject, _ random: inout EVMRandom) -> JSONObject {
    var value = JSONValue.object(object)
    for _ in 0...Int.random(in: 0..<2, using: &random) { value = mutate(value, &random) }
    return value.objectValue ?? JSONObject()
  }

  private func isAccepted(_ body: () throws -> Void) -> Bool {
    do {
      try body()
      return true
    } catch {
      // Every refusal has its words, and names no octet that was sent.
      if let error = error as? ChainChargeError { _ = (error.detail, error.problem, error.x402Reason) }
      return false
    }
  }

  @Test func nativePayloads() throws {
    let key = try EVMFixture.key()
    let token = try EVMFixture.token()
    let request = EVMFixture.request(spender: EVMFixture.submitter)
    let source = request.source(of: key.address)
    let seeds = [
      try request.authorization(by: key, challenge: EVMFixture.challenge, token: token).object,
      try request.permit(by: key, challenge: EVMFixture.challenge, token: token, nonce: 5).object,
      try EVMChargePayload(parsing: ["type": "transaction", "signature": .string(EVMVector.transaction)]).object,
    ]
    var random = EVMRandom(seed: 5)
    for seed in seeds {
      let good = try EVMChargePayload(parsing: seed)
      let expected = try request.check(
        good, source: source, challenge: EVMFixture.challenge, token: token, submitter: EVMFixture.submitter, wallets: .refused,
        now: EVMFixture.now)
      for _ in 0..<Self.rounds {
        let object = mutate(seed, &random)
        let isTaken = isAccepted {
          let charge = try request.check(
            try EVMChargePayload(parsing: object), source: source, challenge: EVMFixture.challenge, token: token,
            submitter: EVMFixture.submitter, wallets: .refused, now: EVMFixture.now)
          // A hash is a claim of its own; everything else that is accepted is the very payment that was signed.
          if case .hash = charge.means { return }
          #expect(charge == expected)
        }
        if isTaken, object["type"]?.stringValue != "hash" {
          #expect(try EVMChargePayload(parsing: object).type == good.type)
        }
      }
    }
  }

  @Test func x402Payloads() throws {
    let token = try EVMFixture.token()
    var random = EVMRandom(seed: 7)
    for vector in [EVMVector.exact, EVMVector.exactPermit2] {
      let seed = try EVMFixture.object(vector)
      let payment = try PaymentPayload(json: JSON.serialize(.object(seed)))
      let offer = try #require(payment.accepted)
      let expected = try ExactEVM.check(payment, against: offer, token: token, wallets: .refused, now: EVMFixture.now)
      for _ in 0..<Self.rounds {
        let object = mutate(seed, &random)
        _ = isAccepted {
          let payload = try PaymentPayload(json: JSON.serialize(.object(object)))
          let charge = try ExactEVM.check(payload, against: offer, token: token, wallets: .refused, now: EVMFixture.now)
          #expect(charge == expected)
        }
      }
    }
  }

  @Test func requestsAndTransactions() throws {
    var random = EVMRandom(seed: 11)
    let evm = EVMFixture.request(externalId: "7", spender: EVMFixture.submitter, splits: [EVMFixture.split]).object
    let tempo = TempoCharge(
      amount: 10000, currency: EVMFixture.asset, recipient: EVMFixture.payTo, chainID: 42431, feePayer: true, memo: Digest32(),
      splits: [TempoCharge.Split(recipient: EVMFixture.other, amount: 1)], supportedModes: [.pull]
    )
    let token = try EVMFixture.token(chain: 42431)
    for _ in 0..<Self.rounds {
      // What can be read can be written, and is read again as the same.
      if let request = try? EVMCharge(parsing: mutate(evm, &random)) { #expect(try EVMCharge(parsing: request.object) == request) }
      if let request = try? TempoCharge(parsing: mutate(tempo.object, &random)) { #expect(try TempoCharge(parsing: request.object) == request) }
      for vector in [TempoVector.pull, TempoVector.envelope, EVMVector.transaction] {
        var raw = try EVMFixture.octets(vector)
        for _ in 0...Int.random(in: 0..<3, using: &random) {
          raw[Int.random(in: 0..<raw.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
        }
        if Bool.random(using: &random) { raw = Array(raw.prefix(Int.random(in: 0...raw.count, using: &random))) }
        _ = isAccepted {
          _ = try tempo.check(
            .transaction(raw), source: nil, challenge: EVMFixture.challenge, token: token, now: EVMFixture.now)
        }
        _ = isAccepted {
          _ = try EVMFixture.request().check(
            .transaction(raw), source: "did:pkh:eip155:84532:\(EVMVector.payer)", challenge: EVMFixture.challenge,
            token: try EVMFixture.token(), submitter: nil, now: EVMFixture.now)
        }
      }
    }
  }
}
