import Encoding

/// Meters one direction of a stream, or its time, that is paid ahead in steps: it knows how much was debited, how much of that is durable,
/// and how much has passed. It performs nothing: whoever drives it debits the steps that it asks for.
///
/// A step is a second's worth of the stream, of octets from 256 KiB to 4 MiB. The next one is asked for when half of the last is
/// used, so that the disk and the stream work at the same time.
public struct Meter: Sendable {
  /// The steps' sizes in octets. The first is small, since nobody knows yet how much will come.
  public static let firstStep: UInt64 = 16 << 10
  public static let leastStep: UInt64 = 256 << 10
  public static let largestStep: UInt64 = 4 << 20
  /// The least and the most of a step, by what is counted.
  private static func bounds(_ kind: Unit.Kind) -> (first: UInt64, least: UInt64, largest: UInt64) {
    switch kind {
    case .request, .byte: (firstStep, leastStep, largestStep)
    case .message, .event, .token, .call, .reported: (4, 16, 1024)
    case .second: (2, 2, 8)
    }
  }

  /// A step that is used up sooner than this is followed by a larger one.
  private static let pace = Duration.seconds(1)

  /// What an octet, message or second costs.
  public let rate: Rate
  /// The sizes of the meter's own steps, in what its rate counts.
  public let first: UInt64
  private let least: UInt64
  private let largest: UInt64
  /// Octets that were debited.
  public private(set) var debited: UInt64 = 0
  /// Octets that have passed.
  public private(set) var passed: UInt64 = 0
  /// Octets whose debit is known to be durable.
  private var durable: UInt64 = 0
  /// The entry of the last step.
  private var lastEntry: UInt64 = 0
  private var step: UInt64
  /// What the last step debited.
  private var lastStep: UInt64 = 0
  private var stepBegan: Timestamp
  /// How many octets are known to come in all.
  private var expected: UInt64?

  /// Starts a meter before the first octet.
  ///
  /// - Parameter expected: how many octets will come, where that is known.
  public init(rate: Rate, expected: UInt64? = nil, at now: Timestamp) {
    self.rate = rate
    (first, least, largest) = Self.bounds(rate.unit.kind)
    step = first
    self.expected = expected
    stepBegan = now
  }

  /// Octets that are debited and have not passed.
  @inlinable
  public var left: UInt64 { debited - passed }

  /// What has to be durable before an octet beyond `available` passes.
  public var awaited: UInt64? { durable < debited ? lastEntry : nil }

  /// Learns how many octets will come in all.
  public mutating func expect(_ octets: UInt64) {
    expected = octets
  }

  /// Learns how far the ledger is durable.
  public mutating func publish(durable entry: UInt64) {
    if entry >= lastEntry { durable = debited }
  }

  /// Octets that may pass now.
  public var available: UInt64 { durable > passed ? durable - passed : 0 }

  /// How many octets the next step should have; nil while no step is needed for `wanted` octets.
  public func nextStep(wanted: UInt64) -> UInt64? {
    let rest = expected.map { $0 > debited ? $0 - debited : 0 }
    // A stream that outgrows its announced length is metered all the same.
    let isAnnounced = rest.map { $0 > 0 } ?? false
    if left >= wanted {
      guard awaited == nil, left - wanted < lastStep / 2, rest != 0 else { return nil }
    }
    let least = wanted > left ? wanted - left : 0
    let size = max(step, least)
    return isAnnounced ? max(least, min(size, rest ?? size)) : size
  }

  /// Records a step that was debited by `entry`.
  public mutating func debit(_ octets: UInt64, entry: UInt64, at now: Timestamp) {
    let (sum, overflows) = debited.addingReportingOverflow(octets)
    debited = overflows ? .max : sum
    if entry > lastEntry { lastEntry = entry }
    lastStep = octets
    let isFast = now - stepBegan < Self.pace
    step = isFast ? min(largest, max(least, step * 2)) : max(least, step / 2)
    stepBegan = now
  }

  /// Records octets that have passed; more than were available do not pass.
  @inlinable
  public mutating func pass(_ octets: UInt64) {
    add(octets)
  }

  @usableFromInline
  mutating func add(_ octets: UInt64) {
    passed += min(octets, debited - passed)
  }

  /// Records that octets which were recorded as passed have not.
  public mutating func takeBack(_ octets: UInt64) {
    passed -= min(octets, passed)
  }

  /// Gives up what was debited and has not passed: whoever drives the meter gives back what it costs. Steps begin small again.
  public mutating func release() {
    debited = passed
    durable = min(durable, debited)
    lastStep = 0
    step = first
  }

  /// Takes over units that another meter at the same price has paid for, durably, and not used; at most `units`.
  public mutating func take(from other: inout Meter, _ units: UInt64) {
    let moved = min(units, other.available)
    guard moved > 0, debited <= .max - moved else { return }
    other.debited -= moved
    other.durable -= moved
    debited += moved
    durable += moved
  }

  /// What the debits of this direction add up to; nil past 128 bits.
  public var debitedCost: ExactCost? { ExactCost(units: debited, rate: rate) }
  /// What has passed costs; nil past 128 bits.
  public var passedCost: ExactCost? { ExactCost(units: passed, rate: rate) }
}
