import Bytes
import Encoding
import Ethereum
import Ledger
import Methods
import Payments

// Settling a payment: by a facilitator, by a transaction of ours, by one of the payer's, or by looking at one that is on the chain.
extension Chain {
  /// How often a transaction whose nonce another program took is made anew.
  private static var attemptLimit: Int { 3 }
  /// Looks that have to find a nonce used and no transaction that paid, before that is believed: one node may have a block that another lacks.
  static var spentLooks: Int { 5 }
  /// How long after its authorization has ended a payment may still turn out to have settled.
  static var margin: Duration { .seconds(120) }

  /// Settles a payment, or finds out why it cannot be.
  func settle(_ order: SettlementOrder) async -> SettlementWord {
    if order.isPromise { return await look(at: order) }
    if let content = order.facilitated, let promise = ledger.promise(order.id), promise.state == .owed, !promise.isWithheld {
      return await settleOwed(order, content)
    }
    switch order.kind {
    case .payment: break
    case .deposit, .close, .question, .adoption, .giveBack: return await (order.isBatch ? batch : escrow)?.settle(order) ?? .unavailable
    }
    var order = order
    if order.entry == nil {
      if let word = await lookBeforeClaim(order) { return word }
      do throws(Refusal) {
        order.entry = try ledger.awaited { () throws(Refusal) in try ledger.claim(order.payment, at: .now()) }
      } catch { return .declined(error) }
    }
    guard let entry = order.entry, await ledger.isDurable(entry) else { return .unknown }
    if let content = order.facilitated { return await settleByFacilitator(order, content) }
    switch order.charge.means {
    case .call(let to, let data): return await settleByCall(order, to: to, data: data)
    case .transaction(let raw, let hash): return await settleByTransaction(order, raw: raw, hash: hash)
    case .hash(let hash): return await settleByHash(order, hash)
    case .none: return await settled(order, nil)
    }
  }

  /// Asks the chain about what nothing else tells, so that what is rubbish leaves no trace; nil where there is something to claim.
  private func lookBeforeClaim(_ order: SettlementOrder) async -> SettlementWord? {
    if case .hash(let hash) = order.charge.means { return await lookForUnclaimed(order, hash) }
    if let rpc {
      // Where there is no contract, the signature was the payer's own to make.
      guard let code = try? await rpc.code(of: order.charge.payer) else { return .unavailable }
      if code.isEmpty { return order.refused(.exactPayloadSignature) }
    }
    if reverts.isBarred(order.charge.payer, isContract: true) { return order.refused(.exactTransactionSimulationFailed) }
    if let facilitator, let content = order.facilitated, case .invalid(let reason) = await facilitator.verify(content) { return order.refused(reason) }
    // Nobody but a contract can tell whether the payer has signed.
    return await simulate(order)
  }

  // MARK: by a transaction of ours

  private func settleByCall(_ order: SettlementOrder, to: Address, data: [UInt8]) async -> SettlementWord {
    guard let submitter else { return await refuseUnlessLanded(order, .unavailable) }
    var next = await submitter.follow(order.id)
    if next == nil {
      guard !reverts.isBarred(order.charge.payer, isContract: order.charge.signatureCheck == .byContract) else {
        return await refuseUnlessLanded(order, order.refused(.exactTransactionSimulationFailed))
      }
      // Before gas is paid: some tokens pass over a nonce that is used, and revert nothing.
      async let simulated = simulate(order)
      guard case .unused = await findLanded(order) else { return await refuseUnlessLanded(order, .unavailable) }
      if let word = await simulated { return await refuseUnlessLanded(order, word) }
      if ledger.promise(order.id) == nil, let word = await coversPromises(order) { return await refuseUnlessLanded(order, word) }
    }
    for attempt in 0..<Self.attemptLimit {
      if attempt > 0 {
        guard case .unused = await findLanded(order) else { break }
        if let word = await simulate(order) { return await refuseUnlessLanded(order, word) }
      }
      let outcome: ChainSubmitter.Outcome
      if let known = next { outcome = known } else { outcome = await submitter.submit(.payment(order.id), to: to, data: data) }
      next = nil
      switch outcome {
      case .included(let receipt):
        if receipt.isSuccessful, let use = NonceUse(of: data, to: to), pays(order, receipt, use) == true {
          return await settled(order, receipt.transactionHash)
        }
        let word = await refuseUnlessLanded(order, order.refused(.transactionFailed, receipt.transactionHash))
        if case .refused = word { reverts.note(order.charge.payer) }
        return word
      case .displaced: break
      case .failed(.stopped), .failed(.ledgerUnavailable): return .unknown
      case .failed(.reverted), .failed(.gasLimit): return await refuseUnlessLanded(order, order.refused(.exactTransactionSimulationFailed))
      case .failed: return await refuseUnlessLanded(order, .unavailable)
      }
    }
    return await refuseUnlessLanded(order, order.refused(.transactionFailed))
  }

  /// Asks a node what the call would come to; nil where it would succeed.
  private func simulate(_ order: SettlementOrder) async -> SettlementWord? {
    guard let rpc, case .call(let to, let data) = order.charge.means else { return nil }
    do throws(ChainError) {
      _ = try await rpc.call(to: to, data: data, from: submitter?.address)
      return nil
    } catch {
      if case .reverted = error { return order.refused(.exactTransactionSimulationFailed) }
      return .unavailable
    }
  }

  /// Frees a payment by a call, unless it has landed: what was made public by us or by a facilitator can be made by everybody.
  func refuseUnlessLanded(_ order: SettlementOrder, _ word: SettlementWord) async -> SettlementWord {
    // Without a node it is what a facilitator has said.
    guard rpc != nil else { return await release(order, word) }
    let isPublic = ledger.payment(order.id)?.state == .submitted
    var round = 0
    // One node may be behind another.
    var looks = isPublic ? 2 : 1
    var spentLooks = 0
    while !Task.isCancelled {
      switch await findLanded(order) {
      case .paid(let hash): return await settled(order, hash)
      case .shallow: guard Timestamp.now() < order.charge.expires + Self.margin else { return .unknown }
      case .spent:
        spentLooks += 1
        if spentLooks == Self.spentLooks { return await release(order, order.refused(order.spentReason)) }
      case .unused:
        looks -= 1
        if looks == 0 { return await release(order, word) }
      case .unknown: return isPublic ? .unknown : await release(order, .unavailable)
      }
      await pause(round)
      round += 1
    }
    return .unknown
  }

  // MARK: what it comes to

  /// Books the money that has arrived.
  func settled(_ order: SettlementOrder, _ transaction: Digest32?) async -> SettlementWord {
    lastLooks.forget(order.id)
    do throws(Refusal) {
      return try await ledger.commit { () throws(Refusal) in try ledger.settled(order.id, transaction: transaction, at: .now()) } ? .settled : .unknown
    } catch { return .unknown }
  }

  /// Frees a payment that cannot settle any more, or about which nobody could be asked.
  func release(_ order: SettlementOrder, _ word: SettlementWord) async -> SettlementWord {
    // What was answered, and is withheld, is settled as soon as somebody can be asked.
    if case .unavailable = word, let promise = ledger.promise(order.id), promise.isWithheld, Timestamp.now() <= order.charge.expires { return .unknown }
    // Of what was delivered already nothing but the chain's own word ends what is owed.
    if let promise = ledger.promise(order.id), promise.state == .owed, !promise.isWithheld, let last = await lastWord(order) { return last }
    let cause: String
    switch word {
    case .refused(let refusal): cause = refusal.reason.rawValue
    case .settled, .declined, .unknown, .unavailable: cause = "unavailable"
    }
    do throws(Refusal) {
      return try await ledger.commit { () throws(Refusal) in try ledger.refused(order.id, cause: cause, at: .now()) } ? word : .unknown
    } catch { return .unknown }
  }

  /// Waits before the next look: a tenth of a second at first, twice as long each time up to a second, and half a minute in the end.
  func pause(_ round: Int) async {
    let milliseconds = round < 4 ? 100 << max(0, round) : round < 40 ? 1_000 : round < 80 ? 5_000 : 30_000
    try? await Task.sleep(for: .milliseconds(milliseconds))
  }
}

extension SettlementOrder {
  /// Why a payment whose nonce was used is refused.
  var spentReason: X402Reason {
    guard case .call(let to, let data) = charge.means, case .permit? = NonceUse(of: data, to: to) else { return .exactNonceAlreadyUsed }
    return .permit2InvalidNonce
  }
}
