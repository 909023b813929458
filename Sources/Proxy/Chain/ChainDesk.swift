import Bytes
import Encoding
import Ethereum
import HTTP
import IO
import Ledger
import Payments
import Synchronization

/// Settles payments on chains, once for the whole process: one task each, however many requests wait for it.
final class ChainDesk: Sendable {
  /// Most payments under way at once; more are answered 503.
  static let orderLimit = 4096
  /// Most of one client (an IPv4 address, or an IPv6 customer's /64).
  static let clientLimit = 64
  /// Most of which nothing is claimed yet, since only the chain can tell whether they are payments at all.
  static let unclaimedLimit = 512
  /// Most that nobody waits for.
  static let keptLimit = 1024
  /// How soon payments that nobody waits for are looked at again; twice as long each time, and at most so long.
  private static let keeperInterval = Duration.seconds(15)
  private static let longestInterval = Duration.seconds(3600)
  /// Most requests that wait for one payment.
  static let waiterLimit = 64

  /// A request that waits.
  struct Waiter: Sendable {
    let control: WorkerControl
    /// The connection's place, and the ticket that its worker gave it.
    let connection: Int
    let ticket: UInt64
  }

  /// A payment's place among those under way.
  private struct Place {
    /// nil where it has not been kept yet.
    var task: Task<Void, Never>?
    /// nil where nobody waits for it.
    let client: ClientAddress?
    let isClaimed: Bool
    /// Whether it only looks if a promise can be kept: nothing is settled by it.
    var isLook = false
  }

  private struct State {
    var waiters: [Digest32: [Waiter]] = [:]
    /// By payment.
    var tasks: [Digest32: Place] = [:]
    /// What is to be settled once a mere look is over, and who waits for it.
    var following: [Digest32: [(order: SettlementOrder, waiter: Waiter)]] = [:]
    /// How many of them each client brought, how many are not claimed, and how many nobody waits for.
    var clients: [ClientAddress: Int] = [:]
    var unclaimed = 0
    var kept = 0
    /// When payments of which nobody could tell anything are looked at again.
    var schedule: [Digest32: (next: Instant, pause: Duration)] = [:]
    var chains: [UInt64: Chain] = [:]
    var isStopped = false
    /// Looks after what nobody waits for.
    var keeper: Task<Void, Never>?
    /// The last change of chains: each waits for the one before.
    var adoption: Task<Void, Never>?
    var counts = ChainCounts()
  }

  private let state = Mutex(State())
  /// What payers may have us spend on gas (batch-settlement).
  let gas = GasAllowances()
  /// From where channels' payers have come.
  let payers = PayerPlaces()
  /// Nonces of sign-ins that were used.
  let signIns = UsedNonces(span: SignInWithX.maximumAge * 2)
  private let ledger: Ledger
  private let services: ServiceClient
  private let notices: NoticeBoard

  init(ledger: Ledger, services: ServiceClient, notices: NoticeBoard) {
    self.ledger = ledger
    self.services = services
    self.notices = notices
  }

  /// Uses another configuration's chains from now on. Payments under way go on as they began.
  func adopt(_ plans: [ChainPlan]) {
    let (gone, fresh) = state.withLock { state -> ([Chain], [Chain]) in
      guard !state.isStopped else { return ([], []) }
      var gone: [Chain] = []
      var fresh: [Chain] = []
      var chains: [UInt64: Chain] = [:]
      for plan in plans {
        if let known = state.chains[plan.id], known.plan == plan {
          chains[plan.id] = known
        } else {
          let notices = ChainNotices { [notices] in notices.changed(.chain(plan.name, $0)) }
          let chain = Chain(plan, ledger: ledger, services: services, gas: gas, notices: notices)
          chains[plan.id] = chain
          fresh.append(chain)
          if let old = state.chains[plan.id] { gone.append(old) }
        }
      }
      gone += state.chains.values.filter { chains[$0.plan.id] == nil }
      state.chains = chains
      return (gone, fresh)
    }
    // One address sends from one place only: the former ends before the next one reads the outbox.
    state.withLock { state in
      let previous = state.adoption
      state.adoption = Task {
        await previous?.value
        for chain in gone { await chain.stop() }
        for chain in fresh { await chain.start() }
        // What another node or signer may settle is tried at once.
        self.state.withLock { $0.schedule = [:] }
        resumeOpenPayments()
        keepOn()
      }
    }
  }

  /// Whether offers on a chain can be kept at the moment.
  func isReachable(_ chain: UInt64, isFacilitated: Bool = false) -> Bool {
    guard let chain = state.withLock({ $0.chains[chain] }) else { return false }
    return isFacilitated ? chain.isFacilitated : chain.isReachable
  }

  /// The newest block of a chain, as it was looked at last.
  func block(_ chain: UInt64) -> UInt64? { state.withLock { $0.chains[chain] }?.condition.withLock { $0.block } }

  /// Whether a client may bring another payment now.
  func hasPlace(for client: ClientAddress) -> Bool {
    state.withLock { $0.tasks.count < Self.orderLimit && $0.clients[client.limitKey, default: 0] < Self.clientLimit }
  }

  /// Who submits transactions on a chain; nil where nobody does.
  func submitter(_ chain: UInt64) -> Address? { state.withLock { $0.chains[chain]?.submitter?.address } }

  /// The key that pays payers' fees on a chain; nil where nobody does.
  func sponsor(_ chain: UInt64) -> EthereumKey? {
    guard case .key(let key)? = state.withLock({ $0.chains[chain]?.plan.signer }) else { return nil }
    return key
  }

  /// The escrow of a chain's sessions as it stands; nil where there is none, or nothing is known of it yet: no session can be sold then.
  ///
  /// - Parameter channel: one of its channels, as which it stands then.
  func escrow(_ chain: UInt64, _ channel: Digest32? = nil) -> EscrowState? { state.withLock { $0.chains[chain] }?.escrow?.state(of: channel) }

  /// The contract of a chain's channels of batch-settlement, in the same way.
  func batch(_ chain: UInt64, _ channel: Digest32? = nil) -> EscrowState? { state.withLock { $0.chains[chain] }?.batch?.state(of: channel) }

  /// The number of a channel's next refund (batch-settlement), as it was read last.
  func refundNonce(_ chain: UInt64, _ channel: Digest32) -> UInt128 { state.withLock { $0.chains[chain] }?.batch?.refundNonce(of: channel) ?? 0 }

  /// The transaction that has given a part of a channel back last (batch-settlement); nil where none has.
  func returned(_ chain: UInt64, _ channel: Digest32) -> Digest32? { state.withLock { $0.chains[chain] }?.batch?.returned(channel) }

  /// Who looks after a channel; nil where nobody does.
  private func desk(of channel: ChannelView) -> EscrowDesk? {
    guard let chain = state.withLock({ $0.chains[channel.chain] }) else { return nil }
    return StoredChannel(channel.descriptor)?.escrow.rules == .batch ? chain.batch : chain.escrow
  }

  /// Has a channel settled now, whatever its schedule says; false where nobody can.
  func settleNow(_ channel: ChannelView) -> Bool { desk(of: channel)?.settleNow(channel.id) ?? false }

  /// Has a channel that was told to close looked after at once.
  func closeNow(_ channel: ChannelView) { desk(of: channel)?.closeNow(channel.id) }

  /// How many payments came to what.
  var counts: ChainCounts { state.withLock { $0.counts } }

  /// The chains that are configured, for those who show them.
  func chains() -> [Chain] { state.withLock { $0.chains.values.sorted { $0.plan.id < $1.plan.id } } }

  /// Begins to settle a payment, or joins who waits for it already; false where too much is under way.
  func settle(_ order: SettlementOrder, _ waiter: Waiter?) -> Bool {
    let chain = state.withLock { state -> Chain?? in
      guard !state.isStopped else { return nil }
      if let place = state.tasks[order.id] {
        guard let waiter else { return .some(nil) }
        if place.isLook, !order.isPromise {
          guard state.following[order.id, default: []].count < Self.waiterLimit else { return nil }
          state.following[order.id, default: []].append((order, waiter))
          return .some(nil)
        }
        guard state.waiters[order.id, default: []].count < Self.waiterLimit else { return nil }
        state.waiters[order.id, default: []].append(waiter)
        return .some(nil)
      }
      let client = waiter == nil ? nil : order.payment.client.limitKey
      guard state.tasks.count < Self.orderLimit, let chain = state.chains[order.chain], waiter != nil || state.kept < Self.keptLimit,
        order.entry != nil || state.unclaimed < Self.unclaimedLimit, client.map({ state.clients[$0, default: 0] < Self.clientLimit }) ?? true
      else { return nil }
      if let waiter { state.waiters[order.id] = [waiter] }
      // The task's place is taken before it runs.
      state.tasks[order.id] = Place(client: client, isClaimed: order.entry != nil, isLook: order.isPromise)
      if let client { state.clients[client, default: 0] += 1 } else { state.kept += 1 }
      if order.entry == nil { state.unclaimed += 1 }
      return chain
    }
    guard let chain else { return false }
    guard let chain else { return true }
    // It waits for services most of the time.
    let task = Task(executorPreference: services) { [self] in
      let word = await chain.settle(order)
      conclude(order.id, word, expires: order.charge.expires)
    }
    state.withLock { state in
      if state.tasks[order.id] != nil { state.tasks[order.id]?.task = task }
    }
    return true
  }

  private func conclude(_ id: Digest32, _ word: SettlementWord, expires: Timestamp) {
    let (waiters, following) = state.withLock { state in
      if let place = state.tasks.removeValue(forKey: id) {
        if let client = place.client {
          let count = (state.clients[client] ?? 1) - 1
          state.clients[client] = count > 0 ? count : nil
        } else {
          state.kept -= 1
        }
        if !place.isClaimed { state.unclaimed -= 1 }
      }
      if case .unknown = word {
        // What runs out soon is not left alone until then.
        let left = max((expires - .now()) / 4, Self.keeperInterval)
        let longest = expires > .now() ? min(Self.longestInterval, left) : Self.longestInterval
        let pause = state.schedule[id].map { min($0.pause * 2, longest) } ?? Self.keeperInterval
        state.schedule[id] = (.now() + pause, pause)
      } else {
        state.schedule[id] = nil
      }
      state.counts.count(word)
      return (state.waiters.removeValue(forKey: id) ?? [], state.following.removeValue(forKey: id) ?? [])
    }
    tell(waiters, id, word)
    for one in following where !settle(one.order, one.waiter) { tell([one.waiter], id, .unknown) }
  }

  /// Tells those who wait for a payment that it will take longer; it is gone on with.
  func delay(_ id: Digest32) {
    let waiters = state.withLock { state in
      (state.waiters.removeValue(forKey: id) ?? []) + (state.following.removeValue(forKey: id) ?? []).map(\.waiter)
    }
    tell(waiters, id, .unknown)
  }

  private func tell(_ waiters: [Waiter], _ id: Digest32, _ word: SettlementWord) {
    // A mailbox that is full loses the word; the connection's own deadline then stands in for it.
    for waiter in waiters { waiter.control.mailbox.send(.paymentTold(connection: waiter.connection, ticket: waiter.ticket, payment: id, word)) }
  }

  /// Goes on with what was under way when the program ended, and with what came to no end since.
  func resumeOpenPayments() {
    let epoch = ledger.epoch
    let open = ledger.openPayments()
    let now = Instant.now()
    let due = state.withLock { state in
      // What has come to its end is not waited for any more.
      if !state.schedule.isEmpty {
        let ids = Set(open.map(\.id))
        state.schedule = state.schedule.filter { ids.contains($0.key) }
      }
      return open.filter { state.tasks[$0.id] == nil && (state.schedule[$0.id]?.next ?? now) <= now }
    }
    // What can still run out has the first places; of the rest nobody can do more than ask again.
    for isOver in [false, true] {
      for view in due where (view.expires <= .now()) == isOver {
        guard let order = SettlementOrder(view, epoch: epoch) else { continue }
        _ = settle(order, nil)
      }
    }
  }

  /// Takes a payment's place, so that nothing is done for it until it is given back; false where something is being done.
  func reserve(_ id: Digest32) -> Bool {
    state.withLock { state in
      guard state.tasks[id] == nil, !state.isStopped else { return false }
      state.tasks[id] = Place(task: nil, client: nil, isClaimed: true)
      state.kept += 1
      return true
    }
  }

  /// Gives a payment's place back; who has come to wait for it meanwhile asks again.
  func giveBack(_ id: Digest32) {
    let waiters = state.withLock { state -> [Waiter] in
      if state.tasks.removeValue(forKey: id) != nil { state.kept -= 1 }
      return state.waiters.removeValue(forKey: id) ?? []
    }
    tell(waiters, id, .unknown)
  }

  /// Looks after payments whose outcome nobody could tell, whether their payers come back or not.
  private func keepOn() {
    state.withLock { state in
      guard state.keeper == nil, !state.isStopped else { return }
      state.keeper = Task { [self] in
        while !Task.isCancelled {
          try? await Task.sleep(for: Self.keeperInterval)
          resumeOpenPayments()
        }
      }
    }
  }

  /// Ends all tasks; what they were about is gone on with after the next start.
  func stop() {
    let (tasks, chains, waiters) = state.withLock { state in
      state.isStopped = true
      defer {
        state.tasks = [:]
        state.waiters = [:]
        state.following = [:]
        state.clients = [:]
        (state.unclaimed, state.kept) = (0, 0)
      }
      return (state.tasks.values.map(\.task), Array(state.chains.values), state.waiters.merging(state.following.mapValues { $0.map(\.waiter) }) { $0 + $1 })
    }
    state.withLock { $0.keeper.take() }?.cancel()
    for task in tasks { task?.cancel() }
    for (id, waiting) in waiters { tell(waiting, id, .unknown) }
    Task { for chain in chains { await chain.stop() } }
  }
}
