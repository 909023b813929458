import Bytes
import Encoding
import HTTP

/// What clients may do.
public struct AdmissionLimits: Sendable, Hashable {
  /// Unpaid requests of a client that are answered with a challenge.
  public var challenges: RateLimit
  /// Credentials of a client that fail.
  public var failures: RateLimit
  /// Wallets that clients register by themselves, all clients together: each is a row and a line for good, and many
  /// addresses must not fill the disk.
  public var registrations = RateLimit(perSecond: 5, burst: 500)
  /// Requests of a client, of whatever kind; nil: without limit.
  public var requests: RateLimit?
  /// Paid requests of a wallet, and of a session.
  public var wallet: RateLimit?
  public var session: RateLimit?

  /// Sets the limits of what costs nothing.
  public init(challenges: RateLimit, failures: RateLimit) {
    self.challenges = challenges
    self.failures = failures
  }
}

/// Admits requests by the rates of those who make them; counted in a table that all workers share.
public struct Admission: Sendable {
  public let table: RateTable
  public var limits: AdmissionLimits

  /// Admits by `limits`.
  public init(limits: AdmissionLimits, table: RateTable) {
    self.limits = limits
    self.table = table
  }

  /// Decides whether a request of the client is looked at, and counts it; `count`: as that many.
  @inline(__always)
  public func request(_ client: ClientAddress, count: UInt32 = 1, at now: Instant) -> RateDecision {
    guard let limit = limits.requests, client != .none else { return .admitted }
    return table.spend(RateTable.Key(.requests, client), limit, count: count, at: now)
  }

  /// Decides whether an unpaid request of the client is answered with a challenge, and counts it.
  public func challenge(_ client: ClientAddress, at now: Instant) -> RateDecision {
    table.spend(RateTable.Key(.challenges, client), limits.challenges, at: now)
  }

  /// Decides whether the client may register a wallet, and counts it: among its challenges, since both cost it nothing, and
  /// among the registrations of all.
  public func registration(_ client: ClientAddress, at now: Instant) -> RateDecision {
    switch challenge(client, at: now) {
    case .admitted: return table.spend(RateTable.Key(.registrations), limits.registrations, at: now)
    case .refused(let seconds): return .refused(retryAfter: seconds)
    }
  }

  /// Decides whether a credential of the client is looked at; nothing is counted before it fails.
  public func credential(_ client: ClientAddress, at now: Instant) -> RateDecision {
    table.look(RateTable.Key(.failures, client), limits.failures, at: now)
  }

  /// Counts a credential of the client that failed.
  public func failed(_ client: ClientAddress, at now: Instant) {
    _ = table.spend(RateTable.Key(.failures, client), limits.failures, at: now)
  }

  /// Decides whether a request may be served that a wallet pays, by one of its sessions or without, on a route; counts it
  /// (`count`: as that many) with each in turn, the narrowest first, so that who is refused by a limit of his own uses up nobody else's.
  public func service(
    wallet: Digest32?, session: Digest32?, route: (key: Digest32, limit: RateLimit)?, count: UInt32 = 1, at now: Instant
  ) -> RateDecision {
    if let session, let limit = limits.session {
      let decision = table.spend(RateTable.Key(.session, session), limit, count: count, at: now)
      guard decision == .admitted else { return decision }
    }
    if let wallet, let limit = limits.wallet {
      let decision = table.spend(RateTable.Key(.wallet, wallet), limit, count: count, at: now)
      guard decision == .admitted else { return decision }
    }
    guard let route else { return .admitted }
    return table.spend(RateTable.Key(.route, route.key), route.limit, count: count, at: now)
  }
}
