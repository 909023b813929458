import Bytes
import Encoding
import Ethereum
import Ledger
import Methods
import Payments

// Promises: whether a payer can keep one is looked at before anything is served for it, and what it comes to is settled afterwards.
extension Chain {
  /// Looks whether a promise's payer could pay its maximum now; what he cannot is forgotten.
  func look(at order: SettlementOrder) async -> SettlementWord {
    if let entry = order.entry {
      guard await ledger.isDurable(entry) else { return .unknown }
    } else if let rpc {
      // Where there is no contract, the signature was the payer's own to make.
      guard let code = try? await rpc.code(of: order.charge.payer) else { return .unavailable }
      if code.isEmpty { return order.refused(.invalidPermit2Signature) }
    }
    if let word = await asked(order) {
      // Nothing was served for it: the payer may bring it again, or make another one.
      if order.entry != nil { ledger.forget(promise: order.id, at: .now()) }
      return word
    }
    if order.entry == nil {
      let payment = order.payment
      do throws(Refusal) {
        guard try await ledger.commit({ () throws(Refusal) in try ledger.promise(payment, at: .now()) }) else { return .unknown }
      } catch { return .declined(error) }
    }
    return .settled
  }

  /// Asks the facilitator, or a node what settling the maximum would come to; nil where it would succeed.
  private func asked(_ order: SettlementOrder) async -> SettlementWord? {
    // Nothing would be sent for whose payments were undone, and whoever was served for what he made impossible to settle is served no more.
    guard !reverts.isBarred(order.charge.payer, isContract: order.charge.signatureCheck == .byContract), !ledger.hasLost(by: order.payment.payer) else {
      return order.refused(.uptoTransactionFailed)
    }
    if let content = order.facilitated {
      guard let facilitator else { return .unavailable }
      switch await facilitator.verify(content) {
      case .valid: break
      case .invalid(let reason): return order.refused(reason)
      case .unavailable: return .unavailable
      }
    }
    guard let rpc else {
      // A facilitator looks at each promise alone: without a node a payer has one at a time.
      return order.facilitated == nil || promisedBeside(order) > 0 ? .unavailable : nil
    }
    if order.facilitated == nil, case .call(let to, let data) = order.charge.means {
      do throws(ChainError) { _ = try await rpc.call(to: to, data: data, from: submitter?.address) } catch {
        if case .reverted = error { return order.refused(.uptoTransactionFailed) }
        return .unavailable
      }
    }
    return await coversAll(order, rpc)
  }

  /// Looks whether the payer's money covers all that he has promised here and not paid, and not this one alone.
  private func coversAll(_ order: SettlementOrder, _ rpc: ChainRPC) async -> SettlementWord? {
    guard let token = order.charge.transfers.first?.token else { return nil }
    let others = promisedBeside(order)
    let (sum, overflows) = others.addingReportingOverflow(order.charge.amount)
    guard others > 0, !overflows else { return overflows ? order.refused(.permit2InsufficientBalance) : nil }
    // What Permit2 may take counts like what there is: each promise alone would pass with an allowance for one.
    let allowance = ERC20.allowance(owner: order.charge.payer, spender: Permit2.address)
    for (question, reason) in [(ERC20.balanceOf(order.charge.payer), X402Reason.permit2InsufficientBalance), (allowance, .permit2AllowanceRequired)] {
      guard let answer = try? await rpc.call(to: token, data: question, from: nil), answer.count == 32, let word = Word256(bigEndian: answer) else {
        return .unavailable
      }
      if word < Word256(sum) { return order.refused(reason) }
    }
    return nil
  }

  private func promisedBeside(_ order: SettlementOrder) -> UInt128 {
    ledger.promised(by: order.payment.payer, currency: order.payment.currency, besides: order.id, at: .now())
  }

  /// Has a facilitator settle what is owed: it is asked again until the payer's signature has run out.
  func settleOwed(_ order: SettlementOrder, _ content: [UInt8]) async -> SettlementWord {
    guard let facilitator, let entry = order.entry, await ledger.isDurable(entry) else { return .unknown }
    // Whether a call may have landed whose answer was lost, or is still to come.
    var mayHaveLanded = ledger.payment(order.id)?.transaction != nil
    for round in 0..<Int.max where !Task.isCancelled {
      switch await facilitator.settle(content) {
      case .settled(let transaction):
        if let word = await confirmed(order, transaction) { return word }
        mayHaveLanded = true
      case .pending(let transaction):
        mayHaveLanded = true
        _ = try? ledger.submitted(order.id, transaction: transaction, at: .now())
      case .used: if mayHaveLanded { return await settled(order, ledger.payment(order.id)?.transaction) }
      // The payer's money may come back before the signature has run out.
      case .refused(let reason), .failed(let reason):
        if Timestamp.now() > order.charge.expires, !mayHaveLanded { return await release(order, order.refused(reason)) }
      case .notAsked: break
      case .unknown: mayHaveLanded = true
      }
      // Nothing new comes any more; an operator has to look.
      guard Timestamp.now() < order.charge.expires + Self.margin else { return .unknown }
      await pause(round)
    }
    return .unknown
  }

  /// Compares what a facilitator says with the chain, where that can be asked; nil while it cannot be told.
  private func confirmed(_ order: SettlementOrder, _ transaction: Digest32?) async -> SettlementWord? {
    guard let rpc, let transaction else { return await settled(order, transaction) }
    for round in 0..<8 {
      if case .receipt(let receipt) = await rpc.look(for: transaction), await isDeep(receipt) {
        guard receipt.isSuccessful, order.charge.isPaid(by: receipt.logs.compactMap { TransferEvent($0) }) else { return nil }
        return await settled(order, transaction)
      }
      await pause(min(round, 3))
    }
    return nil
  }
}
