import Bytes
import Crypto
import Encoding
import Methods
import Payments
import Testing

private let key = Ed25519.SigningKey.generate()
private let wallet = DIDKey.encode(key.publicKey)
private let secret = SessionSecret.generate()
private let session = secret.id.hex
private let signature: String = Base64URL.encode([UInt8](repeating: 7, count: 64))

private func parse(_ object: JSONObject, intent: String = "session", source: String? = nil) throws(PrepaidError) -> PrepaidPayload {
  try PrepaidPayload(parsing: object, intent: intent, source: source)
}

private let valid: [(intent: String, JSONObject)] = [
  ("charge", ["type": "transfer", "wallet": .string(wallet), "signature": .string(signature)]),
  ("session", ["action": "open", "wallet": .string(wallet), "deposit": "5", "sessionId": .string(session), "signature": .string(signature)]),
  ("session", ["action": "bearer", "sessionId": .string(session), "preimage": .string(secret.hex)]),
  ("session", ["action": "topUp", "sessionId": .string(session), "additionalDeposit": "7", "signature": .string(signature)]),
  ("session", ["action": "status", "sessionId": .string(session), "preimage": .string(secret.hex)]),
  ("session", ["action": "close", "sessionId": .string(session), "preimage": .string(secret.hex)]),
  ("session", ["action": "close", "sessionId": .string(session), "wallet": .string(wallet), "signature": .string(signature)]),
]

@Suite struct PrepaidPayloadTests {
  @Test(arguments: valid.indices)
  func everyMemberIsNeededAndNoneMoreIsTaken(index: Int) throws {
    let (intent, object) = valid[index]
    let payload = try parse(object, intent: intent, source: nil)
    #expect(payload.session == (intent == "charge" ? nil : secret.id))
    #expect(throws: PrepaidError.self) {
      _ = try parse(object, intent: intent == "charge" ? "session" : "charge")
    }
    for member in object.members {
      var without = object
      without.remove(member.name)
      #expect(throws: PrepaidError.self, "without \(member.name)") { _ = try parse(without, intent: intent) }
      var number = object
      number.set(member.name, 5)
      #expect(throws: PrepaidError.self, "number \(member.name)") { _ = try parse(number, intent: intent) }
      var empty = object
      empty.set(member.name, "")
      #expect(throws: PrepaidError.self, "empty \(member.name)") { _ = try parse(empty, intent: intent) }
      if member.name == "sessionId" || member.name == "preimage" {
        var upper = object
        upper.set(member.name, .string((member.value.stringValue ?? "").uppercased() + "A".prefix(0)))
        if upper != object {
          #expect(throws: PrepaidError.self, "upper case") { _ = try parse(upper, intent: intent) }
        }
      }
    }
    var more = object
    more.set("extra", "1")
    #expect(throws: PrepaidError.unexpectedMember) { _ = try parse(more, intent: intent) }
  }

  @Test(arguments: ["0", "-1", "01", "1.0", "1e3", " 1", "340282366920938463463374607431768211456", "+1", ""])
  func refusesAmountsThatAreNoPlainDecimals(amount: String) {
    #expect(throws: PrepaidError.invalid(.deposit)) {
      var open = valid[1].1
      open.set("deposit", .string(amount))
      _ = try parse(open)
    }
    #expect(throws: PrepaidError.invalid(.additionalDeposit)) {
      var topUp = valid[3].1
      topUp.set("additionalDeposit", .string(amount))
      _ = try parse(topUp)
    }
  }

  @Test func sourceMustBeTheWallet() throws {
    let other = DIDKey.encode(Ed25519.SigningKey.generate().publicKey)
    for index in [0, 1, 6] {
      let (intent, object) = valid[index]
      _ = try parse(object, intent: intent, source: wallet)
      #expect(throws: PrepaidError.sourceDiffers) { _ = try parse(object, intent: intent, source: other) }
    }
  }

  @Test func aCloseHasOneProof() {
    var both = valid[5].1
    both.set("wallet", .string(wallet))
    both.set("signature", .string(signature))
    #expect(throws: PrepaidError.ambiguousProof) { _ = try parse(both) }
    #expect(throws: PrepaidError.ambiguousProof) {
      _ = try parse(["action": "close", "sessionId": .string(session)])
    }
  }

  @Test func onlyThreeActionsManage() throws {
    let expected = [false, false, false, true, true, true, true]
    for (index, (intent, object)) in valid.enumerated() {
      #expect(try parse(object, intent: intent).isManagement == expected[index])
    }
    #expect(throws: PrepaidError.unknownAction) { _ = try parse(["action": "voucher"]) }
    #expect(throws: PrepaidError.unknownAction) { _ = try parse(["type": "proof"], intent: "charge") }
    #expect(throws: PrepaidError.unknownAction) { _ = try parse(valid[0].1, intent: "subscription") }
  }
}
