import Bytes
import Encoding
import Ethereum
import Methods
import Testing

@Suite struct SessionVoucherTests {
  private typealias Fixture = SessionFixture
  private let standing = ChannelStanding(deposit: SessionFixture.deposit)

  private func voucher(_ amount: UInt128) -> SessionVoucher { Fixture.voucherKey.sign(amount, by: Fixture.signerKey) }

  private func check(
    _ voucher: SessionVoucher, after last: UInt128 = 1000, standing: ChannelStanding? = nil, minimumDelta: UInt128 = 0,
    rules: ChannelProtocol = .evm, wallets: ContractWallets = .otherLengths
  ) throws(ChannelError) -> (effect: VoucherEffect, question: WalletQuestion?) {
    try Fixture.voucherKey.check(
      voucher, after: self.voucher(last), standing: standing ?? self.standing, minimumDelta: minimumDelta, rules: rules,
      wallets: wallets)
  }

  /// Ids, digests and signatures of eth-account and eth-abi, for each protocol, with and without a signer of its own.
  @Test func vectors() throws {
    #expect(voucherVectors.count == 28)
    for vector in voucherVectors {
      let escrow = SessionEscrow(rules: vector.rules, chain: sessionChain, address: Fixture.address(sessionEscrow))
      let isReserve = vector.rules == .tempoV2
      let channel = ChannelDescriptor(
        payer: Fixture.address(sessionPayer), payee: Fixture.address(sessionPayee),
        operator: isReserve ? Fixture.address(sessionOperator) : .zero, token: Fixture.address(sessionToken),
        salt: Fixture.digest(vector.salt), authorizedSigner: Fixture.address(vector.signer),
        expiringNonceHash: isReserve ? Fixture.digest(sessionNonceHash) : Digest32())
      let key = VoucherKey(channel, escrow: escrow)
      let amount = try #require(UInt128(vector.amount))
      #expect(HexData.text(key.channelID) == vector.channel)
      #expect(HexData.text(key.digest(of: amount)) == vector.digest)
      let voucher = SessionVoucher(
        channelID: Fixture.digest(vector.channel), cumulativeAmount: amount, signature: Fixture.octets(vector.signature))
      #expect(try key.verify(voucher) == nil)
      let signer = channel.authorizedSigner.isZero ? Fixture.payerKey : Fixture.signerKey
      #expect(key.sign(amount, by: signer) == voucher)
    }
  }

  @Test func advances() throws {
    #expect(try check(voucher(1001)).effect == .advances)
    #expect(try check(voucher(Fixture.deposit)).effect == .advances)
    #expect(try check(voucher(1001)).question == nil)
  }

  @Test func compactSignaturesAreTaken() throws {
    let voucher = voucher(1001)
    let compact = SessionVoucher(
      channelID: voucher.channelID, cumulativeAmount: 1001,
      signature: try ECDSASignature(bytes: voucher.signature).compact)
    #expect(try check(compact).effect == .advances)
  }

  /// Nothing is verified again of what is the last accepted voucher to the octet: even garbage passes, which shows it.
  @Test func theSameOctetsAreNotVerifiedAgain() throws {
    let garbage = SessionVoucher(
      channelID: Fixture.voucherKey.channelID, cumulativeAmount: 5, signature: [UInt8](repeating: 7, count: 65))
    let effect = try Fixture.voucherKey.check(garbage, after: garbage, standing: standing, rules: .evm).effect
    #expect(effect == .repeated)
  }

  @Test func sameAmountByAnotherSpellingChangesNothing() throws {
    var octets = voucher(1000).signature
    octets[64] -= 27
    let other = SessionVoucher(channelID: Fixture.voucherKey.channelID, cumulativeAmount: 1000, signature: octets)
    for rules in ChannelProtocol.allCases { #expect(try check(other, rules: rules).effect == .unchanged) }
  }

  /// draft-evm-session-00 "Idempotency" against draft-tempo-session-00 "Idempotency".
  @Test func lowerVouchers() throws {
    #expect(try check(voucher(999)).effect == .unchanged)
    #expect(throws: ChannelError.amountNotIncreasing) { _ = try check(voucher(999), rules: .tempoV1) }
    #expect(throws: ChannelError.amountNotIncreasing) { _ = try check(voucher(999), rules: .tempoV2) }
  }

  /// A lower amount is answered like a repeated one only where the signature is right.
  @Test func lowerVouchersAreVerified() {
    let forged = SessionVoucher(
      channelID: Fixture.voucherKey.channelID, cumulativeAmount: 999, signature: voucher(998).signature)
    #expect(throws: ChannelError.signerMismatch) { _ = try check(forged) }
  }

  @Test func minimumDelta() throws {
    #expect(throws: ChannelError.deltaTooSmall(10)) { _ = try check(voucher(1009), minimumDelta: 10) }
    #expect(try check(voucher(1010), minimumDelta: 10).effect == .advances)
    #expect(try check(voucher(1000), minimumDelta: 10).effect == .repeated)
  }

  @Test func depositBounds() {
    #expect(throws: ChannelError.amountExceedsDeposit) { _ = try check(voucher(Fixture.deposit + 1)) }
  }

  @Test func closedChannelsTakeNone() {
    #expect(throws: ChannelError.channelFinalized) {
      _ = try check(voucher(1001), standing: ChannelStanding(deposit: 10_000, isFinalized: true))
    }
    #expect(throws: ChannelError.closeRequested) {
      _ = try check(voucher(1001), standing: ChannelStanding(deposit: 10_000, closeRequestedAt: 1))
    }
    // Nor the last one again.
    #expect(throws: ChannelError.closeRequested) {
      _ = try check(voucher(1000), standing: ChannelStanding(deposit: 10_000, closeRequestedAt: 1))
    }
  }

  @Test func otherSignersAreRefused() {
    let other = Fixture.voucherKey.sign(1001, by: Fixture.payerKey)
    #expect(throws: ChannelError.signerMismatch) { _ = try check(other) }
  }

  @Test func otherChannelsAreRefused() {
    let voucher = SessionVoucher(channelID: Digest32(), cumulativeAmount: 1001, signature: voucher(1001).signature)
    #expect(throws: ChannelError.channelMismatch) { _ = try check(voucher) }
  }

  @Test func signaturesOfNobodyAreRefused() throws {
    let id = Fixture.voucherKey.channelID
    #expect(throws: ChannelError.invalidSignature) {
      _ = try check(SessionVoucher(channelID: id, cumulativeAmount: 1001, signature: [UInt8](repeating: 0, count: 65)))
    }
    // The other spelling of the same signature: s above half the order.
    var octets = voucher(1001).signature
    let order = Fixture.octets("0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141")
    let low = try #require(Word256(bigEndian: octets[32..<64]))
    let s = try #require(Word256(bigEndian: order)?.subtracting(low))
    octets.replaceSubrange(32..<64, with: s.octets.bytes)
    octets[64] = 55 - octets[64]
    #expect(throws: ChannelError.invalidSignature) {
      _ = try check(SessionVoucher(channelID: id, cumulativeAmount: 1001, signature: octets))
    }
    #expect(throws: ChannelError.payment(.missing(.signature))) {
      _ = try check(SessionVoucher(channelID: id, cumulativeAmount: 1001, signature: []))
    }
  }

  /// ERC-1271: what no key explains is a question for the signer's contract.
  @Test func contractsAreAsked() throws {
    let id = Fixture.voucherKey.channelID
    let long = SessionVoucher(channelID: id, cumulativeAmount: 1001, signature: [UInt8](repeating: 1, count: 130))
    let (effect, question) = try check(long)
    #expect(effect == .advances)
    let asked = try #require(question)
    #expect(asked.wallet == Fixture.channel.signer)
    #expect(asked.digest == Fixture.voucherKey.digest(of: 1001))
    #expect(asked.call == ERC1271.isValidSignature(asked.digest, signature: long.signature))
    #expect(throws: ChannelError.invalidSignature) { _ = try check(long, wallets: .refused) }
    let garbage = SessionVoucher(channelID: id, cumulativeAmount: 1001, signature: [UInt8](repeating: 1, count: 65))
    #expect(throws: ChannelError.self) { _ = try check(garbage) }
    #expect(try check(garbage, wallets: .all).question?.wallet == Fixture.channel.signer)
    #expect(try check(voucher(1001), wallets: .all).question == nil)
    let undeployed = [UInt8](repeating: 1, count: 64) + (0..<32).map { $0 % 2 == 0 ? 0x64 : 0x92 }
    #expect(throws: ChannelError.payment(.undeployedWallet)) {
      _ = try check(SessionVoucher(channelID: id, cumulativeAmount: 1001, signature: undeployed))
    }
  }

  @Test func vouchersAreNotPrinted() {
    #expect("\(voucher(1))" == "<voucher>")
  }

  // MARK: closing

  private func close(
    _ amount: UInt128, after last: UInt128 = 1000, spent: UInt128 = 900, settled: UInt128 = 0, rules: ChannelProtocol = .evm
  ) throws(ChannelError) -> ChannelClosing {
    try Fixture.voucherKey.close(
      voucher(amount), after: voucher(last), standing: ChannelStanding(deposit: 5000, settled: settled, closeRequestedAt: 9),
      spent: spent, rules: rules)
  }

  /// The escrow pays what the voucher says, so the lowest one that covers what was spent is used.
  @Test func theLowestCoveringVoucherCloses() throws {
    #expect(try close(900) == ChannelClosing(voucher: voucher(900), captured: 900, refunded: 4100))
    #expect(try close(950) == ChannelClosing(voucher: voucher(950), captured: 950, refunded: 4050))
    #expect(try close(1000) == ChannelClosing(voucher: voucher(1000), captured: 1000, refunded: 4000))
    #expect(try close(1200) == ChannelClosing(voucher: voucher(1000), captured: 1000, refunded: 4000))
    // One that does not cover it gives way to the last one (draft-evm-session-00 "Cooperative Close").
    #expect(try close(899) == ChannelClosing(voucher: voucher(1000), captured: 1000, refunded: 4000))
  }

  @Test func whatIsSettledStays() throws {
    #expect(try close(900, settled: 950) == ChannelClosing(voucher: voucher(900), captured: 950, refunded: 4050))
  }

  /// draft-tempo-session-00 "Cooperative Close": never more than was spent, and the voucher has to cover it.
  @Test func exactCaptures() throws {
    #expect(try close(1200, rules: .tempoV2) == ChannelClosing(voucher: voucher(1200), captured: 900, refunded: 4100))
    #expect(try close(900, rules: .tempoV2) == ChannelClosing(voucher: voucher(900), captured: 900, refunded: 4100))
    #expect(throws: ChannelError.amountBelowSpent(900)) { _ = try close(899, rules: .tempoV2) }
    #expect(throws: ChannelError.amountBelowSpent(950)) { _ = try close(949, settled: 950, rules: .tempoV1) }
  }

  @Test func closesAreVerified() {
    let standing = standing
    let last = voucher(1000)
    let forged = SessionVoucher(channelID: last.channelID, cumulativeAmount: 900, signature: last.signature)
    #expect(throws: ChannelError.signerMismatch) {
      _ = try Fixture.voucherKey.close(forged, after: last, standing: standing, spent: 900, rules: .evm)
    }
    #expect(throws: ChannelError.amountExceedsDeposit) { _ = try close(5001) }
    #expect(throws: ChannelError.channelFinalized) {
      _ = try Fixture.voucherKey.close(
        last, after: last, standing: ChannelStanding(deposit: 5000, isFinalized: true), spent: 900, rules: .evm)
    }
  }

  @Test func closingWithoutThePayer() {
    let standing = ChannelStanding(deposit: 5000, settled: 100)
    let last = voucher(1000)
    #expect(VoucherKey.closing(last, standing: standing, spent: 900, rules: .evm).captured == 1000)
    #expect(VoucherKey.closing(last, standing: standing, spent: 900, rules: .tempoV2).captured == 900)
    #expect(VoucherKey.closing(last, standing: standing, spent: 0, rules: .tempoV2).captured == 100)
  }

  @Test func calls() throws {
    let voucher = SessionVoucher(
      channelID: Fixture.digest(sessionChannel), cumulativeAmount: 250_000, signature: Fixture.octets(sessionVoucher))
    let standing = ChannelStanding(deposit: Fixture.deposit, settled: 50_000)
    let settle = try #require(
      try ChannelTransaction.settle(voucher, channel: Fixture.channel, standing: standing, escrow: Fixture.escrow))
    #expect(settle.means == .call(to: Fixture.escrow.address, data: Fixture.octets(sessionSettle)))
    #expect(settle.step == .settle)
    #expect(settle.amount == 250_000)
    #expect(
      settle.transfers == [
        ExpectedTransfer(token: Fixture.token.address, from: Fixture.escrow.address, to: Fixture.channel.payee, amount: 200_000)
      ])
    let closing = VoucherKey.closing(voucher, standing: standing, spent: 250_000, rules: .evm)
    let close = try ChannelTransaction.close(closing, channel: Fixture.channel, standing: standing, escrow: Fixture.escrow)
    #expect(close.means == .call(to: Fixture.escrow.address, data: Fixture.octets(sessionClose)))
    #expect(close.transfers.map(\.amount) == [200_000, 9_750_000])
    #expect(close.transfers.map(\.to) == [Fixture.channel.payee, Fixture.channel.payer])
    // Other spellings of a key's signature are put into the one that contracts take.
    let compact = SessionVoucher(
      channelID: voucher.channelID, cumulativeAmount: 250_000,
      signature: try ECDSASignature(bytes: voucher.signature).compact)
    #expect(
      try ChannelTransaction.settle(compact, channel: Fixture.channel, standing: standing, escrow: Fixture.escrow)?.means
        == settle.means)
    for settled: UInt128 in [250_000, 250_001] {
      let standing = ChannelStanding(deposit: Fixture.deposit, settled: settled)
      #expect(try ChannelTransaction.settle(voucher, channel: Fixture.channel, standing: standing, escrow: Fixture.escrow) == nil)
    }
  }

  @Test func schedule() {
    let start = Timestamp(seconds: 1000)
    let schedule = SettlementSchedule(amount: 100, age: .seconds(60))
    #expect(!schedule.isDue(accepted: 50, settled: 50, since: start, now: start + .seconds(1000)))
    #expect(!schedule.isDue(accepted: 149, settled: 50, since: start, now: start + .seconds(59)))
    #expect(schedule.isDue(accepted: 150, settled: 50, since: start, now: start))
    #expect(schedule.isDue(accepted: 51, settled: 50, since: start, now: start + .seconds(60)))
    #expect(!SettlementSchedule().isDue(accepted: .max, settled: 0, since: start, now: start + .seconds(1_000_000)))
  }
}
