import Bytes
import Encoding
import Ethereum
import Testing

@testable import Payments

private let hash = Digest32(bytes: [UInt8](repeating: 0xAB, count: 32)) ?? Digest32()
private let payer = "0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a"
private let state = ChannelState(
  channelID: hash, balance: 100_000, totalClaimed: 3200, withdrawRequestedAt: 5, refundNonce: 1, chargedCumulativeAmount: 3900)

private func json(_ response: SettlementResponse, _ version: X402Version = .v2) throws -> JSONObject {
  var out = ByteBuffer()
  response.append(json: version, to: &out)
  return try object(out.string())
}

private func read(_ text: String, network: X402Network = baseSepolia) throws -> SettlementResponse {
  try Array(text.utf8).withUnsafeBytes { try SettlementResponse(json: $0, network: network) }
}

@Suite struct SettlementResponseTests {
  @Test func formsOfBothVersions() throws {
    let exact = SettlementResponse(isSuccess: true, payer: payer, transaction: hash, network: baseSepolia)
    #expect(
      try json(exact) == [
        "success": true, "transaction": .string("0x" + hash.hex), "network": "eip155:84532", "payer": .string(payer),
      ])
    let old = try json(exact, .v1)
    #expect(old["network"] == "base-sepolia")
    // A chain without a name keeps the one it has.
    let unnamed = try json(SettlementResponse(isSuccess: true, payer: nil, transaction: nil, network: X402Network(chainID: 4217)), .v1)
    #expect(unnamed == ["success": true, "transaction": "", "network": "eip155:4217"])
    let failed = try json(.failure(.insufficientFunds, payer: Address(wire: payer), network: baseSepolia))
    #expect(
      failed == [
        "success": false, "transaction": "", "network": "eip155:84532", "errorReason": "insufficient_funds", "payer": .string(payer),
      ])
  }

  @Test func channelsHaveTheirExtra() throws {
    let voucher = SettlementResponse(
      isSuccess: true, payer: payer, transaction: nil, network: baseSepolia, amount: .nothing, chargedAmount: 700, channelState: state,
      extra: ["note": [1]])
    let written = try json(voucher)
    #expect(written["amount"] == "" && written["transaction"] == "")
    #expect(
      written["extra"] == [
        "chargedAmount": "700",
        "channelState": [
          "channelId": .string("0x" + hash.hex), "balance": "100000", "totalClaimed": "3200", "withdrawRequestedAt": 5,
          "refundNonce": "1", "chargedCumulativeAmount": "3900",
        ], "note": [1],
      ])
    let refund = try json(
      SettlementResponse(
        isSuccess: true, payer: payer, transaction: hash, network: baseSepolia, amount: .units(1500), channelState: state))
    #expect(refund["amount"] == "1500" && refund["extra"]?["chargedAmount"] == nil && refund["extra"]?["channelState"] != nil)
  }

  @Test func roundTrips() throws {
    let responses = [
      SettlementResponse(isSuccess: true, payer: payer, transaction: hash, network: baseSepolia),
      SettlementResponse(isSuccess: true, payer: nil, transaction: nil, network: baseSepolia, amount: .units(.max)),
      SettlementResponse(
        isSuccess: true, payer: payer, transaction: nil, network: baseSepolia, amount: .nothing, chargedAmount: 0, channelState: state,
        extra: ["a": "b"], extensions: ["x": ["info": [:]]]),
      .failure(.settlementPending, payer: nil, network: baseSepolia),
    ]
    for response in responses {
      for version in [X402Version.v1, .v2] {
        var out = ByteBuffer()
        response.appendField(version, to: &out)
        let line = Array(out.string().utf8)
        let name = version == .v1 ? "X-PAYMENT-RESPONSE: " : "PAYMENT-RESPONSE: "
        #expect(line.starts(with: name.utf8) && line.suffix(2) == [0x0D, 0x0A])
        let value = Array(line.dropFirst(name.utf8.count).dropLast(2))
        let again = try value.withUnsafeBytes { try SettlementResponse(fieldValue: $0, network: baseSepolia) }
        #expect(again == response)
      }
    }
  }

  @Test func answersOfFacilitators() throws {
    // As x402 2.25.0 serialises them, and as the specification shows them.
    let settled = try read("{\"success\":true,\"payer\":\"\(payer)\",\"transaction\":\"0x\(hash.hex)\",\"network\":\"eip155:84532\"}")
    #expect(settled.isSuccess && settled.transaction == hash && settled.amount == .unsaid && !settled.isDefinitiveRefusal)
    let official = try Array(X402Vector.settled.utf8).withUnsafeBytes { try SettlementResponse(fieldValue: $0, network: baseSepolia) }
    #expect(official.isSuccess && official.amount == .units(2_350_000) && official.chargedAmount == 700 && official.transaction == hash)
    #expect(official.channelState?.chargedCumulativeAmount == 3900 && official.channelState?.refundNonce == 1)
    let refused = try read(
      """
      {"success":false,"errorReason":"invalid_exact_evm_insufficient_balance","errorMessage":"at 10.0.0.1","payer":null,"transaction":"",\
      "network":"eip155:84532","amount":null,"extensions":null,"extra":null}
      """)
    #expect(refused.isDefinitiveRefusal && refused.reason == .exactInsufficientBalance && !refused.isPending)
    let written = try json(refused)
    #expect(written["errorMessage"] == nil)
    let pending = try read(
      "{\"success\":false,\"errorReason\":\"settlement_pending\",\"transaction\":\"0x\(hash.hex)\",\"network\":\"eip155:84532\"}")
    #expect(pending.isPending && !pending.isDefinitiveRefusal)
    for reason in ["transaction_failed", "unexpected_settle_error", "something_else", "invalid_exact_evm_nonce_already_used"] {
      let unknown = try read("{\"success\":false,\"errorReason\":\"\(reason)\",\"transaction\":\"\",\"network\":\"eip155:84532\"}")
      #expect(!unknown.isDefinitiveRefusal)
    }
    let silent = try read("{\"success\":false,\"transaction\":\"\",\"network\":\"base-sepolia\"}")
    #expect(!silent.isDefinitiveRefusal && silent.reason == nil)
    // 0.3.0's facilitators may name no network, and no transaction.
    let old = try read("{\"success\":true,\"transaction\":null,\"network\":null,\"payer\":\"\(payer)\"}")
    #expect(old.isSuccess && old.transaction == nil && old.network == baseSepolia)
    let deposit = try read(
      """
      {"success":true,"transaction":"0x\(hash.hex)","network":"eip155:84532","payer":"\(payer)","amount":"100000","asset":"0x0",\
      "extra":{"channelState":{"channelId":"0x\(hash.hex)","balance":"100000","totalClaimed":"3200","withdrawRequestedAt":0,"refundNonce":1}}}
      """)
    #expect(deposit.amount == .units(100_000) && deposit.channelState?.totalClaimed == 3200 && deposit.channelState?.refundNonce == 1)
    #expect(deposit.channelState?.chargedCumulativeAmount == nil && deposit.extra.isEmpty)
  }

  @Test func malformedAnswersAreRefused() throws {
    let cases: [(String, X402Error)] = [
      ("", .malformedJSON), ("[]", .notAnObject), ("{}", .missing(.success)), ("{\"success\":1}", .malformed(.success)),
      ("{\"success\":true,\"success\":false}", .malformedJSON), ("{\"success\":true,\"transaction\":\"0x12\"}", .malformed(.transaction)),
      ("{\"success\":true,\"transaction\":\"\",\"network\":\"eip155:1\"}", .malformed(.network)),
      ("{\"success\":true,\"transaction\":\"\",\"network\":\"solana:x\"}", .malformed(.network)),
      ("{\"success\":true,\"amount\":1}", .malformed(.amount)), ("{\"success\":true,\"amount\":\"-1\"}", .malformed(.amount)),
      ("{\"success\":true,\"extra\":{\"chargedAmount\":7}}", .malformed(.chargedAmount)),
      ("{\"success\":true,\"extra\":{\"channelState\":{\"channelId\":\"0x\"}}}", .malformed(.channelId)),
    ]
    for (text, error) in cases { #expect(throws: error, "\(text)") { try read(text) } }
    let long = "{\"success\":true,\"errorMessage\":\"\(String(repeating: "x", count: SettlementResponse.limit))\"}"
    #expect(throws: X402Error.tooLarge(limit: SettlementResponse.limit)) { try read(long) }
  }
}
