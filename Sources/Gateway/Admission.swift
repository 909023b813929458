import Encoding
import HTTP

/// How often something may happen: `perSecond` in the long run, `burst` at once.
public struct RateLimit: Sendable, Hashable {
  /// Events a second in the long run.
  public let perSecond: UInt32
  /// Events at once.
  public let burst: UInt32

  /// Makes a limit; a rate or burst of zero refuses everything.
  public init(perSecond: UInt32, burst: UInt32) {
    self.perSecond = perSecond
    self.burst = burst
  }

  /// Nanoseconds that one event costs.
  var interval: Int64 { 1_000_000_000 / Int64(min(max(perSecond, 1), 1_000_000_000)) }
  /// Nanoseconds that a client may be ahead of its rate when it asks for one event more.
  var allowance: Int64 { interval * (Int64(burst) - 1) }
  var refusesAll: Bool { perSecond == 0 || burst == 0 }
}

/// What clients of one worker may do that costs them nothing.
public struct AdmissionLimits: Sendable, Hashable {
  /// Connections at once, of all clients: the table has places for twice as many clients.
  public var connections: Int
  /// Unpaid requests of a client that are answered with a challenge.
  public var challenges: RateLimit
  /// Credentials of a client that fail.
  public var failures: RateLimit
  /// Wallets that clients register by themselves, all clients of the worker together: each is a row and a line for good,
  /// and many addresses must not fill the disk.
  public var registrations = RateLimit(perSecond: 5, burst: 500)

  /// Sets the limits.
  public init(connections: Int, challenges: RateLimit, failures: RateLimit) {
    self.connections = connections
    self.challenges = challenges
    self.failures = failures
  }
}

/// Counts rates by client, in a table of fixed size; never allocates after it was made.
///
/// Rates follow the generic cell rate algorithm: a client's entry holds the instant up to which it has used its rate. An
/// entry that has fallen behind the clock says nothing and is taken over by another client.
/// Clients for which the table has no place share one entry, so a flood of addresses cannot escape the rates.
public struct Admission: ~Copyable {
  /// Tells whether something may happen.
  public enum Decision: Equatable, Sendable {
    case admitted
    /// Not now; in so many seconds (Retry-After), at least 1.
    case refused(retryAfter: UInt32)
  }

  private struct Entry {
    var client = ClientAddress.none
    /// Nanoseconds of the monotonic clock up to which the rate is used.
    var challengesUntil = Int64.min
    var failuresUntil = Int64.min

    func isIdle(at now: Int64) -> Bool { challengesUntil <= now && failuresUntil <= now }
  }

  /// Entries that a client's may be among.
  private static let setSize = 8
  /// Entries that a table has at least and at most.
  private static let sizes = 1024...65536

  private let limits: AdmissionLimits
  private let seed: UInt64
  /// Sets of `setSize` entries, and the shared one at the end.
  private var entries: [Entry]
  private let setMask: Int
  /// Nanoseconds of the monotonic clock up to which the rate of registrations is used.
  private var registrationsUntil = Int64.min

  /// Makes the table for twice as many clients as there may be connections, from 1,024 to 65,536. `seed` is random, so
  /// that nobody can choose addresses that meet in one set.
  public init(limits: AdmissionLimits, seed: UInt64) {
    self.limits = limits
    self.seed = seed
    var size = Self.sizes.lowerBound
    while size < Self.sizes.upperBound, size / 2 < limits.connections { size *= 2 }
    entries = Array(repeating: Entry(), count: size + 1)
    setMask = size / Self.setSize - 1
  }

  /// Decides whether an unpaid request of the client is answered with a challenge, and counts it.
  public mutating func challenge(_ client: ClientAddress, at now: Instant) -> Decision {
    let place = place(of: client.limitKey, at: now.nanoseconds)
    return Self.spend(&entries[place].challengesUntil, limits.challenges, now.nanoseconds)
  }

  /// Decides whether the client may register a wallet, and counts it: among its challenges, since both cost it nothing, and
  /// among the registrations of all.
  public mutating func registration(_ client: ClientAddress, at now: Instant) -> Decision {
    switch challenge(client, at: now) {
    case .admitted: return Self.spend(&registrationsUntil, limits.registrations, now.nanoseconds)
    case .refused(let seconds): return .refused(retryAfter: seconds)
    }
  }

  /// Decides whether a credential of the client is looked at; nothing is counted before it fails.
  public mutating func credential(_ client: ClientAddress, at now: Instant) -> Decision {
    let place = place(of: client.limitKey, at: now.nanoseconds)
    var until = entries[place].failuresUntil
    return Self.spend(&until, limits.failures, now.nanoseconds)
  }

  /// Counts a credential of the client that failed.
  public mutating func failed(_ client: ClientAddress, at now: Instant) {
    let place = place(of: client.limitKey, at: now.nanoseconds)
    _ = Self.spend(&entries[place].failuresUntil, limits.failures, now.nanoseconds)
  }

  private static func spend(_ until: inout Int64, _ limit: RateLimit, _ now: Int64) -> Decision {
    guard !limit.refusesAll else { return .refused(retryAfter: 60) }
    let start = max(until, now)
    let ahead = start - now
    guard ahead <= limit.allowance else {
      let wait = (ahead - limit.allowance + 999_999_999) / 1_000_000_000
      return .refused(retryAfter: UInt32(clamping: max(1, wait)))
    }
    until = start + limit.interval
    return .admitted
  }

  /// Finds the client's entry, or takes over an idle one of its set, or gives the shared one.
  private mutating func place(of client: ClientAddress, at now: Int64) -> Int {
    let first = (Int(truncatingIfNeeded: hash(client)) & setMask) * Self.setSize
    var idle: Int?
    for place in first..<first + Self.setSize {
      if entries[place].client == client { return place }
      if idle == nil, entries[place].isIdle(at: now) { idle = place }
    }
    guard let idle else { return entries.count - 1 }
    entries[idle] = Entry(client: client)
    return idle
  }

  private func hash(_ client: ClientAddress) -> UInt64 {
    let product = (client.high ^ seed).multipliedFullWidth(by: client.low ^ 0x9E37_79B9_7F4A_7C15 &+ seed &* 3 | 1)
    let mixed = (product.high ^ product.low ^ client.low).multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
    return mixed.high ^ mixed.low
  }
}
