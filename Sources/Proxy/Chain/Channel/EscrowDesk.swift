import Bytes
import Configuration
import Encoding
import Ethereum
import Ledger
import Methods
import Synchronization

/// Opens, watches, settles and closes the channels of one chain.
final class EscrowDesk: Sendable {
  /// How often the chain is asked what is new of channels.
  static let watchInterval = Duration.seconds(5)
  /// How often it is asked while nothing can be sold.
  private static let closedInterval = Duration.seconds(1)
  /// The longest that the last complete look may be ago for sessions to be sold.
  private static let longestFreshness = Duration.seconds(150)
  /// The most channels that are settled at once without anybody asking.
  private static let settlementLimit = 16
  /// The most channels that are looked after at once.
  private static let taskLimit = 1024
  /// The most fundings that are kept until they are deep in the chain.
  private static let fundingLimit = 4096
  /// How old a block has to be for nobody to expect that it is taken back.
  static let reorganisationDepth: UInt64 = 64
  /// How long an opening that was taken back may take to come back.
  static let reorganisationPatience = Duration.seconds(600)

  /// What deposited, for sending it again where its block is taken back.
  enum Funding: Sendable {
    case call(to: Address, data: [UInt8])
    case raw([UInt8])
  }

  /// A part of a channel that went back: what was charged then, and by which transaction.
  private struct Returned {
    let transaction: Digest32
    let amount: UInt128
    let debited: UInt128
    let time = Instant.now()
  }

  private struct State {
    var gracePeriod: UInt64?
    /// When the last complete look began.
    var lastLook: Instant?
    var tasks: [Digest32: Task<Void, Never>] = [:]
    /// How many of them nobody waits for.
    var unasked = 0
    var pauses: [Digest32: ChannelPause] = [:]
    /// When channels were read last.
    var readAt: [Digest32: Instant] = [:]
    /// Channels that could not be read though the chain can be asked.
    var unread: [Digest32: UnreadChannel] = [:]
    /// What opened channels, by channel, and the block that it was in.
    var fundings: [Digest32: (funding: Funding, block: UInt64)] = [:]
    /// What opened channels before this program began, as far as it was looked for; nil: there is none.
    var formerFundings: [Digest32: Funding?] = [:]
    /// Channels with a deposit that is not as deep as is asked for.
    var unconfirmed: Set<Digest32> = []
    /// The newest block at which channels were seen to stand.
    var stoodAt: [Digest32: UInt64] = [:]
    /// Channels that are gone: the newest block when that was seen, and the oldest one that was searched for what told of it.
    var gone: [Digest32: (head: UInt64, searched: UInt64)] = [:]
    var suspendedAt: [Digest32: Instant] = [:]
    /// Channels whose settlement was taken back.
    var resettled: Set<Digest32> = []
    /// The lowest amount of a voucher that the escrow did not take, by channel.
    var rejected: [Digest32: UInt128] = [:]
    /// Channels that operators want settled whatever their schedule says.
    var asked: Set<Digest32> = []
    /// What payers want back of channels that stay open, and what went back last.
    var wishes: [Digest32: UInt128] = [:]
    var returned: [Digest32: Returned] = [:]
    /// The numbers of channels' next refunds.
    var refundNonces: [Digest32: UInt128] = [:]
    var watch: Task<Void, Never>?
    var isStopped = false
    /// Why no sessions are sold, in words.
    var fault: String?
  }

  let escrow: SessionEscrow
  let plan: ChainPlan
  let rpc: ChainRPC
  let submitter: ChainSubmitter
  let ledger: Ledger
  /// Whose deposits have cost gas and brought nothing.
  let reverts: PaidReverts
  /// What payers may have us spend on gas (batch-settlement).
  let gas: GasAllowances
  let notices: ChainNotices
  private let held = Mutex(State())

  init(
    _ escrow: SessionEscrow, plan: ChainPlan, rpc: ChainRPC, submitter: ChainSubmitter, ledger: Ledger, reverts: PaidReverts, gas: GasAllowances,
    notices: ChainNotices
  ) {
    self.escrow = escrow
    self.plan = plan
    self.rpc = rpc
    self.submitter = submitter
    self.ledger = ledger
    self.reverts = reverts
    self.gas = gas
    self.notices = notices
  }

  /// How the escrow stands; nil while its grace period is not known, or not every channel was looked at since the start.
  var state: EscrowState? { state(of: nil) }

  /// The same for one of its channels: one that cannot be read is not watched, whatever the others are.
  func state(of channel: Digest32?) -> EscrowState? {
    held.withLock { held in
      guard let gracePeriod = held.gracePeriod, let lastLook = held.lastLook else { return nil }
      let freshness = Self.freshness(gracePeriod)
      let now = Instant.now()
      let isRead = held.unread.isEmpty || channel.flatMap { held.unread[$0] }?.isApart(at: now, freshness) != true
      return EscrowState(escrow: escrow, gracePeriod: gracePeriod, isWatched: isRead && now - lastLook < freshness)
    }
  }

  /// How long the last look may be ago.
  private static func freshness(_ gracePeriod: UInt64) -> Duration { min(.seconds(Int64(clamping: gracePeriod / 4)), longestFreshness) }

  /// Why no sessions are sold, in words; nil where they are, or the first look is not over.
  var fault: String? { held.withLock { $0.fault } }

  /// Begins to watch. What was under way goes on by the first look.
  func start() {
    let task = Task { [self] in
      while !Task.isCancelled, await !prepare() { try? await Task.sleep(for: Self.closedInterval) }
      var watch = ChannelWatch()
      while !Task.isCancelled {
        let begun = Instant.now()
        let isComplete = await look(&watch)
        if isComplete { held.withLock { $0.lastLook = begun } }
        blame(isComplete ? nil : "its state cannot be read")
        let isFirst = held.withLock { $0.lastLook == nil }
        try? await Task.sleep(for: isFirst ? Self.closedInterval : Self.watchInterval)
      }
    }
    held.withLock { $0.watch = task }
  }

  /// Ends; what is on its way is gone on with by the next start.
  func stop() async {
    let (watch, tasks) = held.withLock { held in
      held.isStopped = true
      return (held.watch.take(), Array(held.tasks.values))
    }
    watch?.cancel()
    for task in tasks { task.cancel() }
    await watch?.value
  }

  /// Asks the escrow how long a forced close takes; false where it has to be asked again.
  private func prepare() async -> Bool {
    if escrow.rules == .batch { return await prepareBatch() }
    do throws(ChainError) {
      guard try await !rpc.code(of: escrow.address).isEmpty || escrow.rules == .tempoV2 else {
        blame("there is no contract at \(escrow.address.checksummed)")
        return false
      }
      let answer = try await rpc.call(to: escrow.address, data: ChannelEscrow.closeGracePeriodCall, from: nil)
      do throws(ChannelError) {
        let seconds = try SessionEscrow.gracePeriod(returned: answer)
        held.withLock { $0.gracePeriod = seconds }
        return true
      } catch {
        blame(error == .gracePeriodTooShort ? "it lets payers withdraw sooner than \(SessionEscrow.leastGracePeriod) s" : "it is no escrow of this kind")
      }
    } catch {
      if case .reverted = error { blame("it is no escrow of this kind") }
    }
    return false
  }

  func blame(_ fault: String?) {
    held.withLock { $0.fault = fault }
    if let fault { notices.tell(.escrowFails(escrow: escrow.address.checksummed, cause: fault)) }
  }

  // MARK: what is kept of channels

  /// Seconds between a forced close and its end.
  var gracePeriod: UInt64 { held.withLock { $0.gracePeriod } ?? SessionEscrow.leastGracePeriod }

  func note(gracePeriod seconds: UInt64) { held.withLock { $0.gracePeriod = seconds } }

  func refundNonce(of id: Digest32) -> UInt128? { held.withLock { $0.refundNonces[id] } }

  func note(refundNonce nonce: UInt128, of id: Digest32) { held.withLock { $0.refundNonces[id] = nonce } }

  /// What a channel's payer wants back while it stays open; nil where he wants nothing, or has it.
  func wish(of id: Digest32) -> UInt128? { held.withLock { held in held.returned[id] == nil ? held.wishes[id] : nil } }

  /// Begins to look after a payer's wish; false where there is another one.
  func note(wish amount: UInt128, of id: Digest32) -> Bool {
    held.withLock { held in
      guard held.wishes[id] == nil else { return false }
      held.wishes[id] = amount
      held.returned[id] = nil
      return true
    }
  }

  func endWish(of id: Digest32) { held.withLock { $0.wishes[id] = nil } }

  /// A transaction has ended that may have given a part of a channel back.
  func note(returned transaction: Digest32, of id: Digest32) {
    guard let view = ledger.channel(id), let amount = view.returning else { return }
    held.withLock { $0.returned[id] = Returned(transaction: transaction, amount: amount, debited: view.debited) }
  }

  /// The transaction that gave the last part of a channel back; nil where none has since the last wish.
  func returned(_ id: Digest32) -> Digest32? { held.withLock { $0.returned[id]?.transaction } }

  /// Whether the same went back a moment ago, with nothing charged since: who asks again got no answer.
  func hasReturned(_ amount: UInt128, of id: Digest32) -> Bool {
    guard let last = held.withLock({ $0.returned[id] }), last.amount == amount, Instant.now() - last.time < .seconds(300) else { return false }
    return ledger.channel(id)?.debited == last.debited
  }

  /// Whether a channel was not read for a time, or never.
  func isUnread(_ id: Digest32, for time: Duration, at now: Instant) -> Bool {
    held.withLock { held in held.readAt[id].map { now - $0 >= time } ?? true }
  }

  func note(read id: Digest32, at now: Instant) {
    held.withLock { held in
      held.readAt[id] = now
      held.unread[id] = nil
    }
  }

  /// What is kept of a channel that could not be read; nil of others.
  func unread(_ id: Digest32) -> UnreadChannel? { held.withLock { $0.unread[id] } }

  /// A channel could not be read by a look.
  func note(unread id: Digest32, _ miss: UnreadChannel.Miss, isAnswered: Bool, at now: Instant) {
    let limit = Duration.seconds(Int64(clamping: max(1, gracePeriod / 16)))
    let isNews = held.withLock { held in
      var unread = held.unread[id] ?? UnreadChannel(since: now, isUnseen: held.readAt[id] == nil && miss.mayHaveFallen)
      let freshness = Self.freshness(held.gracePeriod ?? SessionEscrow.leastGracePeriod)
      unread.fail(miss, isAnswered: isAnswered, at: .now(), limit: limit)
      held.unread[id] = unread
      return unread.isApart(at: .now(), freshness)
    }
    if isNews { notices.tell(.channelUnreadable(channel: HexData.text(id))) }
  }

  /// What a look has to take into account is not forgotten for channels that cannot be read just now.
  func note(missed miss: UnreadChannel.Miss) {
    held.withLock { held in for id in held.unread.keys { held.unread[id]?.miss.add(miss) } }
  }

  /// How many channels are set apart, since they cannot be read.
  var unreadableCount: Int {
    held.withLock { held in
      let freshness = Self.freshness(held.gracePeriod ?? SessionEscrow.leastGracePeriod)
      return held.unread.values.count { $0.isApart(at: .now(), freshness) }
    }
  }

  func note(_ id: Digest32, isUnconfirmed: Bool) {
    held.withLock { held in
      if isUnconfirmed { held.unconfirmed.insert(id) } else { held.unconfirmed.remove(id) }
    }
  }

  /// Whether something of a channel's deposit was seen and does not count yet.
  func isUnconfirmed(_ id: Digest32) -> Bool { held.withLock { $0.unconfirmed.contains(id) } }

  /// A channel was seen to stand at a block.
  func note(standing id: Digest32, at block: UInt64) {
    held.withLock { held in held.stoodAt[id] = max(block, held.stoodAt[id] ?? 0) }
  }

  /// The newest block at which a channel was seen to stand in this run; nil where it was not.
  func stoodAt(_ id: Digest32) -> UInt64? { held.withLock { $0.stoodAt[id] } }

  /// A channel is there no more.
  ///
  /// - Returns: the newest block when that was seen first.
  func note(gone id: Digest32, at head: UInt64) -> UInt64 {
    held.withLock { held in
      let known = held.gone[id] ?? (head, .max)
      held.gone[id] = known
      return known.head
    }
  }

  /// What told of a channel's end stands not in the blocks from this one on.
  ///
  /// - Returns: the oldest block that was searched.
  func note(searched first: UInt64, of id: Digest32) -> UInt64 {
    held.withLock { held in
      let least = min(first, held.gone[id]?.searched ?? .max)
      held.gone[id]?.searched = least
      return least
    }
  }

  /// Forgets what is kept of channels that are no more, and what opened those that are deep in the chain.
  func forgetOthers(than ids: Set<Digest32>, at head: UInt64) {
    held.withLock { held in
      held.readAt = held.readAt.filter { ids.contains($0.key) }
      held.unread = held.unread.filter { ids.contains($0.key) }
      held.pauses = held.pauses.filter { ids.contains($0.key) }
      held.fundings = held.fundings.filter { ids.contains($0.key) && $0.value.block + Self.reorganisationDepth > head }
      held.formerFundings = held.formerFundings.filter { ids.contains($0.key) }
      held.unconfirmed.formIntersection(ids)
      held.stoodAt = held.stoodAt.filter { ids.contains($0.key) }
      held.gone = held.gone.filter { ids.contains($0.key) }
      held.suspendedAt = held.suspendedAt.filter { ids.contains($0.key) }
      held.rejected = held.rejected.filter { ids.contains($0.key) }
      held.returned = held.returned.filter { ids.contains($0.key) }
      held.refundNonces = held.refundNonces.filter { ids.contains($0.key) }
      held.resettled.formIntersection(ids)
    }
  }

  /// Keeps what has opened a channel until that is deep in the chain.
  func keep(_ funding: Funding, of id: Digest32, in block: UInt64) {
    held.withLock { held in
      if held.fundings.count < Self.fundingLimit { held.fundings[id] = (funding, block) }
    }
  }

  func funding(of id: Digest32) -> Funding? { held.withLock { $0.fundings[id]?.funding } }

  /// What opened a channel before this program began, searched for once; nil where there is none.
  func formerFunding(of id: Digest32, _ search: () -> Funding?) -> Funding? {
    if let known = held.withLock({ $0.formerFundings[id] }) { return known }
    let found = search()
    held.withLock { held in if held.formerFundings.count < Self.fundingLimit { held.formerFundings[id] = .some(found) } }
    return found
  }

  /// A channel's opening is not on the chain any more.
  ///
  /// - Returns: since when.
  func note(vanished id: Digest32, at now: Instant) -> Instant {
    held.withLock { held in
      let since = held.suspendedAt[id] ?? now
      held.suspendedAt[id] = since
      return since
    }
  }

  func note(present id: Digest32) {
    held.withLock { held in
      held.suspendedAt[id] = nil
      held.gone[id] = nil
    }
  }

  /// Whether an opening that was taken back has had its time to come back.
  func hasWaited(_ id: Digest32) -> Bool {
    held.withLock { held in held.suspendedAt[id].map { Instant.now() - $0 >= Self.reorganisationPatience } ?? false }
  }

  func pauseOf(_ id: Digest32) -> ChannelPause? { held.withLock { $0.pauses[id] } }

  /// A reorganisation has taken back what was settled, and booked: it is settled again, and booked no second time.
  func note(toResettle id: Digest32) { held.withLock { _ = $0.resettled.insert(id) } }

  func note(resettled id: Digest32) { held.withLock { _ = $0.resettled.remove(id) } }

  func hasToResettle(_ id: Digest32) -> Bool { held.withLock { $0.resettled.contains(id) } }

  func rejected(_ id: Digest32) -> UInt128? { held.withLock { $0.rejected[id] } }

  func note(rejected amount: UInt128, of id: Digest32) {
    held.withLock { held in held.rejected[id] = min(amount, held.rejected[id] ?? .max) }
  }

  /// Something failed with a channel: it is looked after again later.
  func fail(_ view: ChannelView, _ cause: String) {
    let limit = view.cause == .forced || view.account.closeRequestedAt != 0 ? gracePeriod / 32 : nil
    held.withLock { $0.pauses[view.id, default: ChannelPause()].fail(at: .now(), limit: limit) }
    notices.tell(.channelStuck(channel: HexData.text(view.id), cause: cause))
  }

  func succeed(_ id: Digest32) { held.withLock { held in held.pauses[id] = nil } }

  /// How many channels wait because something failed with them.
  var failingCount: Int { held.withLock { $0.pauses.count } }

  // MARK: tasks

  /// Looks after a channel, by one task at a time; nil where too much is under way, or something failed a moment ago.
  ///
  /// - Parameter isAsked: whether somebody waits for it.
  func attend(_ id: Digest32, isAsked: Bool) -> Task<Void, Never>? {
    held.withLock { held in
      if let task = held.tasks[id] { return task }
      // Closes that wait for their blocks keep no settlement from beginning.
      guard !held.isStopped, held.tasks.count < Self.taskLimit, isAsked || held.unasked < Self.settlementLimit else { return nil }
      if let pause = held.pauses[id], pause.until > .now() { return nil }
      let task = Task { [self] in
        await lookAfter(id)
        self.held.withLock { held in
          held.tasks[id] = nil
          if !isAsked { held.unasked -= 1 }
        }
      }
      held.tasks[id] = task
      if !isAsked { held.unasked += 1 }
      return task
    }
  }

  /// Settles what a channel's vouchers allow, whatever its schedule says; false where that cannot be begun.
  func settleNow(_ id: Digest32) -> Bool {
    let isFirst = held.withLock { held -> Bool? in
      guard !held.isStopped else { return nil }
      held.pauses[id] = nil
      return held.asked.insert(id).inserted
    }
    guard let isFirst else { return false }
    if isFirst {
      Task { [self] in
        // What looks after it at the moment may have looked already.
        for _ in 0..<2 { await attend(id, isAsked: true)?.value }
        held.withLock { held in _ = held.asked.remove(id) }
      }
    }
    return true
  }

  /// Closes a channel that was told to close, without waiting for the next look.
  func closeNow(_ id: Digest32) {
    held.withLock { held in held.pauses[id] = nil }
    _ = attend(id, isAsked: true)
  }

  /// The schedule by which a channel is settled and closed.
  func schedule(of view: ChannelView) -> ChannelSchedule? {
    guard let settings = escrow.rules == .batch ? plan.settings.batch : plan.settings.escrow else { return nil }
    let code = view.currency.split(separator: "@").first.map { String($0) } ?? ""
    let isAsked = held.withLock { $0.asked.contains(view.id) }
    let amount = isAsked ? 1 : plan.settings.token(of: code).map { settings.settleAmount(of: $0.currency) } ?? .max
    return ChannelSchedule(amount: amount, age: settings.settleAfter, idle: settings.closeIdleAfter)
  }

  // MARK: reading

  /// What an escrow says of a channel.
  enum Sight {
    case standing(ChannelStanding)
    /// There is none of this id.
    case absent
  }

  /// Reads a channel. What cannot be read is no answer: `unreadable`.
  ///
  /// - Parameter block: an earlier one than the newest.
  func read(_ stored: StoredChannel, _ id: Digest32, atBlock block: UInt64? = nil) async throws(ChainError) -> Sight {
    if stored.escrow.rules == .batch { return .standing(try await readBatch(stored, id, atBlock: block).standing) }
    let rules = stored.escrow.rules
    let question = ChannelStanding.question(id, rules: rules)
    let answer: [UInt8]
    if let block {
      answer = try await rpc.call(to: stored.escrow.address, data: question, atBlock: block)
    } else {
      answer = try await rpc.call(to: stored.escrow.address, data: question, from: nil)
    }
    do throws(ChannelError) {
      return .standing(try ChannelStanding(returned: answer, of: stored.channel, rules: rules))
    } catch {
      guard error == .channelNotFound else { throw .unreadable }
      return .absent
    }
  }

  /// Reads a channel as deep in the chain as is asked for.
  func readConfirmed(_ stored: StoredChannel, _ id: Digest32) async throws(ChainError) -> Sight {
    guard plan.confirmations > 1 else { return try await read(stored, id) }
    let head = try await rpc.blockNumber()
    guard head >= plan.confirmations else { return .absent }
    return try await read(stored, id, atBlock: head - plan.confirmations + 1)
  }

  /// Reads a channel for selling on it: what was deposited counts once it is as deep as is asked for, a close at once.
  ///
  /// - Parameter view: as it was known before; nil for one that is not. What has counted counts on.
  func readUsable(_ stored: StoredChannel, _ id: Digest32, _ view: ChannelView?) async throws(ChainError) -> Sight {
    let newest = try await read(stored, id)
    // No number of 128 bits lives over a suspension by itself: unoptimised code of Swift 6.3 spoils the frame.
    guard plan.confirmations > 1, newest.deposit > view?.account.deposit ?? 0 else {
      note(id, isUnconfirmed: false)
      return newest
    }
    let deep = try await readConfirmed(stored, id)
    note(id, isUnconfirmed: newest.deposit > deep.deposit)
    return newest.limited(to: max(deep.deposit, view?.account.deposit ?? 0))
  }
}
