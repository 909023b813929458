public import Bytes
public import Encoding
public import HTTP

/// What a charge asks for.
public struct ChargeOrder: Sendable {
  /// The challenge id's 32 octets.
  public var challengeID: Digest32
  /// The wallet's key.
  public var wallet: Digest32
  /// Base units, at least 1.
  public var amount: UInt128
  public var currency: String
  /// The merchant account to credit.
  public var merchant: String
  public var route: RouteLabel
  /// When the challenge expires; its claim is kept at least as long.
  public var expires: Timestamp
  public var client: ClientAddress
  /// The reserved idempotency key, where the request carries one.
  public var idempotency: OutcomeKey?

  public init(
    challengeID: Digest32, wallet: Digest32, amount: UInt128, currency: String, merchant: String, route: RouteLabel,
    expires: Timestamp, client: ClientAddress = .none, idempotency: OutcomeKey? = nil
  ) {
    self.challengeID = challengeID
    self.wallet = wallet
    self.amount = amount
    self.currency = currency
    self.merchant = merchant
    self.route = route
    self.expires = expires
    self.client = client
    self.idempotency = idempotency
  }
}

/// Money set aside for one charge; ends as settle or void.
public struct Hold: Sendable, Hashable {
  /// The charge's reference: the LSN of the hold's entry.
  public let id: LSN
  /// The entry that has to be durable before the request is forwarded.
  public var lsn: LSN { id }
  /// The ledger's epoch when it was made.
  public let epoch: UInt32
}

/// What the ledger keeps of a hold.
struct HeldCharge {
  /// Where the money came from, and goes back to.
  enum Payer {
    /// A wallet, with the challenge that it pays and the ledger's day that the outflow counts on.
    case wallet(UInt32, challengeID: Digest32, day: Int32)
    /// A payment on a chain, which has a record of its own.
    case payment(Digest32)
  }

  var payer: Payer
  var merchant: UInt32
  var currency: UInt8
  var amount: UInt128
  var route: RouteLabel
  var client: ClientAddress
  var expires: Timestamp
  var idempotency: OutcomeKey?
}

/// Why a hold was voided.
public enum VoidCause: String, Sendable {
  case upstreamFailed = "upstream-failed"
  case upstreamStatus = "upstream-status"
  case clientLeft = "client-left"
  case notForwarded = "not-forwarded"
  case restart
}

/// Names a route in the ledger's audit lines; made by `Ledger.label(route:)`.
public struct RouteLabel: Sendable, Hashable {
  let index: UInt16

  /// No route.
  public static var none: RouteLabel { RouteLabel(index: 0) }
}
