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
  public var voucher: ChannelVoucher
  /// What has to be submitted or observed.
  public var transaction: ChannelTransaction
  /// What the signer's contract has to be asked; nil where a key signed the voucher.
  public var question: WalletQuestion?

  /// The base units that it deposits; nil where only the chain tells.
  public var deposit: UInt128? { transaction.amount }
}

// What a server verifies of a deposit before it asks the chain (draft-evm-session-00 "Open Verification", "TopUp Verification").
extension ChannelSession {
  /// Checks what opens a channel for this offer.
  ///
  /// - Parameters:
  ///   - source: the credential's `source`.
  ///   - escrow: as configured; the offer must name it.
  ///   - latest: the challenge's end, up to which an authorization may be valid though it lies far ahead.
  public func check(
    _ opening: ChannelOpening, source: String?, token: ChainToken, escrow: SessionEscrow,
    wallets: ContractWallets = .otherLengths, latest: Timestamp, now: Timestamp
  ) throws(ChannelError) -> CheckedOpening {
    try checkOffer(opening.funding.kind, token: token, escrow: escrow)
    let account = try account(source)
    let channel = try descriptor(of: opening, account: account, escrow: escrow)
    guard account == nil || account == channel.payer else { throw .payment(.sourceMismatch) }
    let id = channel.id(in: escrow)
    guard id == opening.channelID, opening.voucher.channelID == id else { throw .channelMismatch }
    let window = Window(latest: UInt64(clamping: latest.seconds), now: now)
    let transaction = try deposit(opening, channel, id, token: token, escrow: escrow, wallets: wallets, window)
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
    escrow: SessionEscrow, wallets: ContractWallets = .otherLengths, latest: Timestamp, now: Timestamp
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
    let account = try account(source)
    let window = Window(latest: UInt64(clamping: latest.seconds), now: now)
    return try deposit(topUp, account: account, channel, token: token, escrow: escrow, wallets: wallets, window)
  }

  private func checkOffer(_ kind: ChannelFunding.Kind, token: ChainToken, escrow: SessionEscrow) throws(ChannelError) {
    guard escrow.rules == rules else { throw .protocolMismatch }
    guard escrow.chain == details.chainID, token.chain == details.chainID else { throw .payment(.chainMismatch) }
    guard escrow.address == details.escrow else { throw .escrowMismatch }
    guard token.address == currency else { throw .payment(.tokenMismatch(kind.means)) }
    guard accepts(kind) else { throw .payment(.typeNotOffered(kind.means)) }
  }

  private func account(_ source: String?) throws(ChannelError) -> Address? {
    guard let source else { return nil }
    guard let account = AccountDID(source) else { throw .payment(.malformedSource) }
    guard account.chain.number == details.chainID else { throw .payment(.sourceMismatch) }
    return account.address
  }

  /// The channel that an opening is about, from whatever names its payer.
  private func descriptor(
    of opening: ChannelOpening, account: Address?, escrow: SessionEscrow
  ) throws(ChannelError) -> ChannelDescriptor {
    let payer: Address
    switch opening.funding {
    case .permit2(let permit, _): payer = permit.from
    case .authorization(let authorization, _): payer = authorization.from
    case .hash:
      guard let account else { throw .sourceMissing }
      payer = account
    case .transaction(let octets): return try descriptor(of: opening, transaction: octets, escrow: escrow)
    }
    guard let salt = opening.salt else { throw .payment(.missing(.salt)) }
    return ChannelDescriptor(
      payer: payer, payee: recipient, token: currency, salt: salt, authorizedSigner: opening.authorizedSigner ?? .zero)
  }

  // MARK: what is submitted

  /// The time in which an authorization has to be valid.
  private struct Window {
    let latest: UInt64
    let now: Timestamp
  }

  private func deposit(
    _ opening: ChannelOpening, _ channel: ChannelDescriptor, _ id: Digest32, token: ChainToken, escrow: SessionEscrow,
    wallets: ContractWallets, _ window: Window
  ) throws(ChannelError) -> ChannelTransaction {
    switch opening.funding {
    case .authorization(let authorization, let signature):
      let nonce = ChannelEscrow.openNonce(
        from: channel.payer, payee: channel.payee, token: channel.token, salt: channel.salt,
        authorizedSigner: channel.authorizedSigner)
      let (amount, octets, expires) = try check(
        authorization, signature, nonce: nonce, token: token, escrow: escrow, wallets: wallets, window)
      let data: [UInt8]
      do {
        data = try ChannelEscrow.open(
          payee: channel.payee, token: channel.token, salt: channel.salt, authorizedSigner: channel.authorizedSigner,
          with: authorization, signature: octets)
      } catch { throw .depositTooLarge }
      return ChannelTransaction(
        .open, channelID: id, id: ChainCharge.id(chain: token.chain, contract: token.address, payer: channel.payer, nonce: nonce),
        amount: amount, expires: expires, means: .call(to: escrow.address, data: data),
        transfers: [ExpectedTransfer(token: token.address, from: channel.payer, to: escrow.address, amount: amount)])
    case .permit2(let permit, let signature):
      let witness = EscrowPermit.Witness.open(
        payee: channel.payee, salt: channel.salt, authorizedSigner: channel.authorizedSigner)
      let (octets, expires) = try check(
        permit, signature, witness: witness, token: token, escrow: escrow, wallets: wallets, window)
      let data = ChannelEscrow.open(
        payee: channel.payee, token: channel.token, deposit: permit.amount, salt: channel.salt,
        authorizedSigner: channel.authorizedSigner, permit2From: permit.from, nonce: permit.nonce, deadline: permit.deadline,
        signature: octets)
      return transaction(.open, id, permit, data, expires, token: token, escrow: escrow)
    case .hash(let hash):
      return ChannelTransaction(
        .open, channelID: id, id: ChannelTransaction.id(chain: token.chain, channelID: id, transaction: hash), amount: nil,
        means: .hash(hash), transfers: [])
    case .transaction(let octets): return try deposit(opening: octets, channel, id, escrow: escrow)
    }
  }

  private func deposit(
    _ topUp: ChannelTopUp, account: Address?, _ channel: ChannelDescriptor, token: ChainToken, escrow: SessionEscrow,
    wallets: ContractWallets, _ window: Window
  ) throws(ChannelError) -> ChannelTransaction {
    let (id, amount) = (topUp.channelID, topUp.additionalDeposit)
    switch topUp.funding {
    case .authorization(let authorization, let signature):
      guard let salt = topUp.salt else { throw .payment(.missing(.salt)) }
      guard authorization.value == Word256(amount) else { throw .depositMismatch }
      // Anybody may add to a channel: what is given back is its payer's all the same.
      guard account ?? authorization.from == authorization.from else { throw .payment(.sourceMismatch) }
      let nonce = ChannelEscrow.topUpNonce(channelID: id, additionalDeposit: amount, from: authorization.from, salt: salt)
      let (_, octets, expires) = try check(
        authorization, signature, nonce: nonce, token: token, escrow: escrow, wallets: wallets, window)
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
      let (octets, expires) = try check(
        permit, signature, witness: .topUp(channelID: id), token: token, escrow: escrow, wallets: wallets, window)
      let data = ChannelEscrow.topUp(
        channelID: id, additionalDeposit: amount, permit2From: permit.from, nonce: permit.nonce, deadline: permit.deadline,
        signature: octets)
      return transaction(.topUp, id, permit, data, expires, token: token, escrow: escrow)
    case .hash(let hash):
      guard let account else { throw .sourceMissing }
      guard account == channel.payer else { throw .payment(.sourceMismatch) }
      return ChannelTransaction(
        .topUp, channelID: id, id: ChannelTransaction.id(chain: token.chain, channelID: id, transaction: hash), amount: amount,
        means: .hash(hash),
        transfers: [ExpectedTransfer(token: token.address, from: channel.payer, to: escrow.address, amount: amount)])
    case .transaction(let octets): return try deposit(topUp: octets, amount, channel, id, escrow: escrow)
    }
  }

  private func transaction(
    _ step: ChannelTransaction.Step, _ id: Digest32, _ permit: EscrowPermit, _ data: [UInt8], _ expires: Timestamp,
    token: ChainToken, escrow: SessionEscrow
  ) -> ChannelTransaction {
    ChannelTransaction(
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
    _ authorization: EIP3009.Authorization, _ signature: [UInt8], nonce: Digest32, token: ChainToken, escrow: SessionEscrow,
    wallets: ContractWallets, _ window: Window
  ) throws(ChannelError) -> (UInt128, [UInt8], Timestamp) {
    guard let domain = token.domain else { throw .payment(.tokenWithoutEIP3009) }
    guard authorization.to == escrow.address else { throw .payment(.recipientMismatch(.authorization)) }
    guard let amount = authorization.value.uint128, amount <= rules.amountLimit else { throw .depositTooLarge }
    guard amount > 0 else { throw .depositZero }
    guard authorization.nonce == nonce else { throw .nonceMismatch }
    do {
      let expires = try ValidityWindow.check(
        after: authorization.validAfter, before: authorization.validBefore, now: window.now, latest: window.latest,
        means: .authorization)
      let (signed, _) = try PayerSignature.check(
        signature, of: [domain.digest(authorization.structHash(EIP3009.receiveTypeHash))], payer: authorization.from,
        wallets: wallets, means: .authorization)
      return (amount, signed.bytes, expires)
    } catch { throw .payment(error) }
  }

  /// Checks a permit for the escrow, which is its spender.
  ///
  /// - Returns: the signature as Permit2 takes it, and when it ends.
  private func check(
    _ permit: EscrowPermit, _ signature: [UInt8], witness: EscrowPermit.Witness, token: ChainToken, escrow: SessionEscrow,
    wallets: ContractWallets, _ window: Window
  ) throws(ChannelError) -> ([UInt8], Timestamp) {
    guard token.supportsPermit2 else { throw .payment(.tokenWithoutPermit2) }
    guard token.permit2 == details.permit2 ?? Permit2.address else { throw .payment(.spenderMismatch) }
    guard permit.token == currency else { throw .payment(.tokenMismatch(.permit2)) }
    guard permit.amount > 0 else { throw .depositZero }
    guard permit.witness == witness else { throw .witnessMismatch }
    do {
      let expires = try ValidityWindow.check(
        after: .zero, before: permit.deadline, now: window.now, latest: window.latest, means: .permit2)
      let digest = permit.digest(escrow: escrow.address, domain: token.permit2Domain)
      let (signed, _) = try PayerSignature.check(
        signature, of: [digest], payer: permit.from, wallets: wallets, means: .permit2)
      return (signed.bytes, expires)
    } catch { throw .payment(error) }
  }
}
