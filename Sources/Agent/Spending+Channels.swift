import Encoding
import Payments

// What a call may deposit into channels and sign for. A deposit leaves the wallet, so `maximum` bounds it; what is signed is what the server can
// take, so `budget` and `rate` bound that.
extension Spending {
  /// What may still be deposited; nil where nothing may at all.
  private func depositRoom(in currency: Currency) -> UInt128? {
    options.allowance(in: currency).map { Self.rest(of: $0, outlay, doubtful?[currency.code] ?? 0) }
  }

  /// What may still be signed for.
  private func voucherRoom(in currency: Currency) -> UInt128 {
    guard let budget = options.budget else { return .max }
    return Self.rest(of: budget.units(in: currency) ?? 0, outlay > escrowed ? outlay - escrowed : 0, found, signed)
  }

  /// The deposit of a new channel: the caller's, or else the server's suggestion within the limits, and never less than what is needed at once.
  func deposit(of offer: ChannelOffer, need: UInt128) throws(AgentError) -> UInt128 {
    let currency = offer.currency
    let least = max(offer.minimumDeposit, need, 1)
    guard let room = depositRoom(in: currency) else { throw over(least, nil, currency) }
    let wanted: UInt128
    if let deposit = options.deposit {
      guard let units = deposit.units(in: currency) else { throw over(least, nil, currency) }
      wanted = units
    } else {
      wanted = min(offer.suggestedDeposit, room)
    }
    let deposit = max(wanted, least)
    guard deposit <= room else { throw over(deposit, room, currency) }
    return deposit
  }

  /// What is added to a channel's deposit that lacks something: the caller's step, or what the server suggested, within the limits.
  func deposit(more lacking: UInt128, to channel: KeptChannel) throws(AgentError) -> UInt128 {
    let currency = channel.currency
    guard let room = depositRoom(in: currency), lacking <= room else { throw over(lacking, depositRoom(in: currency), currency) }
    return min(max(lacking, options.step?.units(in: currency) ?? channel.suggestedDeposit, 1), room)
  }

  /// Notes a deposit that is about to be made.
  mutating func deposit(_ amount: UInt128) {
    outlay &+= amount
    escrowed &+= amount
  }

  /// Whether a kept channel may be used: not where more is signed ahead than the call may cost, unless its answer's price is known and fits.
  ///
  /// - Parameters:
  ///   - need: What has to be signed for before the answer comes, beyond what is spent.
  ///   - price: What the answer costs, nil where that shows only as it comes.
  func admits(_ channel: KeptChannel, need: UInt128, price: UInt128?, at now: Instant) -> Bool {
    let exposure = Self.exposure(of: channel.ahead, price)
    let lacking = need > channel.ahead ? need - channel.ahead : 0
    let isInUse = channel.channelID.hex == sessionID
    guard isInUse || exposure <= voucherRoom(in: channel.currency), lacking <= voucherRoom(in: channel.currency) else { return false }
    guard let rate = rate(in: channel.currency) else { return true }
    return max(exposure, need) <= rate
  }

  /// Notes that a channel is used: what was signed ahead before may be spent by it.
  mutating func use(_ channel: KeptChannel, price: UInt128?) {
    let id = channel.channelID.hex
    if sessionID != id {
      sessionID = id
      spent = channel.spent
      heldBefore = channel.ahead
      exposed = 0
    }
    let exposure = Self.exposure(of: heldBefore, price)
    guard exposure > exposed else { return }
    found &+= exposure - exposed
    exposed = exposure
  }

  /// Decides how much more is signed for.
  ///
  /// - Parameters:
  ///   - least: What it has to be at least.
  ///   - ahead: What is signed and not spent before it.
  func voucher(_ least: UInt128, wanted: UInt128, ahead: UInt128, in currency: Currency, at now: Instant) throws(AgentError) -> TopUp {
    let room = voucherRoom(in: currency)
    guard least <= room else { throw over(least, room, currency) }
    var most = room
    if let rate = rate(in: currency) {
      let free = pace.room(within: rate, beside: ahead, at: now)
      guard least <= free else {
        guard let moment = pace.moment(for: least, within: rate, beside: ahead, at: now) else { throw over(least, rate: rate, currency) }
        return .wait(until: moment)
      }
      most = min(room, free)
    }
    return .add(min(max(least, wanted), most))
  }
}
