import Bytes
import Encoding
import Ethereum
import Payments

/// A payment of x402's scheme batch-settlement that passed every check that needs neither network nor the channel's state.
public struct BatchPayment: Sendable, Hashable {
  /// Says what the payment does beside its voucher.
  public enum Kind: Sendable, Hashable {
    case voucher
    /// What has to be submitted first.
    case deposit(ChannelTransaction)
    /// Gives an amount back, or all that is left.
    case refund(amount: UInt128?)
  }

  /// The shortest and longest delay of withdrawals, in seconds.
  public static let delays: ClosedRange<UInt64> = 900...2_592_000

  /// The channel.
  public var config: ChannelConfig
  /// The most that may be claimed in all, signed.
  public var voucher: SessionVoucher
  /// What the payer's contract has to be asked; nil where a key signed the voucher.
  public var question: WalletQuestion?
  /// What the payment does.
  public var kind: Kind

  /// The base units that the payment deposits.
  public var deposit: UInt128 {
    if case .deposit(let transaction) = kind { transaction.amount ?? 0 } else { 0 }
  }

  /// Prepares the checks of a channel's vouchers: its authorizer signs them, or the payer where there is none.
  public static func voucherKey(_ config: ChannelConfig, in domain: TypedData.PreparedDomain) -> VoucherKey {
    VoucherKey(
      channelID: config.channelID(in: domain), signer: config.payerAuthorizer.isZero ? config.payer : config.payerAuthorizer,
      domain: domain, typeHash: BatchSettlement.voucherTypeHash)
  }

  /// Checks a payment against the offer that it was made for.
  ///
  /// - Parameters:
  ///   - requirements: our own offer, never the one that the client echoes.
  ///   - domain: the contract's on the token's chain.
  ///   - last: the channel's last voucher, whose octets need no second look.
  ///   - wallets: for which signatures a payer's contract may be asked; an authorizer is always a key.
  public init(
    _ payload: PaymentPayload, against requirements: PaymentRequirements, token: ChainToken, domain: TypedData.PreparedDomain,
    last: SessionVoucher? = nil, wallets: ContractWallets = .otherLengths, now: Timestamp
  ) throws(BatchChannelError) {
    guard payload.scheme == .batchSettlement, requirements.scheme == .batchSettlement else { throw .schemeMismatch }
    guard payload.network == requirements.network, requirements.network.chainID == token.chain else { throw .networkMismatch }
    let (config, sent) = try Self.parts(payload)
    try Self.check(config, against: requirements, token: token)
    let key = Self.voucherKey(config, in: domain)
    guard sent.channelID == key.channelID else { throw .channelMismatch }
    self.config = config
    voucher = SessionVoucher(channelID: sent.channelID, cumulativeAmount: sent.maxClaimableAmount, signature: sent.signature)
    if voucher != last {
      do {
        question = try key.verify(voucher, wallets: config.payerAuthorizer.isZero ? wallets : .refused)
      } catch { throw error == .payment(.undeployedWallet) ? .undeployedWallet : .voucherSignature }
    }
    switch payload.payment {
    case .batchDeposit(_, _, let deposit):
      let context = BatchDepositContext(
        config: config, channelID: key.channelID, requirements: requirements, token: token, wallets: wallets, now: now)
      kind = .deposit(try context.check(deposit))
    case .batchRefund(_, _, let amount): kind = .refund(amount: amount)
    case .batchVoucher, .exactEIP3009, .exactPermit2, .uptoPermit2: kind = .voucher
    }
  }

  private static func parts(_ payload: PaymentPayload) throws(BatchChannelError) -> (ChannelConfig, ChannelVoucher) {
    switch payload.payment {
    case .batchDeposit(let config, let voucher, _), .batchVoucher(let config, let voucher),
      .batchRefund(let config, let voucher, _):
      return (config, voucher)
    case .exactEIP3009, .exactPermit2, .uptoPermit2: throw .schemeMismatch
    }
  }

  /// The rules 2 to 5.
  private static func check(
    _ config: ChannelConfig, against requirements: PaymentRequirements, token: ChainToken
  ) throws(BatchChannelError) {
    guard let asset = requirements.assetAddress, let receiver = requirements.payToAddress,
      let authorizer = requirements.receiverAuthorizer, let delay = requirements.withdrawDelay, !authorizer.isZero
    else { throw .malformedOffer }
    guard asset == token.address, config.token == asset else { throw .tokenMismatch }
    guard config.receiver == receiver else { throw .receiverMismatch }
    guard config.receiverAuthorizer == authorizer else { throw .authorizerMismatch }
    guard config.withdrawDelay == delay else { throw .delayMismatch }
    guard delays.contains(delay) else { throw .delayOutOfRange }
  }
}

/// What checking a deposit needs.
private struct BatchDepositContext {
  let config: ChannelConfig
  let channelID: Digest32
  let requirements: PaymentRequirements
  let token: ChainToken
  let wallets: ContractWallets
  let now: Timestamp

  func check(_ deposit: ChannelDeposit) throws(BatchChannelError) -> ChannelTransaction {
    guard deposit.amount > 0, deposit.amount >= requirements.minimumDeposit ?? 0 else { throw .depositBelowMinimum }
    switch deposit.authorization {
    case .eip3009(let validAfter, let validBefore, let salt, let signature):
      guard requirements.assetTransferMethod == .eip3009 else { throw .transferMethodMismatch }
      guard let domain = token.domain else { throw .tokenWithoutMethod }
      let expires = try window(after: validAfter, before: validBefore)
      let authorization = EIP3009.Authorization(
        from: config.payer, to: BatchSettlement.authorizationCollector, value: Word256(deposit.amount),
        validAfter: Word256(validAfter), validBefore: Word256(validBefore),
        nonce: BatchSettlement.depositNonce(channelID: channelID, salt: Word256(salt)))
      let octets = try verify(signature, domain.digest(authorization.structHash(EIP3009.receiveTypeHash)), .authorization)
      return transaction(
        deposit, collector: BatchSettlement.authorizationCollector,
        data: BatchSettlement.collectorData(
          validAfter: Word256(validAfter), validBefore: Word256(validBefore), salt: Word256(salt), signature: octets),
        contract: token.address, nonce: authorization.nonce, expires: expires)
    case .permit2(let permit):
      guard requirements.assetTransferMethod == .permit2 else { throw .transferMethodMismatch }
      guard token.supportsPermit2 else { throw .tokenWithoutMethod }
      guard permit.from == config.payer, permit.channelID == channelID else { throw .channelMismatch }
      guard permit.token == token.address else { throw .tokenMismatch }
      guard permit.amount == deposit.amount else { throw .amountMismatch }
      guard permit.spender == BatchSettlement.permit2Collector else { throw .spenderMismatch }
      let expires = try window(after: 0, before: permit.deadline)
      let hash = Permit2.singleStructHash(
        permit.permit, spender: permit.spender, witness: BatchSettlement.depositWitness(channelID: channelID),
        of: BatchSettlement.depositWitnessType)
      let octets = try verify(permit.signature, token.permit2Domain.digest(hash), .permit2)
      return transaction(
        deposit, collector: BatchSettlement.permit2Collector,
        data: BatchSettlement.collectorData(
          nonce: permit.nonce, deadline: Word256(permit.deadline), signature: octets, permit: []),
        contract: token.permit2, nonce: permit.nonce.octets, expires: expires)
    }
  }

  private func window(after: UInt64, before: UInt64) throws(BatchChannelError) -> Timestamp {
    let seconds = UInt64(clamping: now.seconds)
    let latest = seconds &+ UInt64(requirements.maxTimeoutSeconds) &+ 60
    do {
      return try ValidityWindow.check(
        after: Word256(after), before: Word256(before), now: now, latest: latest, means: .authorization)
    } catch { throw error == .notYetValid(.authorization) ? .notYetValid : .expired }
  }

  private func verify(
    _ signature: [UInt8], _ digest: Digest32, _ means: ChainChargeError.Means
  ) throws(BatchChannelError) -> [UInt8] {
    do {
      return try PayerSignature.check(signature, of: [digest], payer: config.payer, wallets: wallets, means: means).0.bytes
    } catch {
      if error == .undeployedWallet { throw .undeployedWallet }
      throw means == .permit2 ? .permitSignature : .authorizationSignature
    }
  }

  private func transaction(
    _ deposit: ChannelDeposit, collector: Address, data: [UInt8], contract: Address, nonce: Digest32, expires: Timestamp
  ) -> ChannelTransaction {
    ChannelTransaction(
      .topUp, channelID: channelID,
      id: ChainCharge.id(chain: token.chain, contract: contract, payer: config.payer, nonce: nonce), amount: deposit.amount,
      expires: expires,
      means: .call(
        to: BatchSettlement.address,
        data: BatchSettlement.deposit(config, amount: deposit.amount, collector: collector, collectorData: data)),
      // The collector may stand between payer and contract.
      transfers: [ExpectedTransfer(token: token.address, from: nil, to: BatchSettlement.address, amount: deposit.amount)])
  }
}
