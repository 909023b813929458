import Bytes
import Encoding
import Ethereum
import Ledger
import Methods

/// What the watch remembers from one look to the next.
struct ChannelWatch {
  /// The newest block whose logs were read; nil before the first look.
  var cursor: UInt64?
  /// The newest block that was seen.
  var head: (number: UInt64, hash: Digest32)?
  /// Whether escrows tell in logs what happens to channels, as far as was seen.
  var speaks = false
}

// Watching channels: what their escrows tell, and what is asked of each from time to time, for drafts promise no events.
extension EscrowDesk {
  /// The most blocks whose logs are asked for at once; after more of them every channel is read.
  private static var logSpan: UInt64 { 2_000 }
  /// The most channels that are read at once.
  private static var readWidth: Int { 8 }

  /// Looks at what is new, and does what is due.
  ///
  /// - Returns: whether a forced close that began before this look would have been seen by it, or by one of the last looks.
  func look(_ watch: inout ChannelWatch) async -> Bool {
    let now = Instant.now()
    guard let block = try? await rpc.header(.latest) else { return false }
    let head = (number: block.number, hash: block.hash)
    guard let isReorganised = await isReorganised(watch, head) else { return false }
    let channels = ledger.openChannels(chain: plan.id).filter(keeps)
    forgetOthers(than: Set(channels.map(\.id)), at: head.number)
    if escrow.rules == .batch { noteDelays(of: channels) }
    // What was taken back before this program began is not on the chain either.
    let miss = UnreadChannel.Miss(isReorganised: isReorganised, mayHaveFallen: isReorganised || watch.head == nil)
    guard let told = await told(&watch, channels, head.number, isReorganised: isReorganised) else { return false }
    let interval = Duration.seconds(Int64(clamping: gracePeriod / (watch.speaks ? 4 : 8)))
    let due = channels.filter { view in
      if let unread = unread(view.id) { return unread.until <= now }
      // What was taken back may be an opening, a settlement, or the request of a close.
      return told.contains(view.id) || isUnconfirmed(view.id) || view.phase == .suspended || isReorganised || isUnread(view.id, for: interval, at: now)
    }
    let isComplete = await readAll(due, miss, head, since: now)
    if isComplete { note(missed: miss) }
    if isComplete {
      watch.head = head
      watch.cursor = head.number
    }
    // Also where the chain could not be asked until the end: closes that are known wait for nobody.
    await startWhatIsDue()
    return isComplete
  }

  /// Whether blocks that were seen are not a part of the chain any more; nil where nobody can tell.
  private func isReorganised(_ watch: ChannelWatch, _ head: (number: UInt64, hash: Digest32)) async -> Bool? {
    guard let last = watch.head, last.hash != head.hash else { return false }
    // A node that lags behind says nothing of later blocks.
    guard head.number >= last.number else { return nil }
    guard head.number > last.number else { return true }
    do throws(ChainError) {
      guard let known = try await rpc.header(.number(last.number)) else { return nil }
      return known.hash != last.hash
    } catch { return nil }
  }

  /// Finds the channels of which escrows tell news; nil where nobody answers.
  private func told(_ watch: inout ChannelWatch, _ channels: [ChannelView], _ head: UInt64, isReorganised: Bool) async -> Set<Digest32>? {
    guard let cursor = watch.cursor else { return Set(channels.map(\.id)) }
    var from = cursor + 1
    if isReorganised { from = min(from, head) - min(min(from, head), Self.reorganisationDepth) }
    guard from <= head else { return [] }
    guard head - from < Self.logSpan else { return Set(channels.map(\.id)) }
    let escrows = Set(channels.compactMap { StoredChannel($0.descriptor)?.escrow.address }).union([escrow.address])
    guard let topics = escrow.rules == .batch ? batchTopics(channels) : [[], [], [], [Word256(submitter.address).octets]] else {
      watch.speaks = false
      return []
    }
    do throws(ChainError) {
      let logs = try await rpc.logs(of: Array(escrows), topics: topics, from: from, through: head)
      let told = Set(logs.compactMap { $0.topics.count > 1 ? $0.topics[1] : nil }).intersection(channels.map(\.id))
      if !told.isEmpty { watch.speaks = true }
      return told
    } catch {
      // A node that gives no logs: channels are read more often.
      guard case .refused = error else { return nil }
      watch.speaks = false
      return []
    }
  }

  // MARK: reading

  /// What a look at one channel has come to.
  private enum Seen {
    case read
    /// There was an answer, and it says nothing.
    case unreadable
    case unanswered
    /// The ledger takes nothing, or the program is about to end.
    case stopped
  }

  /// Reads channels, a few at once. One that cannot be read is set apart, and keeps nobody from the others.
  ///
  /// - Returns: false where the chain could not be asked until the end.
  private func readAll(
    _ views: [ChannelView], _ miss: UnreadChannel.Miss, _ head: (number: UInt64, hash: Digest32), since now: Instant
  ) async -> Bool {
    await withTaskGroup(of: (id: Digest32, seen: Seen).self) { group in
      var rest = views[...]
      var silent: [Digest32] = []
      var silence = 0
      var isOver = false
      for _ in 0..<Self.readWidth {
        guard let view = rest.popFirst() else { break }
        group.addTask { (view.id, await self.renew(view, miss, head)) }
      }
      while let (id, seen) = await group.next() {
        switch seen {
        case .read: silence = 0
        case .unreadable: note(unread: id, miss, isAnswered: true, at: now)
        case .unanswered:
          silent.append(id)
          silence += 1
        case .stopped: isOver = true
        }
        // So many in a row: either they are strange, or nobody answers at all.
        if silence >= Self.readWidth, !isOver {
          isOver = await !rpc.isAnswering
          silence = 0
        }
        guard !isOver, !Task.isCancelled, let view = rest.popFirst() else { continue }
        group.addTask { (view.id, await self.renew(view, miss, head)) }
      }
      guard !isOver, rest.isEmpty else { return false }
      guard !silent.isEmpty else { return true }
      guard await rpc.isAnswering else { return false }
      for id in silent { note(unread: id, miss, isAnswered: false, at: now) }
      return true
    }
  }

  /// How often a channel is read anew that is changed while it is being read.
  private static var renewLimit: Int { 3 }

  /// Reads one channel, and tells the ledger what is new.
  private func renew(_ former: ChannelView, _ miss: UnreadChannel.Miss, _ head: (number: UInt64, hash: Digest32)) async -> Seen {
    var view = former
    var miss = miss
    if let unread = unread(view.id) { miss.add(unread.miss) }
    do throws(ChainError) {
      for _ in 0..<Self.renewLimit {
        guard let stored = StoredChannel(view.descriptor) else { return .read }
        let now = Instant.now()
        if try await hasRead(view, stored, miss, head, at: now) {
          note(read: view.id, at: now)
          return .read
        }
        guard let newer = ledger.channel(view.id) else { return .read }
        view = newer
      }
      return .unanswered
    } catch {
      switch error {
      case .unreadable, .reverted: return .unreadable
      case .ledgerUnavailable, .stopped: return .stopped
      default: return .unanswered
      }
    }
  }

  /// Reads one channel, and tells the ledger what is new; false where the ledger has learnt something else meanwhile.
  private func hasRead(
    _ view: ChannelView, _ stored: StoredChannel, _ miss: UnreadChannel.Miss, _ head: (number: UInt64, hash: Digest32), at now: Instant
  ) async throws(ChainError) -> Bool {
    if stored.escrow.rules == .batch { return try await renewBatch(view, stored, miss, head, at: now) }
    switch try await readUsable(stored, view.id, view) {
    case .standing(let standing):
      note(standing: view.id, at: head.number)
      let isLess = standing.deposit < view.account.deposit || standing.settled < view.booked
      guard miss.mayHaveFallen, isLess else { return try await take(standing, view, miss, head, isSure: false) }
      let sure = try await readSurely(stored, view.id, standing, at: head.number)
      return try await take(sure, view, miss, head, isSure: true)
    case .absent:
      if try await isOpeningGone(view) {
        try await vanish(view, at: now)
      } else {
        // Tempo's escrow forgets what is closed; another one that does not know it is not up to date.
        guard stored.escrow.rules == .tempoV2 else { throw .unreadable }
        if view.phase == .open { _ = try? ledger.beginClose(view.handle, cause: .forced, voucher: nil, at: .now()) }
      }
      return true
    }
  }

  /// Reads a channel at a block: a node that lags behind does not have it, and says so.
  ///
  /// - Parameter standing: what was read before; a close that it tells of is believed.
  private func readSurely(
    _ stored: StoredChannel, _ id: Digest32, _ standing: ChannelStanding, at block: UInt64
  ) async throws(ChainError) -> ChannelStanding {
    let sight = try await read(stored, id, atBlock: block)
    guard case .standing(var sure) = sight else { throw .unreachable }
    sure.closeRequestedAt = max(sure.closeRequestedAt, standing.closeRequestedAt)
    sure.isFinalized = sure.isFinalized || standing.isFinalized
    return sure
  }

  /// Tells the ledger how a channel stands.
  ///
  /// - Parameter isSure: whether it was read at a block, so that less than what is known is believed where blocks may have been taken back.
  /// - Returns: false where the ledger has learnt something else meanwhile.
  private func take(
    _ standing: ChannelStanding, _ view: ChannelView, _ miss: UnreadChannel.Miss, _ head: (number: UInt64, hash: Digest32), isSure: Bool
  ) async throws(ChainError) -> Bool {
    note(present: view.id)
    // After a reorganisation it rests on the newest block, at which it was seen.
    let isMoved = miss.isReorganised || view.phase == .suspended
    let lowersDeposit = isMoved || isSure
    let account = view.account.renewed(by: standing, lowersDeposit: lowersDeposit, at: isMoved ? head : nil)
    do {
      if account != view.account { _ = try ledger.observed(view.id, account, lowering: lowersDeposit ? view.account : nil, at: .now()) }
      // What was deposited while the chain was asked is not known to what it has said.
      if lowersDeposit, let newer = ledger.channel(view.id), newer.account.deposit > account.deposit { return false }
      if view.phase == .suspended { _ = try ledger.suspend(view.id, false, at: .now()) }
    } catch { throw .ledgerUnavailable }
    if miss.mayHaveFallen, standing.settled < view.booked { note(toResettle: view.id) }
    // What is on its way was made when nothing pressed.
    if standing.closeRequestedAt != 0, view.underWay != nil { await submitter.hasten(view.id) }
    // Answered at once, whatever else is under way.
    if view.phase != .closing, standing.closeRequestedAt != 0 || standing.isFinalized {
      notices.tell(.channelForced(channel: HexData.text(view.id)))
      do { _ = try ledger.beginClose(view.handle, cause: .forced, voucher: nil, at: .now()) } catch { throw .ledgerUnavailable }
    }
    return true
  }

  /// What opened a channel before this program began.
  private func searchFunding(of id: Digest32) -> Funding? {
    guard let proof = ledger.openingProof(of: id), let means = SettlementOrder.means(of: proof) else { return nil }
    switch means {
    case .call(let to, let data): return .call(to: to, data: data)
    case .transaction(let raw, _): return .raw(raw)
    case .hash, .none: return nil
    }
  }

  /// A channel's opening was taken back: nothing is sold on it until it is there again, and what deposited is sent once more.
  func vanish(_ view: ChannelView, at now: Instant) async throws(ChainError) {
    let since = note(vanished: view.id, at: now)
    do {
      if view.phase == .open {
        notices.tell(.channelVanished(channel: HexData.text(view.id)))
        let entry = try ledger.suspend(view.id, true, at: .now())
        guard await ledger.isDurable(entry) else { throw ChainError.ledgerUnavailable }
      }
      if view.phase != .closing, now - since >= Self.reorganisationPatience {
        _ = try ledger.beginClose(view.handle, cause: .reorganised, voucher: nil, at: .now())
        return
      }
    } catch { throw .ledgerUnavailable }
    guard view.phase != .closing, view.underWay == nil, let funding = funding(of: view.id) ?? formerFunding(of: view.id, { searchFunding(of: view.id) }) else { return }
    switch funding {
    case .raw(let raw): try? await rpc.send(raw)
    case .call(let to, let data):
      // Most likely the transaction itself comes back, for nodes keep it: another one would be undone then. So it is given until the next look.
      guard now > since else { return }
      if let hash = view.openedBy, try await rpc.transaction(hash) != nil { return }
      guard (try? await rpc.call(to: to, data: data, from: submitter.address)) != nil else { return }
      let submitter = submitter
      let id = view.id
      Task { _ = await submitter.submit(.channel(id, isClose: false, voucher: nil), to: to, data: data, urgency: .urgent) }
    }
  }

  // MARK: what is due

  /// Begins to close and settle what is due; closes come first.
  private func startWhatIsDue() async {
    for view in ledger.closingChannels() where view.chain == plan.id && keeps(view) { _ = attend(view.id, isAsked: true) }
    let now = Timestamp.now()
    for view in ledger.openChannels(chain: plan.id) where keeps(view) {
      guard let schedule = schedule(of: view) else { continue }
      let account = view.account
      let standing = ChannelStanding(
        deposit: account.deposit, settled: max(account.settled, view.booked), closeRequestedAt: account.closeRequestedAt, isFinalized: account.isFinalized)
      let isDue = view.underWay != nil || hasToResettle(view.id) || account.settled > view.booked || duty(of: view, standing, schedule, at: now) != .nothing
      guard isDue else { continue }
      _ = attend(view.id, isAsked: view.phase == .closing || account.isEnding)
    }
  }
}
