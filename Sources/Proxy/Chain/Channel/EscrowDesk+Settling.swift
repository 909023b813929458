import Bytes
import Encoding
import Ethereum
import Ledger
import Methods

// Settling and closing channels: one task a channel, which asks the ledger and the chain anew before each step, so that a restart, a race or
// another version of a transaction need nothing of their own.
extension EscrowDesk {
  /// What one step has come to.
  enum Progress {
    /// Something has changed: look again.
    case again
    /// Look again in a moment.
    case later
    /// There is nothing to do now.
    case done
    /// It has to be tried again some time, and why.
    case failed(String)
  }

  /// The most steps of one task: what takes longer is gone on with by the next look.
  private static var stepLimit: Int { 20_000 }
  /// The most blocks in one question for logs, and the most such questions in one step.
  private static var pieceSpan: UInt64 { 1_000 }
  private static var pieceLimit: Int { 64 }
  /// The pause before something is looked at again.
  private static var shortPause: Duration { .milliseconds(50) }
  private static var longPause: Duration { .seconds(1) }

  /// Whether a channel would be looked after at once.
  func attendsSoon(_ id: Digest32) -> Bool { pauseOf(id).map { $0.until <= .now() } ?? true }

  /// Settles or closes a channel as far as it is due.
  func lookAfter(_ id: Digest32) async {
    var pause = Self.shortPause
    for _ in 0..<Self.stepLimit where !Task.isCancelled {
      guard let view = ledger.channel(id), let stored = StoredChannel(view.descriptor) else { return }
      let progress: Progress
      do throws(ChainError) { progress = try await step(view, stored) } catch {
        guard error != .stopped else { return }
        progress = .failed(error.words)
      }
      switch progress {
      case .again: pause = Self.shortPause
      case .later:
        try? await Task.sleep(for: pause)
        pause = min(pause * 2, Self.longPause)
      case .done: return succeed(id)
      case .failed(let cause): return fail(view, cause)
      }
    }
  }

  private func step(_ view: ChannelView, _ stored: StoredChannel) async throws(ChainError) -> Progress {
    if let hash = view.underWay { return try await follow(view, stored, hash) }
    if stored.escrow.rules == .batch { return try await stepBatch(view, stored) }
    guard case .standing(let standing) = try await read(stored, view.id) else { return try await stepWithoutChannel(view, stored) }
    if standing.isFinalized { return try await concludeFinalized(view, stored) }
    if standing.settled > view.booked { return try await bookSettled(view, stored) }
    guard let schedule = schedule(of: view) else { return .done }
    switch schedule.duty(of: view, standing, at: .now()) {
    case .nothing where !hasToResettle(view.id) || standing.settled >= view.booked: return .done
    case .wait: return .later
    case .end(let cause): return try await begin(view, cause)
    case .nothing, .settle:
      guard let voucher = ChannelChoice(view, rejected: rejected(view.id)).covering(view.spent),
        let transaction = try? ChannelTransaction.settle(voucher.signed(of: view.id), channel: stored.channel, standing: standing, escrow: stored.escrow)
      else { return .failed("the escrow takes none of its vouchers") }
      return try await submit(transaction, view, stored, voucher.amount)
    case .close:
      let choice = ChannelChoice(view, rejected: rejected(view.id))
      let closing = choice.closing(view.id, standing, spent: view.spent, rules: stored.escrow.rules)
      guard let transaction = try? ChannelTransaction.close(closing, channel: stored.channel, standing: standing, escrow: stored.escrow) else {
        return .failed("its amounts do not fit the escrow")
      }
      return try await submit(transaction, view, stored, closing.voucher.cumulativeAmount)
    }
  }

  /// Stops selling on a channel.
  func begin(_ view: ChannelView, _ cause: CloseCause) async throws(ChainError) -> Progress {
    if cause == .forced { notices.tell(.channelForced(channel: HexData.text(view.id))) }
    do {
      let entry = try ledger.beginClose(view.handle, cause: cause, voucher: nil, at: .now())
      guard await ledger.isDurable(entry) else { throw ChainError.ledgerUnavailable }
    } catch { throw .ledgerUnavailable }
    return .again
  }

  // MARK: sending

  private func submit(
    _ transaction: ChannelTransaction, _ view: ChannelView, _ stored: StoredChannel, _ amount: UInt128
  ) async throws(ChainError) -> Progress {
    guard case .call(let to, let data) = transaction.means else { return .done }
    do throws(ChainError) { _ = try await rpc.call(to: to, data: data, from: submitter.address) } catch {
      guard case .reverted(let reason) = error else { throw error }
      return try await undone(view, stored, ChannelRevert(reason), amount)
    }
    let isClose = transaction.step == .close
    let isUrgent = view.cause == .forced || view.account.closeRequestedAt != 0
    let outcome = await submitter.submit(
      .channel(view.id, isClose: isClose, voucher: amount), to: to, data: data, urgency: isUrgent ? .urgent : .usual)
    return try await take(outcome, view, stored, isClose: isClose, amount)
  }

  /// Waits for what was submitted before.
  private func follow(_ view: ChannelView, _ stored: StoredChannel, _ hash: Digest32) async throws(ChainError) -> Progress {
    if let outcome = await submitter.follow(view.id) {
      return try await take(outcome, view, stored, isClose: view.isCloseUnderWay, nil)
    }
    // The outbox has done with it, and the ledger was not told before the program ended.
    switch await rpc.look(for: hash) {
    case .nothing: throw .unreachable
    case .receipt(let receipt):
      guard await isDeep(receipt) else { return .later }
      return try await take(.included(receipt), view, stored, isClose: view.isCloseUnderWay, nil)
    // Another version of it, or another program's transaction with its nonce, has landed: the channel itself says which.
    case .absent: return try abandon(view)
    }
  }

  func take(
    _ outcome: ChainSubmitter.Outcome, _ view: ChannelView, _ stored: StoredChannel, isClose: Bool, _ amount: UInt128?
  ) async throws(ChainError) -> Progress {
    switch outcome {
    case .included(let receipt):
      guard receipt.isSuccessful else {
        _ = try abandon(view)
        return .failed("its transaction was undone")
      }
      return try await conclude(view, stored, receipt, isClose: isClose)
    case .displaced: return try abandon(view)
    case .failed(.reverted(let reason)): return try await undone(view, stored, ChannelRevert(reason), amount)
    case .failed(let error): throw error == .ledgerUnavailable && ledger.channel(view.id) == nil ? .stopped : error
    }
  }

  func abandon(_ view: ChannelView) throws(ChainError) -> Progress {
    // What was to go back lies there still, or not: the next look says so.
    if ledger.channel(view.id)?.returning != nil { note(view.id, isUnconfirmed: true) }
    do { _ = try ledger.abandoned(channel: view.id, at: .now()) } catch { throw .ledgerUnavailable }
    return .again
  }

  /// The call would be undone.
  private func undone(
    _ view: ChannelView, _ stored: StoredChannel, _ reason: ChannelRevert?, _ amount: UInt128?
  ) async throws(ChainError) -> Progress {
    switch reason {
    case .amountExceedsDeposit:
      // Something that was added was taken back, unnoticed: what is left is taken by the vouchers that fit.
      let head = try await rpc.blockNumber()
      let sight = try await read(stored, view.id, atBlock: head)
      guard case .standing(let standing) = sight, standing.deposit < view.account.deposit else { return .failed("a call of the escrow would be undone: \(ChannelRevert.amountExceedsDeposit.rawValue)") }
      let account = view.account.renewed(by: standing, lowersDeposit: true)
      do { _ = try ledger.observed(view.id, account, lowering: view.account, at: .now()) } catch { throw .ledgerUnavailable }
      return .again
    case .invalidSignature:
      // A contract that signs may change its mind; lower vouchers, or what is settled, are all there is then.
      if let amount, amount > view.account.settled {
        note(rejected: amount, of: view.id)
        notices.tell(.channelStuck(channel: HexData.text(view.id), cause: "its signer does not stand by a voucher any more"))
        return .again
      }
      return .failed("the escrow does not take its vouchers' signatures")
    case .notPayee: return .failed("the signer is not who it pays: give the chain the key that it had")
    case nil: return .failed("a call of the escrow would be undone")
    case .some(let reason): return .failed("a call of the escrow would be undone: \(reason.rawValue)")
    }
  }

  // MARK: booking

  /// Books what a transaction of ours has done.
  private func conclude(
    _ view: ChannelView, _ stored: StoredChannel, _ receipt: TransactionReceipt, isClose: Bool
  ) async throws(ChainError) -> Progress {
    if stored.escrow.rules == .batch { return try await concludeBatch(view, stored, receipt, isClose: isClose) }
    let sight = try await read(stored, view.id)
    guard isClose else {
      guard case .standing(let standing) = sight else { return .later }
      // A node that lags does not know yet what has settled.
      if let settled = Self.settled(of: view.id, in: receipt.logs, stored.escrow), standing.settled < settled { return .later }
      note(resettled: view.id)
      return try await book(view, standing, receipt.transactionHash)
    }
    switch sight {
    case .standing(let standing):
      guard standing.isFinalized else { return .later }
      return try await end(view, captured: standing.settled, refunded: standing.deposit - standing.settled, receipt.transactionHash)
    case .absent:
      guard let (captured, refunded) = Self.ending(of: view.id, in: receipt.logs, stored.escrow) else { return .failed("what its close has paid cannot be read") }
      return try await end(view, captured: captured, refunded: refunded, receipt.transactionHash)
    }
  }

  /// What a close told of itself.
  private static func ending(of id: Digest32, in logs: [Log], _ escrow: SessionEscrow) -> (captured: UInt128, refunded: UInt128)? {
    for log in logs {
      guard let event = ChannelEvent(log, escrow: escrow), event.channelID == id, case .closed(let paid, let refunded) = event.kind else { continue }
      return (paid, refunded)
    }
    return nil
  }

  /// What a settlement told of itself: all that is settled with it.
  private static func settled(of id: Digest32, in logs: [Log], _ escrow: SessionEscrow) -> UInt128? {
    for log in logs {
      guard let event = ChannelEvent(log, escrow: escrow), event.channelID == id, case .settled(_, let settled) = event.kind else { continue }
      return settled
    }
    return nil
  }

  private func book(_ view: ChannelView, _ standing: ChannelStanding, _ hash: Digest32?) async throws(ChainError) -> Progress {
    do {
      let account = view.account.renewed(by: standing, lowersDeposit: false)
      let entry = try ledger.settled(channel: view.id, account, transaction: hash, at: .now())
      guard await ledger.isDurable(entry) else { throw ChainError.ledgerUnavailable }
    } catch { throw .ledgerUnavailable }
    return .again
  }

  /// Books the end of a channel.
  func end(_ view: ChannelView, captured: UInt128, refunded: UInt128, _ hash: Digest32?) async throws(ChainError) -> Progress {
    if view.phase != .closing { return try await begin(view, .forced) }
    guard ledger.channel(view.id)?.inFlight == 0 else { return .later }
    do {
      let entry = try ledger.closed(channel: view.id, captured: captured, refunded: refunded, transaction: hash, at: .now())
      guard await ledger.isDurable(entry) else { throw ChainError.ledgerUnavailable }
    } catch { throw .ledgerUnavailable }
    if view.spent > captured { notices.tell(.channelLost(channel: HexData.text(view.id), amount: "\(view.spent - captured)")) }
    return .done
  }

  /// The channel has settled without our being told: by another version of a transaction, or before a restart.
  private func bookSettled(_ view: ChannelView, _ stored: StoredChannel) async throws(ChainError) -> Progress {
    guard case .standing(let standing) = try await readConfirmed(stored, view.id), standing.settled > view.booked else { return .later }
    return try await book(view, standing, nil)
  }

  /// The channel was closed without our being told: by its payer, who has waited long enough, or by a transaction whose end we did not see.
  private func concludeFinalized(_ view: ChannelView, _ stored: StoredChannel) async throws(ChainError) -> Progress {
    guard case .standing(let standing) = try await readConfirmed(stored, view.id), standing.isFinalized else { return .later }
    return try await end(view, captured: standing.settled, refunded: standing.deposit - standing.settled, nil)
  }

  // MARK: channels that are not there

  /// The escrow knows no such channel: its opening was taken back, or it forgets what is closed, as Tempo's does.
  private func stepWithoutChannel(_ view: ChannelView, _ stored: StoredChannel) async throws(ChainError) -> Progress {
    if try await isOpeningGone(view) {
      guard view.phase == .closing else { return .done }
      guard view.inFlight == 0 else { return .later }
      // Nothing can be captured any more, unless the opening comes back within its time: the watch looks for that as long as it is suspended.
      guard view.cause == .reorganised || hasWaited(view.id) else { return .failed("its opening was taken back by the chain") }
      return try await end(view, captured: view.booked, refunded: 0, nil)
    }
    guard stored.escrow.rules == .tempoV2 else { throw .unreachable }
    let head = try await rpc.blockNumber()
    guard head >= plan.confirmations else { throw .unreachable }
    // It is gone since a look that is over: what told of it stands in no later block, but for those that may have changed places since.
    let newest = min(head - plan.confirmations + 1, note(gone: view.id, at: head) + Self.reorganisationDepth)
    guard let (captured, refunded) = try await findEnding(view, stored, through: newest) else { return .later }
    return try await end(view, captured: captured, refunded: refunded, nil)
  }

  /// Looks for what a channel that is gone told of its end: backwards, for that is most likely new, and in pieces that nodes answer. The newest
  /// piece is asked for each time, the others once.
  private func findEnding(
    _ view: ChannelView, _ stored: StoredChannel, through newest: UInt64
  ) async throws(ChainError) -> (captured: UInt128, refunded: UInt128)? {
    // A node that lags may have shown it standing in a block before the one that was the newest elsewhere.
    let stood = stoodAt(view.id).map { $0 - min($0, Self.reorganisationDepth) } ?? 0
    let oldest = min(max(view.account.block, stood), newest)
    var last = newest
    for _ in 0..<Self.pieceLimit {
      let first = max(oldest, last - min(last, Self.pieceSpan - 1))
      let logs = try await rpc.logs(of: [stored.escrow.address], topics: [[], [view.id]], from: first, through: last)
      if let ending = Self.ending(of: view.id, in: logs, stored.escrow) { return ending }
      let least = note(searched: first, of: view.id)
      guard least > oldest else { return nil }
      last = least - 1
    }
    return nil
  }

  /// Whether the block of a channel's opening is not a part of the chain any more. Only a node that has the block's number can tell.
  func isOpeningGone(_ view: ChannelView) async throws(ChainError) -> Bool {
    guard view.account.blockHash != Digest32(), let header = try await rpc.header(.number(view.account.block)) else { throw .unreachable }
    return header.hash != view.account.blockHash
  }
}
