import Bytes
import Encoding
import Ethereum
import Testing

@testable import Payments

private func body(_ payload: PaymentPayload, _ requirements: PaymentRequirements, amount: UInt128? = nil) throws -> JSONObject {
  var out = ByteBuffer()
  var info = premium
  info.url = "https://api.example.com/premium-data"
  let isWritten = FacilitatorRequest.append(payload, requirements, amount: amount, resource: info, to: &out)
  #expect(isWritten)
  return try object(out.string())
}

private func verified(_ text: String) throws -> VerifyResponse {
  try Array(text.utf8).withUnsafeBytes { try VerifyResponse(json: $0) }
}

private func supported(_ text: String) throws -> SupportedResponse {
  try Array(text.utf8).withUnsafeBytes { try SupportedResponse(json: $0) }
}

@Suite struct FacilitatorTests {
  @Test func requestsHoldThePaymentAndOurTerms() throws {
    let payload = try payment(X402Vector.eip3009)
    let written = try body(payload, offer())
    #expect(written.names == ["x402Version", "paymentPayload", "paymentRequirements"] && written["x402Version"] == 2)
    #expect(written["paymentPayload"]?.objectValue == (try decoded(X402Vector.eip3009)))
    #expect(
      written["paymentRequirements"] == [
        "scheme": "exact", "network": "eip155:84532", "amount": "10000", "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C", "maxTimeoutSeconds": 60, "extra": ["name": "USDC", "version": "2"],
      ])
    // What was used, of what was allowed.
    let upto = try body(try payment(X402Vector.upto), offer(.upto, amount: 5_000_000), amount: 1858)
    #expect(upto["paymentRequirements"]?["amount"] == "1858" && upto["paymentPayload"]?["accepted"]?["amount"] == "5000000")
  }

  @Test func requestsOfVersion1() throws {
    let payload = try payment(X402Vector.v1, .xPayment)
    let written = try body(payload, offer())
    #expect(written["x402Version"] == 1 && written["paymentPayload"]?["network"] == "base-sepolia")
    #expect(
      written["paymentRequirements"] == [
        "scheme": "exact", "network": "base-sepolia", "maxAmountRequired": "10000", "resource": "https://api.example.com/premium-data",
        "description": "Access to premium market data", "mimeType": "application/json",
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
        "maxTimeoutSeconds": 60, "extra": ["name": "USDC", "version": "2"],
      ])
    var out = ByteBuffer()
    let isWritten = FacilitatorRequest.append(payload, channelOffer, resource: premium, to: &out)
    #expect(!isWritten && out.isEmpty)
  }

  @Test func channelActions() throws {
    guard case .batchRefund(let config, let voucher, _) = try payment(X402Vector.refund).payment else {
      Issue.record("another way to pay")
      return
    }
    let claim = VoucherClaim(channel: config, maxClaimableAmount: 1000, signature: voucher.signature, totalClaimed: 700)
    let actions: [(ChannelAction, [String])] = [
      (.claim([claim], signature: nil), ["type", "claims"]),
      (.claim([claim], signature: [1]), ["type", "claims", "claimAuthorizerSignature"]),
      (.settle(receiver: config.receiver, token: config.token), ["type", "receiver", "token"]),
      (
        .refund(config, voucher, amount: 1500, nonce: 1, claims: [claim], signature: [2], claimSignature: [3]),
        [
          "type", "channelConfig", "voucher", "amount", "refundNonce", "claims", "refundAuthorizerSignature", "claimAuthorizerSignature",
        ]
      ),
    ]
    for (action, names) in actions {
      var out = ByteBuffer()
      FacilitatorRequest.append(action, channelOffer, to: &out)
      let written = try object(out.string())
      let payload = written["paymentPayload"]
      #expect(payload?["payload"]?.objectValue?.names == names)
      #expect(payload?["x402Version"] == 2 && payload?["accepted"] == written["paymentRequirements"])
    }
    #expect(
      ChannelAction.claim([claim], signature: nil).json["claims"] == [
        [
          "voucher": ["channel": .object(config.json), "maxClaimableAmount": "1000"],
          "signature": .string(HexData.text(voucher.signature)), "totalClaimed": "700",
        ]
      ])
  }

  @Test func verdicts() throws {
    let valid = try verified("{\"isValid\":true,\"invalidReason\":null,\"payer\":\"0x1\"}")
    #expect(valid.isValid && valid.reason == nil && valid.payer == "0x1" && valid.channelState == nil)
    let refused = try verified("{\"isValid\":false,\"invalidReason\":\"network_mismatch\",\"invalidMessage\":\"m\"}")
    #expect(!refused.isValid && refused.reason == .networkMismatch && refused.message == "m" && refused.payer == nil)
    let channel = String(repeating: "7", count: 64)
    let batch = try verified(
      """
      {"isValid":true,"payer":"0x1","extra":{"channelId":"0x\(channel)","balance":"1000000","totalClaimed":"500000",\
      "withdrawRequestedAt":9,"refundNonce":"2"}}
      """)
    #expect(batch.channelState?.balance == 1_000_000 && batch.channelState?.withdrawRequestedAt == 9 && batch.channelState?.refundNonce == 2)
    for wrong in ["", "[]", "{}", "{\"isValid\":\"true\"}", "{\"isValid\":true,\"payer\":1}", "{\"isValid\":true,\"extra\":{\"channelId\":1}}"] {
      #expect(throws: X402Error.self) { try verified(wrong) }
    }
  }

  @Test func whatIsSupported() throws {
    let answer = try supported(
      """
      {"kinds":[{"x402Version":2,"scheme":"exact","network":"eip155:84532"},{"x402Version":1,"scheme":"exact","network":"base-sepolia"},\
      {"x402Version":2,"scheme":"upto","network":"eip155:84532","extra":{"facilitatorAddress":"0x4B0897b0513fdC7C541B6d9D7E929C4e5364D2dB"}},\
      {"x402Version":2,"scheme":"batch-settlement","network":"eip155:84532","extra":\
      {"receiverAuthorizer":"0x209693Bc6afc0C5328bA36FaF03C514EF312287C"}},\
      {"x402Version":2,"scheme":"exact","network":"solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"},{"x402Version":3,"scheme":"x","network":"y"}],\
      "extensions":["bazaar"],"signers":{"eip155:*":["0x1"],"solana:*":[]}}
      """)
    #expect(answer.kinds.count == 4 && answer.extensions == ["bazaar"] && answer.signers == ["eip155:*": ["0x1"], "solana:*": []])
    #expect(answer.kind(.exact, on: baseSepolia) != nil && answer.kind(.exact, on: baseSepolia, version: .v1) != nil)
    #expect(answer.kind(.exact, on: X402Network(chainID: 1)) == nil && answer.kind(.upto, on: baseSepolia, version: .v1) == nil)
    #expect(answer.facilitatorAddress(on: baseSepolia) == Address(wire: "0x4B0897b0513fdC7C541B6d9D7E929C4e5364D2dB"))
    #expect(answer.receiverAuthorizer(on: baseSepolia) == Address(wire: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"))
    #expect(try supported("{\"kinds\":[]}").kinds.isEmpty)
    for wrong in ["{}", "{\"kinds\":{}}", "{\"kinds\":[1]}", "{\"kinds\":[],\"extensions\":[1]}", "{\"kinds\":[],\"signers\":{\"a\":1}}"] {
      #expect(throws: X402Error.self) { try supported(wrong) }
    }
    let many = Array(repeating: "{}", count: SupportedResponse.countLimit + 1).joined(separator: ",")
    #expect(throws: X402Error.tooMany(.kinds, limit: SupportedResponse.countLimit)) { try supported("{\"kinds\":[\(many)]}") }
  }

  @Test func everyTruncationOfAnAnswerIsRefused() throws {
    let text = Array("{\"isValid\":true,\"success\":true,\"kinds\":[],\"transaction\":\"\",\"network\":\"base\"}".utf8)
    for count in 0..<text.count {
      Array(text[..<count]).withUnsafeBytes { part in
        #expect(throws: X402Error.malformedJSON) { try VerifyResponse(json: part) }
        #expect(throws: X402Error.malformedJSON) { try SupportedResponse(json: part) }
        #expect(throws: X402Error.malformedJSON) { try SettlementResponse(json: part, network: baseSepolia) }
      }
    }
  }
}
