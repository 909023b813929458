import Bytes
import Encoding
import Ethereum

/// A channel's opening that passed every check that needs no network.
public struct CheckedOpening: Sendable, Hashable {
  /// The channel.
  public var channel: ChannelDescriptor
  /// Its id.
  public var channelID: Digest32 { transaction.channelID }
  /// The first voucher; its amount is below the deposit where that is known.
  public var voucher: SessionVoucher
  /// What has to be submitted or observed.
  public var transaction: ChannelTransaction
  /// What the signer's contract has to be asked; nil where a key signed the voucher.
  public var question: WalletQuestion?

  /// The base units that it deposits; nil where only the chain tells.
  public var deposit: UInt128? { transaction.amount }
}

/// What checking a deposit needs besides the offer.
struct DepositContext {
  let token: ChainToken
  let escrow: SessionEscrow
  let wallets: ContractWallets
  let policy: SponsorPolicy
  /// The second of Unix time up to which an authorization may be valid though it lies far ahead.
  let latest: UInt64
  let now: Timestamp
}

// What a server verifies of a deposit before it asks the chain (draft-evm-session-00 "Open Verification", "TopUp Verification").
extension ChannelSession {
  /// Checks what opens a channel for this offer.
  ///
  /// - Parameters:
  ///   - source: the credential's `source`.
  ///   - escrow: as configured; the offer must name it.
  ///   - policy: bounds the fees where we pay them for a payer's own transaction.
  ///   - latest: the challenge's end, up to which an authorization may be valid though it lies far ahead.
  public func check(
    _ opening: ChannelOpening, source: String?, token: ChainToken, escrow: SessionEscrow,
    wallets: ContractWallets = .otherLengths, policy: SponsorPolicy = SponsorPolicy(), latest: Timestamp, now: Timestamp
  ) throws(ChannelError) -> CheckedOpening {
    try checkOffer(opening.funding.kind, token: token, escrow: escrow)
    let account = try account(source)
    let context = DepositContext(
      token: token, escrow: escrow, wallets: wallets, policy: policy, latest: UInt64(clamping: latest.seconds), now: now)
    let (channel, transaction) = try deposit(opening, account: account, context)
    guard account == nil || account == channel.payer else { throw .payment(.sourceMismatch) }
    let id = transaction.channelID
    if let amount = transaction.amount {
      guard amount >= details.minimumDeposit else { throw .depositBelowMinimum(details.minimumDeposit) }
      guard opening.voucher.cumulativeAmount <= amount else { throw .amountExceedsDeposit }
    }
    let question = try VoucherKey(channelID: id, signer: channel.signer, escrow: escrow).verify(opening.voucher, wallets: wallets)
    return CheckedOpening(channel: channel, voucher: opening.voucher, transaction: transaction, question: question)
  }

  /// Checks what adds to an open channel's deposit.
  ///
  /// - Parameters:
  ///   - channel: as it was opened.
  ///   - standing: the channel's, as last read.
  public func check(
    _ topUp: ChannelTopUp, source: String?, channel: ChannelDescriptor, standing: ChannelStanding, token: ChainToken,
    escrow: SessionEscrow, wallets: ContractWallets = .otherLengths, policy: SponsorPolicy = SponsorPolicy(), latest: Timestamp,
    now: Timestamp
  ) throws(ChannelError) -> ChannelTransaction {
    try checkOffer(topUp.funding.kind, token: token, escrow: escrow)
    guard channel.id(in: escrow) == topUp.channelID else { throw .channelMismatch }
    guard channel.payee == recipient, channel.token == currency, topUp.descriptor ?? channel == channel else {
      throw .descriptorMismatch
    }
    guard !standing.isFinalized else { throw .channelFinalized }
    guard topUp.additionalDeposit > 0 else { throw .depositZero }
    let (sum, overflows) = standing.deposit.addingReportingOverflow(topUp.additionalDeposit)
    guard !overflows, sum <= rules.amountLimit else { throw .depositTooLarge }
    let context = DepositContext(
      token: token, escrow: escrow, wallets: wallets, policy: policy, latest: UInt64(clamping: latest.seconds), now: now)
    return try deposit(topUp, account: try account(source), channel, context)
  }

  private func checkOffer(_ kind: ChannelFunding.Kind, token: ChainToken, escrow: SessionEscrow) throws(ChannelError) {
    guard escrow.rules == rules else { throw .protocolMismatch }
    guard escrow.chain == details.chainID, token.chain == details.chainID else { throw .payment(.chainMismatch) }
    guard escrow.address == details.escrow else { throw .escrowMismatch }
    guard token.address == currency else { throw .payment(.tokenMismatch(kind.means)) }
    guard accepts(kind) else { throw .payment(.typeNotOffered(kind.means)) }
  }

  private func account(_ source: String?) throws(ChannelError) -> Address? {
    do { return try AccountDID.payer(source, chain: details.chainID) } catch { throw .payment(error) }
  }

  /// The channel that an opening of the method `evm` is about, from whatever names its payer, and its id.
  private func channel(
    of opening: ChannelOpening, payer: Address, _ context: DepositContext
  ) throws(ChannelError) -> (ChannelDescriptor, Digest32) {
    guard let salt = opening.salt else { throw .payment(.missing(.salt)) }
    let channel = ChannelDescriptor(
      payer: payer, payee: recipient, token: currency, salt: salt, authorizedSigner: opening.authorizedSigner ?? .zero)
    return (channel, try id(of: channel, opening, context))
  }

  /// The channel's id, which the opening and its voucher have to name.
  func id(of channel: ChannelDescriptor, _ opening: ChannelOpening, _ context: DepositContext) throws(ChannelError) -> Digest32 {
    let id = channel.id(in: context.escrow)
    guard id == opening.channelID, opening.voucher.channelID == id else { throw .channelMismatch }
    return id
  }

  // MARK: what is submitted

  private func deposit(
    _ opening: ChannelOpening, account: Address?, _ context: DepositContext
  ) throws(ChannelError) -> (ChannelDescriptor, ChannelTransaction) {
    let (token, escrow) = (context.token, context.escrow)
    switch opening.funding {
    case .authorization(let authorization, let signature):
      let (channel, id) = try channel(of: opening, payer: authorization.from, context)
      let nonce = ChannelEscrow.openNonce(
        from: channel.payer, payee: channel.payee, token: channel.token, salt: channel.salt,
        authorizedSigner: channel.authorizedSigner)
      let (amount, octets, expires) = try check(authorization, signature, nonce: nonce, context)
      let data: [UInt8]
      do {
        data = try ChannelEscrow.open(
          payee: channel.payee, token: channel.token, salt: channel.salt, authorizedSigner: channel.authorizedSigner,
          with: authorization, signature: octets)
      } catch { throw .depositTooLarge }
      let transaction = ChannelTransaction(
        .open, channelID: id, id: ChainCharge.id(chain: token.chain, contract: token.address, payer: channel.payer, nonce: nonce),
        amount: amount, expires: expires, means: .call(to: escrow.address, data: data),
        transfers: [ExpectedTransfer(token: token.address, from: channel.payer, to: escrow.address, amount: amount)])
      return (channel, transaction)
    case .permit2(let permit, let signature):
      let (channel, id) = try channel(of: opening, payer: permit.from, context)
      let witness = EscrowPermit.Witness.open(
        payee: channel.payee, salt: channel.salt, authorizedSigner: channel.authorizedSigner)
      let (octets, expires) = try check(permit, signature, witness: witness, context)
      let data = ChannelEscrow.open(
        payee: channel.payee, token: channel.token, deposit: permit.amount, salt: channel.salt,
        authorizedSigner: channel.authorizedSigner, permit2From: permit.from, nonce: permit.nonce, deadline: permit.deadline,
        signature: octets)
      return (channel, transaction(.open, id, permit, data, expires, context))
    case .hash(let hash):
      guard let account else { throw .sourceMissing }
      let (channel, id) = try channel(of: opening, payer: account, context)
      let transaction = ChannelTransaction(
        .open, channelID: id, id: ChannelTransaction.id(chain: token.chain, channelID: id, transaction: hash), amount: nil,
        means: .hash(hash), transfers: [])
      return (channel, transaction)
    case .transaction(let octets): return try deposit(opening, transaction: octets, context)
    }
  }

  private func deposit(
    _ topUp: ChannelTopUp, account: Address?, _ channel: ChannelDescriptor, _ context: DepositContext
  ) throws(ChannelError) -> ChannelTransaction {
    let (id, amount) = (topUp.channelID, topUp.additionalDeposit)
    let (token, escrow) = (context.token, context.escrow)
    switch topUp.funding {
    case .authorization(let authorization, let signature):
      guard let salt = topUp.salt else { throw .payment(.missing(.salt)) }
      guard authorization.value == Word256(amount) else { throw .depositMismatch }
      // Anybody may add to a channel: what is given back is its payer's all the same.
      guard account ?? authorization.from == authorization.from else { throw .payment(.sourceMismatch) }
      let nonce = ChannelEscrow.topUpNonce(channelID: id, additionalDeposit: amount, from: authorization.from, salt: salt)
      let (_, octets, expires) = try check(authorization, signature, nonce: nonce, context)
      let data: [UInt8]
      do {
        data = try ChannelEscrow.topUp(channelID: id, salt: salt, with: authorization, signature: octets)
      } catch { throw .depositTooLarge }
      return ChannelTransaction(
        .topUp, channelID: id,
        id: ChainCharge.id(chain: token.chain, contract: token.address, payer: authorization.from, nonce: nonce), amount: amount,
        expires: expires, means: .call(to: escrow.address, data: data),
        transfers: [ExpectedTransfer(token: token.address, from: authorization.from, to: escrow.address, amount: amount)])
    case .permit2(let permit, let signature):
      guard permit.amount == amount else { throw .depositMismatch }
      guard account ?? permit.from == permit.from else { throw .payment(.sourceMismatch) }
      let (octets, expires) = try check(permit, signature, witness: .topUp(channelID: id), context)
      let data = ChannelEscrow.topUp(
        channelID: id, additionalDeposit: amount, permit2From: permit.from, nonce: permit.nonce, deadline: permit.deadline,
        signature: octets)
      return transaction(.topUp, id, permit, data, expires, context)
    case .hash(let hash):
      guard let account else { throw .sourceMissing }
      guard account == channel.payer else { throw .payment(.sourceMismatch) }
      return ChannelTransaction(
        .topUp, channelID: id, id: ChannelTransaction.id(chain: token.chain, channelID: id, transaction: hash), amount: amount,
        means: .hash(hash),
        transfers: [ExpectedTransfer(token: token.address, from: channel.payer, to: escrow.address, amount: amount)])
    case .transaction(let octets): return try deposit(topUp, transaction: octets, account: account, channel, context)
    }
  }

  private func transaction(
    _ step: ChannelTransaction.Step, _ id: Digest32, _ permit: EscrowPermit, _ data: [UInt8], _ expires: Timestamp,
    _ context: DepositContext
  ) -> ChannelTransaction {
    let (token, escrow) = (context.token, context.escrow)
    return ChannelTransaction(
      step, channelID: id,
      id: ChainCharge.id(chain: token.chain, contract: token.permit2, payer: permit.from, nonce: permit.nonce.octets),
      amount: permit.amount, expires: expires, means: .call(to: escrow.address, data: data),
      transfers: [ExpectedTransfer(token: token.address, from: permit.from, to: escrow.address, amount: permit.amount)])
  }

  // MARK: signatures of deposits

  /// Checks an authorization for the escrow (EIP-3009, `ReceiveWithAuthorization`).
  ///
  /// - Returns: the amount, the signature as the token takes it, and when it ends.
  private func check(
    _ authorization: EIP3009.Authorization, _ signature: [UInt8], nonce: Digest32, _ context: DepositContext
  ) throws(ChannelError) -> (UInt128, [UInt8], Timestamp) {
    guard let domain = context.token.domain else { throw .payment(.tokenWithoutEIP3009) }
    guard authorization.to == context.escrow.address else { throw .payment(.recipientMismatch(.authorization)) }
    guard let amount = authorization.value.uint128, amount <= rules.amountLimit else { throw .depositTooLarge }
    guard amount > 0 else { throw .depositZero }
    guard authorization.nonce == nonce else { throw .nonceMismatch }
    do {
      let expires = try ValidityWindow.check(
        after: authorization.validAfter, before: authorization.validBefore, now: context.now, latest: context.latest,
        means: .authorization)
      let (signed, _) = try PayerSignature.check(
        signature, of: [domain.digest(authorization.structHash(EIP3009.receiveTypeHash))], payer: authorization.from,
        wallets: context.wallets, means: .authorization)
      return (amount, signed.bytes, expires)
    } catch { throw .payment(error) }
  }

  /// Checks a permit for the escrow, which is its spender.
  ///
  /// - Returns: the signature as Permit2 takes it, and when it ends.
  private func check(
    _ permit: EscrowPermit, _ signature: [UInt8], witness: EscrowPermit.Witness, _ context: DepositContext
  ) throws(ChannelError) -> ([UInt8], Timestamp) {
    let token = context.token
    guard token.supportsPermit2 else { throw .payment(.tokenWithoutPermit2) }
    guard token.permit2 == details.permit2 ?? Permit2.address else { throw .payment(.spenderMismatch) }
    guard permit.token == currency else { throw .payment(.tokenMismatch(.permit2)) }
    guard permit.amount > 0 else { throw .depositZero }
    guard permit.witness == witness else { throw .witnessMismatch }
    do {
      let expires = try ValidityWindow.check(
        after: .zero, before: permit.deadline, now: context.now, latest: context.latest, means: .permit2)
      let digest = permit.digest(escrow: context.escrow.address, domain: token.permit2Domain)
      let (signed, _) = try PayerSignature.check(
        signature, of: [digest], payer: permit.from, wallets: context.wallets, means: .permit2)
      return (signed.bytes, expires)
    } catch { throw .payment(error) }
  }
}
