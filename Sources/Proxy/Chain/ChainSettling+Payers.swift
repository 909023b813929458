import Bytes
import Encoding
import Ethereum
import Ledger
import Methods
import Payments

// Settling by a transaction of the payer's: one that is handed over, or one that is on the chain.
extension Chain {
  /// Looks for a transaction that may be unknown to the chain, before it counts as unknown.
  private static var unknownLimit: Int { 4 }
  /// Looks that have to find nothing of a transaction that no block takes any more.
  private static var lateLooks: Int { 2 }

  // MARK: handed over

  func settleByTransaction(_ order: SettlementOrder, raw: [UInt8], hash: Digest32) async -> SettlementWord {
    guard let rpc else { return await release(order, .unavailable) }
    let wasSubmitted = ledger.payment(order.id)?.state == .submitted
    if !wasSubmitted {
      if let word = await examine(order, raw, hash) { return await release(order, word) }
      do throws(Refusal) {
        guard try await ledger.commit({ () throws(Refusal) in try ledger.submitted(order.id, transaction: hash, at: .now()) }) else { return .unknown }
      } catch { return .unknown }
    }
    // Nothing was sent anywhere until one broadcast is at least tried.
    var isSent = wasSubmitted
    var looks = 0
    for round in 0..<Int.max {
      guard !Task.isCancelled else { break }
      // Whoever signed it may still use its nonce elsewhere: that is found out, now and whenever the payment is looked at again.
      guard Timestamp.now() < order.charge.expires + Self.margin || round <= Self.unknownLimit else { return .unknown }
      switch await rpc.look(for: hash) {
      case .nothing: break
      case .receipt(let receipt): if await isDeep(receipt) { return await judge(order, receipt, isSponsored: SignedTempoTransaction.isSponsored(raw)) }
      case .absent:
        if await rpc.isPast(SignedTempoTransaction.end(of: raw), confirmations: plan.confirmations) {
          // No block takes it any more, and one node may be behind another.
          looks += 1
          if looks == Self.lateLooks { return await release(order, order.refused(.transactionFailed, hash)) }
          break
        }
        do throws(ChainError) {
          try await rpc.send(raw)
          isSent = true
        } catch {
          // What no node has taken has gone nowhere. What one has may be refused by another, for it may have landed meanwhile; and an
          // answer that was lost may have been a yes.
          if await isDisplaced(raw, hash) { return await release(order, order.refused(.transactionFailed, hash)) }
          if case .refused(_, let kind) = error, !isSent, kind != .nonceTooLow { return await release(order, order.refused(.transactionFailed, hash)) }
          isSent = true
        }
      }
      await pause(round)
    }
    return .unknown
  }

  /// Looks at a transaction before it is taken for a payment: nobody else may know it, it has to be its sender's next, and where we pay for it,
  /// it has to succeed. Nil where it is in order.
  private func examine(_ order: SettlementOrder, _ raw: [UInt8], _ hash: Digest32) async -> SettlementWord? {
    guard let rpc else { return .unavailable }
    do throws(ChainError) {
      // What was broadcast before is everybody's to bring.
      if !plan.settings.acceptsHash, try await rpc.transaction(hash) != nil { return order.refused(.transactionFailed, hash) }
      guard let signed = try? SignedTempoTransaction(decoding: raw) else {
        guard let signed = try? SignedTransaction(decoding: raw) else { return order.refused(.transactionFailed, hash) }
        // Behind a gap it would wait for ever, and so would we.
        guard try await rpc.transactionCount(of: signed.sender, includesPending: true) >= signed.transaction.nonce else {
          return order.refused(.transactionFailed, hash)
        }
        return nil
      }
      if SignedTempoTransaction.isSponsored(raw), reverts.isSponsoringOver() { return .unavailable }
      for call in signed.transaction.calls {
        guard let to = call.to else { continue }
        _ = try await rpc.call(to: to, data: call.data, from: signed.sender)
      }
      return nil
    } catch {
      if case .reverted = error { return order.refused(.exactTransactionSimulationFailed) }
      return .unavailable
    }
  }

  /// Whether the chain has taken the transaction's nonce for another one.
  private func isDisplaced(_ raw: [UInt8], _ hash: Digest32) async -> Bool {
    guard let rpc, let signed = try? SignedTransaction(decoding: raw), let head = try? await rpc.blockNumber(),
      let taken = try? await rpc.transactionCount(of: signed.sender, at: head > plan.confirmations ? head - plan.confirmations : 0),
      taken > signed.transaction.nonce, case .absent = await rpc.look(for: hash)
    else { return false }
    return true
  }

  // MARK: on the chain

  /// Looks whether a transaction can be seen; nil where it is.
  func lookForUnclaimed(_ order: SettlementOrder, _ hash: Digest32) async -> SettlementWord? {
    guard let rpc else { return .unavailable }
    var wasSilent = false
    for round in 0..<Self.unknownLimit where !Task.isCancelled {
      do throws(ChainError) { if try await rpc.transaction(hash) != nil { return nil } } catch { wasSilent = true }
      if round + 1 < Self.unknownLimit { await pause(round) }
    }
    if wasSilent { return .unavailable }
    // A node may be behind the payer's: as long as it may be a payment, nobody is asked to pay again.
    return Timestamp.now() < order.charge.expires + Self.margin ? .unknown : order.refused(.transactionFailed, hash)
  }

  func settleByHash(_ order: SettlementOrder, _ hash: Digest32) async -> SettlementWord {
    guard let rpc else { return await release(order, .unavailable) }
    // It was seen, and may land at any time: a restart goes on with it.
    do throws(Refusal) {
      guard try await ledger.commit({ () throws(Refusal) in try ledger.submitted(order.id, transaction: hash, at: .now()) }) else { return .unknown }
    } catch { return .unknown }
    for round in 0..<Int.max {
      guard !Task.isCancelled else { break }
      switch await rpc.look(for: hash) {
      case .nothing: break
      case .receipt(let receipt): if await isDeep(receipt) { return await judge(order, receipt, isSponsored: false) }
      // Past the end of its time by the chain's own clock, no block makes a payment of it.
      case .absent:
        if Timestamp.now() > order.charge.expires + Self.margin, let head = try? await rpc.blockNumber(), let time = try? await rpc.time(ofBlock: head),
          time > order.charge.expires + Self.margin
        {
          return await release(order, order.refused(.transactionFailed, hash))
        }
      }
      guard Timestamp.now() < order.charge.expires + Self.margin * 2 else { return .unknown }
      await pause(round)
    }
    return .unknown
  }

  /// Compares what a payer's transaction did with what was to be paid.
  private func judge(_ order: SettlementOrder, _ receipt: TransactionReceipt, isSponsored: Bool) async -> SettlementWord {
    let hash = receipt.transactionHash
    let refusal = order.refused(.transactionFailed, hash)
    // What others pay for is no harm.
    if isSponsored, !receipt.isSuccessful { reverts.note(order.charge.payer, isSponsored: true) }
    guard receipt.isSuccessful, order.charge.isPaid(by: receipt.logs.compactMap { TransferEvent($0) }) else { return await release(order, refusal) }
    // An older one, or one that was made for something else, pays for that.
    guard let rpc, let time = try? await rpc.time(ofBlock: receipt.blockNumber), let record = try? await rpc.transaction(hash) else { return .unknown }
    guard order.charge.isPayment(sender: receipt.from, to: record.to, data: record.input ?? [], at: time) else { return await release(order, refusal) }
    if case .hash = order.charge.means, time > order.charge.expires + Self.margin { return await release(order, refusal) }
    return await settled(order, hash)
  }
}
