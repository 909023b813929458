import Bytes
import Encoding
import Ethereum
import Payments
import Testing

@testable import Methods

@Suite struct ExactEVMTests {
  private static let extra: JSONObject = ["name": "USDC", "version": "2"]
  private static let permit2Extra: JSONObject = ["name": "USDC", "version": "2", "assetTransferMethod": "permit2"]

  private func offer(
    _ scheme: X402Scheme = .exact, chain: UInt64 = EVMFixture.chain, amount: UInt128 = 10000, asset: Address = EVMFixture.asset,
    payTo: String = EVMFixture.payTo.checksummed, seconds: UInt32 = 300, extra: JSONObject = extra
  ) -> PaymentRequirements {
    PaymentRequirements(
      scheme: scheme, network: X402Network(chainID: chain), amount: amount, asset: asset.checksummed, payTo: payTo,
      maxTimeoutSeconds: seconds, extra: extra)
  }

  private func payload(_ vector: String, _ changes: ([String], JSONValue?)...) throws -> PaymentPayload {
    var object = try EVMFixture.object(vector)
    for (path, value) in changes { object = object.changing(path, to: value) }
    return try PaymentPayload(json: JSON.serialize(.object(object)))
  }

  private func check(
    _ payload: PaymentPayload, _ offer: PaymentRequirements, token: ChainToken? = nil, wallets: ContractWallets = .otherLengths,
    now: Timestamp = EVMFixture.now
  ) throws -> ChainCharge {
    try ExactEVM.check(payload, against: offer, token: try token ?? EVMFixture.token(), wallets: wallets, now: now)
  }

  private func breaks(_ error: ChainChargeError, _ reason: X402Reason, _ body: () throws -> ChainCharge) {
    #expect(throws: error) { _ = try body() }
    #expect(error.x402Reason == reason)
  }

  @Test func takesWhatThePackageSigns() throws {
    let authorization = try check(try payload(EVMVector.exact), offer())
    #expect(authorization.payer == EVMFixture.payer && authorization.amount == 10000 && authorization.signatureCheck == .recovered)
    #expect(authorization.expires == Timestamp(seconds: 1_900_000_300))
    let permit = try check(try payload(EVMVector.exactPermit2), offer(extra: Self.permit2Extra))
    #expect(permit.payer == EVMFixture.payer && permit.amount == 10000 && permit.signatureCheck == .recovered)
    #expect(permit.means == .call(to: ExactPermit2Proxy.address, data: try EVMFixture.octets(EVMVector.exactPermit2Call)))
    #expect(permit.transfers == authorization.transfers && permit.id != authorization.id)
    #expect(
      permit.id
        == ChainCharge.id(
          chain: EVMFixture.chain, contract: Permit2.address, payer: EVMFixture.payer,
          nonce: try #require(Word256(decimal: "5140033570799045681578177382914771304225699613551429074636719057164711923296")).octets))
  }

  @Test func eachRuleOfAuthorizationsIsChecked() throws {
    let good = try payload(EVMVector.exact)
    let signed = ["payload", "authorization"]
    breaks(.schemeMismatch, .unsupportedScheme) { try check(good, offer(.upto)) }
    breaks(.schemeMismatch, .unsupportedScheme) { try check(try payload(EVMVector.upto), offer()) }
    breaks(.networkMismatch, .networkMismatch) { try check(good, offer(chain: 8453)) }
    breaks(.networkMismatch, .networkMismatch) { try check(good, offer(), token: try EVMFixture.token(chain: 8453)) }
    breaks(.tokenMismatch(.authorization), .invalidPaymentRequirements) {
      try check(good, offer(), token: try EVMFixture.token(address: EVMFixture.other))
    }
    breaks(.transferMethodMismatch, .unsupportedPayloadType) { try check(good, offer(extra: Self.permit2Extra)) }
    breaks(.transferMethodMismatch, .unsupportedPayloadType) { try check(good, offer(extra: ["assetTransferMethod": "erc7710"])) }
    breaks(.tokenWithoutEIP3009, .exactEIP3009NotSupported) { try check(good, offer(), token: try EVMFixture.token(eip3009: false)) }
    breaks(.malformed(.recipient), .invalidPayload) { try check(good, offer(payTo: "merchant")) }
    breaks(.recipientMismatch(.authorization), .exactPayloadRecipientMismatch) {
      try check(good, offer(payTo: EVMFixture.other.checksummed))
    }
    breaks(.amountMismatch(.authorization), .exactPayloadAuthorizationValueMismatch) { try check(good, offer(amount: 10001)) }
    breaks(.expired(.authorization), .exactPayloadAuthorizationValidBefore) {
      try check(good, offer(), now: Timestamp(seconds: 1_900_000_295))
    }
    breaks(.validTooLong(.authorization), .exactPayloadAuthorizationValidBefore) {
      try check(try payload(EVMVector.exact, (signed + ["validBefore"], "1900086401")), offer())
    }
    breaks(.notYetValid(.authorization), .exactPayloadAuthorizationValidAfter) {
      try check(try payload(EVMVector.exact, (signed + ["validAfter"], "1900000001")), offer())
    }
    breaks(.signatureMismatch(.authorization), .exactPayloadSignature) {
      try check(try payload(EVMVector.exact, (signed + ["nonce"], .string(EVMVector.packedHash))), offer())
    }
    breaks(.signatureMismatch(.authorization), .exactPayloadSignature) {
      try check(try payload(EVMVector.exact, (["payload", "signature"], .string(EVMVector.authorization))), offer())
    }
    breaks(.undeployedWallet, .exactPayloadUndeployedSmartWallet) {
      try check(
        try payload(EVMVector.exact, (["payload", "signature"], .string("0x00" + String(repeating: "6492", count: 16)))), offer())
    }
    // What is asked for longer than a day may be signed for as long.
    let long = try payload(EVMVector.exact, (signed + ["validBefore"], "1900100000"))
    breaks(.signatureMismatch(.authorization), .exactPayloadSignature) { try check(long, offer(seconds: 100_000)) }
  }

  @Test func eachRuleOfPermitsIsChecked() throws {
    let signed = ["payload", "permit2Authorization"]
    let terms = offer(extra: Self.permit2Extra)
    func altered(_ member: [String], _ value: JSONValue) throws -> ChainCharge {
      try check(try payload(EVMVector.exactPermit2, (signed + member, value)), terms)
    }
    let other = JSONValue.string(EVMFixture.other.checksummed)
    breaks(.transferMethodMismatch, .unsupportedPayloadType) { try check(try payload(EVMVector.exactPermit2), offer()) }
    breaks(.tokenWithoutPermit2, .unsupportedPayloadType) {
      try check(try payload(EVMVector.exactPermit2), terms, token: try EVMFixture.token(permit2: false))
    }
    breaks(.spenderMismatch, .invalidPermit2Spender) { try altered(["spender"], other) }
    breaks(.spenderMismatch, .invalidPermit2Spender) { try altered(["spender"], .string(UptoPermit2Proxy.address.checksummed)) }
    breaks(.recipientMismatch(.permit2), .invalidPermit2RecipientMismatch) { try altered(["witness", "to"], other) }
    breaks(.expired(.permit2), .permit2DeadlineExpired) { try altered(["deadline"], "1900000005") }
    breaks(.validTooLong(.permit2), .permit2DeadlineExpired) { try altered(["deadline"], "1900086401") }
    breaks(.notYetValid(.permit2), .permit2NotYetValid) { try altered(["witness", "validAfter"], "1900000001") }
    breaks(.amountMismatch(.permit2), .permit2AmountMismatch) { try altered(["permitted", "amount"], "10001") }
    breaks(.tokenMismatch(.permit2), .permit2TokenMismatch) { try altered(["permitted", "token"], other) }
    breaks(.signatureMismatch(.permit2), .invalidPermit2Signature) { try altered(["from"], other) }
    breaks(.signatureMismatch(.permit2), .invalidPermit2Signature) { try altered(["nonce"], "5") }
    breaks(.signatureMismatch(.permit2), .invalidPermit2Signature) { try altered(["deadline"], "1900000301") }
    breaks(.signatureMismatch(.permit2), .invalidPermit2Signature) { try altered(["witness", "validAfter"], "1") }
  }

  @Test func ourOwnSignaturesPassOurOwnCheck() throws {
    let key = try EVMFixture.key()
    let token = try EVMFixture.token()
    let nonce = try EVMFixture.digest("0x0b076e3892d14cbaa043743bb63cbb2352855a84c4c9441a77a6418d60cb8c75")
    let authorization = try ExactEVM.authorization(for: offer(), by: key, token: token, nonce: nonce, now: EVMFixture.now)
    // The package signed the very same members, so the octets are the same.
    #expect(authorization == (try payload(EVMVector.exact)).payment)
    let number = try #require(Word256(decimal: "5140033570799045681578177382914771304225699613551429074636719057164711923296"))
    let terms = offer(extra: Self.permit2Extra)
    let permit = try ExactEVM.permit(for: terms, by: key, token: token, nonce: number, now: EVMFixture.now)
    #expect(permit == (try payload(EVMVector.exactPermit2)).payment)
    #expect(throws: ChainChargeError.transferMethodMismatch) {
      _ = try ExactEVM.authorization(for: terms, by: key, token: token, nonce: nonce, now: EVMFixture.now)
    }
    #expect(throws: ChainChargeError.transferMethodMismatch) {
      _ = try ExactEVM.permit(for: offer(), by: key, token: token, nonce: number, now: EVMFixture.now)
    }
    #expect(throws: ChainChargeError.networkMismatch) {
      _ = try ExactEVM.authorization(for: offer(chain: 1), by: key, token: token, nonce: nonce, now: EVMFixture.now)
    }
    #expect(throws: ChainChargeError.tokenMismatch(.authorization)) {
      _ = try ExactEVM.authorization(for: offer(asset: EVMFixture.other), by: key, token: token, nonce: nonce, now: EVMFixture.now)
    }
  }

  @Test func onePaymentHasOneIdInEveryDialect() throws {
    // Signed for MPP, and brought as x402: the nonce at the contract is the same.
    let native = try EVMFixture.request().check(
      try EVMChargePayload(
        parsing: try EVMFixture.object(EVMVector.pympp)["payload"]?.objectValue ?? JSONObject()), source: nil,
      challenge: EVMFixture.challenge, token: try EVMFixture.token(), submitter: nil, now: EVMFixture.now)
    let body = try #require(try EVMFixture.object(EVMVector.pympp)["payload"]?.objectValue)
    let signed = ["payload", "authorization"]
    let foreign = try payload(
      EVMVector.exact, (signed + ["nonce"], body["nonce"]), (["payload", "signature"], body["signature"]))
    #expect(try check(foreign, offer()).id == native.id)
  }
}
