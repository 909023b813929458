import Bytes
import Encoding
import Ethereum
import IO
import Ledger
import Synchronization

/// Settles payments on chains, once for the whole process: one task each, however many requests wait for it.
final class ChainDesk: Sendable {
  /// Most payments under way at once; more are answered 503.
  static let orderLimit = 4096
  /// How often payments that nobody waits for are looked at again.
  private static let keeperInterval = Duration.seconds(15)
  /// Most requests that wait for one payment.
  static let waiterLimit = 64

  /// A request that waits.
  struct Waiter: Sendable {
    let control: WorkerControl
    /// The connection's place, and the ticket that its worker gave it.
    let connection: Int
    let ticket: UInt64
  }

  private struct State {
    var waiters: [Digest32: [Waiter]] = [:]
    /// By payment; nil where its task has not been kept yet.
    var tasks: [Digest32: Task<Void, Never>?] = [:]
    var chains: [UInt64: Chain] = [:]
    var isStopped = false
    /// Looks after what nobody waits for.
    var keeper: Task<Void, Never>?
    /// The last change of chains: each waits for the one before.
    var adoption: Task<Void, Never>?
    var counts = ChainCounts()
  }

  private let state = Mutex(State())
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
          let chain = Chain(plan, ledger: ledger, services: services, notices: notices)
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
        resumeOpenPayments()
        keepOn()
      }
    }
  }

  /// Whether offers on a chain can be kept at the moment.
  func isReachable(_ chain: UInt64) -> Bool { state.withLock { $0.chains[chain]?.isReachable ?? false } }

  /// Who submits transactions on a chain; nil where nobody does.
  func submitter(_ chain: UInt64) -> Address? { state.withLock { $0.chains[chain]?.submitter?.address } }

  /// The key that pays payers' fees on a chain; nil where nobody does.
  func sponsor(_ chain: UInt64) -> EthereumKey? {
    guard case .key(let key)? = state.withLock({ $0.chains[chain]?.plan.signer }) else { return nil }
    return key
  }

  /// The escrow of a chain's sessions as it stands; nil where there is none, or nothing is known of it yet: no session can be sold then.
  func escrow(_ chain: UInt64) -> EscrowState? { state.withLock { $0.chains[chain] }?.escrow?.state }

  /// Has a channel settled now, whatever its schedule says; false where nobody can.
  func settleNow(_ channel: ChannelView) -> Bool { state.withLock { $0.chains[channel.chain] }?.escrow?.settleNow(channel.id) ?? false }

  /// Has a channel that was told to close looked after at once.
  func closeNow(_ channel: ChannelView) { state.withLock { $0.chains[channel.chain] }?.escrow?.closeNow(channel.id) }

  /// How many payments came to what.
  var counts: ChainCounts { state.withLock { $0.counts } }

  /// The chains that are configured, for those who show them.
  func chains() -> [Chain] { state.withLock { $0.chains.values.sorted { $0.plan.id < $1.plan.id } } }

  /// Begins to settle a payment, or joins who waits for it already; false where too much is under way.
  func settle(_ order: SettlementOrder, _ waiter: Waiter?) -> Bool {
    let chain = state.withLock { state -> Chain?? in
      guard !state.isStopped else { return nil }
      if state.tasks[order.id] != nil {
        guard let waiter else { return .some(nil) }
        guard state.waiters[order.id, default: []].count < Self.waiterLimit else { return nil }
        state.waiters[order.id, default: []].append(waiter)
        return .some(nil)
      }
      guard state.tasks.count < Self.orderLimit, let chain = state.chains[order.chain] else { return nil }
      if let waiter { state.waiters[order.id] = [waiter] }
      // The task's place is taken before it runs.
      state.tasks[order.id] = .some(nil)
      return chain
    }
    guard let chain else { return false }
    guard let chain else { return true }
    let task = Task { [self] in
      let word = await chain.settle(order)
      conclude(order.id, word)
    }
    state.withLock { state in
      if state.tasks[order.id] != nil { state.tasks[order.id] = task }
    }
    return true
  }

  private func conclude(_ id: Digest32, _ word: SettlementWord) {
    let waiters = state.withLock { state in
      state.tasks[id] = nil
      state.counts.count(word)
      return state.waiters.removeValue(forKey: id) ?? []
    }
    tell(waiters, id, word)
  }

  /// Tells those who wait for a payment that it will take longer; it is gone on with.
  func delay(_ id: Digest32) {
    tell(state.withLock { $0.waiters.removeValue(forKey: id) ?? [] }, id, .unknown)
  }

  private func tell(_ waiters: [Waiter], _ id: Digest32, _ word: SettlementWord) {
    // A mailbox that is full loses the word; the connection's own deadline then stands in for it.
    for waiter in waiters { waiter.control.mailbox.send(.paymentTold(connection: waiter.connection, ticket: waiter.ticket, payment: id, word)) }
  }

  /// Goes on with what was under way when the program ended, and with what came to no end since.
  func resumeOpenPayments() {
    for view in ledger.openPayments() {
      guard let order = SettlementOrder(view) else { continue }
      _ = settle(order, nil)
    }
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
      }
      return (Array(state.tasks.values), Array(state.chains.values), state.waiters)
    }
    state.withLock { $0.keeper.take() }?.cancel()
    for task in tasks { task?.cancel() }
    for (id, waiting) in waiters { tell(waiting, id, .unknown) }
    Task { for chain in chains { await chain.stop() } }
  }
}
