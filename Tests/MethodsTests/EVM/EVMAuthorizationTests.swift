import Bytes
import Encoding
import Ethereum
import Testing

@testable import Methods

@Suite struct EVMAuthorizationTests {
  private func payload(_ changes: ([String], JSONValue?)...) throws -> EVMChargePayload {
    var object: JSONObject = [
      "type": "authorization", "from": .string(EVMVector.payer), "to": .string(EVMFixture.payTo.checksummed), "value": "10000",
      "validAfter": "0", "validBefore": "1900000300", "nonce": .string(EVMVector.packedHash),
      "signature": .string(EVMVector.authorization),
    ]
    for (path, value) in changes { object = object.changing(path, to: value) }
    return try EVMChargePayload(parsing: object)
  }

  private func check(
    _ payload: EVMChargePayload, request: EVMCharge = EVMFixture.request(), source: String? = nil,
    challenge: ChallengeTerms = EVMFixture.challenge, token: ChainToken? = nil, wallets: ContractWallets = .otherLengths,
    now: Timestamp = EVMFixture.now
  ) throws -> ChainCharge {
    try request.check(
      payload, source: source, challenge: challenge, token: try token ?? EVMFixture.token(), submitter: nil, wallets: wallets, now: now)
  }

  @Test func takesWhatOthersSign() throws {
    let charge = try check(try payload())
    #expect(charge.payer == EVMFixture.payer && charge.amount == 10000 && charge.signatureCheck == .recovered)
    #expect(charge.expires == Timestamp(seconds: 1_900_000_300) && charge.notBefore == nil)
    #expect(charge.means == .call(to: EVMFixture.asset, data: try EVMFixture.octets(EVMVector.authorizationCall)))
    #expect(
      charge.transfers == [
        ExpectedTransfer(token: EVMFixture.asset, from: EVMFixture.payer, to: EVMFixture.payTo, amount: 10000)
      ])
    #expect(
      charge.id
        == ChainCharge.id(
          chain: EVMFixture.chain, contract: EVMFixture.asset, payer: EVMFixture.payer,
          nonce: try EVMFixture.digest(EVMVector.packedHash)))
    // pympp hashes the challenge its own way, and says who pays.
    let credential = try EVMFixture.object(EVMVector.pympp)
    let pympp = try EVMChargePayload(parsing: try #require(credential["payload"]?.objectValue))
    #expect(try check(pympp, source: credential["source"]?.stringValue).payer == EVMFixture.payer)
    #expect(try check(pympp).id != charge.id)
  }

  @Test func hashesChallengesBothWays() throws {
    #expect(EVMFixture.challenge.hash(.packed) == (try EVMFixture.digest(EVMVector.packedHash)))
    #expect(EVMFixture.challenge.hash(.array) == (try EVMFixture.digest(EVMVector.arrayHash)))
  }

  @Test func eachRuleIsChecked() throws {
    func breaks(_ error: ChainChargeError, _ body: () throws -> ChainCharge) {
      #expect(throws: error) { _ = try body() }
    }
    let good = try payload()
    breaks(.recipientMismatch(.authorization)) { try check(try payload((["to"], .string(EVMFixture.other.checksummed)))) }
    breaks(.recipientMismatch(.authorization)) { try check(good, request: EVMFixture.request(recipient: EVMFixture.other)) }
    breaks(.amountMismatch(.authorization)) { try check(try payload((["value"], "10001"))) }
    breaks(.amountMismatch(.authorization)) { try check(good, request: EVMFixture.request(amount: 9999)) }
    breaks(.challengeMismatch(.authorization)) { try check(try payload((["nonce"], .string("0x" + String(repeating: "1", count: 64))))) }
    var challenge = EVMFixture.challenge
    challenge.realm = "other.example.com"
    breaks(.challengeMismatch(.authorization)) { try check(good, challenge: challenge) }
    breaks(.expired(.authorization)) { try check(good, now: Timestamp(seconds: 1_900_000_295)) }
    _ = try check(good, now: Timestamp(seconds: 1_900_000_294))
    breaks(.notYetValid(.authorization)) { try check(try payload((["validAfter"], "1900000001"))) }
    breaks(.validTooLong(.authorization)) { try check(try payload((["validBefore"], "1900086401"))) }
    breaks(.validTooLong(.authorization)) { try check(try payload((["validBefore"], .string(Word256.maximum.decimal)))) }
    breaks(.signatureMismatch(.authorization)) { try check(try payload((["from"], .string(EVMFixture.other.checksummed)))) }
    breaks(.signatureMismatch(.authorization)) { try check(try payload((["validBefore"], "1900000301"))) }
    breaks(.signatureMismatch(.authorization)) { try check(good, token: try EVMFixture.token(name: "USD Coin")) }
    breaks(.tokenWithoutEIP3009) { try check(good, token: try EVMFixture.token(eip3009: false)) }
    breaks(.tokenWithoutEIP3009) { try check(good, token: try EVMFixture.token(name: nil)) }
    breaks(.tokenMismatch(.authorization)) { try check(good, token: try EVMFixture.token(address: EVMFixture.other)) }
    breaks(.chainMismatch) { try check(good, token: try EVMFixture.token(chain: 1)) }
    breaks(.typeNotOffered(.authorization)) { try check(good, request: EVMFixture.request(types: [.permit2, .hash])) }
    breaks(.typeNotOffered(.authorization)) { try check(good, request: EVMFixture.request(types: nil)) }
    breaks(.splitsNeedPermit2) { try check(good, request: EVMFixture.request(splits: [EVMFixture.split])) }
    breaks(.sourceMismatch) { try check(good, source: "did:pkh:eip155:84532:\(EVMFixture.other.checksummed)") }
    breaks(.sourceMismatch) { try check(good, source: "did:pkh:eip155:1:\(EVMVector.payer)") }
    for source in ["", "did:key:z6Mk", "did:pkh:eip155:84532", "did:pkh:eip155:084532:\(EVMVector.payer)", EVMVector.payer] {
      breaks(.malformedSource) { try check(good, source: source) }
    }
    _ = try check(good, source: "did:pkh:eip155:84532:\(EVMVector.payer.lowercased())")
  }

  @Test func asksContractsOnlyWhereAllowed() throws {
    let signature = [UInt8](1...100)
    let contract = try payload((["signature"], .string(HexData.text(signature))))
    let charge = try check(contract)
    #expect(charge.signatureCheck == .byContract && charge.payer == EVMFixture.payer)
    #expect(charge.means == .call(to: EVMFixture.asset, data: try EVMFixture.octets(EVMVector.authorizationContractCall)))
    #expect(throws: ChainChargeError.signatureMismatch(.authorization)) { _ = try check(contract, wallets: .refused) }
    let foreign = try payload((["from"], .string(EVMFixture.other.checksummed)))
    #expect(throws: ChainChargeError.signatureMismatch(.authorization)) { _ = try check(foreign) }
    #expect(try check(foreign, wallets: .all).signatureCheck == .byContract)
    // Nobody's account signs nothing, not even by contract.
    let nobody = try payload((["from"], .string(Address.zero.checksummed)), (["signature"], .string(HexData.text(signature))))
    #expect(throws: ChainChargeError.signatureMismatch(.authorization)) { _ = try check(nobody, wallets: .all) }
    let mark = String(repeating: "6492", count: 16)
    let undeployed = try payload((["signature"], .string("0x" + String(repeating: "00", count: 96) + mark)))
    #expect(throws: ChainChargeError.undeployedWallet) { _ = try check(undeployed, wallets: .all) }
  }

  @Test func takesEverySpellingOfAKeysSignature() throws {
    let signature = try ECDSASignature(hex: EVMVector.authorization)
    let expected = try EVMFixture.octets(EVMVector.authorizationCall)
    for octets in [signature.compact, signature.r.bytes + signature.s.bytes + [signature.yParity], signature.bytes] {
      let charge = try check(try payload((["signature"], .string(HexData.text(octets)))))
      #expect(charge.means == .call(to: EVMFixture.asset, data: expected))
    }
    // The same point with the other s is another spelling of the same signature, which is refused (EIP-2).
    let order = try #require(Word256(decimal: "115792089237316195423570985008687907852837564279074904382605163141518161494337"))
    let high = try #require(order.subtracting(Word256(signature.s)))
    let octets = signature.r.bytes + high.octets.bytes + [signature.v == 27 ? 28 : 27]
    let payload = try payload((["signature"], .string(HexData.text(octets))))
    #expect(throws: ChainChargeError.signatureMismatch(.authorization)) { _ = try check(payload) }
  }

  @Test(arguments: ["type", "from", "to", "value", "validAfter", "validBefore", "nonce", "signature"])
  func everyMemberIsNeeded(member: String) throws {
    let name = try #require(ChainChargeError.Member(rawValue: member))
    #expect(throws: ChainChargeError.missing(name)) { _ = try payload(([member], nil)) }
    #expect(throws: ChainChargeError.missing(name)) { _ = try payload(([member], .null)) }
    #expect(throws: ChainChargeError.malformed(name)) { _ = try payload(([member], 7)) }
    let malformed: ChainChargeError = member == "type" ? .unknownType : .malformed(name)
    for text in ["", "x", "0x", "0x0", "-1", "0x1", "01", "1.0"] {
      #expect(throws: malformed, "\(text)") { _ = try payload(([member], .string(text))) }
    }
  }

  @Test func refusesWhatDoesNotFit() throws {
    #expect(throws: ChainChargeError.overflow(.value)) {
      _ = try payload((["value"], "340282366920938463463374607431768211456"))
    }
    #expect(throws: ChainChargeError.malformed(.value)) { _ = try payload((["value"], .string(Word256.maximum.decimal + "0"))) }
    #expect(throws: ChainChargeError.tooLong(.signature, limit: 4096)) {
      _ = try payload((["signature"], .string("0x" + String(repeating: "00", count: 4097))))
    }
  }

  @Test func ourOwnSignaturePassesOurOwnCheck() throws {
    let key = try EVMFixture.key()
    let request = EVMFixture.request()
    for form in ChallengeTerms.HashForm.allCases {
      let payload = try request.authorization(by: key, challenge: EVMFixture.challenge, token: try EVMFixture.token(), hash: form)
      let read = try EVMChargePayload(parsing: payload.object)
      #expect(read == payload)
      #expect(try check(read, source: request.source(of: key.address)).payer == key.address)
    }
    // The signatures are deterministic: ours are those of eth-account, octet for octet.
    let payload = try request.authorization(by: key, challenge: EVMFixture.challenge, token: try EVMFixture.token())
    #expect(payload.object["signature"]?.stringValue == EVMVector.authorization)
    #expect(payload.description == "<payload>")
    #expect(throws: ChainChargeError.tokenWithoutEIP3009) {
      _ = try request.authorization(by: key, challenge: EVMFixture.challenge, token: try EVMFixture.token(eip3009: false))
    }
    #expect(throws: ChainChargeError.typeNotOffered(.authorization)) {
      _ = try EVMFixture.request(types: nil).authorization(by: key, challenge: EVMFixture.challenge, token: try EVMFixture.token())
    }
    #expect(throws: ChainChargeError.splitsNeedPermit2) {
      _ = try EVMFixture.request(splits: [EVMFixture.split]).authorization(
        by: key, challenge: EVMFixture.challenge, token: try EVMFixture.token())
    }
  }
}
