import Bytes
import Encoding
import Ledger
import Payments

// Settling by a facilitator. Where a node can be asked, the chain has the last word on what the facilitator says.
extension Chain {
  /// How long after a call whose answer was lost the next one may be made: one that was broadcast lands meanwhile.
  private static var settlePause: Duration { .seconds(10) }
  /// Calls that were not listened to, after which nobody settles the payment.
  private static var unheardLimit: Int { 3 }

  func settleByFacilitator(_ order: SettlementOrder, _ content: [UInt8]) async -> SettlementWord {
    guard let facilitator else { return await refuseUnlessLanded(order, .unavailable) }
    let view = ledger.payment(order.id)
    var dialogue = SettleDialogue()
    if view?.state == .submitted {
      dialogue.isAsked = true
      dialogue.isNamed = view?.transaction != nil
      dialogue.nextCall = .now() + Self.settlePause
    } else if let word = await prepare(order, facilitator, content) {
      return word
    }
    var round = 0
    while !Task.isCancelled, Timestamp.now() < order.charge.expires + Self.margin {
      if dialogue.isAsked, let word = await learn(order, facilitator, content, &dialogue) { return word }
      if !dialogue.isNamed, Instant.now() >= dialogue.nextCall, !dialogue.isAsked || dialogue.isValid {
        if let word = await call(order, facilitator, content, &dialogue) { return word }
      }
      await pause(round)
      round += 1
    }
    // Nothing new comes any more; an operator has to look.
    return .unknown
  }

  /// How far the dialogue with a facilitator has come.
  private struct SettleDialogue {
    /// Whether a call may have landed: its answer was lost, or is still to come.
    var isAsked = false
    /// Whether a transaction was named: another call would make another one.
    var isNamed = false
    /// Whether it has said since then that the payment would still settle.
    var isValid = false
    var nextCall = Instant.now()
    var unheard = 0
    var spentLooks = 0
  }

  private func prepare(_ order: SettlementOrder, _ facilitator: Facilitator, _ content: [UInt8]) async -> SettlementWord? {
    switch await facilitator.verify(content) {
    case .valid: break
    case .invalid(let reason): return await refuseUnlessLanded(order, order.refused(reason))
    case .unavailable: return await release(order, .unavailable)
    }
    if let word = await coversPromises(order) { return await refuseUnlessLanded(order, word) }
    do throws(Refusal) {
      return try await ledger.commit { () throws(Refusal) in try ledger.submitted(order.id, transaction: nil, at: .now()) } ? nil : .unknown
    } catch { return .unknown }
  }

  /// Finds out whether a payment whose settlement was not confirmed has landed; nil where nobody can tell yet.
  private func learn(
    _ order: SettlementOrder, _ facilitator: Facilitator, _ content: [UInt8], _ dialogue: inout SettleDialogue
  ) async -> SettlementWord? {
    dialogue.isValid = false
    switch await findLanded(order) {
    case .paid(let hash): return await settled(order, hash)
    case .spent:
      dialogue.spentLooks += 1
      return dialogue.spentLooks < Self.spentLooks ? nil : await release(order, order.refused(order.spentReason))
    case .unused(forEver: true): return await release(order, order.refused(.transactionFailed))
    case .shallow: return nil
    case .unused, .unknown: break
    }
    guard !dialogue.isNamed || rpc == nil else { return nil }
    switch await facilitator.verify(content) {
    case .valid: dialogue.isValid = true
    // It was verified as unused before, and an answer was lost: most likely our call used it. A payer could have cancelled it in between, so
    // where there is a node, only the chain's own word counts.
    case .invalid(let reason) where reason.tellsUse && rpc == nil: return await settled(order, ledger.payment(order.id)?.transaction)
    case .invalid, .unavailable: break
    }
    return nil
  }

  /// Has it settled; nil where what became of it is still to be found out, or it was not listened to.
  private func call(
    _ order: SettlementOrder, _ facilitator: Facilitator, _ content: [UInt8], _ dialogue: inout SettleDialogue
  ) async -> SettlementWord? {
    let wasAsked = dialogue.isAsked
    switch await facilitator.settle(content) {
    case .settled(let transaction):
      // Its word is all there is without a node.
      guard rpc != nil else { return await settled(order, transaction) }
      name(transaction, of: order, &dialogue)
    case .pending(let transaction): name(transaction, of: order, &dialogue)
    case .refused(let reason): if !wasAsked { return await refuseUnlessLanded(order, order.refused(reason)) }
    case .used:
      if !wasAsked { return await refuseUnlessLanded(order, order.refused(order.spentReason)) }
      if rpc == nil { return await settled(order, ledger.payment(order.id)?.transaction) }
    case .failed(let reason):
      // A transaction that was undone moves nothing. But somebody else's may have: only the chain can tell, or the authorization that is used.
      guard !wasAsked else { break }
      if rpc == nil, case .invalid(let cause) = await facilitator.verify(content), cause.tellsUse { return .unknown }
      return await refuseUnlessLanded(order, order.refused(reason))
    case .notAsked:
      dialogue.unheard += 1
      if !wasAsked, dialogue.unheard >= Self.unheardLimit { return await refuseUnlessLanded(order, .unavailable) }
    case .unknown: dialogue.isAsked = true
    }
    if dialogue.isAsked { dialogue.nextCall = .now() + Self.settlePause }
    return nil
  }

  /// Remembers the transaction that a facilitator names.
  private func name(_ transaction: Digest32?, of order: SettlementOrder, _ dialogue: inout SettleDialogue) {
    dialogue.isAsked = true
    dialogue.isNamed = true
    if let transaction { _ = try? ledger.submitted(order.id, transaction: transaction, at: .now()) }
  }
}

extension X402Reason {
  /// Whether it says that the payer's authorization has been used.
  fileprivate var tellsUse: Bool { self == .exactNonceAlreadyUsed || self == .permit2InvalidNonce || self == .duplicateSettlement }
}
