import Bytes
import Crypto
import Encoding

/// The outbox: transactions that were signed, in the order of their nonces, until the chain has taken them.
extension LedgerState {
  /// Sets the nonce that the next transaction bears: what the chain says, while nothing is on its way.
  mutating func adopt(nonce: UInt64, of key: ChainSenderKey, at now: Timestamp) throws(Refusal) -> LSN {
    guard availability != .unavailable else { throw .unavailable }
    guard key.address.count == ChainSenderKey.addressCount else { throw .malformedName }
    let known = senders[key]
    if known?.nextNonce == nonce { return 0 }
    if let known, !known.waiting.isEmpty { throw .wrongNonce(next: known.nextNonce) }
    guard known != nil || senders.count < LedgerLimit.senders.most else { throw .tooMany(.senders) }
    var sender = known ?? ChainSender()
    sender.next = nonce
    sender.freed = []
    senders[key] = sender
    write(sender: key)
    return advance(at: now)
  }

  mutating func enqueue(_ transaction: OutgoingTransaction, at now: Timestamp) throws(Refusal) -> LSN {
    guard availability != .unavailable else { throw .unavailable }
    // What is in the outbox may be sent, so a restart must not free its payment.
    if payments[transaction.purpose]?.state == .claimed { return try submitted(transaction.purpose, outgoing: transaction, at: now) }
    try add(transaction)
    return advance(at: now)
  }

  /// Puts a transaction into the outbox; the caller's entry follows.
  mutating func add(_ transaction: OutgoingTransaction) throws(Refusal) {
    let key = ChainSenderKey(chain: transaction.chain, address: transaction.sender)
    guard let sender = senders[key], let next = sender.nextNonce, next == transaction.nonce, next < .max else {
      throw .wrongNonce(next: senders[key]?.nextNonce)
    }
    guard sender.waiting.count < LedgerLimit.outgoing.most else { throw .tooMany(.outgoing) }
    guard transaction.raw.count <= LedgerLimit.transactionOctets.most else { throw .tooMany(.transactionOctets) }
    guard transaction.replaced.count <= LedgerLimit.replacements.most else { throw .tooMany(.replacements) }
    senders[key]?.take(next)
    put(transaction, key)
    write(sender: key)
    write(transaction)
  }

  /// Lists a transaction that is on its way.
  mutating func put(_ transaction: OutgoingTransaction, _ key: ChainSenderKey) {
    senders[key]?.waiting[transaction.nonce] = transaction
    outgoingPurposes[transaction.purpose, default: 0] += 1
  }

  /// Replaces a transaction that is stuck by one with the same nonce: either may land.
  mutating func replace(
    _ key: ChainSenderKey, nonce: UInt64, raw: [UInt8], hash: Digest32, at now: Timestamp
  ) throws(Refusal) -> LSN {
    var transaction = try outgoing(key, nonce)
    if transaction.hash == hash { return 0 }
    guard raw.count <= LedgerLimit.transactionOctets.most else { throw .tooMany(.transactionOctets) }
    guard transaction.replaced.count < LedgerLimit.replacements.most else { throw .tooMany(.replacements) }
    transaction.replaced.append(transaction.hash)
    setUnderWay(transaction.purpose, from: transaction.hash, to: hash)
    transaction.hash = hash
    transaction.raw = raw
    senders[key]?.waiting[nonce] = transaction
    write(transaction)
    if payments[transaction.purpose]?.state == .submitted {
      return try submitted(transaction.purpose, transaction: hash, at: now)
    }
    return advance(at: now)
  }

  /// Ends a transaction whose nonce the chain has taken, and counts what it cost.
  mutating func conclude(
    _ key: ChainSenderKey, nonce: UInt64, hash: Digest32, gas: UInt128, succeeded: Bool, at now: Timestamp
  ) throws(Refusal) -> LSN {
    let transaction = try outgoing(key, nonce)
    remove(transaction, key)
    if var sender = senders[key] {
      let (sum, overflows) = sender.gas.addingReportingOverflow(gas)
      sender.gas = overflows ? .max : sum
      if succeeded { sender.succeeded &+= 1 } else { sender.failed &+= 1 }
      senders[key] = sender
    }
    write(sender: key)
    if succeeded, payments[transaction.purpose]?.state == .submitted, payments[transaction.purpose]?.transaction != hash {
      // Whatever comes next, a restart included, begins with the version that landed.
      payments[transaction.purpose]?.transaction = hash
      payments[transaction.purpose]?.changed = lsn + 1
      write(payment: transaction.purpose)
    }
    var words = ChainWords()
    words.chain = key.chain
    words.sender = key.address
    words.nonce = nonce
    words.transaction = hash
    words.gas = gas
    words.succeeded = succeeded
    words.purpose = transaction.purpose
    return append(Entry(.chainTransaction, at: now), words: EntryWords(chain: words))
  }

  /// Takes back a transaction that nobody outside has seen; its nonce is the next one then.
  mutating func cancel(_ key: ChainSenderKey, nonce: UInt64, at now: Timestamp) throws(Refusal) -> LSN {
    remove(try outgoing(key, nonce), key)
    senders[key]?.giveBack(nonce)
    write(sender: key)
    return advance(at: now)
  }

  private func outgoing(_ key: ChainSenderKey, _ nonce: UInt64) throws(Refusal) -> OutgoingTransaction {
    guard availability != .unavailable else { throw .unavailable }
    guard let transaction = senders[key]?.waiting[nonce] else { throw .unknownTransaction }
    return transaction
  }

  private mutating func remove(_ transaction: OutgoingTransaction, _ key: ChainSenderKey) {
    senders[key]?.waiting[transaction.nonce] = nil
    let count = outgoingPurposes[transaction.purpose] ?? 0
    outgoingPurposes[transaction.purpose] = count > 1 ? count - 1 : nil
    redo.removeRecord(Self.recordKey(key, nonce: transaction.nonce))
  }

  func view(sender key: ChainSenderKey) -> ChainSenderView? {
    guard let sender = senders[key] else { return nil }
    return ChainSenderView(
      chain: key.chain, sender: key.address, nextNonce: sender.nextNonce, outgoing: sender.waiting.count, gas: sender.gas,
      succeeded: sender.succeeded, failed: sender.failed)
  }

  // MARK: records

  static func recordKey(_ key: ChainSenderKey) -> RecordKey {
    RecordKey(.sender, SHA256.hash("sender\n\(key.chain)\n" + AuditText.hex(key.address)))
  }

  static func recordKey(_ key: ChainSenderKey, nonce: UInt64) -> RecordKey {
    RecordKey(.outgoing, SHA256.hash("outgoing\n\(key.chain)\n" + AuditText.hex(key.address) + "\n\(nonce)"))
  }

  private mutating func write(sender key: ChainSenderKey) {
    guard let sender = senders[key] else { return }
    let place = redo.beginRecord(Self.recordKey(key))
    redo.put(key.chain)
    redo.put(key.address)
    redo.put(optional: sender.next) { $0.put($1) }
    redo.put(UInt32(sender.freed.count))
    for nonce in sender.freed { redo.put(nonce) }
    redo.put(sender.gas)
    redo.put(sender.succeeded)
    redo.put(sender.failed)
    redo.endRecord(place)
  }

  private mutating func write(_ transaction: OutgoingTransaction) {
    let key = ChainSenderKey(chain: transaction.chain, address: transaction.sender)
    let place = redo.beginRecord(Self.recordKey(key, nonce: transaction.nonce))
    redo.put(transaction.chain)
    redo.put(transaction.sender)
    redo.put(transaction.nonce)
    redo.put(transaction.purpose)
    redo.put(transaction.hash)
    redo.put(transaction.raw)
    redo.put(transaction.createdAt.microseconds)
    redo.put(UInt32(transaction.replaced.count))
    for hash in transaction.replaced { redo.put(hash) }
    redo.endRecord(place)
  }

  mutating func readSender(_ reader: inout RecordReader) throws(LedgerError) {
    let key = ChainSenderKey(chain: try reader.integer(), address: try reader.bytes())
    var sender = ChainSender()
    sender.next = try reader.optional { (reader) throws(LedgerError) in try reader.integer() }
    sender.freed = try reader.array { (reader) throws(LedgerError) in try reader.integer() }
    sender.gas = try reader.integer()
    sender.succeeded = try reader.integer()
    sender.failed = try reader.integer()
    guard key.address.count == ChainSenderKey.addressCount else { throw .malformed(.sender) }
    senders[key] = sender
  }

  mutating func readOutgoing(_ reader: inout RecordReader) throws(LedgerError) {
    let transaction = OutgoingTransaction(
      chain: try reader.integer(), sender: try reader.bytes(), nonce: try reader.integer(), purpose: try reader.digest(),
      hash: try reader.digest(), raw: try reader.bytes(), createdAt: Timestamp(microseconds: try reader.integer()),
      replaced: try reader.array { (reader) throws(LedgerError) in try reader.digest() })
    let key = ChainSenderKey(chain: transaction.chain, address: transaction.sender)
    guard senders[key] != nil else { throw .malformed(.outgoing) }
    put(transaction, key)
  }
}
