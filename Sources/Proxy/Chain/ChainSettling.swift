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
  private static var unknownLimit: Int { 20 }
  /// How long after its authorization has ended a payment may still turn out to have settled.
  private static var margin: Duration { .seconds(120) }
  /// Blocks that are searched for a transaction that was lost sight of.
  private static var searchDepth: UInt64 { 2_000 }
  /// Seconds between two questions about a payment whose outcome is unknown, at most.
  private static var longestPause: Int { 30 }

  /// Settles a payment, or finds out why it cannot be.
  func settle(_ order: SettlementOrder) async -> SettlementWord {
    var order = order
    if order.entry == nil {
      if let facilitator, let content = order.facilitated, case .invalid(let reason) = await facilitator.verify(content) {
        return .refused(SettlementRefusal(reason: reason))
      }
      if let rpc {
        // Where there is no contract, the signature was the payer's own to make.
        guard let code = try? await rpc.code(of: order.charge.payer) else { return .unavailable }
        if code.isEmpty { return .refused(SettlementRefusal(reason: .exactPayloadSignature)) }
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
    var mayHaveLanded = ledger.payment(order.id)?.state == .submitted
    for attempt in 0..<Self.attemptLimit {
      let outcome: ChainSubmitter.Outcome
      if attempt == 0, let known = await submitter.follow(order.id) {
        outcome = known
      } else {
        if mayHaveLanded {
          guard let word = await findLanded(order, to: to, data: data) else { return .unknown }
          guard case .unavailable = word else { return word }
        }
        if let word = await simulate(order) { return await release(order, word) }
        mayHaveLanded = true
        outcome = await submitter.submit(order.id, to: to, data: data)
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
    do {
      let entry = try ledger.submitted(order.id, transaction: hash, at: .now())
      guard await ledger.isDurable(entry) else { return .unknown }
    } catch { return .unknown }
    var isSent = false
    for round in 0..<Int.max where !Task.isCancelled {
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
          if case .refused = error, !isSent, !wasSubmitted {
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

  // MARK: by a transaction that is on the chain

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
      await pause(min(round, 1))
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
    // An answer that was lost may have been a success: what refuses the payment afterwards may be that very success.
    var isAmbiguous = wasSubmitted
    for round in 0..<Int.max where !Task.isCancelled {
      switch await facilitator.settle(content) {
      case .settled(let transaction): return await settled(order, transaction)
      case .pending(let transaction):
        isAmbiguous = true
        _ = try? ledger.submitted(order.id, transaction: transaction, at: .now())
      case .refused(let reason):
        // After an answer that was lost, a refusal says nothing about the call before it.
        guard isAmbiguous else { return await release(order, .refused(SettlementRefusal(reason: reason))) }
      case .used:
        // It was not used when it was verified, and nobody else can have claimed it here: the answer that was lost was a success.
        guard isAmbiguous else { return await release(order, .refused(SettlementRefusal(reason: .exactNonceAlreadyUsed))) }
        return await settled(order, ledger.payment(order.id)?.transaction)
      case .notAsked:
        if !isAmbiguous, round >= 2 { return await withdraw(order) }
      case .unknown: isAmbiguous = true
      }
      // Long after the authorization has ended nothing new comes; an operator has to look.
      guard Timestamp.now() < order.charge.expires + Self.margin else { return .unknown }
      await pause(round)
    }
    return .unknown
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

  private func pause(_ round: Int) async {
    let seconds = min(1 << min(round, 5), Self.longestPause)
    try? await Task.sleep(for: round == 0 ? plan.pollInterval : .seconds(seconds))
  }
}
