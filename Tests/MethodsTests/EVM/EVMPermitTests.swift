import Bytes
import Encoding
import Ethereum
import Testing

@testable import Methods

@Suite struct EVMPermitTests {
  private static let source = "did:pkh:eip155:84532:\(EVMVector.payer)"

  private static func permission(_ amount: String) -> JSONValue {
    ["token": .string(EVMFixture.asset.checksummed), "amount": .string(amount)]
  }

  private static func transfer(_ to: Address, _ amount: String) -> JSONValue {
    ["to": .string(to.checksummed), "requestedAmount": .string(amount)]
  }

  private static let single: JSONObject = [
    "type": "permit2",
    "permit": ["permitted": [permission("10000")], "nonce": .string(EVMVector.permitNonce), "deadline": "1900000300"],
    "transferDetails": [transfer(EVMFixture.payTo, "10000")], "witness": ["challengeHash": .string(EVMVector.packedHash)],
    "signature": .string(EVMVector.draftSingle),
  ]

  private static let batch = single.changing(["permit", "permitted"], to: [permission("9000"), permission("1000")])
    .changing(["transferDetails"], to: [transfer(EVMFixture.payTo, "9000"), transfer(EVMFixture.other, "1000")])
    .changing(["signature"], to: .string(EVMVector.draftBatch))

  private static let splitRequest = EVMFixture.request(externalId: "order-7", splits: [EVMFixture.split])

  private func check(
    _ object: JSONObject, request: EVMCharge = EVMFixture.request(), source: String? = source, token: ChainToken? = nil,
    submitter: Address? = EVMFixture.submitter, now: Timestamp = EVMFixture.now
  ) throws -> ChainCharge {
    try request.check(
      try EVMChargePayload(parsing: object), source: source, challenge: EVMFixture.challenge, token: try token ?? EVMFixture.token(),
      submitter: submitter, now: now)
  }

  @Test func takesThePermitOfTheDraft() throws {
    let charge = try check(Self.single)
    #expect(charge.payer == EVMFixture.payer && charge.amount == 10000 && charge.signatureCheck == .recovered)
    #expect(charge.means == .call(to: Permit2.address, data: try EVMFixture.octets(EVMVector.draftSingleCall)))
    #expect(charge.expires == Timestamp(seconds: 1_900_000_300) && charge.notBefore == nil)
    let nonce = try #require(Word256(decimal: EVMVector.permitNonce)).octets
    #expect(
      charge.id == ChainCharge.id(chain: EVMFixture.chain, contract: Permit2.address, payer: EVMFixture.payer, nonce: nonce))
    #expect(
      charge.transfers == [
        ExpectedTransfer(token: EVMFixture.asset, from: EVMFixture.payer, to: EVMFixture.payTo, amount: 10000)
      ])
  }

  @Test func takesSplitsAtOnce() throws {
    let charge = try check(Self.batch, request: Self.splitRequest)
    #expect(charge.amount == 10000)
    #expect(charge.means == .call(to: Permit2.address, data: try EVMFixture.octets(EVMVector.draftBatchCall)))
    #expect(
      charge.transfers == [
        ExpectedTransfer(token: EVMFixture.asset, from: EVMFixture.payer, to: EVMFixture.payTo, amount: 9000),
        ExpectedTransfer(token: EVMFixture.asset, from: EVMFixture.payer, to: EVMFixture.other, amount: 1000),
      ])
  }

  @Test func takesWhatWalletsSign() throws {
    // eth-account writes the witness's type without the draft's space; the contract is then told that text.
    for (object, signature, request) in [
      (Self.single, EVMVector.permitSingle, EVMFixture.request()), (Self.batch, EVMVector.permitBatch, Self.splitRequest),
    ] {
      let charge = try check(object.changing(["signature"], to: .string(signature)), request: request)
      guard case .call(_, let data) = charge.means else { throw ChainChargeError.unknownType }
      let function = charge.transfers.count == 1 ? Permit2.permitWitnessTransferFrom : Permit2.permitBatchWitnessTransferFrom
      let text = try #require(try function.arguments(of: data)[4].stringValue)
      #expect(text == PaymentWitness.canonical.type.typeString && !text.contains(", "))
    }
  }

  @Test func eachRuleIsChecked() throws {
    func breaks(_ error: ChainChargeError, _ path: [String], _ value: JSONValue?, in object: JSONObject = Self.single, request: EVMCharge? = nil) {
      #expect(throws: error) {
        _ = try check(object.changing(path, to: value), request: request ?? EVMFixture.request())
      }
    }
    let other = JSONValue.string(EVMFixture.other.checksummed)
    breaks(.challengeMismatch(.permit2), ["witness", "challengeHash"], .string("0x" + String(repeating: "1", count: 64)))
    breaks(.externalIDMismatch, ["witness", "externalId"], "order-8")
    breaks(.externalIDMismatch, ["witness", "externalId"], "order-8", in: Self.batch, request: Self.splitRequest)
    breaks(.expired(.permit2), ["permit", "deadline"], "1900000005")
    breaks(.validTooLong(.permit2), ["permit", "deadline"], "1900086401")
    breaks(.tokenMismatch(.permit2), ["permit", "permitted", "0", "token"], other)
    breaks(.recipientMismatch(.permit2), ["transferDetails", "0", "to"], other)
    breaks(.amountMismatch(.permit2), ["transferDetails", "0", "requestedAmount"], "9999")
    breaks(.permittedTooLow(index: 0), ["permit", "permitted", "0", "amount"], "9999")
    breaks(.permittedTooLow(index: 1), ["permit", "permitted", "1", "amount"], "999", in: Self.batch, request: Self.splitRequest)
    breaks(
      .splitMismatch(index: 0), ["transferDetails", "1", "requestedAmount"], "1001", in: Self.batch, request: Self.splitRequest)
    breaks(.splitMismatch(index: 0), ["transferDetails", "1", "to"], .string(EVMVector.payer), in: Self.batch, request: Self.splitRequest)
    breaks(.transferCountMismatch, ["transferDetails", "1"], nil, in: Self.batch, request: Self.splitRequest)
    breaks(.transferCountMismatch, ["permit", "permitted", "1"], nil, in: Self.batch, request: Self.splitRequest)
    breaks(.transferCountMismatch, ["type"], "permit2", in: Self.batch)
    breaks(.transferCountMismatch, ["type"], "permit2", request: Self.splitRequest)
    breaks(.signatureMismatch(.permit2), ["permit", "nonce"], "2")
    breaks(.signatureMismatch(.permit2), ["permit", "permitted", "0", "amount"], "10001")
    breaks(.signatureMismatch(.permit2), ["permit", "deadline"], "1900000301")
    breaks(.signatureMismatch(.permit2), ["signature"], .string(EVMVector.draftBatch))
    // The externalId is signed, though the payload need not repeat it.
    breaks(.signatureMismatch(.permit2), ["type"], "permit2", request: EVMFixture.request(externalId: "order-7"))
    breaks(.overflow(.amount), ["permit", "permitted", "0", "amount"], .string(Word256.maximum.decimal))
    breaks(.overflow(.requestedAmount), ["transferDetails", "0", "requestedAmount"], .string(Word256.maximum.decimal))
    breaks(.tooLong(.permitted, limit: 11), ["permit", "permitted"], .array(.init(repeating: Self.permission("1"), count: 12)))
    for path in [
      ["permit"], ["permit", "permitted"], ["permit", "nonce"], ["permit", "deadline"], ["transferDetails"], ["witness"],
      ["witness", "challengeHash"], ["signature"], ["permit", "permitted", "0", "token"], ["permit", "permitted", "0", "amount"],
      ["transferDetails", "0", "to"], ["transferDetails", "0", "requestedAmount"],
    ] {
      let name = try #require(ChainChargeError.Member(rawValue: path.last ?? ""))
      breaks(.missing(name), path, nil)
      breaks(.malformed(name), path, true)
    }
    breaks(.malformed(.permitted), ["permit", "permitted", "0"], 7)
  }

  @Test func whoTakesItMustBeKnown() throws {
    #expect(throws: ChainChargeError.noSpender) { _ = try check(Self.single, submitter: nil) }
    #expect(throws: ChainChargeError.signatureMismatch(.permit2)) { _ = try check(Self.single, submitter: EVMFixture.other) }
    let named = EVMFixture.request(spender: EVMFixture.submitter)
    #expect(try check(Self.single, request: named).payer == EVMFixture.payer)
    #expect(throws: ChainChargeError.spenderMismatch) { _ = try check(Self.single, request: named, submitter: EVMFixture.other) }
    #expect(throws: ChainChargeError.spenderMismatch) {
      _ = try check(Self.single, request: EVMFixture.request(permit2: EVMFixture.other))
    }
    #expect(throws: ChainChargeError.missing(.source)) { _ = try check(Self.single, source: nil) }
    #expect(throws: ChainChargeError.signatureMismatch(.permit2)) {
      _ = try check(Self.single, source: "did:pkh:eip155:84532:\(EVMFixture.other.checksummed)")
    }
    #expect(throws: ChainChargeError.tokenWithoutPermit2) { _ = try check(Self.single, token: try EVMFixture.token(permit2: false)) }
    #expect(throws: ChainChargeError.typeNotOffered(.permit2)) {
      _ = try check(Self.single, request: EVMFixture.request(types: [.authorization]))
    }
  }

  @Test func ourOwnPermitsPassOurOwnCheck() throws {
    let key = try EVMFixture.key()
    let nonce = try #require(Word256(decimal: EVMVector.permitNonce))
    for (splits, externalId, signature) in [([], nil, EVMVector.draftSingle), ([EVMFixture.split], "order-7", EVMVector.draftBatch)] {
      let request = EVMFixture.request(externalId: externalId, spender: EVMFixture.submitter, splits: splits)
      let payload = try request.permit(by: key, challenge: EVMFixture.challenge, token: try EVMFixture.token(), nonce: nonce)
      #expect(payload.object["signature"]?.stringValue == signature)
      #expect(try EVMChargePayload(parsing: payload.object) == payload)
      #expect(try check(payload.object, request: request, source: request.source(of: key.address)).payer == key.address)
    }
    #expect(throws: ChainChargeError.noSpender) {
      _ = try EVMFixture.request().permit(by: key, challenge: EVMFixture.challenge, token: try EVMFixture.token(), nonce: nonce)
    }
    #expect(throws: ChainChargeError.tokenWithoutPermit2) {
      _ = try EVMFixture.request(spender: EVMFixture.submitter).permit(
        by: key, challenge: EVMFixture.challenge, token: try EVMFixture.token(permit2: false), nonce: nonce)
    }
  }
}
