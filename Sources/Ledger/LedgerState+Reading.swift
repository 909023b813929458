import Bytes
import Encoding
import HTTP
import Metering
import Payments

/// Records read back, in the order that `Recovery.order` gives: what others refer to comes first.
extension LedgerState {
  /// Kinds in the order in which they must be read.
  static var readingOrder: [RecordKind] {
    [
      .meta, .currency, .merchant, .wallet, .session, .channel, .voucher, .balance, .hold, .claim, .closed, .outcome, .reference, .volume, .sender,
      .outgoing, .payment, .promise,
    ]
  }

  /// What reading needs to know beside the state.
  struct Reading {
    var walletsByNumber: [UInt64: UInt32] = [:]
    var channels: [UInt64: Channel] = [:]
    /// The sessions in the order of their numbers, in which their balances come, too.
    private var sessions: [(number: UInt64, details: SessionDetails)] = []
    private var nextSession = 0
    /// Terms that were read lately, by their octets: those of most sessions.
    fileprivate var recentTerms: [(octets: [UInt8], terms: SharedTerms)] = []
    fileprivate static let recentTermsLimit = 16

    var sessionCount: Int { sessions.count }

    mutating func add(_ details: SessionDetails, number: UInt64) throws(LedgerError) {
      if let last = sessions.last, last.number >= number { throw .malformed(.session) }
      sessions.append((number, details))
    }

    /// Finds a session, whatever was asked for before.
    func details(of number: UInt64) -> SessionDetails? {
      var range = 0..<sessions.count
      while !range.isEmpty {
        let middle = range.lowerBound + range.count / 2
        if sessions[middle].number == number { return sessions[middle].details }
        range = sessions[middle].number < number ? (middle + 1)..<range.upperBound : range.lowerBound..<middle
      }
      return nil
    }

    /// Finds a session; at once where it is the one behind the last.
    mutating func nextDetails(of number: UInt64) -> SessionDetails? {
      guard nextSession < sessions.count, sessions[nextSession].number == number else { return details(of: number) }
      defer { nextSession += 1 }
      return sessions[nextSession].details
    }
  }

  mutating func read(_ key: RecordKey, _ octets: UnsafeRawBufferPointer, _ reading: inout Reading) throws(LedgerError) {
    var reader = RecordReader(octets, kind: key.kind)
    switch key.kind {
    case .meta:
      lsn = try reader.integer()
      clock = max(clock, Timestamp(microseconds: try reader.integer()))
      horizon = Timestamp(microseconds: try reader.integer())
    // Other records name currencies and merchants by their place, so every place has to be there.
    case .currency:
      guard key == RecordKey(.currency, number: UInt64(currencies.count)) else { throw .malformed(.currency) }
      try readCurrency(&reader)
    case .merchant:
      guard key == RecordKey(.merchant, number: UInt64(merchants.count)) else { throw .malformed(.merchant) }
      try readMerchant(&reader)
    case .wallet: try readWallet(&reader, &reading)
    case .session: try readDetails(&reader, &reading)
    case .channel: try readChannel(&reader, &reading)
    case .voucher: try readVoucher(&reader, &reading)
    case .balance: try readBalance(&reader, &reading)
    case .hold: try readHold(&reader, reading)
    case .claim: try readClaim(&reader, key.digest)
    case .closed: try readClosed(&reader, key.digest)
    case .outcome: try readOutcome(&reader, key.digest)
    case .reference: references[key.digest] = try reader.digest()
    case .volume: try readVolume(&reader, key.digest)
    case .payment: try readPayment(&reader, key.digest)
    case .promise: try readPromise(&reader, key.digest)
    case .sender: try readSender(&reader)
    case .outgoing: try readOutgoing(&reader)
    case .charge: return
    }
    try reader.end()
  }

  private mutating func readCurrency(_ reader: inout RecordReader) throws(LedgerError) {
    let code = try reader.string()
    let issued: UInt128 = try reader.integer()
    let paidOut: UInt128 = try reader.integer()
    fragments.append(.currency(UInt8(truncatingIfNeeded: currencies.count), code: code))
    currencies.append(CurrencyAccounts(code: code, issued: issued, paidOut: paidOut))
  }

  private mutating func readMerchant(_ reader: inout RecordReader) throws(LedgerError) {
    let name = try reader.string()
    var balances = try reader.array { (reader) throws(LedgerError) -> Int128 in try reader.integer() }
    guard balances.count <= currencies.count else { throw .malformed(.merchant) }
    balances += Array(repeating: 0, count: currencies.count - balances.count)
    _ = addMerchant(Merchant(name: name, balances: balances))
  }

  private mutating func readWallet(_ reader: inout RecordReader, _ reading: inout Reading) throws(LedgerError) {
    let number: UInt64 = try reader.integer()
    let key = try reader.digest()
    let isFrozen = try reader.bool()
    var accounts = try reader.array { (reader) throws(LedgerError) -> Wallet.Account in
      Wallet.Account(balance: try reader.integer(), day: try reader.integer(), outflow: try reader.integer())
    }
    guard accounts.count <= currencies.count else { throw .malformed(.wallet) }
    accounts += Array(repeating: Wallet.Account(), count: currencies.count - accounts.count)
    var policy = Policy()
    for _ in 0..<(try reader.integer(UInt32.self)) {
      let code = try reader.string()
      var caps = Policy.Caps()
      caps.daily = try reader.optional { (reader) throws(LedgerError) in try reader.integer() }
      caps.payment = try reader.optional { (reader) throws(LedgerError) in try reader.integer() }
      caps.session = try reader.optional { (reader) throws(LedgerError) in try reader.integer() }
      policy.caps[code] = caps
    }
    policy.maximumSessions = try reader.optional { (reader) throws(LedgerError) in try reader.integer() }
    policy.allowed = try reader.optional { (reader) throws(LedgerError) in
      try reader.array { (reader) throws(LedgerError) in try reader.string() }
    }
    policy.expires = try reader.optional { (reader) throws(LedgerError) in Timestamp(microseconds: try reader.integer()) }
    reading.walletsByNumber[number] = addWallet(
      Wallet(number: number, key: key, fragment: 0, policy: policy, isFrozen: isFrozen, accounts: accounts))
  }

  private mutating func readDetails(_ reader: inout RecordReader, _ reading: inout Reading) throws(LedgerError) {
    let number: UInt64 = try reader.integer()
    let id = try reader.digest()
    let terms = try readTerms(&reader, &reading)
    let claims = try reader.array { (reader) throws(LedgerError) in try reader.digest() }
    let cause = try reader.optional { (reader) throws(LedgerError) -> CloseCause in try Self.cause(&reader, .session) }
    let closeClaim = try reader.optional { (reader) throws(LedgerError) in try reader.digest() }
    try reading.add(SessionDetails(id: id, shared: terms, claims: claims, cause: cause, closeClaim: closeClaim), number: number)
  }

  /// Reads terms, or recognises them: no image of terms begins with another.
  private mutating func readTerms(_ reader: inout RecordReader, _ reading: inout Reading) throws(LedgerError) -> SharedTerms {
    for known in reading.recentTerms where reader.skip(known.octets) { return known.terms }
    let start = reader
    let terms = try Self.terms(&reader)
    let image = reader.octets(since: start)
    let shared = share(terms, image: image)
    if reading.recentTerms.count == Reading.recentTermsLimit { reading.recentTerms.removeFirst() }
    reading.recentTerms.append((image, shared))
    return shared
  }

  static func terms(_ reader: inout RecordReader) throws(LedgerError) -> SessionTerms {
    let realm = try reader.string()
    let currency = try reader.string()
    let merchant = try reader.string()
    let routes = try reader.array { (reader) throws(LedgerError) -> RouteTerms in
      let routeID = try reader.string()
      let version = try reader.string()
      let code = try reader.string()
      let decimals: UInt8 = try reader.integer()
      let marked: UInt32 = try reader.integer()
      let isBounded = marked & RouteTerms.boundedMark != 0
      let parts = try reader.array(count: marked & ~RouteTerms.boundedMark) { (reader) throws(LedgerError) -> Rate in
        let amount: UInt128 = try reader.integer()
        let size: UInt64 = try reader.integer()
        guard let unit = Unit(rawValue: try reader.integer()), let rate = Rate(amount: amount, unitSize: size, unit: unit) else {
          throw .malformed(.session)
        }
        return rate
      }
      let minimum: UInt128 = isBounded ? try reader.integer() : 0
      let maximum: UInt128 = isBounded ? try reader.integer() : .max
      guard let currency = Currency(code: code, decimals: decimals),
        let price = Price(currency: currency, parts: parts, minimum: minimum, maximum: maximum)
      else { throw .malformed(.session) }
      return RouteTerms(routeID: routeID, priceVersion: version, price: price)
    }
    return SessionTerms(realm: realm, currency: currency, merchant: merchant, routes: routes)
  }

  private static func cause(_ reader: inout RecordReader, _ kind: RecordKind) throws(LedgerError) -> CloseCause {
    guard let cause = CloseCause(rawValue: try reader.integer()) else { throw .malformed(kind) }
    return cause
  }

  /// The cause of a closed session, in whose mark stands whether it was a channel.
  private static func cause(_ reader: inout RecordReader, isChannel: inout Bool) throws(LedgerError) -> CloseCause {
    let marked: UInt8 = try reader.integer()
    isChannel = marked & ClosedSession.channelMark != 0
    guard let cause = CloseCause(rawValue: marked & ~ClosedSession.channelMark) else { throw .malformed(.closed) }
    return cause
  }

  private static func cost(_ reader: inout RecordReader) throws(LedgerError) -> ExactCost {
    let whole: UInt128 = try reader.integer()
    guard let cost = ExactCost(whole: whole, numerator: try reader.integer()) else { throw .malformed(.balance) }
    return cost
  }

  private mutating func readBalance(_ reader: inout RecordReader, _ reading: inout Reading) throws(LedgerError) {
    var balance = SessionBalance()
    balance.number = try reader.integer()
    guard let phase = SessionPhase(rawValue: try reader.integer()), phase != .vacant else { throw .malformed(.balance) }
    balance.phase = phase
    balance.currency = try reader.integer()
    balance.maximumInFlight = try reader.integer()
    let number: UInt64 = try reader.integer()
    let channel = number == 0 ? reading.channels[balance.number] : nil
    guard let wallet = channel == nil ? reading.walletsByNumber[number] : .max else { throw .malformed(.balance) }
    balance.wallet = wallet
    balance.merchant = try reader.integer()
    balance.deposit = try reader.integer()
    balance.settled = try Self.cost(&reader)
    balance.total = try Self.cost(&reader)
    balance.units = try reader.integer()
    balance.idleMicroseconds = try reader.integer()
    balance.depositDay = try reader.integer()
    balance.depositOfDay = try reader.integer()
    if let channel {
      balance.arrived = try reader.integer()
      guard channel.voucher.amount == balance.deposit else { throw .malformed(.balance) }
    }
    balance.lastUse = channel == nil ? tick : Instant(nanoseconds: 0)
    guard Int(balance.currency) < currencies.count, Int(balance.merchant) < merchants.count, balance.settled <= balance.total,
      balance.total.ceiling <= balance.deposit, let more = reading.nextDetails(of: balance.number)
    else { throw .malformed(.balance) }
    if balances.count == 0 {
      details.reserveCapacity(reading.sessionCount)
      sessionIndex.reserveCapacity(reading.sessionCount)
    }
    guard let channel else {
      wallets[Int(wallet)].openSessions += 1
      _ = addSession(balance, more)
      return
    }
    _ = addChannel(channel, balance, more)
  }

  private mutating func readHold(_ reader: inout RecordReader, _ reading: Reading) throws(LedgerError) {
    let id: LSN = try reader.integer()
    let challengeID = try reader.digest()
    guard let wallet = reading.walletsByNumber[try reader.integer()] else { throw .malformed(.hold) }
    let merchant: UInt32 = try reader.integer()
    let currency: UInt8 = try reader.integer()
    guard Int(merchant) < merchants.count, Int(currency) < currencies.count else { throw .malformed(.hold) }
    let amount: UInt128 = try reader.integer()
    let held = HeldCharge(
      payer: .wallet(wallet, challengeID: challengeID, day: try reader.integer()), merchant: merchant, currency: currency, amount: amount,
      route: .none, client: ClientAddress(high: try reader.integer(), low: try reader.integer()),
      expires: Timestamp(microseconds: try reader.integer()), idempotency: nil)
    let (sum, overflows) = currencies[Int(currency)].held.addingReportingOverflow(held.amount)
    guard !overflows else { throw .malformed(.hold) }
    currencies[Int(currency)].held = sum
    holds[id] = held
  }

  private mutating func readClaim(_ reader: inout RecordReader, _ id: Digest32) throws(LedgerError) {
    let use: Claim.Use
    switch try reader.integer(UInt8.self) {
    case 0: use = .held(try reader.integer())
    case 1: use = .settled(try reader.integer())
    case 2: use = .opened(session: try reader.digest())
    case 3: use = .toppedUp(session: try reader.digest(), credential: try reader.digest())
    case 4: use = .payment(try reader.digest())
    case 5: use = .closed(session: try reader.digest())
    default: throw .malformed(.claim)
    }
    let claim = Claim(
      use: use, reference: try reader.integer(), expires: Timestamp(microseconds: try reader.integer()),
      answer: try reader.optional { (reader) throws(LedgerError) in try reader.bytes() })
    claims[id] = claim
    if case .settled = use { expiries.add(.claim(id), at: claim.expires) }
  }

  private mutating func readClosed(_ reader: inout RecordReader, _ id: Digest32) throws(LedgerError) {
    var isChannel = false
    var record = ClosedSession(
      wallet: try reader.digest(), currency: try reader.string(), merchant: try reader.string(), deposit: try reader.integer(),
      spent: try reader.integer(), refunded: try reader.integer(), units: try reader.integer(),
      cause: try Self.cause(&reader, isChannel: &isChannel),
      time: Timestamp(microseconds: try reader.integer()), lsn: try reader.integer(),
      claim: try reader.optional { (reader) throws(LedgerError) in try reader.digest() },
      answer: try reader.optional { (reader) throws(LedgerError) in try reader.bytes() },
      claims: try reader.array { (reader) throws(LedgerError) in try reader.digest() })
    if isChannel { record.channel = try Self.closedChannel(&reader) }
    closed[id] = record
    expiries.add(.closed(id), at: record.time + Self.answerRetention)
  }

  private mutating func readOutcome(_ reader: inout RecordReader, _ key: Digest32) throws(LedgerError) {
    let request = try reader.digest()
    let expires = Timestamp(microseconds: try reader.integer())
    let outcome = StoredOutcome(
      status: try reader.integer(), head: try reader.bytes(),
      body: try reader.optional { (reader) throws(LedgerError) in try reader.bytes() }, receipt: try reader.bytes())
    outcomes[key] = OutcomeRecord(request: request, outcome: outcome)
    outcomeOctets += outcome.octetCount
    expiries.add(.outcome(key), at: expires)
  }

  /// Ends what was open when the program ended: holds are voided, payments that were only claimed are freed, debits ahead are kept, closing
  /// sessions are closed; channels wait for the chain.
  mutating func recover(at now: Timestamp) throws(LedgerError) {
    if let report = books().balances.first(where: { $0.sum != 0 }) { throw .unbalanced(currency: report.currency) }
    for id in holds.keys.sorted() { _ = void(Hold(id: id, epoch: epoch), cause: .restart, at: now) }
    freeClaimedPayments(at: now)
    freePromises(at: now)
    for index in balances.indices {
      switch balances[index].phase {
      case .vacant: continue
      case .open, .suspended, .unconfirmed: settleAhead(slot: index, at: now)
      case .closing: _ = finalise(index, at: now)
      }
    }
  }

  /// Reads a settled charge's image.
  static func readCharge(_ octets: [UInt8]) throws(LedgerError) -> SettledCharge {
    try octets.lend { (raw) throws(LedgerError) -> SettledCharge in
      var reader = RecordReader(raw, kind: .charge)
      let charge = SettledCharge(
        wallet: try reader.integer(), merchant: try reader.string(), currency: try reader.string(), amount: try reader.integer(),
        day: try reader.integer(), isRefunded: try reader.bool())
      try reader.end()
      return charge
    }
  }
}
