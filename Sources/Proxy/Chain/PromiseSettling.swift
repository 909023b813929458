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
      if case .refused = word, order.entry != nil { ledger.forget(promise: order.id, at: .now()) }
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
    if let content = order.facilitated {
      guard let facilitator else { return .unavailable }
      switch await facilitator.verify(content) {
      case .valid: break
      case .invalid(let reason): return order.refused(reason)
      case .unavailable: return .unavailable
      }
    }
    guard let rpc else { return order.facilitated == nil ? .unavailable : nil }
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
    let others = ledger.promised(by: order.payment.payer, currency: order.payment.currency, besides: order.id)
    let (sum, overflows) = others.addingReportingOverflow(order.charge.amount)
    guard others > 0, !overflows else { return overflows ? order.refused(.permit2InsufficientBalance) : nil }
    guard let answer = try? await rpc.call(to: token, data: ERC20.balanceOf(order.charge.payer), from: nil), answer.count == 32,
      let balance = Word256(bigEndian: answer)
    else { return .unavailable }
    return balance < Word256(sum) ? order.refused(.permit2InsufficientBalance) : nil
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
