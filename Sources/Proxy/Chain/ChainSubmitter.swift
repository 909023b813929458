import Bytes
import Encoding
import Ethereum
import Ledger

/// Sends the program's own transactions on one chain from one address, and follows each until the chain has taken it.
///
/// Nonces are given out in order and are durable before a transaction is sent, so that a restart neither leaves a gap nor sends two with
/// one. What is stuck is sent again with a higher fee and the same nonce: at most one version can land.
actor ChainSubmitter {
  /// What became of a transaction.
  enum Outcome: Sendable {
    /// It is as deep in the chain as is asked for.
    case included(TransactionReceipt)
    /// Its nonce was used by a transaction that is not ours.
    case displaced
    case failed(ChainError)
  }

  /// What a transaction is for; it decides what the ledger is told with it.
  enum Purpose: Sendable {
    case payment(Digest32)
    /// A settlement or the close of a channel, what the voucher is for that is handed out with it, and what goes back to the payer of one that
    /// stays open.
    case channel(Digest32, isClose: Bool, voucher: UInt128?, returning: UInt128? = nil)

    /// The payment, or the channel.
    var id: Digest32 {
      switch self {
      case .payment(let id), .channel(let id, isClose: _, voucher: _, returning: _): id
      }
    }
  }

  /// How much is offered for gas.
  enum Urgency: Sendable {
    case usual
    /// Twice the usual from the start, and up to a higher limit: for what has to land within a time.
    case urgent

    fileprivate var factor: UInt128 { self == .urgent ? 2 : 1 }
  }

  /// A transaction that is on its way.
  private struct Flight {
    let purpose: Digest32
    var urgency = Urgency.usual
    var transaction: Transaction
    /// Newest last.
    var hashes: [Digest32]
    var raw: [UInt8]
    /// Nothing is sent before it is durable: a restart would give the nonce to another.
    var entry: AwaitedEntry
    var sentAt: Instant
    var broadcastAt: Instant?
    var nextLook: Instant
    /// Between its last two looks.
    var pause = ChainSubmitter.shortestPause
    /// Since when, and at which block, the chain had taken the nonce and no version could be found.
    var missing: (since: Instant, block: UInt64)?
    var waiters: [CheckedContinuation<Outcome, Never>] = []
  }

  /// A transaction that the chain has taken, for as long as a reorganisation may drop it.
  private struct Landed {
    let raw: [UInt8]
    let block: UInt64
  }

  /// Fees rise by an eighth at least from one version to the next, as nodes demand, and a little more.
  private static let feeStep: (numerator: UInt128, denominator: UInt128) = (115, 100)
  /// Gas beyond what was estimated, in percent.
  private static let gasMargin: UInt64 = 20
  /// Half of the first pause behind a new transaction.
  private static let shortestPause = Duration.milliseconds(50)
  /// How often what is on its way is sent again as it is, since nodes forget.
  private static let rebroadcastInterval = Duration.seconds(3)
  /// How long a nonce has to be taken, without a version of ours to be found, until it counts as another program's.
  private static let missingTime = Duration.seconds(5)
  /// Blocks for which what has landed is kept, and the most transactions.
  private static let keptBlocks: UInt64 = 64
  private static let keptLimit = 256

  private let chain: ChainPlan
  private let signer: ChainSigner
  private let rpc: ChainRPC
  private let ledger: Ledger
  private let notices: ChainNotices
  private let sending = AsyncLock()
  private var flights: [UInt64: Flight] = [:]
  private var landed: [UInt64: Landed] = [:]
  private var watch: Task<Void, Never>?
  private var isStopped = false
  /// The ledger's, when the outbox was read.
  private var epoch: UInt32 = 0

  init(_ chain: ChainPlan, signer: ChainSigner, rpc: ChainRPC, ledger: Ledger, notices: ChainNotices) {
    self.chain = chain
    self.signer = signer
    self.rpc = rpc
    self.ledger = ledger
    self.notices = notices
  }

  /// The address that signs.
  nonisolated var address: Address { signer.address }

  /// Takes up what the outbox holds: after a start, after the ledger was read back, and wherever the two differ. What the outbox does not know
  /// of was never sent.
  func restore() {
    epoch = ledger.epoch
    let known = ledger.outgoing(chain: chain.id, sender: signer.address.bytes)
    for nonce in flights.keys where !known.contains(where: { $0.nonce == nonce }) { conclude(nonce, .failed(.ledgerUnavailable)) }
    for outgoing in known where flights[outgoing.nonce] == nil {
      guard let signed = try? SignedTransaction(decoding: outgoing.raw) else { continue }
      flights[outgoing.nonce] = Flight(
        purpose: outgoing.purpose, transaction: signed.transaction, hashes: outgoing.replaced + [outgoing.hash], raw: outgoing.raw,
        entry: AwaitedEntry(lsn: 0, epoch: epoch), sentAt: .now(), nextLook: .now())
    }
    if !flights.isEmpty { startWatch() }
  }

  /// Sends a call of a contract, and waits until the chain has taken it. Where one is on its way for the same purpose, that is waited for.
  func submit(_ purpose: Purpose, to: Address, data: [UInt8], urgency: Urgency = .usual) async -> Outcome {
    if let nonce = nonce(of: purpose.id) { return await outcome(of: nonce) }
    do throws(ChainError) {
      let nonce = try await send(purpose, to: to, data: data, urgency)
      // Waited for before it is sent: some chains take it while the node still answers.
      Task { await broadcast(nonce) }
      return await outcome(of: nonce)
    } catch { return .failed(error) }
  }

  /// Waits for a transaction that was submitted before; nil where there is none for the purpose.
  func follow(_ purpose: Digest32) async -> Outcome? {
    guard let nonce = nonce(of: purpose) else { return nil }
    return await outcome(of: nonce)
  }

  /// What is on its way for a purpose has to land within a time now, whatever it was before.
  func hasten(_ purpose: Digest32) {
    guard let nonce = nonce(of: purpose), flights[nonce]?.urgency == .usual else { return }
    flights[nonce]?.urgency = .urgent
    // Overdue from here on: its next look offers more.
    flights[nonce]?.sentAt = .now() - chain.resubmitAfter
    flights[nonce]?.nextLook = .now()
  }

  /// Ends: what is on its way is gone on with by the next start. Nothing is put into the outbox once this has returned.
  func stop() async {
    isStopped = true
    watch?.cancel()
    await sending.withLock { () async in }
    for nonce in flights.keys { conclude(nonce, .failed(.stopped)) }
  }

  private func nonce(of purpose: Digest32) -> UInt64? { flights.first { $0.value.purpose == purpose }?.key }

  private func outcome(of nonce: UInt64) async -> Outcome {
    await withCheckedContinuation { continuation in
      guard !isStopped, flights[nonce] != nil else { return continuation.resume(returning: .failed(.stopped)) }
      flights[nonce]?.waiters.append(continuation)
    }
  }

  // MARK: sending

  private func send(_ purpose: Purpose, to: Address, data: [UInt8], _ urgency: Urgency) async throws(ChainError) -> UInt64 {
    guard !isStopped else { throw .stopped }
    let gas = try await rpc.estimateGas(from: signer.address, to: to, data: data)
    // A wallet's own code runs in the call, and would spend what it likes.
    guard gas <= ChainPlan.gasLimit else { throw .gasLimit }
    let fees = try await fees(urgency)
    let (margin, overflows) = gas.multipliedReportingOverflow(by: 100 + Self.gasMargin)
    let transaction = Transaction(
      chainID: chain.id, nonce: 0, maxPriorityFeePerGas: fees.tip, maxFeePerGas: fees.most, gasLimit: overflows ? gas : margin / 100, to: to, data: data)
    let nonce = try await sending.withLock { [self] () async throws(ChainError) in try await enter(transaction, purpose, urgency) }
    guard let entry = flights[nonce]?.entry, await ledger.isDurable(entry) else { throw .ledgerUnavailable }
    return nonce
  }

  /// Signs a transaction with the next nonce and puts it into the outbox; returns the nonce.
  private func enter(_ draft: Transaction, _ purpose: Purpose, _ urgency: Urgency) async throws(ChainError) -> UInt64 {
    // Who waited here may have been overtaken.
    if let nonce = nonce(of: purpose.id) { return nonce }
    var transaction = draft
    transaction.nonce = try await nextNonce()
    let (raw, hash) = try await signer.sign(transaction)
    let outgoing = OutgoingTransaction(
      chain: chain.id, sender: signer.address.bytes, nonce: transaction.nonce, purpose: purpose.id, hash: hash, raw: raw, createdAt: .now())
    // Whoever takes the outbox over reads it after this program's part has ended.
    guard !isStopped else { throw .stopped }
    let entry: AwaitedEntry
    do throws(Refusal) {
      entry = try ledger.awaited { () throws(Refusal) in try enter(outgoing, for: purpose) }
    } catch { throw .ledgerUnavailable }
    flights[transaction.nonce] = Flight(
      purpose: purpose.id, urgency: urgency, transaction: transaction, hashes: [hash], raw: raw, entry: entry, sentAt: .now(),
      nextLook: .now() + Self.shortestPause * 2)
    startWatch()
    return transaction.nonce
  }

  /// Puts a transaction into the outbox, and tells the ledger what it is for, in one entry.
  private func enter(_ outgoing: OutgoingTransaction, for purpose: Purpose) throws(Refusal) -> LSN {
    switch purpose {
    case .payment(let id): try ledger.submitted(id, outgoing: outgoing, at: .now())
    case .channel(let id, let isClose, let voucher, let returned):
      try ledger.submitted(channel: id, outgoing: outgoing, isClose: isClose, publishing: voucher, returning: returned, at: .now())
    }
  }

  /// The nonce that is next by the outbox, or by the chain where the address has sent nothing through it yet.
  private func nextNonce() async throws(ChainError) -> UInt64 {
    let known = ledger.outgoing(chain: chain.id, sender: signer.address.bytes)
    if ledger.epoch != epoch || known.count != flights.count || known.contains(where: { flights[$0.nonce] == nil }) { restore() }
    if flights.isEmpty {
      // Nothing is on its way: whatever else used the key has to be taken over.
      var next = try await rpc.transactionCount(of: signer.address, includesPending: true)
      if await resendDropped(from: next) { next = try await rpc.transactionCount(of: signer.address, includesPending: true) }
      do { _ = try ledger.adoptNonce(chain: chain.id, sender: signer.address.bytes, nonce: next, at: .now()) } catch { throw .ledgerUnavailable }
      return next
    }
    guard let next = ledger.nextNonce(chain: chain.id, sender: signer.address.bytes) else { throw .ledgerUnavailable }
    return next
  }

  /// Sends again what had landed and is on the chain no more, whose nonces begin with the one that the chain expects; false where there is none.
  private func resendDropped(from nonce: UInt64) async -> Bool {
    let dropped = landed.keys.filter { $0 >= nonce }.sorted()
    for nonce in dropped { if let raw = landed[nonce]?.raw { try? await rpc.send(raw) } }
    return !dropped.isEmpty
  }

  /// What is offered for gas: twice the base fee, so that it may rise for some blocks, and the tip that the node proposes; both a multiple of
  /// that, as far as the limit goes.
  private func fees(_ urgency: Urgency) async throws(ChainError) -> (tip: UInt128, most: UInt128) {
    let (base, tip) = try await rpc.fees()
    let (factor, limit) = (urgency.factor, limit(of: urgency))
    let (double, overflows) = base.multipliedReportingOverflow(by: 2)
    let (sum, alsoOverflows) = double.addingReportingOverflow(tip)
    guard !overflows, !alsoOverflows, base + tip <= limit else { throw .tooDear }
    let (most, isMore) = sum.multipliedReportingOverflow(by: factor)
    let (higher, isHigher) = tip.multipliedReportingOverflow(by: factor)
    let limited = isMore ? limit : min(most, limit)
    return (isHigher ? limited : min(higher, limited), limited)
  }

  /// The most for a unit of gas, in wei.
  private func limit(of urgency: Urgency) -> UInt128 {
    switch urgency {
    case .usual: return chain.feeLimit
    case .urgent:
      let (limit, overflows) = chain.feeLimit.multipliedReportingOverflow(by: ChainPlan.urgentFactor)
      return overflows ? .max : limit
    }
  }

  /// Sends the newest version; a node that knows it already has no reason to complain.
  private func broadcast(_ nonce: UInt64) async {
    guard let flight = flights[nonce], case .durable = ledger.durability(of: flight.entry.lsn, epoch: flight.entry.epoch ?? epoch) else { return }
    flights[nonce]?.broadcastAt = .now()
    // Whatever the node says: the round of the watch finds out what became of it, and sends it again.
    try? await rpc.send(flight.raw)
  }

  // MARK: following

  private func startWatch() {
    guard watch == nil, !isStopped else { return }
    watch = Task { [self] in
      while !Task.isCancelled {
        try? await Task.sleep(for: nextPause())
        guard await round() else { return }
      }
    }
  }

  /// Until the next look is due.
  private func nextPause() -> Duration {
    let due = flights.values.map(\.nextLook).min() ?? Instant.now()
    return min(max(due - Instant.now(), Self.shortestPause), chain.pollInterval)
  }

  /// Looks at the transactions whose look is due; false where none is on its way.
  private func round() async -> Bool {
    guard !flights.isEmpty, !isStopped else {
      watch = nil
      return false
    }
    if ledger.epoch != epoch { restore() }
    let now = Instant.now()
    let due = flights.keys.filter { (flights[$0]?.nextLook ?? now) <= now }.sorted()
    guard !due.isEmpty else { return true }
    for nonce in due {
      // Looks come quickly behind a new transaction, since some chains take it at once, and then twice as slowly each time.
      let pause = min((flights[nonce]?.pause ?? chain.pollInterval) * 2, chain.pollInterval)
      flights[nonce]?.pause = pause
      flights[nonce]?.nextLook = now + pause
    }
    guard let head = try? await rpc.blockNumber(), let taken = try? await rpc.transactionCount(of: signer.address, includesPending: false) else { return true }
    if let least = flights.keys.min(), taken < least { _ = await resendDropped(from: taken) }
    for nonce in due where !isStopped {
      // The chain takes nonces in order.
      if nonce < taken { await lookForReceipt(nonce, head: head) } else { await resend(nonce) }
    }
    landed = landed.filter { $0.value.block + Self.keptBlocks > head }
    return true
  }

  private func lookForReceipt(_ nonce: UInt64, head: UInt64) async {
    guard let hashes = flights[nonce]?.hashes else { return }
    var isSilent = false
    for hash in hashes.reversed() {
      let receipt: TransactionReceipt
      switch await rpc.look(for: hash) {
      case .nothing:
        isSilent = true
        continue
      case .absent: continue
      case .receipt(let found): receipt = found
      }
      flights[nonce]?.missing = nil
      guard head >= receipt.blockNumber, head - receipt.blockNumber + 1 >= chain.confirmations else { return }
      return end(nonce, hash, receipt)
    }
    guard !isSilent, flights[nonce] != nil else { return }
    guard let missing = flights[nonce]?.missing else {
      flights[nonce]?.missing = (.now(), head)
      return
    }
    // The count is asked for at a block, which a node that is behind does not have.
    guard Instant.now() - missing.since >= Self.missingTime, let taken = try? await rpc.transactionCount(of: signer.address, at: missing.block),
      taken > nonce
    else { return }
    notices.tell(.nonceTaken(nonce: nonce, transaction: hashes.last.map { HexData.text($0) } ?? ""))
    // Another program uses the key. The call itself may still be made with another nonce.
    if tell(nonce, hashes.last ?? Digest32(), gas: 0, succeeded: false) { conclude(nonce, .displaced) }
  }

  private func end(_ nonce: UInt64, _ hash: Digest32, _ receipt: TransactionReceipt) {
    guard tell(nonce, hash, gas: receipt.fee?.uint128 ?? 0, succeeded: receipt.isSuccessful) else { return }
    if let raw = flights[nonce]?.raw {
      landed[nonce] = Landed(raw: raw, block: receipt.blockNumber)
      if landed.count > Self.keptLimit, let least = landed.keys.min() { landed[least] = nil }
    }
    conclude(nonce, .included(receipt))
  }

  /// Takes a transaction out of the outbox; false where the ledger takes no entry, so that it is tried again.
  private func tell(_ nonce: UInt64, _ hash: Digest32, gas: UInt128, succeeded: Bool) -> Bool {
    do throws(Refusal) {
      _ = try ledger.concluded(chain: chain.id, sender: signer.address.bytes, nonce: nonce, hash: hash, gas: gas, succeeded: succeeded, at: .now())
      return true
    } catch { return error == .unknownTransaction }
  }

  private func conclude(_ nonce: UInt64, _ outcome: Outcome) {
    guard let flight = flights.removeValue(forKey: nonce) else { return }
    for waiter in flight.waiters { waiter.resume(returning: outcome) }
  }

  /// Sends a transaction again that the chain has not taken yet: as it is, since nodes forget, and with a higher fee where it is overdue.
  private func resend(_ nonce: UInt64) async {
    guard let flight = flights[nonce] else { return }
    flights[nonce]?.missing = nil
    var isDue = flight.broadcastAt.map { Instant.now() - $0 >= Self.rebroadcastInterval } ?? true
    if flight.sentAt + chain.resubmitAfter < .now() {
      if let raised = await raised(flight) { await sending.withLock { [self] () async in await replace(nonce, with: raised) } }
      tellOverdue(nonce, flight.hashes.count)
      isDue = isDue || flights[nonce]?.hashes.count != flight.hashes.count
    }
    if isDue { await broadcast(nonce) }
  }

  /// Says what became of a transaction that was overdue: whether it has more versions than before.
  private func tellOverdue(_ nonce: UInt64, _ count: Int) {
    guard let hashes = flights[nonce]?.hashes, let newest = hashes.last else { return }
    let transaction = HexData.text(newest)
    notices.tell(
      hashes.count > count
        ? .transactionReplaced(nonce: nonce, transaction: transaction, versions: hashes.count) : .transactionStuck(nonce: nonce, transaction: transaction))
  }

  /// The transaction with higher fees; nil where the limit is reached or nobody knows what is asked.
  private func raised(_ flight: Flight) async -> Transaction? {
    guard let asked = try? await fees(flight.urgency) else { return nil }
    var transaction = flight.transaction
    let step = Self.feeStep
    transaction.maxPriorityFeePerGas = max(asked.tip, transaction.maxPriorityFeePerGas * step.numerator / step.denominator + 1)
    transaction.maxFeePerGas = max(asked.most, transaction.maxFeePerGas * step.numerator / step.denominator + 1)
    guard transaction.maxFeePerGas <= limit(of: flight.urgency) else { return nil }
    transaction.maxPriorityFeePerGas = min(transaction.maxPriorityFeePerGas, transaction.maxFeePerGas)
    return transaction
  }

  private func replace(_ nonce: UInt64, with transaction: Transaction) async {
    guard flights[nonce] != nil, let (raw, hash) = try? await signer.sign(transaction),
      !isStopped,
      let entry = try? ledger.awaited({ () throws(Refusal) in
        try ledger.replace(chain: chain.id, sender: signer.address.bytes, nonce: nonce, raw: raw, hash: hash, at: .now())
      }), await ledger.isDurable(entry), flights[nonce] != nil
    else { return }
    flights[nonce]?.transaction = transaction
    flights[nonce]?.raw = raw
    flights[nonce]?.hashes.append(hash)
    flights[nonce]?.sentAt = .now()
  }
}
