import Encoding

/// What an exchange has run up whose price is one sum over several counts: events, tokens, seconds, units, octets.
///
/// Money is debited ahead in steps, as a `Meter`'s octets are: content may pass once what it brings the exchange's cost to is debited and
/// durable. It performs nothing: whoever drives it debits the steps that it asks for.
///
/// A step is a second's worth of the stream. The next one is asked for when half of the last is used, so that the disk and the stream
/// work at the same time.
public struct ExchangeTab: Sendable {
  /// How many times the first step may be doubled.
  public static let mostDoublings = 12
  /// A step that is used up sooner than this is followed by a larger one.
  private static let pace = Duration.seconds(1)

  /// Says whether content may pass that brings the exchange's cost to a sum.
  public enum Standing: Sendable, Hashable {
    /// It is debited, durably.
    case covered
    /// It is debited; this entry has to be durable first.
    case awaits(entry: UInt64)
    /// So much is missing.
    case short(ExactCost)
  }

  /// What was debited for the exchange.
  public private(set) var debited: ExactCost
  /// What is held for it beside that; debits come out of it first.
  public private(set) var held: ExactCost
  /// What is known to be durable of it.
  private var durable = ExactCost.zero
  /// The entry of the last debit.
  private var lastEntry: UInt64
  private var first = ExactCost.zero
  private var step = ExactCost.zero
  private var doublings = 0
  /// What the last step debited.
  private var lastStep = ExactCost.zero
  private var stepBegan: Timestamp

  /// Starts with what was debited and held when the exchange began.
  public init(debited: ExactCost, held: ExactCost = .zero, entry: UInt64, at now: Timestamp) {
    self.debited = debited
    self.held = held
    lastEntry = entry
    stepBegan = now
  }

  /// Learns how far the ledger is durable.
  public mutating func publish(durable entry: UInt64) {
    if entry >= lastEntry { durable = debited }
  }

  /// Says whether the exchange's cost may come to `cost`.
  public func standing(for cost: ExactCost) -> Standing {
    if cost <= durable { return .covered }
    return debited.subtracting(cost) != nil ? .awaits(entry: lastEntry) : .short(cost.subtracting(debited) ?? .zero)
  }

  /// How much the next step should debit where `missing` is needed: at least that, and more than is held only where that is needed.
  public func step(for missing: ExactCost) -> ExactCost {
    let wanted = step > .zero ? step : missing.adding(missing).flatMap { $0.adding($0) } ?? missing
    return max(held > .zero ? min(wanted, held) : wanted, missing)
  }

  /// The step that should be debited now so that the stream need not wait for it later; nil while there is enough, and where nothing was
  /// debited since the beginning.
  public func stepAhead(of cost: ExactCost) -> ExactCost? {
    guard lastStep > .zero, durable == debited, let left = debited.subtracting(cost), let twice = left.adding(left), twice < lastStep else {
      return nil
    }
    return held > .zero ? min(step, held) : step
  }

  /// Records a step that was debited by `entry`.
  public mutating func debit(_ cost: ExactCost, entry: UInt64, at now: Timestamp) {
    // The ledger has added up the same, so it fits.
    debited = debited.adding(cost) ?? debited
    held = held.subtracting(min(held, cost)) ?? .zero
    if entry > lastEntry { lastEntry = entry }
    lastStep = cost
    if first == .zero {
      first = cost
      step = cost
    } else if now - stepBegan < Self.pace {
      if doublings < Self.mostDoublings, let twice = step.adding(step) {
        step = twice
        doublings += 1
      }
    } else {
      step = first
      doublings = 0
    }
    stepBegan = now
  }
}
