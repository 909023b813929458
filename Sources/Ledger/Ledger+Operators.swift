public import Bytes
import Dispatch
public import Encoding
import Glibc
import Synchronization

/// What operators do and look at. Every change returns the number to wait for with `awaitDurable`; 0 says that nothing had to change.
extension Ledger {
  // MARK: wallets

  /// Makes a wallet for an Ed25519 key's 32 octets.
  public func createWallet(_ key: Digest32, policy: Policy = .unlimited, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.createWallet(key, policy: policy, cause: nil, at: now) }
  }

  /// Makes a wallet that an agent asked for itself.
  public func registerWallet(_ key: Digest32, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in
      guard state.availability == .selling else { throw .unavailable }
      return try state.createWallet(key, policy: .unlimited, cause: "registered", at: now)
    }
  }

  /// Adds money to a wallet. The same reference with the same words again does nothing; with others it is refused.
  public func fund(_ key: Digest32, currency: String, amount: UInt128, reference: String, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.fund(key, currency: currency, amount: amount, reference: reference, at: now) }
  }

  /// Takes money out of a wallet; references as for `fund`.
  public func defund(_ key: Digest32, currency: String, amount: UInt128, reference: String, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.defund(key, currency: currency, amount: amount, reference: reference, at: now) }
  }

  /// Replaces a policy; it binds the next charge, open or top-up.
  public func setPolicy(_ key: Digest32, _ policy: Policy, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.setPolicy(key, policy, at: now) }
  }

  /// Stops everything that leaves the wallet, in the middle of a stream too.
  public func freeze(_ key: Digest32, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.setFrozen(key, true, at: now) }
  }

  public func thaw(_ key: Digest32, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.setFrozen(key, false, at: now) }
  }

  /// Moves a wallet to a new key: the old one is dead at once and for ever, and its sessions are closed.
  public func rekey(_ key: Digest32, to next: Digest32, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in try state.rekey(key, to: next, at: now) }
  }

  // MARK: merchants

  /// Books what a merchant was paid outside; references as for `fund`.
  public func payout(merchant: String, currency: String, amount: UInt128, reference: String, at now: Timestamp) throws(Refusal) -> LSN {
    try apply { (state) throws(Refusal) in
      try state.payout(merchant, currency: currency, amount: amount, reference: reference, at: now)
    }
  }

  /// Gives a settled charge back to its wallet. Waits for the disk.
  public func refund(_ reference: LSN, at now: Timestamp) throws(Refusal) -> LSN {
    try administration.withLock { _ throws(Refusal) -> LSN in
      guard availability != .unavailable else { throw .unavailable }
      // The charge may have been settled a moment ago: its record is read once it is durable.
      guard awaitDurable(applied), let octets = read(RecordKey(.charge, number: reference)) else { throw .unknownReference }
      let charge: SettledCharge
      do throws(LedgerError) { charge = try LedgerState.readCharge(octets) } catch { throw .unknownReference }
      let lsn = try apply { (state) throws(Refusal) in try state.refund(reference, charge, at: now) }
      // A second refund of the same charge must read this one's record.
      _ = awaitDurable(lsn)
      return lsn
    }
  }

  // MARK: views

  /// Shows a wallet; nil where the key has none.
  public func walletView(_ key: Digest32) -> WalletView? {
    state.withLock { state in state.walletIndex[key].map { state.view(wallet: $0) } }
  }

  /// Shows wallets from the `offset`-th on, in the order in which they were made.
  public func wallets(from offset: Int = 0, limit: Int = 1_000) -> [WalletView] {
    state.withLock { state in state.wallets.indices.dropFirst(offset).prefix(limit).map { state.view(wallet: UInt32($0)) } }
  }

  /// Shows open and closing sessions, of one wallet or of all; all have channels too.
  public func sessions(of wallet: Digest32? = nil, from offset: Int = 0, limit: Int = 1_000) -> [SessionView] {
    state.withLock { state in
      var views: [SessionView] = []
      var skipped = 0
      for index in state.balances.indices where state.balances[index].phase != .vacant && views.count < limit {
        if let wallet {
          guard !state.balances[index].isChannel, state.wallets[Int(state.balances[index].wallet)].key == wallet else { continue }
        }
        if skipped < offset {
          skipped += 1
        } else if let view = state.view(index) {
          views.append(view)
        }
      }
      return views
    }
  }

  public func merchants() -> [MerchantView] {
    state.withLock { state in
      state.merchants.map { merchant in
        MerchantView(name: merchant.name, balances: zip(state.currencies, merchant.balances).map { ($0.code, $1) })
      }
    }
  }

  /// Every account of every currency.
  public func balances() -> [CurrencyBalances] { verify().balances }

  /// Adds every account up, from the accounts themselves; double entry holds when every currency's sum is zero.
  public func verify() -> BooksReport { state.withLock { $0.books() } }

  // MARK: the audit log

  /// Records what the proxy saw; the number is that of its line.
  @discardableResult
  public func record(_ event: AuditEvent, at now: Timestamp = .now()) -> LSN {
    (try? apply { (state) throws(Refusal) -> LSN in
      guard state.availability != .unavailable else { throw .unavailable }
      var entry = Entry(event.kind.kind, at: now)
      entry.route = event.route
      entry.client = event.client
      let words = EntryWords(
        cause: event.cause, reference: nil, wallet: event.wallet.map(AuditText.wallet), session: event.session?.hex,
        recipient: event.recipient, amount: event.amount, currency: event.currency, count: event.count)
      return state.append(entry, words: words)
    }) ?? 0
  }

  /// Ends the audit file with a checkpoint and begins a new one, soon: what SIGUSR1 asks for.
  public func rotate() {
    request { $0.rotates = true }
  }

  // MARK: requests to the committer

  struct Requests: Sendable {
    var rotates = false
    var reads: [RecordRead] = []
  }

  /// A record that another thread waits for.
  final class RecordRead: Sendable {
    let key: RecordKey
    private let found = Mutex<[UInt8]?>(nil)
    private let done = DispatchSemaphore(value: 0)

    init(key: RecordKey) { self.key = key }

    func finish(_ octets: [UInt8]?) {
      found.withLock { $0 = octets }
      done.signal()
    }

    /// Waits at most ten seconds.
    func wait() -> [UInt8]? {
      done.wait(timeout: .now() + .seconds(10)) == .success ? found.withLock { $0 } : nil
    }
  }

  private func read(_ key: RecordKey) -> [UInt8]? {
    let read = RecordRead(key: key)
    request { $0.reads.append(read) }
    return read.wait()
  }

  private func request(_ change: (inout Requests) -> Void) {
    requests.withLock { change(&$0) }
    requested.store(true, ordering: .sequentiallyConsistent)
    signal.urge()
  }

  var hasRequests: Bool { requested.load(ordering: .sequentiallyConsistent) }

  func takeRequests() -> Requests? {
    guard requested.exchange(false, ordering: .sequentiallyConsistent) else { return nil }
    return requests.withLock { requests in
      defer { requests = Requests() }
      return requests
    }
  }
}

/// A short sleep of threads that may wait.
enum Pause {
  static func briefly() {
    var length = timespec(tv_sec: 0, tv_nsec: 200_000)
    nanosleep(&length, nil)
  }
}
