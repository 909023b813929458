import Bytes
import Encoding
import Ethereum
import Methods
import Payments
import Testing

@Suite struct BatchChannelTests {
  private typealias Fixture = SessionFixture
  private static let domain = BatchSettlement.domain(chainID: sessionChain).prepared

  private func offer(
    amount: UInt128 = 1000, method: String? = nil, authorizer: String? = batchAuthorizer, delay: Int64 = 900,
    payTo: String = sessionPayee, asset: String = sessionToken, minimum: String? = nil, chain: UInt64 = sessionChain
  ) throws -> PaymentRequirements {
    var extra: JSONObject = ["name": "USD Coin", "version": "2", "withdrawDelay": .integer(delay)]
    if let authorizer { extra.set("receiverAuthorizer", .string(authorizer)) }
    if let method { extra.set("assetTransferMethod", .string(method)) }
    if let minimum { extra.set("minDeposit", .string(minimum)) }
    return PaymentRequirements(
      scheme: .batchSettlement, network: try #require(X402Network("eip155:\(chain)", version: .v2)), amount: amount,
      asset: asset, payTo: payTo, maxTimeoutSeconds: 3600, extra: extra)
  }

  private static let eip3009 =
    #"{"erc3009Authorization":{"validAfter":"0","validBefore":"1900000000","salt":"\#(sessionTopUpSalt)","signature":"\#(batchDeposit)"}}"#
  private static let permit2 =
    #"{"permit2Authorization":{"from":"\#(sessionPayer)","permitted":{"token":"\#(sessionToken)","amount":"100000"},"spender":"0x4020425FAf3B746C082C2f942b4E5159887B0005","nonce":"9","deadline":"1900000000","witness":{"channelId":"\#(batchChannel)"},"signature":"\#(batchPermit)"}}"#

  /// A payment as the specification writes it, with texts replaced.
  private func payload(_ type: String, _ more: String = "", replacing: [(String, String)] = []) throws -> PaymentPayload {
    var text =
      #"{"x402Version":2,"accepted":{"scheme":"batch-settlement","network":"eip155:8453","amount":"1000","asset":"\#(sessionToken)","payTo":"\#(sessionPayee)","maxTimeoutSeconds":3600,"extra":{}},"payload":{"type":"\#(type)","channelConfig":{"payer":"\#(sessionPayer)","payerAuthorizer":"\#(sessionSigner)","receiver":"\#(sessionPayee)","receiverAuthorizer":"\#(batchAuthorizer)","token":"\#(sessionToken)","withdrawDelay":900,"salt":"\#(sessionSalt)"},"voucher":{"channelId":"\#(batchChannel)","maxClaimableAmount":"1000","signature":"\#(batchVoucher)"}\#(more)}}"#
    for (old, new) in replacing { text = text.replacing(old, with: new) }
    return try PaymentPayload(json: Array(text.utf8))
  }

  private func deposit(_ authorization: String, amount: String = "100000") -> String {
    #","deposit":{"amount":"\#(amount)","authorization":\#(authorization)}"#
  }

  private func check(
    _ payload: PaymentPayload, _ offer: PaymentRequirements? = nil, last: SessionVoucher? = nil
  ) throws -> BatchPayment {
    try BatchPayment(
      payload, against: try offer ?? self.offer(), token: Fixture.token, domain: Self.domain, last: last, now: Fixture.now)
  }

  // MARK: payments

  @Test func vouchers() throws {
    let payment = try check(try payload("voucher"))
    #expect(payment.voucher.cumulativeAmount == 1000 && payment.question == nil && payment.kind == .voucher)
    #expect(HexData.text(payment.voucher.channelID) == batchChannel)
    let key = BatchPayment.voucherKey(payment.config, in: Self.domain)
    #expect(key.sign(1000, by: Fixture.signerKey) == payment.voucher)
    // The same octets again are not verified: even garbage passes, which shows it.
    let garbage = try payload("voucher", replacing: [(batchVoucher, "0x" + String(repeating: "07", count: 65))])
    let last = SessionVoucher(
      channelID: payment.voucher.channelID, cumulativeAmount: 1000, signature: [UInt8](repeating: 7, count: 65))
    #expect(try check(garbage, last: last).voucher == last)
    #expect(throws: BatchChannelError.voucherSignature) { _ = try check(garbage) }
  }

  /// The calls and signatures of eth-account and eth-abi.
  @Test func deposits() throws {
    for (authorization, method, data) in [(Self.eip3009, nil, batchDepositCall), (Self.permit2, "permit2", batchPermitCall)] {
      let payment = try check(try payload("deposit", deposit(authorization)), try offer(method: method))
      guard case .deposit(let transaction) = payment.kind else { throw BatchChannelError.schemeMismatch }
      #expect(transaction.means == .call(to: BatchSettlement.address, data: Fixture.octets(data)))
      #expect(transaction.amount == 100_000 && payment.deposit == 100_000)
      #expect(transaction.expires == Timestamp(seconds: 1_900_000_000))
    }
  }

  @Test func refunds() throws {
    #expect(try check(try payload("refund")).kind == .refund(amount: nil))
    #expect(try check(try payload("refund", #","amount":"1500""#)).kind == .refund(amount: 1500))
  }

  @Test func brokenPayments() throws {
    let voucher = try payload("voucher")
    for (offer, error) in [
      (try offer(authorizer: nil), BatchChannelError.malformedOffer), (try offer(authorizer: sessionPayee), .authorizerMismatch),
      (try offer(delay: 901), .delayMismatch), (try offer(payTo: sessionToken), .receiverMismatch),
      (try offer(asset: sessionPayee), .tokenMismatch), (try offer(chain: 1), .networkMismatch),
    ] {
      #expect(throws: error) { _ = try check(voucher, offer) }
    }
    for (old, new, error) in [
      (#""token":"\#(sessionToken)""#, #""token":"\#(sessionPayee)""#, BatchChannelError.tokenMismatch),
      (#""salt":"\#(sessionSalt)""#, #""salt":"\#(sessionTopUpSalt)""#, .channelMismatch),
      (#""channelId":"\#(batchChannel)""#, #""channelId":"\#(sessionSalt)""#, .channelMismatch),
      (#""maxClaimableAmount":"1000""#, #""maxClaimableAmount":"1001""#, .voucherSignature),
      // An authorizer is a key: no contract is asked.
      (batchVoucher, "0x" + String(repeating: "ab", count: 100), .voucherSignature),
    ] {
      #expect(throws: error) { _ = try check(try payload("voucher", replacing: [(old, new)])) }
    }
    let short = try payload("voucher", replacing: [(#""withdrawDelay":900"#, #""withdrawDelay":899"#)])
    #expect(throws: BatchChannelError.delayOutOfRange) { _ = try check(short, try offer(delay: 899)) }
    for (authorization, method, amount, changes, error) in [
      (Self.eip3009, "permit2", "100000", [], BatchChannelError.transferMethodMismatch),
      (Self.permit2, nil, "100000", [], .transferMethodMismatch), (Self.eip3009, nil, "0", [], .depositBelowMinimum),
      (Self.eip3009, nil, "100001", [], .authorizationSignature),
      (Self.eip3009, nil, "100000", [("1900000000", "1899999005")], .expired),
      (Self.eip3009, nil, "100000", [(#""validAfter":"0""#, #""validAfter":"1899999001""#)], .notYetValid),
      (Self.eip3009, nil, "100000", [(sessionTopUpSalt, sessionSalt)], .authorizationSignature),
      (Self.permit2, "permit2", "100001", [], .amountMismatch), (Self.permit2, "permit2", "100000", [(#""nonce":"9""#, #""nonce":"8""#)], .permitSignature),
      (Self.permit2, "permit2", "100000", [("0x4020425FAf3B746C082C2f942b4E5159887B0005", sessionPayee)], .spenderMismatch),
      (Self.permit2, "permit2", "100000", [(#""from":"\#(sessionPayer)""#, #""from":"\#(sessionPayee)""#)], .channelMismatch),
    ] as [(String, String?, String, [(String, String)], BatchChannelError)] {
      var text = deposit(authorization, amount: amount)
      for (old, new) in changes { text = text.replacing(old, with: new) }
      #expect(throws: error) { _ = try check(try payload("deposit", text), try offer(method: method)) }
    }
    #expect(throws: BatchChannelError.depositBelowMinimum) {
      _ = try check(try payload("deposit", deposit(Self.eip3009)), try offer(minimum: "100001"))
    }
  }

  // MARK: channels

  private func payment(_ amount: UInt128, _ kind: BatchPayment.Kind = .voucher) throws -> BatchPayment {
    var payment = try check(try payload("voucher"))
    payment.voucher = BatchPayment.voucherKey(payment.config, in: Self.domain).sign(amount, by: Fixture.signerKey)
    payment.kind = kind
    return payment
  }

  private func channel(charged: UInt128 = 3200, balance: UInt128 = 100_000, claimed: UInt128 = 500) throws -> BatchChannel {
    let first = try payment(charged)
    return BatchChannel(first.config, charged: charged, last: first.voucher, balance: balance, totalClaimed: claimed)
  }

  @Test func admits() throws {
    let channel = try channel()
    try channel.admit(try payment(4200), amount: 1000)
    for amount: UInt128 in [4199, 4201, 3200, 1000] {
      #expect(throws: BatchChannelError.cumulativeMismatch) { try channel.admit(try payment(amount), amount: 1000) }
    }
    #expect(throws: BatchChannelError.cumulativeMismatch) { try channel.admit(try payment(4200), amount: .max) }
    #expect(throws: BatchChannelError.exceedsBalance) {
      try self.channel(balance: 4199).admit(try payment(4200), amount: 1000)
    }
    #expect(throws: BatchChannelError.channelNotFound) { try self.channel(balance: 0).admit(try payment(4200), amount: 1000) }
    #expect(throws: BatchChannelError.belowClaimed) {
      try self.channel(charged: 0, claimed: 1000).admit(try payment(1000), amount: 1000)
    }
    // A deposit counts before it is made.
    let deposit = try check(try payload("deposit", deposit(Self.eip3009)))
    try BatchChannel(deposit.config, charged: 0, last: nil, balance: 0, totalClaimed: 0).admit(deposit, amount: 1000)
  }

  @Test func admitsRefunds() throws {
    let channel = try channel()
    try channel.admit(try payment(3200, .refund(amount: nil)), amount: 1000)
    try channel.admit(try payment(3200, .refund(amount: 96_800)), amount: 1000)
    for amount: UInt128 in [0, 96_801] {
      #expect(throws: BatchChannelError.refundAmount) {
        try channel.admit(try payment(3200, .refund(amount: amount)), amount: 1000)
      }
    }
    #expect(throws: BatchChannelError.cumulativeMismatch) {
      try channel.admit(try payment(4200, .refund(amount: nil)), amount: 1000)
    }
    #expect(throws: BatchChannelError.nothingToRefund) {
      try self.channel(balance: 3200).admit(try payment(3200, .refund(amount: nil)), amount: 1000)
    }
  }

  @Test func charges() throws {
    var channel = try channel()
    let voucher = try payment(4200).voucher
    #expect(throws: BatchChannelError.chargeExceedsSigned) { try channel.charge(1001, by: voucher) }
    #expect(channel.charged == 3200)
    try channel.charge(700, by: voucher)
    #expect(channel.charged == 3900 && channel.last == voucher)
    let claim = try #require(channel.claim)
    #expect(claim.totalClaimed == 3900 && claim.maxClaimableAmount == 4200 && claim.signature == voucher.signature)
    // The corrective answer's two objects.
    let id = voucher.channelID
    let corrective = try #require(channel.corrective(id))
    #expect(corrective.channel == ChannelState(channelID: id, balance: 100_000, totalClaimed: 500, chargedCumulativeAmount: 3900))
    #expect(corrective.voucher == VoucherState(signedMaxClaimable: 4200, signature: voucher.signature))
    channel.mirror(ChannelState(channelID: id, balance: 90_000, totalClaimed: 3900, withdrawRequestedAt: 7, refundNonce: 2))
    #expect(channel.claim == nil)
    #expect(channel.balance == 90_000 && channel.withdrawRequestedAt == 7 && channel.refundNonce == 2 && channel.charged == 3900)
    // What is claimed is claimed, whatever an older answer says.
    channel.mirror(ChannelState(channelID: id, balance: 90_000, totalClaimed: 500))
    #expect(channel.totalClaimed == 3900)
  }

  @Test func lostStateBeginsWithTheChains() throws {
    let config = try payment(1).config
    let channel = BatchChannel(
      config, state: ChannelState(channelID: Digest32(), balance: 1000, totalClaimed: 400, refundNonce: 3))
    #expect(channel.charged == 400 && channel.claim == nil && channel.corrective(Digest32()) == nil && channel.refundNonce == 3)
  }

  @Test func reasons() {
    #expect(
      BatchChannelError.cumulativeMismatch.x402Reason.rawValue == "invalid_batch_settlement_evm_cumulative_amount_mismatch")
    #expect(BatchChannelError.channelBusy.x402Reason.rawValue == "invalid_batch_settlement_evm_channel_busy")
    #expect(BatchChannelError.channelMismatch.x402Reason.rawValue == "invalid_batch_settlement_evm_channel_id_mismatch")
  }
}
