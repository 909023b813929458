import Bytes
import Crypto
import Encoding
import HTTP

/// The ledger's memory: every account, and what the next batch has to write. Decides and applies; performs no I/O.
///
/// It stands behind one lock. Order of entries is order of application, and the redo of a batch holds the image of each record after its
/// last change in that batch, so a batch can be read back any number of times.
struct LedgerState: ~Copyable {
  /// What one currency's accounts outside wallets, sessions and merchants hold.
  struct CurrencyAccounts {
    let code: String
    /// What wallets were funded with, less what was taken back.
    var issued: UInt128 = 0
    /// What merchants were paid.
    var paidOut: UInt128 = 0
    /// What stands in holds, and in payments on chains for which nothing was served yet.
    var held: UInt128 = 0
    /// What may still arrive by payments on chains that are claimed or submitted; no account of anybody.
    var expected: UInt128 = 0
    var isDirty = false
  }

  var epoch: UInt32
  /// The last sequence number given out.
  var lsn: LSN = 0
  /// The monotonic clock at the last sweep: what idle sessions are measured by, so that setting the wall clock closes none.
  var tick: Instant
  /// The latest instant seen: the clock's, or an entry's.
  var clock: Timestamp
  /// No claim may be made for a challenge that expires by then: others that did are forgotten.
  var horizon = Timestamp(microseconds: 0)
  var availability = Availability.selling
  var checkpoint: (size: UInt64, root: Digest32)

  var currencies: [CurrencyAccounts] = []
  var wallets: [Wallet] = []
  var walletIndex: [Digest32: UInt32] = [:]
  var merchants: [Merchant] = []
  var merchantIndex: [String: UInt32] = [:]
  var balances = Slab<SessionBalance>()
  var details: [SessionDetails?] = []
  var sessionIndex: [Digest32: UInt32] = [:]
  /// Terms of sessions, each kept once, by their images.
  var sharedTerms: [[UInt8]: SharedTerms] = [:]
  /// Channels by the place that their slots name, with the places that are free.
  var channels: [Channel?] = []
  var vacantChannels: [UInt32] = []
  /// Channels that are closing, by id.
  var closingChannels: Set<Digest32> = []
  /// Channels that are being opened, with the payments that open them.
  var openings: [Digest32: Digest32] = [:]
  var vacant: [UInt32] = []
  /// Slots that the batch to come has vacated: its lines still name their sessions, so nobody else moves in before it is taken.
  var vacated: [UInt32] = []
  var holds: [LSN: HeldCharge] = [:]
  /// Charges that are settled while their responses are still on their way: part of them may go back. A restart forgets them.
  var openCharges: [LSN: HeldCharge] = [:]
  var claims: [Digest32: Claim] = [:]
  var closed: [Digest32: ClosedSession] = [:]
  var outcomes: [Digest32: OutcomeRecord] = [:]
  var outcomeOctets = 0
  /// Those of them that are withheld, and that nobody has got.
  var undelivered = UndeliveredAnswers()
  /// What unique references were used for; also the keys that were replaced.
  var references: [Digest32: Digest32] = [:]
  /// How much was used in a period, by what was used and by whom.
  var volumes: [Digest32: Volume] = [:]
  /// Payments on chains, with the lists of those that have neither settled nor failed, and of those for which nothing was served.
  var payments: [Digest32: ChainPayment] = [:]
  var openPayments: Set<Digest32> = []
  /// The former by payer, and what payers call payments and promises that are kept.
  var openPaymentsOfPayer: [String: Set<Digest32>] = [:]
  var paymentNames: [Digest32: Digest32] = [:]
  var unservedPayments: Set<Digest32> = []
  /// Signed maxima, of which what is used is settled afterwards, and how many of them are not served to the end.
  var promises: [Digest32: ChainPromise] = [:]
  var openPromises = 0
  /// How many of the latter each client brought.
  var openPromisesOfClient: [ClientAddress: Int] = [:]
  /// Those that are not paid yet, by payer.
  var promisesOfPayer: [String: Set<Digest32>] = [:]
  /// How many payments that move nothing are kept, in all and of each client.
  var freePayments = 0
  var freePaymentsOfClient: [ClientAddress: Int] = [:]
  /// The outbox, and how many transactions in it serve a purpose.
  var senders: [ChainSenderKey: ChainSender] = [:]
  var outgoingPurposes: [Digest32: Int] = [:]
  var expiries = ExpiryQueue()
  /// Where the next sweep for idle sessions goes on.
  var sweepIndex = 0

  // What the next batch writes.
  var entries: [Entry] = []
  var words: [EntryWords] = []
  var fragments: [Fragment] = []
  var redo = ByteBuffer()
  var dirtyBalances: [UInt32] = []
  var dirtyWallets: [UInt32] = []
  var dirtyMerchants: [UInt32] = []
  var dirtyCurrencies: [UInt8] = []
  /// Closed sessions whose answers are still to be made.
  var unanswered: [Unanswered] = []
  /// Set when something happened that exchanges in flight should look at.
  var hasNews = false

  /// A close whose receipt is made outside the lock.
  struct Unanswered {
    var id: Digest32
    var epoch: UInt32
    var facts: ReceiptFacts
    var receipt: @Sendable (ReceiptFacts) -> [UInt8]
  }

  /// How many wallet fragments have been given out.
  var walletFragments: UInt32 = 0

  init(epoch: UInt32, at now: Timestamp, tick: Instant) {
    self.epoch = epoch
    self.tick = tick
    clock = now
    checkpoint = (0, LedgerState.emptyRoot)
  }

  /// The root of a tree without leaves, until the first checkpoint stands.
  static var emptyRoot: Digest32 { MerkleTree().root }

  // MARK: entries

  /// Gives the next sequence number to a change without a line.
  mutating func advance(at now: Timestamp) -> LSN {
    if now > clock { clock = now }
    lsn += 1
    return lsn
  }

  /// Gives the next sequence number to a change, and queues its line.
  mutating func append(_ entry: Entry, words more: EntryWords? = nil) -> LSN {
    var entry = entry
    if let more {
      words.append(more)
      entry.words = UInt32(words.count)
    }
    entries.append(entry)
    return advance(at: entry.time)
  }

  /// The ledger's UTC day: the later of the clock's and the last entry's.
  mutating func day(at now: Timestamp) -> Int32 {
    if now > clock { clock = now }
    return clock.day
  }

  // MARK: accounts

  func currency(_ code: String) throws(Refusal) -> UInt8 {
    guard let index = currencies.firstIndex(where: { $0.code == code }) else { throw .unknownCurrency }
    return UInt8(index)
  }

  func wallet(_ key: Digest32) throws(Refusal) -> UInt32 {
    guard let index = walletIndex[key] else { throw .unknownWallet }
    return index
  }

  /// Finds a merchant's account, or makes it.
  mutating func merchant(_ name: String) throws(Refusal) -> UInt32 {
    if let index = merchantIndex[name] { return index }
    guard Self.isName(name) else { throw .malformedName }
    guard merchants.count < LedgerLimit.merchants.most else { throw .tooMany(.merchants) }
    let index = addMerchant(Merchant(name: name, balances: Array(repeating: 0, count: currencies.count)))
    // Stored even where the payment is then refused: records name merchants by their place, so no place may be left out.
    touchMerchant(index)
    return index
  }

  mutating func addMerchant(_ merchant: Merchant) -> UInt32 {
    let index = UInt32(merchants.count)
    merchants.append(merchant)
    merchantIndex[merchant.name] = index
    fragments.append(.merchant(index, name: merchant.name))
    return index
  }

  /// Makes sure that a currency has its accounts.
  mutating func addCurrency(_ code: String) throws(Refusal) {
    if currencies.contains(where: { $0.code == code }) { return }
    guard Self.isAccountCode(code) else { throw .malformedName }
    guard currencies.count < LedgerLimit.currencies.most else { throw .tooMany(.currencies) }
    let index = UInt8(currencies.count)
    currencies.append(CurrencyAccounts(code: code))
    fragments.append(.currency(index, code: code))
    for index in wallets.indices { wallets[index].accounts.append(Wallet.Account()) }
    for index in merchants.indices { merchants[index].balances.append(0) }
    touchCurrency(index)
    _ = advance(at: clock)
  }

  /// A name that stands in audit lines: 1 to 128 octets without control characters.
  static func isName(_ name: String) -> Bool {
    (1...128).contains(name.utf8.count) && name.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F }
  }

  /// A currency's code, or one with the chain that it is of behind an `@`: it stands in audit lines as it is.
  static func isAccountCode(_ code: String) -> Bool {
    (1...64).contains(code.utf8.count)
      && code.utf8.allSatisfy { octet in
        switch octet {
        case 0x30...0x3A, 0x40...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F: true
        default: false
        }
      }
  }

  // MARK: dirt

  mutating func touchBalance(_ index: Int) {
    if !balances[index].isDirty {
      balances[index].isDirty = true
      dirtyBalances.append(UInt32(index))
    }
  }

  mutating func touchWallet(_ index: UInt32) {
    if !wallets[Int(index)].isDirty {
      wallets[Int(index)].isDirty = true
      dirtyWallets.append(index)
    }
  }

  mutating func touchMerchant(_ index: UInt32) {
    if !merchants[Int(index)].isDirty {
      merchants[Int(index)].isDirty = true
      dirtyMerchants.append(index)
    }
  }

  mutating func touchCurrency(_ index: UInt8) {
    if !currencies[Int(index)].isDirty {
      currencies[Int(index)].isDirty = true
      dirtyCurrencies.append(index)
    }
  }

  /// Credits a merchant, or debits it where `amount` is negative.
  mutating func credit(_ merchant: UInt32, _ amount: Int128, currency: UInt8) {
    // Cannot overflow: every amount is part of what was issued, which fits 127 bits.
    merchants[Int(merchant)].balances[Int(currency)] += amount
    touchMerchant(merchant)
  }
}

/// Things that are forgotten at some instant, by the minute.
struct ExpiryQueue {
  enum Item {
    case claim(Digest32)
    case closed(Digest32)
    case outcome(Digest32)
    case volume(Digest32)
    case payment(Digest32)
    case promise(Digest32)
  }

  private var buckets: [Int64: [Item]] = [:]
  private var next: Int64?

  private static func minute(_ time: Timestamp) -> Int64 { time.microseconds / 60_000_000 }

  /// Adds a thing that may be forgotten once the minute of `time` is over.
  mutating func add(_ item: Item, at time: Timestamp) {
    let minute = Self.minute(time)
    buckets[minute, default: []].append(item)
    next = min(next ?? minute, minute)
  }

  /// Takes out what expired, at most `limit` things.
  mutating func take(limit: Int, at now: Timestamp) -> [Item] {
    var taken: [Item] = []
    let current = Self.minute(now)
    while taken.count < limit, let minute = next, minute < current {
      if var bucket = buckets.removeValue(forKey: minute) {
        let count = min(bucket.count, limit - taken.count)
        taken += bucket.suffix(count)
        bucket.removeLast(count)
        if !bucket.isEmpty {
          buckets[minute] = bucket
          return taken
        }
      }
      // After a long silence the queue's next minute is looked up rather than counted up to.
      next = buckets.isEmpty ? nil : (current - minute > 600 ? buckets.keys.min() : minute + 1)
    }
    return taken
  }
}
