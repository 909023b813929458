import Bytes
import Encoding
import Ethereum
import Testing

@testable import Payments

func payment(_ value: String, _ field: PaymentPayload.Field = .paymentSignature) throws -> PaymentPayload {
  try Array(value.utf8).withUnsafeBytes { try PaymentPayload.parse($0, field: field) }
}

/// Decodes a vector to its object.
func decoded(_ vector: String) throws -> JSONObject {
  let json = try #require(Base64.decode(vector))
  return try #require(JSON.parse(json).objectValue)
}

/// Changes the member at a path of an object; nil removes it.
func changed(_ object: JSONObject, _ path: [String], _ value: JSONValue?) throws -> JSONObject {
  var object = object
  let name = try #require(path.first)
  if path.count == 1 {
    object[name] = value
  } else {
    object.set(name, .object(try changed(try #require(object[name]?.objectValue), Array(path.dropFirst()), value)))
  }
  return object
}

private func read(_ object: JSONObject) throws -> PaymentPayload { try PaymentPayload(json: JSON.serialize(.object(object))) }

private let alice = Address(wire: "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A")!
private let merchant = Address(wire: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C")!
private let usdc = Address(wire: "0x036CbD53842c5426634e7929541eC2318f3dCF7e")!
private let facilitator = Address(wire: "0x4B0897b0513fdC7C541B6d9D7E929C4e5364D2dB")!

@Suite struct PaymentPayloadTests {
  @Test func exactByAuthorization() throws {
    let payload = try payment(X402Vector.eip3009)
    #expect(payload.version == .v2 && payload.scheme == .exact && payload.network == X402Network(chainID: 84532))
    #expect(payload.resource?.url == "https://api.example.com/premium-data")
    #expect(payload.resource?.description == "Access to premium market data")
    #expect(payload.accepted?.amount == 10000 && payload.accepted?.maxTimeoutSeconds == 60)
    #expect(payload.accepted?.tokenDomain?.name == "USDC" && payload.accepted?.tokenDomain?.version == "2")
    guard case .exactEIP3009(let signed) = payload.payment else {
      Issue.record("another way to pay")
      return
    }
    #expect(signed.from == alice && signed.to == merchant && signed.value == 10000)
    #expect(signed.validAfter == 0 && signed.validBefore == 1_795_302_144)
    #expect(signed.nonce.hex == "5e257c299c0ddce09ca995be3cde0b8009052e9fb05d95262f4a31635dfd2b84")
    #expect(signed.signature.count == 65 && signed.signature.first == 0x03 && signed.signature.last == 0x1B)
    #expect(payload.payer == alice)
    #expect("\(payload)" == "<payment>")
  }

  @Test func exactByPermit() throws {
    guard case .exactPermit2(let permit) = try payment(X402Vector.permit2).payment else {
      Issue.record("another way to pay")
      return
    }
    #expect(permit.from == alice && permit.token == usdc && permit.amount == 10000 && permit.to == merchant)
    #expect(permit.spender.lowercase == "0x402085c248eea27d92e8b30b2c58ed07f9e20001" && permit.facilitator == nil)
    #expect(permit.nonce.decimal == "107701441373153300600206933905250010739972824438578845456425826788203872565085")
    #expect(permit.deadline == 1_795_302_144 && permit.validAfter == 0 && permit.signature.count == 65)
  }

  @Test func upto() throws {
    let payload = try payment(X402Vector.upto)
    #expect(payload.scheme == .upto && payload.accepted?.facilitatorAddress == facilitator)
    #expect(payload.accepted?.assetTransferMethod == .permit2)
    guard case .uptoPermit2(let permit) = payload.payment else {
      Issue.record("another way to pay")
      return
    }
    #expect(permit.amount == 5_000_000 && permit.facilitator == facilitator)
    #expect(permit.spender.lowercase == "0x4020a4f3b7b90cca423b9fabcc0ce57c6c240002")
  }

  @Test func channels() throws {
    let payload = try payment(X402Vector.deposit)
    #expect(payload.accepted?.withdrawDelay == 900 && payload.accepted?.minimumDeposit == 10000)
    #expect(payload.accepted?.receiverAuthorizer == facilitator)
    guard case .batchDeposit(let config, let voucher, let deposit) = payload.payment else {
      Issue.record("another way to pay")
      return
    }
    #expect(config.payer == alice && config.payerAuthorizer == alice && config.receiver == merchant)
    #expect(config.receiverAuthorizer == facilitator && config.token == usdc && config.withdrawDelay == 900 && config.salt == Digest32())
    #expect(voucher.channelID.hex == "ba3658cc555f9d9dfabee3055dc8f99ef0e78dc58a45521521c0d1de117065d0")
    #expect(voucher.maxClaimableAmount == 1000 && voucher.signature.count == 65 && deposit.amount == 100_000)
    guard case .eip3009(0, 1_795_305_684, let salt, let signature) = deposit.authorization else {
      Issue.record("another deposit")
      return
    }
    #expect(salt.hex.hasPrefix("579a665a") && signature.count == 65 && signature.first == 0)
    guard case .batchDeposit(_, _, let other) = try payment(X402Vector.depositPermit2).payment, case .permit2(let permit) = other.authorization
    else {
      Issue.record("another deposit")
      return
    }
    #expect(permit.channelID == voucher.channelID && permit.amount == 100_000 && permit.token == usdc && permit.from == alice)
    #expect(try payment(X402Vector.voucher).payment == .batchVoucher(config, voucher))
    #expect(try payment(X402Vector.refund).payment == .batchRefund(config, voucher, amount: 1500))
    let whole = try changed(try decoded(X402Vector.refund), ["payload", "amount"], nil)
    #expect(try read(whole).payment == .batchRefund(config, voucher, amount: nil))
  }

  @Test func version1() throws {
    let payload = try payment(X402Vector.v1, .xPayment)
    #expect(payload.version == .v1 && payload.network.chainID == 84532 && payload.accepted == nil && payload.resource == nil)
    guard case .exactEIP3009(let signed) = payload.payment else {
      Issue.record("another way to pay")
      return
    }
    #expect(signed.validAfter == 1_795_302_026 && signed.validBefore == 1_795_302_146 && signed.value == 10000)
  }

  @Test func everySpellingOfBase64() throws {
    for vector in X402Vector.version2 {
      let json = try payment(vector).json
      // An octet above 0x7F makes the two alphabets differ.
      let text = JSON.serialize(.object(try changed(try decoded(vector), ["resource", "description"], "ÿþ~?>>>ü")))
      let standard = Base64.encode(text)
      let urlSafe = Base64URL.encode(text)
      #expect(json == Base64.decode(vector))
      #expect(standard.contains("+") || standard.contains("/"))
      for spelling in [standard, urlSafe, urlSafe + String(repeating: "=", count: (4 - urlSafe.count % 4) % 4), standard.filter { $0 != "=" }] {
        #expect(try payment(spelling).json == text)
      }
    }
    for wrong in ["", "=", "====", "!!!!", X402Vector.eip3009 + "====", " " + X402Vector.eip3009, "e"] {
      #expect(throws: X402Error.notBase64) { try payment(wrong) }
    }
  }

  @Test func roundTrips() throws {
    for vector in X402Vector.version2 {
      let payload = try payment(vector)
      let object = try decoded(vector)
      let again = PaymentPayload.object(
        accepted: try #require(object["accepted"]?.objectValue), payment: payload.payment, resource: object["resource"]?.objectValue,
        extensions: payload.extensions)
      let read = try payment(PaymentPayload.fieldValue(again))
      #expect(read.payment == payload.payment && read.accepted == payload.accepted && read.resource == payload.resource)
      #expect(read.extensions == payload.extensions)
    }
    let old = try payment(X402Vector.v1, .xPayment)
    // The official facilitator refuses addresses without a checksum.
    #expect(old.payment.json["authorization"]?["from"]?.stringValue == old.payer.checksummed)
    let again = try #require(PaymentPayload.objectV1(network: old.network, payment: old.payment))
    #expect(try payment(PaymentPayload.fieldValue(again), .xPayment).payment == old.payment)
    #expect(PaymentPayload.objectV1(network: X402Network(chainID: 31337), payment: old.payment) == nil)
  }

  @Test func everyTruncationIsRefused() throws {
    for vector in X402Vector.all {
      let json = try #require(Base64.decode(vector))
      for count in 0..<json.count {
        #expect(throws: X402Error.malformedJSON) { try PaymentPayload(json: Array(json[..<count])) }
      }
      let octets = Array(vector.utf8)
      // Without its padding a value is still whole.
      let whole = octets.count - octets.reversed().prefix { $0 == 0x3D }.count
      for count in 0..<whole {
        #expect(throws: X402Error.self) { try payment(String(decoding: octets[..<count], as: UTF8.self)) }
      }
    }
  }

  @Test func duplicatesAreRefused() throws {
    for vector in X402Vector.all {
      let json = String(decoding: try #require(Base64.decode(vector)), as: UTF8.self)
      for name in ["x402Version", "payload", "signature", "from", "channelId", "amount", "scheme", "network"] {
        guard let range = json.firstRange(of: "\"\(name)\"") else { continue }
        let twice = json.replacingCharacters(range, "\"\(name)\":1,\"\(name)\"")
        #expect(throws: X402Error.malformedJSON) { try PaymentPayload(json: Array(twice.utf8)) }
      }
    }
  }

  @Test func membersAreStrict() throws {
    let base = try decoded(X402Vector.eip3009)
    let cases: [([String], JSONValue?, X402Error)] = [
      (["x402Version"], nil, .missing(.x402Version)), (["x402Version"], 3, .unsupportedVersion), (["x402Version"], "2", .unsupportedVersion),
      (["accepted"], nil, .missing(.accepted)), (["accepted"], [], .malformed(.accepted)),
      (["accepted", "scheme"], "deferred", .unknownScheme), (["accepted", "scheme"], 1, .malformed(.scheme)),
      (["accepted", "network"], "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", .unknownNetwork),
      (["accepted", "network"], "base-sepolia", .unknownNetwork), (["accepted", "network"], "eip155:084532", .unknownNetwork),
      (["accepted", "network"], "eip155:0", .unknownNetwork), (["accepted", "network"], "eip155:18446744073709551616", .unknownNetwork),
      (["accepted", "amount"], 10000, .malformed(.amount)), (["accepted", "amount"], "010000", .malformed(.amount)),
      (["accepted", "amount"], "340282366920938463463374607431768211456", .overflow(.amount)),
      (["accepted", "maxTimeoutSeconds"], "60", .malformed(.maxTimeoutSeconds)),
      (["accepted", "maxTimeoutSeconds"], -1, .malformed(.maxTimeoutSeconds)),
      (["accepted", "maxTimeoutSeconds"], 4_294_967_296, .overflow(.maxTimeoutSeconds)),
      (["accepted", "extra"], "USDC", .malformed(.extra)), (["payload"], nil, .missing(.payload)),
      (["payload", "authorization"], nil, .unknownTransfer), (["payload", "permit2Authorization"], [:], .unknownTransfer),
      (["payload", "signature"], nil, .missing(.signature)), (["payload", "signature"], "0x", .malformed(.signature)),
      (["payload", "signature"], "0x123", .malformed(.signature)), (["payload", "signature"], "12", .malformed(.signature)),
      (["payload", "signature"], "0xzz", .malformed(.signature)),
      (["payload", "signature"], .string("0x" + String(repeating: "ab", count: 4097)), .signatureTooLong),
      (["payload", "authorization", "from"], "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff", .malformed(.from)),
      (["payload", "authorization", "from"], "19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A00", .malformed(.from)),
      (["payload", "authorization", "to"], nil, .missing(.to)),
      (["payload", "authorization", "value"], "-1", .malformed(.value)), (["payload", "authorization", "value"], "1e3", .malformed(.value)),
      (["payload", "authorization", "value"], "340282366920938463463374607431768211456", .overflow(.value)),
      (["payload", "authorization", "value"], .string(String(repeating: "9", count: 79)), .malformed(.value)),
      (["payload", "authorization", "validBefore"], "18446744073709551616", .overflow(.validBefore)),
      (["payload", "authorization", "validAfter"], 0, .malformed(.validAfter)),
      (["payload", "authorization", "nonce"], "0x00", .malformed(.nonce)), (["payload", "authorization", "nonce"], "7", .malformed(.nonce)),
      (["extensions"], [], .malformed(.extensions)), (["resource", "url"], nil, .missing(.url)),
      (["resource", "tags"], ["a", 1], .malformed(.tags)),
    ]
    for (path, value, error) in cases {
      #expect(throws: error, "\(path)") { try read(try changed(base, path, value)) }
    }
    // What other writers say instead of nothing.
    for member in ["extensions", "resource"] { #expect(try read(try changed(base, [member], .null)).payer == alice) }
    #expect(throws: X402Error.notAnObject) { try PaymentPayload(json: Array("[]".utf8)) }
    let many = JSONObject((0...PaymentPayload.extensionLimit).map { ("e\($0)", [:]) })
    #expect(throws: X402Error.tooMany(.extensions, limit: 32)) { try read(try changed(base, ["extensions"], .object(many))) }
  }

  @Test func schemesDoNotMix() throws {
    let upto = try decoded(X402Vector.upto)
    #expect(throws: X402Error.unknownTransfer) { try read(try changed(upto, ["accepted", "scheme"], "exact")) }
    let exact = try decoded(X402Vector.permit2)
    #expect(throws: X402Error.missing(.facilitator)) { try read(try changed(exact, ["accepted", "scheme"], "upto")) }
    let authorization = try decoded(X402Vector.eip3009)
    #expect(throws: X402Error.unknownTransfer) { try read(try changed(authorization, ["accepted", "scheme"], "upto")) }
    #expect(throws: X402Error.missing(.type)) { try read(try changed(authorization, ["accepted", "scheme"], "batch-settlement")) }
    let claim = try changed(try decoded(X402Vector.voucher), ["payload", "type"], "claim")
    #expect(throws: X402Error.unknownTransfer) { try read(claim) }
    let both = try changed(
      try decoded(X402Vector.deposit), ["payload", "deposit", "authorization", "permit2Authorization"],
      try decoded(X402Vector.depositPermit2)["payload"]?["deposit"]?["authorization"]?["permit2Authorization"])
    #expect(throws: X402Error.unknownTransfer) { try read(both) }
    #expect(throws: X402Error.overflow(.withdrawDelay)) {
      try read(try changed(try decoded(X402Vector.voucher), ["payload", "channelConfig", "withdrawDelay"], .integer(Int64(1) << 40)))
    }
  }

  @Test func versionsBelongToTheirFields() throws {
    #expect(throws: X402Error.versionMismatch) { try payment(X402Vector.v1) }
    #expect(throws: X402Error.versionMismatch) { try payment(X402Vector.eip3009, .xPayment) }
    let old = try decoded(X402Vector.v1)
    #expect(throws: X402Error.unknownScheme) { try read(try changed(old, ["scheme"], "upto")) }
    #expect(throws: X402Error.unknownNetwork) { try read(try changed(old, ["network"], "eip155:84532")) }
    #expect(throws: X402Error.unknownNetwork) { try read(try changed(old, ["network"], "solana")) }
  }

  @Test func sizesAreBounded() throws {
    let long = String(repeating: "A", count: PaymentPayload.fieldLimit + 1)
    #expect(throws: X402Error.tooLarge(limit: PaymentPayload.fieldLimit)) { try payment(long) }
    let padded = try changed(
      try decoded(X402Vector.eip3009), ["resource", "description"], .string(String(repeating: "x", count: PaymentPayload.limit)))
    #expect(throws: X402Error.tooLarge(limit: PaymentPayload.limit)) { try read(padded) }
    let deep = String(repeating: "[", count: 30) + String(repeating: "]", count: 30)
    #expect(throws: X402Error.malformedJSON) { try PaymentPayload(json: Array("{\"x402Version\":2,\"a\":\(deep)}".utf8)) }
    // A contract's signature has room.
    let signature = JSONValue.string("0x" + String(repeating: "ab", count: PaymentPayload.signatureLimit))
    let payload = try read(try changed(try decoded(X402Vector.eip3009), ["payload", "signature"], signature))
    guard case .exactEIP3009(let signed) = payload.payment else {
      Issue.record("another way to pay")
      return
    }
    #expect(signed.signature.count == PaymentPayload.signatureLimit)
  }

  @Test func permitNoncesHaveTwoSpellings() throws {
    let base = try decoded(X402Vector.permit2)
    let path = ["payload", "permit2Authorization", "nonce"]
    let hex = "0x" + String(repeating: "0", count: 62) + "ff"
    let (decimal, hexadecimal) = (try read(try changed(base, path, "255")), try read(try changed(base, path, .string(hex))))
    #expect(decimal.payment == hexadecimal.payment)
    for wrong in ["", "0255", "0xff", "115792089237316195423570985008687907853269984665640564039457584007913129639936"] {
      #expect(throws: X402Error.malformed(.nonce)) { try read(try changed(base, path, .string(wrong))) }
    }
  }

  @Test func mutationsNeverTrap() throws {
    var generator = SeededGenerator(seed: 402)
    var accepted = 0
    for vector in X402Vector.all {
      let json = try #require(Base64.decode(vector))
      for _ in 0..<400 {
        var octets = json
        for _ in 0..<Int.random(in: 1...3, using: &generator) {
          let index = octets.indices.randomElement(using: &generator) ?? 0
          switch Int.random(in: 0..<3, using: &generator) {
          case 0: octets[index] = UInt8.random(in: 0...255, using: &generator)
          case 1: octets.remove(at: index)
          default: octets.insert(octets.randomElement(using: &generator) ?? 0, at: index)
          }
        }
        guard let payload = try? PaymentPayload(json: octets) else { continue }
        accepted += 1
        // What was accepted says the same when it is written and read again.
        var object = JSONObject([("x402Version", .integer(payload.version.rawValue)), ("payload", .object(payload.payment.json))])
        let original = try #require(JSON.parse(octets).objectValue)
        for member in original.members where member.name != "payload" { object.set(member.name, member.value) }
        #expect(try PaymentPayload(json: JSON.serialize(.object(object))).payment == payload.payment)
      }
    }
    #expect(accepted > 100)
  }
}

extension String {
  /// Returns the text with a part of it exchanged.
  fileprivate func replacingCharacters(_ range: Range<Index>, _ text: String) -> String {
    String(self[..<range.lowerBound]) + text + String(self[range.upperBound...])
  }
}
