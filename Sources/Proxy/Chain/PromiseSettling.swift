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
      if code.isEmpty { return order.refused(order.isWithheld ? .exactPayloadSignature : .invalidPermit2Signature) }
    }
    if order.isWithheld, let word = await lookForLanded(order) { return word }
    // Nothing was served for it: the payer may bring it again, or make another one.
    if let word = await asked(order) { return forget(order, word) }
    if order.entry == nil {
      let payment = order.payment
      do throws(Refusal) {
        guard try await ledger.commit({ () throws(Refusal) in try ledger.promise(payment, at: .now()) }) else { return .unknown }
      } catch { return .declined(error) }
    }
    return .settled
  }

  /// Looks whether a payment whose answer is to be withheld has been made already, by whoever has seen it: then it is served as one that was
  /// settled first. Nil where its nonce is unused.
  private func lookForLanded(_ order: SettlementOrder) async -> SettlementWord? {
    guard rpc != nil else { return nil }
    switch await findLanded(order) {
    case .unused(forEver: false): return nil
    case .paid, .shallow, .unused(forEver: true), .spent: break
    case .unknown: return forget(order, .unavailable)
    }
    if order.entry != nil { ledger.forget(promise: order.id, at: .now()) }
    var settled = order
    settled.isPromise = false
    do throws(Refusal) { settled.entry = try ledger.awaited { () throws(Refusal) in try ledger.claim(order.payment, at: .now()) } } catch { return .declined(error) }
    return await settle(settled)
  }

  private func forget(_ order: SettlementOrder, _ word: SettlementWord) -> SettlementWord {
    if order.entry != nil { ledger.forget(promise: order.id, at: .now()) }
    return word
  }

  /// Asks the facilitator, or a node what settling the maximum would come to; nil where it would succeed.
  private func asked(_ order: SettlementOrder) async -> SettlementWord? {
    // Nothing would be sent for whose payments were undone, and whoever was served for what he made impossible to settle is served no more.
    guard !reverts.isBarred(order.charge.payer, isContract: order.charge.signatureCheck == .byContract), !ledger.hasLost(by: order.payment.payer) else {
      return order.refused(order.failure)
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
      // A facilitator looks at each promise alone: without a node a payer has one at a time, where he gets the answer before it is settled.
      return order.facilitated == nil || (promisedBeside(order) > 0 && !order.isWithheld) ? .unavailable : nil
    }
    if order.facilitated == nil, case .call(let to, let data) = order.charge.means {
      do throws(ChainError) { _ = try await rpc.call(to: to, data: data, from: submitter?.address) } catch {
        if case .reverted = error { return order.refused(order.failure) }
        return .unavailable
      }
    }
    return await coversAll(order, rpc)
  }

  /// Looks whether the payer's money covers all that he has promised here and not paid, and what he pays at this moment, and not this one alone.
  private func coversAll(_ order: SettlementOrder, _ rpc: ChainRPC) async -> SettlementWord? {
    let moving = ledger.underWay(by: order.payment.payer, currency: order.payment.currency, besides: order.id)
    return await covers(order, promised: promisedBeside(order), moving: moving, rpc, balance: order.isWithheld ? .exactInsufficientBalance : .permit2InsufficientBalance)
  }

  /// The same for a payment that is no promise: what its payer has promised was looked at before, and is not his to spend again. Nil also where
  /// there is no node.
  func coversPromises(_ order: SettlementOrder) async -> SettlementWord? {
    guard let rpc else { return nil }
    return await covers(order, promised: promisedBeside(order), moving: 0, rpc, balance: .exactInsufficientBalance)
  }

  private func covers(
    _ order: SettlementOrder, promised: UInt128, moving: UInt128, _ rpc: ChainRPC, balance reason: X402Reason
  ) async -> SettlementWord? {
    guard let token = order.charge.transfers.first?.token else { return nil }
    let (others, carries) = promised.addingReportingOverflow(moving)
    let (sum, overflows) = others.addingReportingOverflow(order.charge.amount)
    guard others > 0, !carries, !overflows else { return carries || overflows ? order.refused(reason) : nil }
    var questions = [(data: ERC20.balanceOf(order.charge.payer), least: sum, reason: reason)]
    if case .call(let to, let data) = order.charge.means, case .permit? = NonceUse(of: data, to: to) {
      // What Permit2 may take counts like what there is: each promise alone would pass with an allowance for one.
      questions.append((ERC20.allowance(owner: order.charge.payer, spender: Permit2.address), sum - moving, .permit2AllowanceRequired))
    }
    for question in questions {
      guard let answer = try? await rpc.call(to: token, data: question.data, from: nil), answer.count == 32, let word = Word256(bigEndian: answer) else {
        return .unavailable
      }
      if word < Word256(question.least) { return order.refused(question.reason) }
    }
    return nil
  }

  private func promisedBeside(_ order: SettlementOrder) -> UInt128 {
    ledger.promised(by: order.payment.payer, currency: order.payment.currency, besides: order.id, at: .now())
  }

  // MARK: what is owed

  /// How long after a call that may have landed the next one is made.
  private static var owedPause: Duration { .seconds(10) }
  /// Looks in a row; then the desk comes back to it, so that what cannot be settled now leaves its place to others.
  private static var owedRounds: Int { 14 }

  /// Has a facilitator settle what is owed. Whether it was asked, and what it has named, stands in the ledger: `claimed` until a call may have
  /// moved the money, `submitted` from then on. With a node only the chain says what became of it, whatever the facilitator says; without one
  /// nothing is given up by us.
  func settleOwed(_ order: SettlementOrder, _ content: [UInt8]) async -> SettlementWord {
    guard let facilitator, let entry = order.entry, await ledger.isDurable(entry) else { return .unknown }
    // What was asked for before may be on its way.
    var next = ledger.payment(order.id).flatMap { $0.state == .submitted ? $0.since + Self.owedPause : nil } ?? .now()
    for round in 0..<Int.max {
      guard !Task.isCancelled else { break }
      var mayCall = Timestamp.now() >= next
      let isOver = Timestamp.now() > order.charge.expires
      if rpc != nil {
        switch await findLanded(order) {
        case .paid(let hash): return await settled(order, hash)
        case .unused(forEver: true): return await release(order, order.refused(.permit2DeadlineExpired))
        case .spent:
          if isOver { return await release(order, order.refused(.permit2InvalidNonce)) }
          mayCall = false
        case .unused(forEver: false): break
        case .shallow: mayCall = false
        // Of what nobody was asked for nothing is on its way.
        case .unknown: mayCall = mayCall && !isAsked(order)
        }
      }
      if !isOver, mayCall {
        if let word = await callOwed(order, facilitator, content) { return word }
        next = .now() + (isAsked(order) ? Self.owedPause : .zero)
      } else if isOver, rpc == nil {
        return await release(order, order.refused(.permit2DeadlineExpired))
      }
      // Without a node nothing new comes any more: an operator has to look.
      guard round < Self.owedRounds, rpc != nil || !isOver else { return .unknown }
      await pause(round)
    }
    return .unknown
  }

  /// Looks in a row before what is owed is given up.
  private static var lastRounds: Int { 14 }

  /// Looks whether what is owed for what was delivered cannot be settled any more, before it is given up. That is so where the chain says it
  /// twice, at least a block apart and both times as deep as is asked for: its time is over there, and no transaction has paid. Nil: it is.
  func lastWord(_ order: SettlementOrder) async -> SettlementWord? {
    guard Timestamp.now() > order.charge.expires else { return .unknown }
    guard let rpc else {
      // What a facilitator says is no proof: an operator has to look.
      _ = try? ledger.submitted(order.id, transaction: nil, at: .now())
      return .unknown
    }
    for round in 0..<Self.lastRounds where !Task.isCancelled {
      if await rpc.isPast(order.charge.expires, confirmations: plan.confirmations), let head = try? await rpc.blockNumber() {
        let landing = await findLanded(order)
        if case .paid(let hash) = landing { return await settled(order, hash) }
        if await isFinal(landing, order, head) {
          if lastLooks.isRepeated(order.id, at: head) { return nil }
        } else {
          lastLooks.forget(order.id)
        }
      }
      await pause(round)
    }
    return .unknown
  }

  /// Whether a payment that has not landed never will: a node that has the block which is deep enough says of its nonce there what was said of
  /// it now. One that is behind the others does not have it.
  private func isFinal(_ landing: Landing, _ order: SettlementOrder, _ head: UInt64) async -> Bool {
    let wasUsed: Bool
    switch landing {
    case .unused(forEver: true): wasUsed = false
    case .spent: wasUsed = true
    case .paid, .shallow, .unused(forEver: false), .unknown: return false
    }
    guard let rpc, head >= plan.confirmations, case .call(let to, let data) = order.charge.means, let use = NonceUse(of: data, to: to),
      let answer = try? await rpc.call(to: use.question.to, data: use.question.data, atBlock: head - plan.confirmations + 1)
    else { return false }
    return use.isUsed(answer) == wasUsed
  }

  /// Whether money may have been moved for a payment.
  private func isAsked(_ order: SettlementOrder) -> Bool { ledger.payment(order.id)?.state == .submitted }

  /// Calls the facilitator once; nil where what became of it is still to be found out.
  private func callOwed(_ order: SettlementOrder, _ facilitator: Facilitator, _ content: [UInt8]) async -> SettlementWord? {
    let wasAsked = isAsked(order)
    do throws(Refusal) {
      guard try await ledger.commit({ () throws(Refusal) in try ledger.submitted(order.id, transaction: nil, at: .now()) }) else { return .unknown }
    } catch { return .unknown }
    switch await facilitator.settle(content) {
    case .settled(let transaction):
      // Its word is all there is without a node.
      guard rpc != nil else { return await settled(order, transaction) }
      keep(transaction, of: order)
    case .pending(let transaction): keep(transaction, of: order)
    case .used:
      // An earlier call of ours has used it, most likely; where there was none, somebody else has.
      if wasAsked { return rpc == nil ? await settled(order, ledger.payment(order.id)?.transaction) : nil }
      await retract(order)
    case .refused, .failed, .notAsked: if !wasAsked { await retract(order) }
    case .unknown: break
    }
    return nil
  }

  private func keep(_ transaction: Digest32?, of order: SettlementOrder) {
    if let transaction { _ = try? ledger.submitted(order.id, transaction: transaction, at: .now()) }
  }

  /// Takes back that money may have moved: the only one who was asked to move it has said that he did not.
  private func retract(_ order: SettlementOrder) async {
    do throws(Refusal) { _ = try await ledger.commit { () throws(Refusal) in try ledger.retracted(order.id, at: .now()) } } catch {}
  }
}

extension SettlementOrder {
  /// Why a promise is refused that could not be settled.
  fileprivate var failure: X402Reason { isWithheld ? .exactTransactionSimulationFailed : .uptoTransactionFailed }
}
