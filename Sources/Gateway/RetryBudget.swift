public import Encoding

/// Bounds how many requests are sent anew: a share of those that are sent at all, and a few beside. Without a bound,
/// retries multiply the load of an upstream just when it fails.
public struct RetryBudget: Sendable {
  /// How many retries are allowed.
  public struct Rules: Sendable, Hashable {
    /// Retries of all requests, in percent.
    public var share: Int
    /// Retries a second that are allowed beside, so that a proxy with little to do can retry at all.
    public var floor: Int
    /// Retries that can be saved up.
    public var most: Int

    public init(share: Int = 20, floor: Int = 10, most: Int = 100) {
      self.share = min(max(0, share), 1000)
      self.floor = max(0, floor)
      self.most = max(1, most)
    }
  }

  private let rules: Rules
  /// Hundredths of a retry.
  private var saved: Int
  private var lastFilled: Instant

  /// Begins with what a second gives.
  public init(_ rules: Rules = Rules(), at now: Instant) {
    self.rules = rules
    saved = min(rules.floor, rules.most) * 100
    lastFilled = now
  }

  /// Counts a request that is sent for the first time.
  @inline(__always)
  public mutating func requested() { saved = min(saved + rules.share, rules.most * 100) }

  /// Takes a retry from the budget; false where it is used up.
  public mutating func spend(at now: Instant) -> Bool {
    fill(now)
    guard saved >= 100 else { return false }
    saved -= 100
    return true
  }

  private mutating func fill(_ now: Instant) {
    guard rules.floor > 0 else { return }
    // Nanoseconds for each hundredth; what is left of one stays with the clock.
    let each = max(1, 10_000_000 / Int64(rules.floor))
    let elapsed = now.nanoseconds(since: lastFilled)
    guard elapsed >= each else { return }
    let gained = min(elapsed / each, Int64(rules.most) * 100)
    saved = min(saved + Int(gained), rules.most * 100)
    lastFilled = elapsed / each > gained ? now : lastFilled.advanced(nanoseconds: gained * each)
  }
}
