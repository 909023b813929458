import Bytes
import Encoding
import Ethereum
import Testing

@testable import Methods

@Suite struct EVMRequestTests {
  @Test func readsTheDraftsExample() throws {
    let request = try EVMCharge(
      parsing: try EVMFixture.object(
        """
        {"amount":"1050000","currency":"0xe15fc38f6d8c56af07bbcbe3baf5708a2bf42392",
        "recipient":"0x742d35Cc6634C0532925a3b844Bc9e7595f8fE00","description":"Marketplace purchase","methodDetails":{"chainId":1329,
        "credentialTypes":["permit2","later"],"splits":[{"recipient":"0x8Ba1f109551bD432803012645Ac136ddd64DBA72","amount":"50000",
        "memo":"platform fee"}]}}
        """))
    #expect(request.amount == 1_050_000 && request.remainder == 1_000_000 && request.chainID == 1329)
    #expect(request.credentialTypes == [.permit2] && request.permit2 == Permit2.address && request.spender == nil)
    #expect(request.splits == [EVMCharge.Split(recipient: EVMFixture.other, amount: 50000, memo: "platform fee")])
    #expect(request.description == "Marketplace purchase" && request.externalId == nil && request.decimals == nil)
  }

  @Test func writesWhatItReads() throws {
    for request in [
      EVMFixture.request(), EVMFixture.request(types: nil),
      EVMFixture.request(externalId: "7", spender: EVMFixture.submitter, splits: [EVMFixture.split]),
    ] {
      #expect(try EVMCharge(parsing: request.object) == request)
    }
    let request = EVMFixture.request(types: [.authorization])
    // What pympp's client looks at.
    #expect(request.object["currency"]?.stringValue == "0x036CbD53842c5426634e7929541eC2318f3dCF7e")
    #expect(request.object["methodDetails"]?["chainId"] == 84532)
    #expect(request.object["methodDetails"]?["credentialTypes"] == ["authorization"])
    #expect(EVMFixture.request(externalId: "7").receiptMembers == ["chainId": 84532, "externalId": "7"])
    #expect(request.receiptMembers == ["chainId": 84532])
  }

  @Test func refusesOtherObjects() throws {
    let object = EVMFixture.request(externalId: "7", spender: EVMFixture.submitter, splits: [EVMFixture.split]).object
    func breaks(_ error: ChainChargeError, _ path: [String], _ value: JSONValue?) {
      #expect(throws: error, "\(path)") { _ = try EVMCharge(parsing: object.changing(path, to: value)) }
    }
    for member in ["amount", "currency", "recipient"] { breaks(.missing(.init(rawValue: member) ?? .type), [member], nil) }
    breaks(.missing(.methodDetails), ["methodDetails"], nil)
    breaks(.missing(.chainId), ["methodDetails", "chainId"], nil)
    breaks(.malformed(.amount), ["amount"], "0")
    breaks(.overflow(.amount), ["amount"], "340282366920938463463374607431768211456")
    breaks(.malformed(.chainId), ["methodDetails", "chainId"], "84532")
    breaks(.malformed(.chainId), ["methodDetails", "chainId"], 0)
    breaks(.malformed(.chainId), ["methodDetails", "chainId"], -1)
    breaks(.malformed(.decimals), ["methodDetails", "decimals"], 256)
    breaks(.malformed(.permit2Address), ["methodDetails", "permit2Address"], "0x12")
    breaks(.malformed(.spender), ["methodDetails", "spender"], "0x12")
    breaks(.malformed(.credentialTypes), ["methodDetails", "credentialTypes"], "permit2")
    breaks(.tooLong(.credentialTypes, limit: 16), ["methodDetails", "credentialTypes"], .array(.init(repeating: "hash", count: 17)))
    breaks(.malformed(.splits), ["methodDetails", "splits"], [])
    breaks(.malformed(.splits), ["methodDetails", "splits"], [7])
    let split = object["methodDetails"]?["splits"]?.arrayValue?.first ?? .null
    breaks(.tooLong(.splits, limit: 10), ["methodDetails", "splits"], .array(.init(repeating: split, count: 11)))
    breaks(.splitsReachAmount, ["methodDetails", "splits", "0", "amount"], "10000")
    breaks(.splitsReachAmount, ["methodDetails", "splits", "0", "amount"], "10001")
    breaks(.tooLong(.memo, limit: 256), ["methodDetails", "splits", "0", "memo"], .string(String(repeating: "m", count: 257)))
  }

  @Test func everyErrorHasItsWords() {
    let errors: [ChainChargeError] = [
      .missing(.amount), .malformed(.amount), .overflow(.amount), .tooLong(.amount, limit: 3), .unknownType, .splitsReachAmount,
      .typeNotOffered(.hash), .splitsNeedPermit2, .tokenWithoutEIP3009, .tokenWithoutPermit2, .tokenMismatch(.permit2), .chainMismatch,
      .schemeMismatch, .networkMismatch, .transferMethodMismatch, .recipientMismatch(.permit2), .amountMismatch(.permit2),
      .expired(.permit2), .notYetValid(.permit2), .validTooLong(.permit2), .challengeMismatch(.permit2), .externalIDMismatch,
      .transferCountMismatch, .splitMismatch(index: 1), .permittedTooLow(index: 1), .spenderMismatch, .noSpender, .facilitatorMismatch,
      .settlementAboveMaximum, .signatureMismatch(.permit2), .undeployedWallet, .malformedSource, .sourceMismatch,
      .malformedTransaction(.malformedSignature), .callMismatch, .notATransfer, .memoMismatch, .transferMismatch, .feesNotSponsored,
    ]
    #expect(Set(errors.map(\.detail)).count == errors.count)
    for error in errors {
      #expect(error.detail.hasSuffix(".") && error.problem.status != 0 && error.x402Reason != .unknown)
    }
  }
}
