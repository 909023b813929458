import Encoding
import Metering
import Methods
import Payments

/// Keeps account of what one call has made available to spend, and decides how much more may be, within what the caller allows.
///
/// Three limits hold at once: `maximum` bounds what leaves the wallet, `budget` what the call may cost in all (what a session that was
/// open before still holds counts from the moment of its use), and `rate` what it may cost within any minute.
struct Spending {
  /// The doublings after which a top-up no longer grows.
  static let doublingLimit = 4

  let options: AgentOptions
  /// What has left the wallet for this call, in base units of its one currency.
  var outlay: UInt128 = 0
  /// What a session held when this call began to use it, or what its answer costs where that is known.
  var found: UInt128 = 0
  var sessionID: String?
  /// What the session in use held before this call, and how much of that `found` counts.
  var heldBefore: UInt128 = 0
  var exposed: UInt128 = 0
  var spent: UInt128 = 0
  var pace = SpendingPace()
  var topUpCount = 0
  /// How much of `outlay` went into channels, where it costs nothing before it is signed for.
  var escrowed: UInt128 = 0
  /// By currency, what the server was given before this call, has refused, and could submit all the same; nil where that was not looked at.
  var doubtful: [String: UInt128]?
  /// What was signed for by vouchers of this call, beyond what was signed before.
  var signed: UInt128 = 0

  init(options: AgentOptions) { self.options = options }

  // MARK: - What is left

  /// What may still leave the wallet, by `maximum` and `budget`; nil where nothing may at all.
  func left(in currency: Currency) -> UInt128? {
    guard let allowance = options.allowance(in: currency) else { return nil }
    let left = allowance > outlay ? allowance - outlay : 0
    guard let budget = options.budget else { return left }
    return budget.units(in: currency).map { min(left, Self.rest(of: $0, outlay, found)) }
  }

  static func rest(of whole: UInt128, _ parts: UInt128...) -> UInt128 {
    parts.reduce(whole) { $0 > $1 ? $0 - $1 : 0 }
  }

  /// What a minute may cost, nil where that is not limited. A rate in another currency, or with more decimals than there are, allows nothing.
  func rate(in currency: Currency) -> UInt128? { options.rate.map { $0.units(in: currency) ?? 0 } }

  func over(_ price: UInt128, _ left: UInt128?, _ currency: Currency) -> AgentError {
    .overMaximum(price: price, maximum: left, currency: currency)
  }

  func over(_ price: UInt128, rate: UInt128, _ currency: Currency) -> AgentError {
    .overRate(price: price, rate: rate, currency: currency)
  }

  // MARK: - Charges

  /// Throws where a charge is more than may leave, or more than a minute may cost.
  func check(charge amount: UInt128, in currency: Currency, at now: Instant) throws(AgentError) {
    let left = left(in: currency)
    guard let left, amount <= left else { throw over(amount, left, currency) }
    if let rate = rate(in: currency), pace.room(within: rate, beside: 0, at: now) < amount { throw over(amount, rate: rate, currency) }
  }

  /// Notes a charge that is about to be made.
  mutating func charge(_ amount: UInt128, at now: Instant) {
    outlay &+= amount
    pace.spend(amount, at: now)
  }

  // MARK: - Sessions

  /// Throws where one unit by the terms of a route costs more than may leave: an open session would pay it without asking.
  func check(terms offer: PrepaidOffer) throws(AgentError) {
    guard case .session(let terms) = offer.terms else { return }
    let left = left(in: offer.currency)
    for rate in terms.rates {
      let price = ExactCost(units: 1, rate: rate)?.ceiling ?? .max
      guard let left, price <= left else { throw over(price, left, offer.currency) }
    }
  }

  /// Whether a session that was open before may be used: not where it holds more than the call may still cost, unless its answer's
  /// price is known and fits.
  ///
  /// The one in use is asked about again: its route may be offered at other terms than those by which it was counted.
  ///
  /// - Parameter price: What the answer costs, nil where that shows only as it comes.
  func admits(_ session: KeptSession, price: UInt128?, at now: Instant) -> Bool {
    let isInUse = session.sessionID == sessionID
    let exposure = Self.exposure(of: isInUse ? heldBefore : session.remaining, price)
    if isInUse, exposure <= exposed { return true }
    if let budget = options.budget {
      let others = isInUse ? found - exposed : found
      guard let units = budget.units(in: session.currency), exposure <= Self.rest(of: units, outlay, others) else { return false }
    }
    guard let rate = rate(in: session.currency) else { return true }
    return exposure <= pace.room(within: rate, beside: 0, at: now)
  }

  /// How much of what a session holds its answer may cost.
  static func exposure(of held: UInt128, _ price: UInt128?) -> UInt128 { min(price ?? held, held) }

  /// Notes that a session which was open before is used.
  mutating func use(_ session: KeptSession, price: UInt128?) {
    if session.sessionID != sessionID {
      sessionID = session.sessionID
      spent = session.spent
      heldBefore = session.remaining
      exposed = 0
    }
    let exposure = Self.exposure(of: heldBefore, price)
    guard exposure > exposed else { return }
    found &+= exposure - exposed
    exposed = exposure
  }

  /// The deposit of a new session: the caller's, or else the server's suggestion within the limits, and never less than the server's minimum.
  func deposit(for terms: PrepaidSession, in currency: Currency, at now: Instant) throws(AgentError) -> UInt128 {
    let left = left(in: currency)
    guard let left else { throw over(terms.minimumDeposit, nil, currency) }
    let rate = rate(in: currency)
    let room = rate.map { pace.room(within: $0, beside: 0, at: now) } ?? .max
    let wanted: UInt128
    if let deposit = options.deposit {
      guard let units = deposit.units(in: currency) else { throw over(terms.minimumDeposit, nil, currency) }
      wanted = units
    } else {
      wanted = min(max(terms.suggestedDeposit, 1), left, room)
    }
    let deposit = max(wanted, terms.minimumDeposit)
    guard deposit > 0, deposit <= left else { throw over(deposit, left, currency) }
    if let rate, deposit > room { throw over(deposit, rate: rate, currency) }
    return deposit
  }

  /// Notes that a session is opened.
  mutating func open(_ session: KeptSession) {
    outlay &+= session.deposit
    sessionID = session.sessionID
    spent = 0
    // All of it is counted as what has left the wallet.
    heldBefore = 0
    exposed = 0
  }

  /// Notes what the session has spent by now, estimated or as the server says.
  mutating func learn(spent total: UInt128, at now: Instant) {
    guard total > spent else { return }
    pace.spend(total - spent, at: now)
    spent = total
  }

  /// Whether spending is measured by the minute, so that it should be learnt of as it happens.
  var isPaced: Bool { options.rate != nil }

  // MARK: - Top-ups

  /// How a session that has run dry goes on.
  enum TopUp: Equatable {
    case add(UInt128)
    /// The minute has cost what it may; at this moment it can be asked again.
    case wait(until: Instant)
  }

  /// Decides on a top-up: a step of the caller's, or else what the rest of the answer costs where that is known, or else the suggested
  /// deposit, twice as much each time; within the limits, and at least what is required.
  func topUp(
    _ required: UInt128, rest: UInt128?, of session: KeptSession, at now: Instant
  ) throws(AgentError) -> TopUp {
    let currency = session.currency
    let left = left(in: currency)
    let least = max(required, 1)
    guard let left, least <= left else { throw over(least, left, currency) }
    var most = left
    if let rate = rate(in: currency) {
      let room = pace.room(within: rate, beside: session.remaining, at: now)
      guard least <= room else {
        let moment = pace.moment(for: least, within: rate, beside: session.remaining, at: now)
        guard let moment else { throw over(least, rate: rate, currency) }
        return .wait(until: moment)
      }
      most = min(left, room)
    }
    return .add(min(max(least, wanted(rest: rest, of: session)), most))
  }

  private func wanted(rest: UInt128?, of session: KeptSession) -> UInt128 {
    if let step = options.step?.units(in: session.currency) { return rest.map { min($0, step) } ?? step }
    if let rest { return rest }
    let (wanted, overflow) = session.suggestedDeposit.multipliedReportingOverflow(by: 1 << UInt128(min(topUpCount, Self.doublingLimit)))
    return overflow ? .max : wanted
  }

  /// Notes that a top-up is about to be made.
  mutating func add(_ amount: UInt128) {
    outlay &+= amount
    topUpCount += 1
  }
}
