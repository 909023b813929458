import Bytes
import Encoding
import Ethereum
import Payments
import Testing

@testable import Methods

@Suite struct UptoEVMTests {
  private func offer(
    _ scheme: X402Scheme = .upto, amount: UInt128 = 10000, extra: JSONObject = [
      "name": "USDC", "version": "2", "facilitatorAddress": .string(EVMFixture.submitter.checksummed),
    ]
  ) -> PaymentRequirements {
    PaymentRequirements(
      scheme: scheme, network: X402Network(chainID: EVMFixture.chain), amount: amount, asset: EVMFixture.asset.checksummed,
      payTo: EVMFixture.payTo.checksummed, maxTimeoutSeconds: 300, extra: extra)
  }

  private func payload(_ changes: ([String], JSONValue?)...) throws -> PaymentPayload {
    var object = try EVMFixture.object(EVMVector.upto)
    for (path, value) in changes { object = object.changing(["payload", "permit2Authorization"] + path, to: value) }
    return try PaymentPayload(json: JSON.serialize(.object(object)))
  }

  private func check(
    _ payload: PaymentPayload, _ offer: PaymentRequirements, facilitator: Address = EVMFixture.submitter
  ) throws -> UptoEVM {
    try UptoEVM.check(payload, against: offer, token: try EVMFixture.token(), facilitator: facilitator, now: EVMFixture.now)
  }

  @Test func settlesWhatWasUsed() throws {
    let upto = try check(try payload(), offer())
    #expect(upto.maximum == 10000 && upto.charge.payer == EVMFixture.payer && upto.charge.signatureCheck == .recovered)
    let used = try #require(try upto.settling(1234))
    #expect(used.means == .call(to: UptoPermit2Proxy.address, data: try EVMFixture.octets(EVMVector.uptoCall)))
    #expect(used.amount == 1234 && used.id == upto.charge.id && used.transfers.map(\.amount) == [1234])
    #expect(try upto.settling(0) == nil)
    #expect(try upto.settling(10000) == upto.charge)
    #expect(throws: ChainChargeError.settlementAboveMaximum) { _ = try upto.settling(10001) }
  }

  @Test func eachRuleIsChecked() throws {
    func breaks(_ error: ChainChargeError, _ reason: X402Reason, _ body: () throws -> UptoEVM) {
      #expect(throws: error) { _ = try body() }
      #expect(error.x402Reason == reason)
    }
    let other = JSONValue.string(EVMFixture.other.checksummed)
    breaks(.schemeMismatch, .unsupportedScheme) { try check(try payload(), offer(.exact)) }
    breaks(.facilitatorMismatch, .uptoFacilitatorMismatch) { try check(try payload(), offer(), facilitator: EVMFixture.other) }
    breaks(.facilitatorMismatch, .uptoFacilitatorMismatch) { try check(try payload((["witness", "facilitator"], other)), offer()) }
    breaks(.transferMethodMismatch, .unsupportedPayloadType) {
      try check(try payload(), offer(extra: ["assetTransferMethod": "eip3009"]))
    }
    breaks(.spenderMismatch, .invalidPermit2Spender) {
      try check(try payload((["spender"], .string(ExactPermit2Proxy.address.checksummed))), offer())
    }
    breaks(.recipientMismatch(.permit2), .invalidPermit2RecipientMismatch) { try check(try payload((["witness", "to"], other)), offer()) }
    // What is signed is the maximum, neither less nor more.
    breaks(.amountMismatch(.permit2), .permit2AmountMismatch) { try check(try payload(), offer(amount: 9999)) }
    breaks(.amountMismatch(.permit2), .permit2AmountMismatch) { try check(try payload(), offer(amount: 10001)) }
    breaks(.tokenMismatch(.permit2), .permit2TokenMismatch) { try check(try payload((["permitted", "token"], other)), offer()) }
    breaks(.expired(.permit2), .permit2DeadlineExpired) { try check(try payload((["deadline"], "1900000005")), offer()) }
    breaks(.notYetValid(.permit2), .permit2NotYetValid) { try check(try payload((["witness", "validAfter"], "1900000001")), offer()) }
    breaks(.signatureMismatch(.permit2), .invalidPermit2Signature) { try check(try payload((["nonce"], "1")), offer()) }
    let exact = try PaymentPayload(json: JSON.serialize(.object(try EVMFixture.object(EVMVector.exactPermit2))))
    breaks(.schemeMismatch, .unsupportedScheme) { try check(exact, offer()) }
  }

  @Test func ourOwnPermitPassesOurOwnCheck() throws {
    let nonce = try #require(Word256(decimal: "29679592544327435795449708220065478703185208665489797727140783349380072664553"))
    let permit = try UptoEVM.permit(for: offer(), by: try EVMFixture.key(), token: try EVMFixture.token(), nonce: nonce, now: EVMFixture.now)
    #expect(permit == (try payload()).payment)
    #expect(throws: ChainChargeError.facilitatorMismatch) {
      _ = try UptoEVM.permit(
        for: offer(extra: ["name": "USDC"]), by: try EVMFixture.key(), token: try EVMFixture.token(), nonce: nonce, now: EVMFixture.now)
    }
  }
}
