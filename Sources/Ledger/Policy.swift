public import Encoding

/// What may leave a wallet. Every limit is optional; amounts are base units, per currency code.
public struct Policy: Sendable, Hashable {
  /// The caps of one currency.
  public struct Caps: Sendable, Hashable {
    /// The most that may leave the wallet in one UTC day.
    public var daily: UInt128?
    /// The most for one charge.
    public var payment: UInt128?
    /// The most deposited in one session, top-ups included.
    public var session: UInt128?

    public init(daily: UInt128? = nil, payment: UInt128? = nil, session: UInt128? = nil) {
      self.daily = daily
      self.payment = payment
      self.session = session
    }
  }

  /// Caps by currency code; a currency that is not listed has none.
  public var caps: [String: Caps]
  /// The most sessions open at once.
  public var maximumSessions: UInt32?
  /// The only recipients that may be paid; nil allows all, an empty list none.
  public var allowed: [String]?
  /// No payment after this instant.
  public var expires: Timestamp?

  public init(caps: [String: Caps] = [:], maximumSessions: UInt32? = nil, allowed: [String]? = nil, expires: Timestamp? = nil) {
    self.caps = caps
    self.maximumSessions = maximumSessions
    self.allowed = allowed
    self.expires = expires
  }

  /// No limits.
  public static var unlimited: Policy { Policy() }

  /// The most recipients in `allowed`, and the most octets of one recipient.
  public static let allowedLimit = 256
}

/// Names the limit of a policy that a payment met, in PREPAID.md's spelling.
public enum PolicyLimit: String, Sendable, CaseIterable {
  case dailyCap = "daily-cap"
  case paymentCap = "payment-cap"
  case sessionCap = "session-cap"
  case maximumSessions = "max-sessions"
  case allow
  case expires
  case frozen
}
