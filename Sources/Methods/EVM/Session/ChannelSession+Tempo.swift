import Bytes
import Encoding
import Ethereum

// What a server verifies of a payer's own transaction (draft-tempo-session-00 "Open Verification", "TopUp Verification").
extension ChannelSession {
  /// Checks a transaction that opens a channel, and derives the channel from it.
  func deposit(
    _ opening: ChannelOpening, transaction octets: [UInt8], _ context: DepositContext
  ) throws(ChannelError) -> (ChannelDescriptor, ChannelTransaction) {
    let signed = try read(octets, context)
    let (channel, amount) = try opened(by: signed, context)
    // What the payload says beside the transaction says the same.
    guard opening.descriptor ?? channel == channel else { throw .descriptorMismatch }
    guard opening.authorizedSigner ?? channel.authorizedSigner == channel.authorizedSigner else {
      throw .authorizedSignerMismatch
    }
    let id = try id(of: channel, opening, context)
    return (channel, transaction(.open, id, signed, amount: amount, context))
  }

  /// Checks a transaction that adds to a channel; it may be anybody's where the escrow lets him.
  func deposit(
    _ topUp: ChannelTopUp, transaction octets: [UInt8], account: Address?, _ channel: ChannelDescriptor, _ context: DepositContext
  ) throws(ChannelError) -> ChannelTransaction {
    let signed = try read(octets, context)
    guard signed.sender == channel.payer, account ?? channel.payer == channel.payer else { throw .payment(.sourceMismatch) }
    let amount: UInt128
    switch rules {
    case .evm, .batch: throw .protocolMismatch
    case .tempoV1:
      let values = try arguments(ChannelEscrow.topUp, of: signed, context)
      guard values[0].fixedBytesValue == topUp.channelID, let more = values[1].uintValue?.uint128 else {
        throw .transactionMismatch
      }
      amount = more
    case .tempoV2:
      let values = try arguments(ChannelReserve.topUp, of: signed, context)
      guard let members = values[0].elements, ChannelDescriptor(members) == channel, let more = values[1].uintValue?.uint128 else {
        throw .transactionMismatch
      }
      amount = more
    }
    guard amount == topUp.additionalDeposit else { throw .depositMismatch }
    return transaction(.topUp, topUp.channelID, signed, amount: amount, context)
  }

  /// Reads a transaction, and checks what every one of them has to keep: chain, sender, window and fees.
  private func read(_ octets: [UInt8], _ context: DepositContext) throws(ChannelError) -> SignedTempoTransaction {
    let signed: SignedTempoTransaction
    do {
      signed = try SignedTempoTransaction(decoding: octets)
      try signed.transaction.check(chainID: details.chainID)
    } catch { throw .payment(error == .transaction(.wrongChain) ? .chainMismatch : .malformedTransaction(error)) }
    let transaction = signed.transaction
    guard signed.isSenderProven || context.wallets != .refused else { throw .payment(.signatureMismatch(.transaction)) }
    if details.paysFees {
      guard transaction.feePayment == .awaited, transaction.feeToken == nil, signed.isSenderProven,
        context.policy.covers(transaction, now: context.now)
      else { throw .payment(.feesNotSponsored) }
    } else {
      guard transaction.feePayment != .awaited else { throw .payment(.feesNotSponsored) }
    }
    do { try transaction.checkWindow(latest: Timestamp(seconds: Int64(clamping: context.latest)), now: context.now) } catch { throw .payment(error) }
    return signed
  }

  /// The channel that a transaction opens, and its deposit.
  private func opened(
    by signed: SignedTempoTransaction, _ context: DepositContext
  ) throws(ChannelError) -> (ChannelDescriptor, UInt128) {
    let values: [ABIValue]
    // The reserve takes an operator in the second place.
    let shift: Int
    switch rules {
    case .evm, .batch: throw .protocolMismatch
    case .tempoV1: (values, shift) = (try arguments(ChannelEscrow.open, of: signed, context), 0)
    case .tempoV2: (values, shift) = (try arguments(ChannelReserve.open, of: signed, context), 1)
    }
    guard let payee = values[0].addressValue, let token = values[1 + shift].addressValue,
      let amount = values[2 + shift].uintValue?.uint128, let salt = values[3 + shift].fixedBytesValue,
      let signer = values[4 + shift].addressValue
    else { throw .transactionMismatch }
    let named = shift == 0 ? Address.zero : values[1].addressValue ?? .zero
    guard payee == recipient, token == currency, named == details.operator ?? .zero else { throw .descriptorMismatch }
    guard amount > 0 else { throw .depositZero }
    let channel = ChannelDescriptor(
      payer: signed.sender, payee: payee, operator: named, token: token, salt: salt, authorizedSigner: signer,
      expiringNonceHash: shift == 0 ? Digest32() : signed.transaction.expiringNonceHash(sender: signed.sender))
    return (channel, amount)
  }

  /// The arguments of the one call of the escrow that a transaction makes.
  ///
  /// Other calls are its sender's own business, unless we pay for them: then the token's approval for the escrow is the only one.
  private func arguments(
    _ function: ABIFunction, of signed: SignedTempoTransaction, _ context: DepositContext
  ) throws(ChannelError) -> [ABIValue] {
    let calls = signed.transaction.calls
    let own = calls.filter { $0.to == context.escrow.address }
    guard own.count == 1, own[0].value.isZero, let values = try? function.arguments(of: own[0].data) else {
      throw .transactionMismatch
    }
    guard details.paysFees else { return values }
    let others = calls.filter { $0.to != context.escrow.address }
    guard others.count <= 1, others.allSatisfy({ isApproval($0, context) }) else { throw .payment(.feesNotSponsored) }
    return values
  }

  private func isApproval(_ call: TempoTransaction.Call, _ context: DepositContext) -> Bool {
    guard rules == .tempoV1, call.to == currency, call.value.isZero,
      let values = try? ERC20.approve.arguments(of: call.data)
    else { return false }
    return values[0].addressValue == context.escrow.address
  }

  private func transaction(
    _ step: ChannelTransaction.Step, _ id: Digest32, _ signed: SignedTempoTransaction, amount: UInt128, _ context: DepositContext
  ) -> ChannelTransaction {
    // A transaction that waits for its fee payer has no hash yet: it is named by what its sender signed.
    let name = details.paysFees ? signed.transaction.signingDigest : signed.hash
    let expires = signed.transaction.validBefore.map { Timestamp(seconds: Int64(clamping: $0)) }
    // The reserve is a part of the chain: whether it tells its movements as the token does is not said.
    let transfers =
      rules == .tempoV1
      ? [ExpectedTransfer(token: currency, from: signed.sender, to: context.escrow.address, amount: amount)] : []
    return ChannelTransaction(
      step, channelID: id, id: ChannelTransaction.id(chain: details.chainID, channelID: id, transaction: name), amount: amount,
      expires: expires, means: .transaction(raw: signed.encoded, hash: signed.hash), transfers: transfers,
      awaiting: details.paysFees ? signed : nil)
  }
}

extension ChannelDescriptor {
  /// Takes the members as calls of the reserve have them; nil where they are others.
  fileprivate init?(_ members: [ABIValue]) {
    guard members.count == 7, let payer = members[0].addressValue, let payee = members[1].addressValue,
      let `operator` = members[2].addressValue, let token = members[3].addressValue, let salt = members[4].fixedBytesValue,
      let signer = members[5].addressValue, let hash = members[6].fixedBytesValue
    else { return nil }
    self.init(
      payer: payer, payee: payee, operator: `operator`, token: token, salt: salt, authorizedSigner: signer, expiringNonceHash: hash)
  }
}

// What a payer of Tempo's sessions hands over.
extension ChannelSession {
  /// Opens a channel by the payer's signed transaction, whose one call of the escrow is its `open`.
  public func openByTransaction(
    _ channel: ChannelDescriptor, voucher: SessionVoucher, transaction: SignedTempoTransaction
  ) -> ChannelPayload {
    .open(
      ChannelOpening(
        channelID: voucher.channelID, funding: .transaction(transaction.encoded), salt: nil,
        authorizedSigner: channel.authorizedSigner.isZero ? nil : channel.authorizedSigner,
        descriptor: rules == .tempoV2 ? channel : nil, voucher: voucher))
  }

  /// Adds to a channel by the payer's signed transaction, whose one call of the escrow is its `topUp`.
  public func topUpByTransaction(
    _ channel: ChannelDescriptor, additionalDeposit: UInt128, transaction: SignedTempoTransaction
  ) -> ChannelTopUp {
    ChannelTopUp(
      channelID: channel.id(in: sessionEscrow), additionalDeposit: additionalDeposit, funding: .transaction(transaction.encoded),
      descriptor: rules == .tempoV2 ? channel : nil)
  }
}
