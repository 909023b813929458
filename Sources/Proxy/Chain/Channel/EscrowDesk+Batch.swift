import Bytes
import Configuration
import Encoding
import Ethereum
import Ledger
import Methods

// Channels of x402's batch-settlement: what was charged is claimed and paid out in one transaction, and what is left goes back to the payer where
// a channel is closed. The contract closes none for good: a payer who deposits again goes on with his.
extension EscrowDesk {
  /// The most channels whose logs are asked for by their ids; where there are more, each is read more often.
  private static var toldLimit: Int { 500 }

  /// Whether a channel is one of those that this desk looks after.
  func keeps(_ view: ChannelView) -> Bool {
    guard let rules = StoredChannel(view.descriptor)?.escrow.rules else { return false }
    return (rules == .batch) == (escrow.rules == .batch)
  }

  /// Finds out whether the contract can be asked; false where it has to be tried again.
  func prepareBatch() async -> Bool {
    guard let settings = plan.settings.batch, let code = try? await rpc.code(of: escrow.address) else { return false }
    guard !code.isEmpty else {
      blame("there is no contract at \(escrow.address.checksummed)")
      return false
    }
    let nobody = StoredChannel(escrow: escrow, channel: ChannelDescriptor(payer: .zero, payee: .zero, token: .zero, salt: Digest32()))
    guard (try? await readBatch(nobody, Digest32())) != nil else {
      blame("it is no contract of this kind")
      return false
    }
    note(gracePeriod: UInt64(clamping: settings.withdrawDelay.components.seconds))
    return true
  }

  /// A payer's withdrawal has to be seen within the shortest delay that any channel has: the configured one may have been another before.
  func noteDelays(of channels: [ChannelView]) {
    guard let settings = plan.settings.batch else { return }
    let delays = channels.compactMap { StoredChannel($0.descriptor)?.channel.withdrawDelay }
    note(gracePeriod: delays.reduce(UInt64(clamping: settings.withdrawDelay.components.seconds), min))
  }

  // MARK: reading

  /// Reads a channel.
  ///
  /// - Parameter block: an earlier one than the newest.
  func readBatch(_ stored: StoredChannel, _ id: Digest32, atBlock block: UInt64? = nil) async throws(ChainError) -> BatchStanding {
    let question = BatchStanding.question(id, of: stored.channel)
    let answer: [UInt8]
    if let block {
      answer = try await rpc.call(to: stored.escrow.address, data: question, atBlock: block)
    } else {
      answer = try await rpc.call(to: stored.escrow.address, data: question, from: nil)
    }
    do throws(ChannelError) {
      let seen = try BatchStanding(returned: answer)
      note(refundNonce: seen.refundNonce, of: id)
      return seen
    } catch { throw .unreadable }
  }

  /// Reads a channel as it was after a transaction, or later where the node has forgotten what was then.
  func readBatch(_ stored: StoredChannel, _ id: Digest32, asOf receipt: TransactionReceipt) async throws(ChainError) -> BatchStanding {
    do throws(ChainError) { return try await readBatch(stored, id, atBlock: receipt.blockNumber) } catch {
      guard case .refused = error else { throw error }
      let head = try await rpc.blockNumber()
      guard head >= plan.confirmations, head - plan.confirmations + 1 > receipt.blockNumber else { throw error }
      return try await readBatch(stored, id, atBlock: head - plan.confirmations + 1)
    }
  }

  /// Reads a channel as deep in the chain as is asked for.
  private func readBatchConfirmed(_ stored: StoredChannel, _ id: Digest32) async throws(ChainError) -> BatchStanding {
    guard plan.confirmations > 1 else { return try await readBatch(stored, id) }
    let head = try await rpc.blockNumber()
    guard head >= plan.confirmations else { throw .unreachable }
    return try await readBatch(stored, id, atBlock: head - plan.confirmations + 1)
  }

  /// What picks the logs of some channels out of the contract's: they name who is paid in no topic. nil where the channels are too many.
  func batchTopics(_ channels: [ChannelView]) -> [[Digest32]]? {
    channels.isEmpty || channels.count > Self.toldLimit ? nil : [[], channels.map(\.id)]
  }

  /// Reads one channel, and tells the ledger what is new; false where the ledger has learnt something else meanwhile.
  func renewBatch(
    _ former: ChannelView, _ stored: StoredChannel, _ miss: UnreadChannel.Miss, _ head: (number: UInt64, hash: Digest32), at now: Instant
  ) async throws(ChainError) -> Bool {
    var seen = try await readBatch(stored, former.id)
    // What is added counts as deep in the chain as is asked for.
    let deep = plan.confirmations > 1 && seen.balance > former.account.deposit ? try await readBatchConfirmed(stored, former.id) : seen
    note(former.id, isUnconfirmed: seen.balance > deep.balance)
    // A node that lags shows less than there is, or more where a part went back: that counts as of a block that is known.
    if miss.isReorganised || seen.balance != former.account.deposit || miss.mayHaveFallen && seen.totalClaimed < former.booked {
      seen = try await readBatch(stored, former.id, atBlock: head.number)
    }
    // What rests on a later block is newer than this.
    guard let view = ledger.channel(former.id), view.account.block <= head.number || miss.isReorganised else { return true }
    // What was deposited or claimed while the chain was asked is not known to what it has said.
    guard view.account == former.account, view.booked == former.booked else { return false }
    let isLess = seen.balance < view.account.deposit
    if isLess, view.phase != .closing, try await isOpeningGone(view) {
      try await vanish(view, at: now)
      return true
    }
    note(present: view.id)
    if seen.withdrawRequestedAt != 0 {
      // What failed before, and what is on its way, was done when nothing pressed.
      if view.account.closeRequestedAt == 0 { succeed(view.id) }
      if view.underWay != nil { await submitter.hasten(view.id) }
    }
    // What is being closed is looked at step by step.
    guard view.phase != .closing else {
      var account = view.account
      account.closeRequestedAt = max(account.closeRequestedAt, seen.withdrawRequestedAt)
      guard account != view.account else { return true }
      do { _ = try ledger.observed(view.id, account, at: .now()) } catch { throw .ledgerUnavailable }
      return true
    }
    var account = view.account
    account.deposit = isLess ? seen.balance : max(account.deposit, min(seen.balance, deep.balance))
    account.settled = max(account.settled, seen.totalClaimed)
    account.closeRequestedAt = seen.withdrawRequestedAt
    if account != view.account || miss.isReorganised || view.phase == .suspended { (account.block, account.blockHash) = (head.number, head.hash) }
    do {
      if account != view.account { _ = try ledger.observed(view.id, account, lowering: view.account, at: .now()) }
      guard let newer = ledger.channel(view.id), newer.account.deposit <= account.deposit else { return false }
      if view.phase == .suspended { _ = try ledger.suspend(view.id, false, at: .now()) }
      if miss.mayHaveFallen, seen.totalClaimed < view.booked { note(toResettle: view.id) }
      guard isLess || seen.withdrawRequestedAt != 0 else { return true }
      notices.tell(.channelForced(channel: HexData.text(view.id)))
      _ = try ledger.beginClose(view.handle, cause: .forced, voucher: nil, at: .now())
    } catch { throw .ledgerUnavailable }
    return true
  }

  // MARK: channels that the ledger does not know

  /// Takes over a channel that the chain knows and the ledger does not, as after a restored copy of it: what was charged and not claimed is lost.
  func adopt(_ step: ChannelStep, _ order: ChannelOrder) async -> SettlementWord {
    let stored = StoredChannel(escrow: step.escrow, channel: step.channel)
    do throws(ChainError) {
      guard let head = try await rpc.header(.latest) else { throw .unreachable }
      let deep = try await readBatchConfirmed(stored, order.id)
      let seen = try await readBatch(stored, order.id, atBlock: head.number)
      // A node that lags would tell less than was claimed, and so sell the same again.
      let newest = try await readBatch(stored, order.id)
      guard newest == seen else { return .unavailable }
      if ledger.channel(order.id) != nil { return .settled }
      if seen.withdrawRequestedAt != 0 { return Self.refusal(.closeRequested) }
      let balance = min(seen.balance, deep.balance)
      guard step.claimed == seen.totalClaimed, balance > seen.totalClaimed else { return Self.refusal(.amountNotIncreasing) }
      guard order.voucher.amount <= balance else { return Self.refusal(.amountExceedsDeposit) }
      // What was captured is claimed again, or comes back by itself, before it can be charged a second time.
      if case .closed(let record)? = ledger.closeResult(order.id), let captured = record.channel?.captured, captured > seen.totalClaimed {
        return .unavailable
      }
      let account = ChannelAccount(deposit: balance, settled: seen.totalClaimed, block: head.number, blockHash: head.hash)
      do throws(Refusal) {
        let entry = try ledger.awaited { () throws(Refusal) in try ledger.adopted(order, account, at: .now()) }
        return await ledger.isDurable(entry) ? .settled : .unknown
      } catch { return .declined(error) }
    } catch { return .unavailable }
  }

  // MARK: deposits

  /// Why a deposit is of no use to the request that it came with; nil where it is.
  func objectionToBatch(_ step: ChannelStep) async throws(ChainError) -> ChannelError? {
    let seen = try await readBatch(StoredChannel(escrow: step.escrow, channel: step.channel), step.transaction.channelID)
    if seen.withdrawRequestedAt != 0 { return .closeRequested }
    // The channel was used before: who knows no better goes on with what was claimed.
    if let claimed = step.claimed, claimed != seen.totalClaimed { return .amountNotIncreasing }
    return nil
  }

  /// Whether what a deposit takes from its payer was taken; nil where nobody can tell.
  func hasBatchLanded(_ step: ChannelStep) async -> Bool? {
    guard let use = Self.use(of: step) else { return nil }
    let question = use.question
    do throws(ChainError) {
      let head = try await rpc.blockNumber()
      guard head >= plan.confirmations else { return nil }
      return use.isUsed(try await rpc.call(to: question.to, data: question.data, atBlock: head - plan.confirmations + 1))
    } catch { return nil }
  }

  /// What of the payer's a deposit uses once.
  private static func use(of step: ChannelStep) -> NonceUse? {
    guard case .call(_, let data) = step.transaction.means, let values = try? BatchSettlement.deposit.arguments(of: data), values.count == 4,
      let collector = values[2].addressValue, let handed = values[3].bytesValue
    else { return nil }
    if collector == BatchSettlement.authorizationCollector {
      guard let salt = try? ABI.decode(handed, as: [.uint256, .uint256, .uint256, .bytes])[2].uintValue else { return nil }
      let nonce = BatchSettlement.depositNonce(channelID: step.transaction.channelID, salt: salt)
      return .authorization(token: step.channel.token, payer: step.channel.payer, nonce: nonce)
    }
    guard let nonce = try? ABI.decode(handed, as: [.uint256, .uint256, .bytes, .bytes])[0].uintValue else { return nil }
    return .permit(owner: step.channel.payer, nonce: nonce)
  }

  // MARK: claiming and closing

  /// What is to be done for a channel now.
  func duty(of view: ChannelView, _ standing: ChannelStanding, _ schedule: ChannelSchedule, at now: Timestamp) -> ChannelDuty {
    escrow.rules == .batch ? schedule.batchDuty(of: view, standing, at: now) : schedule.duty(of: view, standing, at: now)
  }

  /// Does the next step for a channel of which nothing is under way.
  func stepBatch(_ view: ChannelView, _ stored: StoredChannel) async throws(ChainError) -> Progress {
    let seen = try await readBatch(stored, view.id)
    if seen.totalClaimed > view.booked { return try await bookClaimed(view, stored) }
    if view.phase == .open, seen.withdrawRequestedAt == 0, let amount = wish(of: view.id) {
      return try await giveBack(.part(amount), view, stored, seen)
    }
    guard let schedule = schedule(of: view) else { return .done }
    switch schedule.batchDuty(of: view, seen.standing, at: .now()) {
    case .nothing where !hasToResettle(view.id) || seen.totalClaimed >= view.booked: return .done
    case .wait: return .later
    case .end(let cause): return try await begin(view, cause)
    case .nothing, .settle: return try await submitBatch(view, stored, seen, isClose: false)
    case .close: return try await submitBatch(view, stored, seen, isClose: true)
    }
  }

  // MARK: parts

  /// How often a channel is looked after for what its payer wants back.
  private static var wishRounds: Int { 8 }

  /// Gives a part of what is left of a channel back to its payer; the channel goes on.
  func giveBack(_ id: Digest32, wanted amount: UInt128) async -> SettlementWord {
    if hasReturned(amount, of: id) { return .settled }
    guard note(wish: amount, of: id) else { return .unavailable }
    defer { endWish(of: id) }
    for round in 0..<Self.wishRounds where !Task.isCancelled {
      guard ledger.channel(id)?.phase == .open else { return Self.refusal(.channelFinalized) }
      guard let task = attend(id, isAsked: true) else { break }
      await task.value
      if returned(id) != nil { return .settled }
      await Self.pause(round)
    }
    // What is on its way then goes on.
    return ledger.channel(id)?.returning == nil ? Self.refusal(.depositFailed) : .unknown
  }

  /// Submits what gives a part back.
  private func giveBack(_ errand: BatchErrand, _ view: ChannelView, _ stored: StoredChannel, _ seen: BatchStanding) async throws(ChainError) -> Progress {
    guard case .part(let amount) = errand, view.inFlight == 0, view.account.deposit > amount, view.account.deposit - amount >= view.budget,
      let transaction = try? ChannelTransaction.batch(
        errand, view.claimed.signed(of: view.id), charged: view.debited, channel: stored.channel, standing: seen, escrow: stored.escrow),
      case .call(let to, let data) = transaction.means
    else { return .done }
    do throws(ChainError) { _ = try await rpc.call(to: to, data: data, from: submitter.address) } catch {
      guard case .reverted = error else { throw error }
      return .done
    }
    guard case .part(let returned) = errand, gas.take(stored.channel.payer, at: .now()) else { return .done }
    let outcome = await submitter.submit(.channel(view.id, isClose: false, voucher: view.claimed.amount, returning: returned), to: to, data: data)
    return try await take(outcome, view, stored, isClose: false, nil)
  }

  private func submitBatch(
    _ view: ChannelView, _ stored: StoredChannel, _ seen: BatchStanding, isClose: Bool
  ) async throws(ChainError) -> Progress {
    var isRefused = false
    // What was earned does not wait for what goes back, nor for a contract that does several things at once.
    for errand in isClose ? [BatchErrand.close, .settle, .claim] : [.settle, .claim] {
      guard
        let transaction = try? ChannelTransaction.batch(
          errand, view.claimed.signed(of: view.id), charged: view.debited, channel: stored.channel, standing: seen, escrow: stored.escrow),
        case .call(let to, let data) = transaction.means
      else { continue }
      do throws(ChainError) { _ = try await rpc.call(to: to, data: data, from: submitter.address) } catch {
        guard case .reverted = error else { throw error }
        isRefused = true
        continue
      }
      let isUrgent = view.cause == .forced || view.account.closeRequestedAt != 0
      let ends = errand == .close
      let outcome = await submitter.submit(.channel(view.id, isClose: ends, voucher: view.claimed.amount), to: to, data: data, urgency: isUrgent ? .urgent : .usual)
      return try await take(outcome, view, stored, isClose: ends, nil)
    }
    if isRefused { return .failed("a call of the contract of batch-settlement would be undone") }
    guard isClose else { return .done }
    // Nothing is to be claimed, and nothing to be given back.
    let deep = try await readBatchConfirmed(stored, view.id)
    guard deep == seen else { return .later }
    return try await end(view, captured: max(seen.totalClaimed, view.booked), refunded: 0, nil)
  }

  /// Books what a transaction of ours has done, as of its block: what is claimed counts once it has been paid out.
  func concludeBatch(
    _ view: ChannelView, _ stored: StoredChannel, _ receipt: TransactionReceipt, isClose: Bool
  ) async throws(ChainError) -> Progress {
    let seen = try await readBatch(stored, view.id, asOf: receipt)
    let isPaid = seen.isSwept || ChannelTransaction.paysOut(receipt.logs, of: stored.channel, escrow: stored.escrow)
    guard seen.totalClaimed <= view.booked || isPaid else { return try abandon(view) }
    note(resettled: view.id)
    note(returned: receipt.transactionHash, of: view.id)
    guard isClose else { return try await book(view, seen, receipt.transactionHash, in: (receipt.blockNumber, receipt.blockHash)) }
    let refunded = view.account.deposit - min(view.account.deposit, seen.balance)
    return try await end(view, captured: seen.totalClaimed, refunded: refunded, receipt.transactionHash)
  }

  /// - Parameter block: where the transaction was that did it.
  private func book(
    _ view: ChannelView, _ seen: BatchStanding, _ hash: Digest32?, in block: (number: UInt64, hash: Digest32)? = nil
  ) async throws(ChainError) -> Progress {
    do {
      var account = ledger.channel(view.id)?.account ?? view.account
      // What a part has left rests on its block: a look at an earlier one would put back what went.
      if view.returning != nil, let block, block.number > account.block { (account.block, account.blockHash) = block }
      account.settled = max(account.settled, seen.totalClaimed)
      let entry = try ledger.settled(channel: view.id, account, transaction: hash, at: .now())
      guard await ledger.isDurable(entry) else { throw ChainError.ledgerUnavailable }
    } catch { throw .ledgerUnavailable }
    return .again
  }

  /// Something was claimed without our being told: by a transaction whose end we did not see, or by another program with the same key. It counts
  /// once it has been paid out.
  private func bookClaimed(_ view: ChannelView, _ stored: StoredChannel) async throws(ChainError) -> Progress {
    let deep = try await readBatchConfirmed(stored, view.id)
    guard deep.totalClaimed > view.booked else { return .later }
    if deep.isSwept { return try await book(view, deep, nil) }
    let data = BatchSettlement.settle(receiver: stored.channel.payee, token: stored.channel.token)
    let outcome = await submitter.submit(.channel(view.id, isClose: false, voucher: nil), to: stored.escrow.address, data: data)
    return try await take(outcome, view, stored, isClose: false, nil)
  }
}

extension ChannelSchedule {
  /// Decides what is to be done for a channel of batch-settlement: what was charged counts there, whatever is signed.
  func batchDuty(of view: ChannelView, _ standing: ChannelStanding, at now: Timestamp) -> ChannelDuty {
    switch view.phase {
    case .closing: return view.inFlight > 0 ? .wait : .close
    case .suspended: return .nothing
    case .unconfirmed: return standing.closeRequestedAt != 0 ? .end(.forced) : .nothing
    case .open: break
    }
    if standing.closeRequestedAt != 0 { return .end(.forced) }
    if view.inFlight == 0, now - view.lastUse >= idle { return .end(.idle) }
    let owed = view.debited - min(view.debited, standing.settled)
    guard owed > 0, let since = view.unsettledSince else { return .nothing }
    return owed >= amount || now - since >= age ? .settle : .nothing
  }
}
