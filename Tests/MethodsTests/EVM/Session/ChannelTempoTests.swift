import Bytes
import Encoding
import Ethereum
import Methods
import Testing

@Suite struct ChannelTempoTests {
  private typealias Fixture = SessionFixture
  private static let salt = SessionFixture.salt
  private static let signer = SessionFixture.channel.authorizedSigner

  private func escrow(_ rules: ChannelProtocol) -> SessionEscrow {
    SessionEscrow(rules: rules, chain: sessionChain, address: Fixture.escrow.address)
  }

  private func offer(_ rules: ChannelProtocol, sponsored: Bool = false, operator: Address? = nil) -> ChannelSession {
    var details = ChannelDetails(chainID: sessionChain, escrow: Fixture.escrow.address)
    details.paysFees = sponsored
    details.operator = `operator`
    return ChannelSession(
      rules: rules, amount: 100, unitType: "request", currency: Fixture.token.address, recipient: Fixture.channel.payee,
      details: details)
  }

  private func openCall(
    _ rules: ChannelProtocol, payee: Address = Fixture.channel.payee, token: Address = Fixture.token.address,
    deposit: UInt128 = 1_000_000, operator: Address = .zero
  ) throws -> TempoTransaction.Call {
    let data =
      rules == .tempoV2
      ? try ChannelReserve.open.call(with: [
        .address(payee), .address(`operator`), .address(token), .uint(deposit), .fixedBytes(Self.salt), .address(Self.signer),
      ])
      : ChannelEscrow.open(payee: payee, token: token, deposit: deposit, salt: Self.salt, authorizedSigner: Self.signer)
    return TempoTransaction.Call(to: Fixture.escrow.address, data: data)
  }

  private func transaction(
    _ calls: [TempoTransaction.Call], sponsored: Bool = false, before: UInt64? = 1_899_999_300, after: UInt64? = nil,
    chain: UInt64 = sessionChain
  ) -> TempoTransaction {
    TempoTransaction(
      chainID: chain, maxPriorityFeePerGas: 10_000_000_000, maxFeePerGas: 20_000_000_000, gasLimit: 1_000_000, calls: calls,
      nonceKey: TempoTransaction.expiringNonceKey, nonce: 0, validBefore: before, validAfter: after,
      feeToken: sponsored ? nil : Fixture.token.address, feePayment: sponsored ? .awaited : .sender)
  }

  private func channel(_ rules: ChannelProtocol, _ signed: SignedTempoTransaction, operator: Address = .zero) -> ChannelDescriptor {
    let isReserve = rules == .tempoV2
    return ChannelDescriptor(
      payer: Fixture.payerKey.address, payee: Fixture.channel.payee, operator: `operator`, token: Fixture.token.address,
      salt: Self.salt, authorizedSigner: Self.signer,
      expiringNonceHash: isReserve ? signed.transaction.expiringNonceHash(sender: signed.sender) : Digest32())
  }

  /// Signs, writes, reads and checks an opening.
  private func open(
    _ rules: ChannelProtocol, _ transaction: TempoTransaction, _ offer: ChannelSession? = nil, operator: Address = .zero,
    source: String? = Fixture.source, wallets: ContractWallets = .otherLengths
  ) throws -> CheckedOpening {
    let signed = transaction.signed(by: Fixture.payerKey)
    let channel = channel(rules, signed, operator: `operator`)
    let voucher = VoucherKey(channel, escrow: escrow(rules)).sign(100, by: Fixture.signerKey)
    return try check(
      rules, (offer ?? self.offer(rules)).openByTransaction(channel, voucher: voucher, transaction: signed), offer,
      source: source, wallets: wallets)
  }

  private func check(
    _ rules: ChannelProtocol, _ payload: ChannelPayload, _ offer: ChannelSession? = nil, source: String? = Fixture.source,
    wallets: ContractWallets = .otherLengths
  ) throws -> CheckedOpening {
    guard case .open(let opening) = try ChannelPayload(parsing: payload.object(rules: rules), rules: rules) else {
      throw ChannelError.transactionMismatch
    }
    return try (offer ?? self.offer(rules)).check(
      opening, source: source, token: Fixture.token, escrow: escrow(rules), wallets: wallets, latest: Fixture.latest,
      now: Fixture.now)
  }

  @Test(arguments: [ChannelProtocol.tempoV1, .tempoV2])
  func opens(rules: ChannelProtocol) throws {
    let transaction = transaction([try openCall(rules)])
    let signed = transaction.signed(by: Fixture.payerKey)
    let checked = try open(rules, transaction)
    #expect(checked.channel == channel(rules, signed))
    #expect(checked.deposit == 1_000_000)
    #expect(checked.transaction.means == .transaction(raw: signed.encoded, hash: signed.hash))
    #expect(checked.transaction.awaiting == nil)
    #expect(checked.transaction.expires == Timestamp(seconds: 1_899_999_300))
    #expect(checked.transaction.transfers.count == (rules == .tempoV1 ? 1 : 0))
    #expect(throws: ChannelError.payment(.feesNotSponsored)) {
      _ = try checked.transaction.sponsored(by: Fixture.signerKey, feeToken: Fixture.token.address)
    }
  }

  /// The fee payer's signature changes neither the channel nor what the payment is named by.
  @Test(arguments: [ChannelProtocol.tempoV1, .tempoV2])
  func sponsoredOpens(rules: ChannelProtocol) throws {
    let transaction = transaction([try openCall(rules)], sponsored: true)
    let checked = try open(rules, transaction, offer(rules, sponsored: true))
    #expect(checked.transaction.awaiting != nil)
    let sendable = try checked.transaction.sponsored(by: Fixture.signerKey, feeToken: Fixture.token.address)
    #expect(sendable.id == checked.transaction.id && sendable.awaiting == nil)
    guard case .transaction(let raw, let hash) = sendable.means else { throw ChannelError.transactionMismatch }
    let signed = try SignedTempoTransaction(decoding: raw)
    #expect(signed.feePayer == Fixture.signerKey.address && signed.hash == hash && signed.sender == Fixture.payerKey.address)
    #expect(
      signed.transaction.expiringNonceHash(sender: signed.sender) == transaction.expiringNonceHash(sender: signed.sender))
    // Who offers to pay the fees gets no transaction that pays them itself, and the other way round.
    let own = self.transaction([try openCall(rules)])
    #expect(throws: ChannelError.payment(.feesNotSponsored)) { _ = try open(rules, own, offer(rules, sponsored: true)) }
    #expect(throws: ChannelError.payment(.feesNotSponsored)) { _ = try open(rules, transaction) }
    // Nor is anything else paid for.
    let approval = TempoTransaction.Call(
      to: Fixture.token.address, data: ERC20.approve(spender: Fixture.escrow.address, value: 1_000_000))
    let gift = TempoTransaction.Call(
      to: Fixture.token.address, data: ERC20.transfer(to: Fixture.channel.payee, value: 1))
    let withApproval = self.transaction([approval, try openCall(rules)], sponsored: true)
    if rules == .tempoV1 {
      #expect(throws: Never.self) { _ = try open(rules, withApproval, offer(rules, sponsored: true)) }
    } else {
      #expect(throws: ChannelError.payment(.feesNotSponsored)) {
        _ = try open(rules, withApproval, offer(rules, sponsored: true))
      }
    }
    let withGift = self.transaction([try openCall(rules), gift], sponsored: true)
    #expect(throws: ChannelError.payment(.feesNotSponsored)) { _ = try open(rules, withGift, offer(rules, sponsored: true)) }
    #expect(throws: Never.self) { _ = try open(rules, self.transaction([approval, try openCall(rules), gift])) }
  }

  @Test(arguments: [ChannelProtocol.tempoV1, .tempoV2])
  func brokenOpens(rules: ChannelProtocol) throws {
    let call = try openCall(rules)
    func expect(_ error: ChannelError, _ transaction: TempoTransaction) {
      #expect(throws: error) { _ = try open(rules, transaction) }
    }
    expect(.descriptorMismatch, transaction([try openCall(rules, payee: Fixture.token.address)]))
    expect(.descriptorMismatch, transaction([try openCall(rules, token: Fixture.channel.payee)]))
    expect(.depositZero, transaction([try openCall(rules, deposit: 0)]))
    expect(.amountExceedsDeposit, transaction([try openCall(rules, deposit: 99)]))
    expect(.transactionMismatch, transaction([call, call]))
    expect(.transactionMismatch, transaction([TempoTransaction.Call(to: Fixture.token.address, data: call.data)]))
    expect(.transactionMismatch, transaction([TempoTransaction.Call(to: call.to, value: 1, data: call.data)]))
    expect(.transactionMismatch, transaction([TempoTransaction.Call(to: call.to, data: call.data + [0])]))
    expect(.payment(.chainMismatch), transaction([call], chain: 1))
    expect(.payment(.expired(.transaction)), transaction([call], before: 1_899_999_005))
    expect(.payment(.notYetValid(.transaction)), transaction([call], after: 1_899_999_001))
    expect(.payment(.validTooLong(.transaction)), transaction([call], before: nil))
    expect(.payment(.validTooLong(.transaction)), transaction([call], before: 1_899_999_661))
    #expect(throws: ChannelError.payment(.sourceMismatch)) {
      _ = try open(rules, transaction([call]), source: "did:pkh:eip155:8453:\(sessionSigner)")
    }
    // Each part of the payload says what the transaction says.
    let signed = transaction([call]).signed(by: Fixture.payerKey)
    let channel = channel(rules, signed)
    let voucher = VoucherKey(channel, escrow: escrow(rules)).sign(100, by: Fixture.signerKey)
    let good = offer(rules).openByTransaction(channel, voucher: voucher, transaction: signed).object(rules: rules)
    func altered(_ name: String, _ value: JSONValue) throws {
      var object = good
      object.set(name, value)
      guard case .open(let opening) = try ChannelPayload(parsing: object, rules: rules) else { return }
      _ = try offer(rules).check(
        opening, source: nil, token: Fixture.token, escrow: escrow(rules), latest: Fixture.latest, now: Fixture.now)
    }
    #expect(throws: ChannelError.authorizedSignerMismatch) { try altered("authorizedSigner", .string(sessionPayer)) }
    #expect(throws: ChannelError.channelMismatch) { try altered("channelId", .string(sessionSalt)) }
    #expect(throws: ChannelError.signerMismatch) { try altered("cumulativeAmount", "101") }
    #expect(throws: ChannelError.self) { try altered("transaction", "0x76f901") }
    if rules == .tempoV2 {
      var descriptor = try #require(good["descriptor"]?.objectValue)
      descriptor.set("expiringNonceHash", .string(sessionSalt))
      #expect(throws: ChannelError.descriptorMismatch) { try altered("descriptor", .object(descriptor)) }
    }
  }

  /// draft-tempo-session-00: the operator is the offer's, or nobody.
  @Test func operators() throws {
    let named = Fixture.address(sessionOperator)
    let transaction = transaction([try openCall(.tempoV2, operator: named)])
    let checked = try open(.tempoV2, transaction, offer(.tempoV2, operator: named), operator: named)
    #expect(checked.channel.operator == named)
    #expect(throws: ChannelError.descriptorMismatch) { _ = try open(.tempoV2, transaction, operator: named) }
    let none = self.transaction([try openCall(.tempoV2)])
    #expect(throws: ChannelError.descriptorMismatch) { _ = try open(.tempoV2, none, offer(.tempoV2, operator: named)) }
  }

  @Test(arguments: [ChannelProtocol.tempoV1, .tempoV2])
  func topUps(rules: ChannelProtocol) throws {
    let opened = transaction([try openCall(rules)]).signed(by: Fixture.payerKey)
    let channel = channel(rules, opened)
    let id = channel.id(in: escrow(rules))
    func call(_ amount: UInt128, _ id: Digest32, salt: Digest32) throws -> TempoTransaction.Call {
      let data =
        rules == .tempoV1
        ? ChannelEscrow.topUp(channelID: id, additionalDeposit: amount)
        : try ChannelReserve.topUp.call(with: [
          .tuple([
            .address(channel.payer), .address(channel.payee), .address(.zero), .address(channel.token), .fixedBytes(salt),
            .address(channel.authorizedSigner), .fixedBytes(channel.expiringNonceHash),
          ]), .uint(amount),
        ])
      return TempoTransaction.Call(to: Fixture.escrow.address, data: data)
    }
    func check(_ call: TempoTransaction.Call, by key: EthereumKey = Fixture.payerKey) throws -> ChannelTransaction {
      let signed = transaction([call]).signed(by: key)
      let topUp = offer(rules).topUpByTransaction(channel, additionalDeposit: 5000, transaction: signed)
      let payload = try ChannelPayload(parsing: ChannelPayload.topUp(topUp).object(rules: rules), rules: rules)
      guard case .topUp(let read) = payload, read == topUp else { throw ChannelError.malformedState }
      return try offer(rules).check(
        read, source: Fixture.source, channel: channel, standing: ChannelStanding(deposit: 1_000_000), token: Fixture.token,
        escrow: escrow(rules), latest: Fixture.latest, now: Fixture.now)
    }
    #expect(try check(call(5000, id, salt: Self.salt)).amount == 5000)
    #expect(throws: ChannelError.depositMismatch) { _ = try check(call(5001, id, salt: Self.salt)) }
    #expect(throws: ChannelError.transactionMismatch) { _ = try check(call(5000, Self.salt, salt: Digest32())) }
    #expect(throws: ChannelError.transactionMismatch) { _ = try check(openCall(rules)) }
    #expect(throws: ChannelError.payment(.sourceMismatch)) {
      _ = try check(call(5000, id, salt: Self.salt), by: Fixture.signerKey)
    }
    // Amounts of the second protocol have 96 bits.
    #expect(throws: ChannelError.depositTooLarge) {
      let signed = transaction([try call(5000, id, salt: Self.salt)]).signed(by: Fixture.payerKey)
      let topUp = offer(rules).topUpByTransaction(channel, additionalDeposit: 5000, transaction: signed)
      _ = try offer(rules).check(
        topUp, source: nil, channel: channel, standing: ChannelStanding(deposit: rules.amountLimit - 4999),
        token: Fixture.token, escrow: escrow(rules), latest: Fixture.latest, now: Fixture.now)
    }
  }

  @Test func reserveCalls() throws {
    let signed = transaction([try openCall(.tempoV2)]).signed(by: Fixture.payerKey)
    let channel = channel(.tempoV2, signed)
    let voucher = VoucherKey(channel, escrow: escrow(.tempoV2)).sign(1000, by: Fixture.signerKey)
    let standing = ChannelStanding(deposit: 5000, settled: 100)
    let settle = try #require(
      try ChannelTransaction.settle(voucher, channel: channel, standing: standing, escrow: escrow(.tempoV2)))
    guard case .call(_, let data) = settle.means else { throw ChannelError.transactionMismatch }
    let values = try ChannelReserve.settle.arguments(of: data)
    #expect(values[1].uintValue == 1000 && values[2].bytesValue == voucher.signature)
    let closing = VoucherKey.closing(voucher, standing: standing, spent: 900, rules: .tempoV2)
    let close = try ChannelTransaction.close(closing, channel: channel, standing: standing, escrow: escrow(.tempoV2))
    guard case .call(_, let octets) = close.means else { throw ChannelError.transactionMismatch }
    let arguments = try ChannelReserve.close.arguments(of: octets)
    #expect(arguments[1].uintValue == 1000 && arguments[2].uintValue == 900)
    #expect(close.amount == 900)
  }
}
