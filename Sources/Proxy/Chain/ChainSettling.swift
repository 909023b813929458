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
  /// Rounds in which a transaction may be unknown to the chain before it counts as none.
  private static var unknownLimit: Int { 8 }
  /// How long after its authorization has ended a payment may still turn out to have settled.
  private static var margin: Duration { .seconds(120) }
  /// Blocks that are searched for a transaction that was lost sight of.
  private static var searchDepth: UInt64 { 2_000 }
  /// Seconds between two questions about a payment whose outcome is unknown, at most.
  private static var longestPause: Int { 30 }

  /// Settles a payment, or finds out why it cannot be.
  func settle(_ order: SettlementOrder) async -> SettlementWord {
    var order = order
    switch order.kind {
    case .payment: break
    case .deposit, .close, .question: return await escrow?.settle(order) ?? .unavailable
    }
    if order.entry == nil, case .hash(let hash) = order.charge.means {
      // Nothing is signed: what nobody can see on the chain is not worth a claim.
      if let word = await lookForUnclaimed(hash) { return word }
      do { order.entry = try ledger.claim(order.payment, at: .now()) } catch { return .refused(SettlementRefusal(reason: .duplicateSettlement)) }
    }
    if order.entry == nil {
      if let rpc {
        // Where there is no contract, the signature was the payer's own to make.
        guard let code = try? await rpc.code(of: order.charge.payer) else { return .unavailable }
        if code.isEmpty { return .refused(SettlementRefusal(reason: .exactPayloadSignature)) }
      }
      if let facilitator, let content = order.facilitated, case .invalid(let reason) = await facilitator.verify(content) {
        return .refused(SettlementRefusal(reason: reason))
      }
      // Nobody but a contract can tell whether the payer has signed: asked before anything is claimed, so that what is not signed
      // leaves no trace.
      if let word = await simulate(order) { return word }
      do { order.entry = try ledger.claim(order.payment, at: .now()) } catch { return .refused(SettlementRefusal(reason: .duplicateSettlement)) }
    }
    guard let entry = order.entry, await ledger.isDurable(entry) else { return .unknown }
    if order.facilitated != nil { return await settleByFacilitator(order) }
    switch order.charge.means {
    case .call(let to, let data): return await settleByCall(order, to: to, data: data)
    case .transaction(let raw, let hash): return await settleByTransaction(order, raw: raw, hash: hash)
    case .hash(let hash): return await settleByHash(order, hash)
    case .none: return await settled(order, nil)
    }
  }

  // MARK: by a transaction of ours

  private func settleByCall(_ order: SettlementOrder, to: Address, data: [UInt8]) async -> SettlementWord {
    guard let submitter else { return await withdraw(order) }
    // Whether the call would have succeeded once the payment was ours: what fails afterwards may have been made by somebody else.
    let view = ledger.payment(order.id)
    let wasSubmitted = view?.state == .submitted
    var mayHaveLanded = wasSubmitted
    if wasSubmitted, let rpc, let hash = view?.transaction, case .receipt(let receipt) = await rpc.look(for: hash), receipt.isSuccessful {
      guard await isDeep(receipt) else { return .unknown }
      return await judge(order, receipt)
    }
    for attempt in 0..<Self.attemptLimit {
      let outcome: ChainSubmitter.Outcome
      if attempt == 0, let known = await submitter.follow(order.id) {
        outcome = known
      } else {
        if mayHaveLanded {
          guard let word = await findLanded(order, to: to, data: data) else { return .unknown }
          guard case .unavailable = word else { return word }
        }
        if let word = await simulate(order) {
          // After a restart a call that would be undone may be one that was made, further back than was looked: an operator has to see.
          return wasSubmitted ? .unknown : await release(order, word)
        }
        mayHaveLanded = true
        outcome = await submitter.submit(.payment(order.id), to: to, data: data)
      }
      switch outcome {
      case .included(let receipt):
        if receipt.isSuccessful { return await judge(order, receipt) }
      case .displaced, .failed(.reverted): break
      case .failed(.stopped), .failed(.ledgerUnavailable): return .unknown
      case .failed: return await withdraw(order)
      }
    }
    return await release(order, .refused(SettlementRefusal(reason: .transactionFailed)))
  }

  /// Looks for the transaction that made the call: one of ours whose entry was lost, or somebody else's, for whoever sees an authorization
  /// may send it. `unavailable` says that there is none; nil that nobody can tell.
  private func findLanded(_ order: SettlementOrder, to: Address, data: [UInt8]) async -> SettlementWord? {
    guard let rpc, let transfer = order.charge.transfers.first, let head = try? await rpc.blockNumber() else { return nil }
    let from = head > Self.searchDepth ? head - Self.searchDepth : 0
    guard let logs = try? await rpc.transfers(of: transfer.token, to: transfer.to, from: from, through: head) else { return nil }
    let use = AuthorizationUse(of: data, token: to)
    for hash in Set(logs.compactMap(\.transactionHash)) {
      guard let record = try? await rpc.transaction(hash), case .receipt(let receipt) = await rpc.look(for: hash) else { return nil }
      guard receipt.isSuccessful, record.to == to && record.input == data || use?.isTold(by: receipt.logs) ?? false else { continue }
      guard await isDeep(receipt) else { return nil }
      return await judge(order, receipt)
    }
    return .unavailable
  }

  /// Asks a node what the call would come to; nil where it would succeed.
  private func simulate(_ order: SettlementOrder) async -> SettlementWord? {
    guard let rpc else { return nil }
    guard case .call(let to, let data) = order.charge.means else { return nil }
    do throws(ChainError) {
      _ = try await rpc.call(to: to, data: data, from: submitter?.address)
      return nil
    } catch {
      if case .reverted = error { return .refused(SettlementRefusal(reason: .exactTransactionSimulationFailed)) }
      return .unavailable
    }
  }

  // MARK: by a transaction of the payer's

  private func settleByTransaction(_ order: SettlementOrder, raw: [UInt8], hash: Digest32) async -> SettlementWord {
    guard let rpc else { return await withdraw(order) }
    let wasSubmitted = ledger.payment(order.id)?.state == .submitted
    if !wasSubmitted, let word = await simulate(raw) { return await release(order, word) }
    do {
      let entry = try ledger.submitted(order.id, transaction: hash, at: .now())
      guard await ledger.isDurable(entry) else { return .unknown }
    } catch { return .unknown }
    var isSent = false
    for round in 0..<Int.max where !Task.isCancelled {
      // Whoever signed it may still use its nonce elsewhere: that is found out, now and whenever the payment is looked at again.
      guard Timestamp.now() < order.charge.expires + Self.margin || round == 0 else { return .unknown }
      switch await rpc.look(for: hash) {
      case .nothing: break
      case .receipt(let receipt): if await isDeep(receipt) { return await judge(order, receipt) }
      case .absent:
        do throws(ChainError) {
          try await rpc.send(raw)
          isSent = true
        } catch {
          // What no node has taken has gone nowhere. What one has may be refused by another, for it may have landed meanwhile; and an
          // answer that was lost may have been a yes.
          if await isDisplaced(raw, hash) {
            return await release(order, .refused(SettlementRefusal(reason: .transactionFailed, transaction: hash)))
          }
          if case .refused(_, let kind) = error, !isSent, !wasSubmitted, kind != .nonceTooLow {
            return await release(order, .refused(SettlementRefusal(reason: .transactionFailed, transaction: hash)))
          }
          isSent = true
        }
      }
      if !isSent, !wasSubmitted, round >= 3 { return await withdraw(order) }
      await pause(round)
    }
    return .unknown
  }

  /// Asks what the payer's calls would come to, where we pay for them; nil where they would succeed, or cost us nothing.
  private func simulate(_ raw: [UInt8]) async -> SettlementWord? {
    guard let rpc, let signed = try? SignedTempoTransaction(decoding: raw) else { return nil }
    for call in signed.transaction.calls {
      guard let to = call.to else { continue }
      do throws(ChainError) { _ = try await rpc.call(to: to, data: call.data, from: signed.sender) } catch {
        if case .reverted = error { return .refused(SettlementRefusal(reason: .exactTransactionSimulationFailed)) }
        return .unavailable
      }
    }
    return nil
  }

  /// Whether the chain has taken the transaction's nonce for another one.
  private func isDisplaced(_ raw: [UInt8], _ hash: Digest32) async -> Bool {
    guard let rpc, let signed = try? SignedTransaction(decoding: raw), let head = try? await rpc.blockNumber(),
      let taken = try? await rpc.transactionCount(of: signed.sender, at: head > plan.confirmations ? head - plan.confirmations : 0),
      taken > signed.transaction.nonce, case .absent = await rpc.look(for: hash)
    else { return false }
    return true
  }

  // MARK: by a transaction that is on the chain

  /// Waits a moment for a transaction to be seen; nil where it is.
  private func lookForUnclaimed(_ hash: Digest32) async -> SettlementWord? {
    guard let rpc else { return .unavailable }
    var wasSilent = false
    for round in 0..<Self.unknownLimit {
      do throws(ChainError) { if try await rpc.transaction(hash) != nil { return nil } } catch { wasSilent = true }
      await pause(min(round, 3))
    }
    if wasSilent { return .unavailable }
    return .refused(SettlementRefusal(reason: .transactionFailed, transaction: hash))
  }

  private func settleByHash(_ order: SettlementOrder, _ hash: Digest32) async -> SettlementWord {
    guard let rpc else { return await withdraw(order) }
    var unknown = 0
    for round in 0..<Int.max where !Task.isCancelled {
      do throws(ChainError) {
        if let receipt = try await rpc.receipt(of: hash) {
          if await isDeep(receipt) { return await judge(order, receipt) }
        } else {
          unknown += 1
          guard unknown < Self.unknownLimit else {
            return await release(order, .refused(SettlementRefusal(reason: .transactionFailed, transaction: hash)))
          }
        }
      } catch {
        if round >= 3 { return await withdraw(order) }
      }
      await pause(min(round, 3))
    }
    return .unknown
  }

  // MARK: by a facilitator

  private func settleByFacilitator(_ order: SettlementOrder) async -> SettlementWord {
    guard let facilitator, let content = order.facilitated else { return await withdraw(order) }
    let wasSubmitted = ledger.payment(order.id)?.state == .submitted
    if !wasSubmitted {
      switch await facilitator.verify(content) {
      case .valid: break
      case .invalid(let reason): return await release(order, .refused(SettlementRefusal(reason: reason)))
      case .unavailable: return await withdraw(order)
      }
      do {
        let entry = try ledger.submitted(order.id, transaction: nil, at: .now())
        guard await ledger.isDurable(entry) else { return .unknown }
      } catch { return .unknown }
    }
    // Whether an answer was lost, or is still to come: it may have been a success, and what is said afterwards may be that very success.
    var mayHaveLanded = wasSubmitted
    for round in 0..<Int.max where !Task.isCancelled {
      if mayHaveLanded, let word = await findOut(order, facilitator, content) { return word }
      switch await facilitator.settle(content) {
      case .settled(let transaction): return await settled(order, transaction)
      case .pending(let transaction):
        mayHaveLanded = true
        _ = try? ledger.submitted(order.id, transaction: transaction, at: .now())
      case .refused(let reason):
        guard mayHaveLanded else { return await release(order, .refused(SettlementRefusal(reason: reason))) }
      case .used:
        guard mayHaveLanded else { return await release(order, .refused(SettlementRefusal(reason: .exactNonceAlreadyUsed))) }
        if rpc == nil { return await settled(order, ledger.payment(order.id)?.transaction) }
      case .failed(let reason):
        guard !mayHaveLanded else { break }
        // A transaction that was undone moves nothing. But somebody else's may have: only the chain can tell, or the authorization that is used.
        if let word = await findOnChain(order) { return word }
        if case .invalid(let cause) = await facilitator.verify(content), !cause.tellsUse {
          return await release(order, .refused(SettlementRefusal(reason: reason)))
        }
        return .unknown
      case .notAsked:
        if !mayHaveLanded, round >= 2 { return await withdraw(order) }
      case .unknown: mayHaveLanded = true
      }
      // Long after the authorization has ended nothing new comes; an operator has to look.
      guard Timestamp.now() < order.charge.expires + Self.margin else { return .unknown }
      await pause(round)
    }
    return .unknown
  }

  /// Finds out whether a payment whose settlement was not confirmed has landed; nil where it is to be settled again.
  private func findOut(_ order: SettlementOrder, _ facilitator: Facilitator, _ content: [UInt8]) async -> SettlementWord? {
    var round = 0
    while !Task.isCancelled, Timestamp.now() < order.charge.expires + Self.margin {
      if let word = await findOnChain(order) { return word }
      switch await facilitator.verify(content) {
      case .valid: return nil
      // It was verified as unused before, and an answer was lost: most likely our call used it. A payer could have cancelled it in between, so
      // where there is a node, only the chain's own word counts.
      case .invalid(let reason) where reason.tellsUse && rpc == nil: return await settled(order, ledger.payment(order.id)?.transaction)
      case .invalid, .unavailable: break
      }
      await pause(round)
      round += 1
    }
    return .unknown
  }

  /// Looks for a settlement on the chain, where there is a node to ask; nil where none is found.
  private func findOnChain(_ order: SettlementOrder) async -> SettlementWord? {
    guard rpc != nil, case .call(let to, let data) = order.charge.means, let word = await findLanded(order, to: to, data: data),
      case .settled = word
    else { return nil }
    return word
  }

  // MARK: what it comes to

  /// Whether a receipt is as deep in the chain as is asked for.
  private func isDeep(_ receipt: TransactionReceipt) async -> Bool {
    guard let rpc, let head = try? await rpc.blockNumber(), head >= receipt.blockNumber else { return false }
    return head - receipt.blockNumber + 1 >= plan.confirmations
  }

  /// Compares what a transaction did with what was to be paid.
  private func judge(_ order: SettlementOrder, _ receipt: TransactionReceipt) async -> SettlementWord {
    let hash = receipt.transactionHash
    let refusal = SettlementWord.refused(SettlementRefusal(reason: .transactionFailed, transaction: hash))
    // A call that succeeds has not moved money for sure: some tokens pass over a nonce that is used, and revert nothing.
    guard receipt.isSuccessful, order.charge.isPaid(by: receipt.logs.compactMap { TransferEvent($0) }) else { return await release(order, refusal) }
    switch order.charge.means {
    case .call, .none: break
    case .transaction, .hash:
      // Somebody else made it: an older one, or one that was made for something else, pays for that.
      guard let rpc, let time = try? await rpc.time(ofBlock: receipt.blockNumber), let record = try? await rpc.transaction(hash) else { return .unknown }
      guard order.charge.isPayment(sender: receipt.from, to: record.to, data: record.input ?? [], at: time) else {
        return await release(order, refusal)
      }
    }
    return await settled(order, hash)
  }

  private func settled(_ order: SettlementOrder, _ transaction: Digest32?) async -> SettlementWord {
    do {
      let entry = try ledger.settled(order.id, transaction: transaction, at: .now())
      return await ledger.isDurable(entry) ? .settled : .unknown
    } catch { return .unknown }
  }

  /// Frees a payment that cannot settle any more.
  private func release(_ order: SettlementOrder, _ word: SettlementWord) async -> SettlementWord {
    let cause: String
    switch word {
    case .refused(let refusal): cause = refusal.reason.rawValue
    case .settled, .unknown, .unavailable: cause = "unavailable"
    }
    do {
      let entry = try ledger.refused(order.id, cause: cause, at: .now())
      return await ledger.isDurable(entry) ? word : .unknown
    } catch { return .unknown }
  }

  /// Frees a payment about which nobody could be asked.
  private func withdraw(_ order: SettlementOrder) async -> SettlementWord { await release(order, .unavailable) }

  /// Waits before the next look: a tenth of a second at first, then twice as long each time.
  private func pause(_ round: Int) async {
    let milliseconds = min(100 << min(round, 10), Self.longestPause * 1000)
    try? await Task.sleep(for: .milliseconds(milliseconds))
  }
}

extension X402Reason {
  /// Whether it says that the payer's authorization has been used.
  fileprivate var tellsUse: Bool { self == .exactNonceAlreadyUsed || self == .permit2InvalidNonce || self == .duplicateSettlement }
}
