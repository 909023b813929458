import Metering
import Methods
import Payments

/// Decides how much leaves the wallet, within what the caller allows.
struct SpendingPlan {
  let options: AgentOptions
  /// What has left the wallet for this call already, in base units.
  let outlay: UInt128

  /// What may still leave; nil where nothing may at all.
  private func left(in currency: Currency) -> UInt128? {
    options.allowance(in: currency).map { $0 > outlay ? $0 - outlay : 0 }
  }

  private func over(_ price: UInt128, _ left: UInt128?, _ currency: Currency) -> AgentError {
    .overMaximum(price: price, maximum: left, currency: currency)
  }

  /// Throws where a charge is more than may leave.
  func check(charge amount: UInt128, in currency: Currency) throws(AgentError) {
    let left = left(in: currency)
    guard let left, amount <= left else { throw over(amount, left, currency) }
  }

  /// Throws where one unit by the terms of a route costs more than may leave: an open session would pay it without asking.
  func check(terms offer: PrepaidOffer) throws(AgentError) {
    guard case .session(let terms) = offer.terms else { return }
    for rate in terms.rates { try check(charge: rate.amount, in: offer.currency) }
  }

  /// The deposit of a new session: the caller's, or else the server's suggestion bounded by the maximum, and never less
  /// than the server's minimum.
  func deposit(for terms: PrepaidSession, in currency: Currency) throws(AgentError) -> UInt128 {
    let left = left(in: currency)
    guard let left else { throw over(terms.minimumDeposit, nil, currency) }
    let wanted: UInt128
    if let deposit = options.deposit {
      guard let units = deposit.units(in: currency) else { throw over(terms.minimumDeposit, nil, currency) }
      wanted = units
    } else {
      wanted = min(max(terms.suggestedDeposit, 1), left)
    }
    let deposit = max(wanted, terms.minimumDeposit)
    guard deposit > 0, deposit <= left else { throw over(deposit, left, currency) }
    return deposit
  }

  /// The amount of a top-up: what is wanted, as far as it may leave, and at least what is required.
  func topUp(_ required: UInt128, wanted: UInt128, in currency: Currency) throws(AgentError) -> UInt128 {
    let left = left(in: currency)
    let least = max(required, 1)
    guard let left, least <= left else { throw over(least, left, currency) }
    return min(max(least, wanted), left)
  }
}
