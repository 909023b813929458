import Encoding
import Metering
import Methods
import Payments

/// One way to pay for a request by the `prepaid` method, as a challenge offers it.
public struct PrepaidOffer: Sendable {
  /// What the money buys: one answer, or a session's budget.
  public enum Terms: Sendable {
    case charge(PrepaidCharge)
    case session(PrepaidSession)
  }

  /// The challenge as it was received.
  public let challenge: Challenge
  /// What the challenge asks for.
  public let terms: Terms
  /// The currency with the decimals that the ledger gives it.
  public let currency: Currency

  /// Reads a challenge; nil where it is not the method's, or its request object is malformed.
  init?(_ challenge: Challenge) {
    guard challenge.method == Prepaid.method, let request = try? challenge.requestObject() else { return nil }
    switch challenge.intent {
    case "charge":
      guard let charge = try? PrepaidCharge(parsing: request) else { return nil }
      terms = .charge(charge)
    case "session":
      guard let session = try? PrepaidSession(parsing: request) else { return nil }
      terms = .session(session)
    default: return nil
    }
    let (code, details): (String, PrepaidDetails)
    switch terms {
    case .charge(let charge): (code, details) = (charge.currency, charge.details)
    case .session(let session): (code, details) = (session.currency, session.details)
    }
    guard let currency = Currency(code: code, decimals: details.decimals) else { return nil }
    self.challenge = challenge
    self.currency = currency
  }

  /// Decimals, ledger and resource.
  public var details: PrepaidDetails {
    switch terms {
    case .charge(let charge): charge.details
    case .session(let session): session.details
    }
  }

  /// The merchant account that is paid.
  public var recipient: String {
    switch terms {
    case .charge(let charge): charge.recipient
    case .session(let session): session.recipient
    }
  }

  /// Whether the offer is a session and not a charge.
  public var isSession: Bool {
    switch terms {
    case .charge: false
    case .session: true
    }
  }

  /// The price in words, for people: `0.002 USDC`, or `0.01 USDC per MB`.
  public var priceText: String {
    switch terms {
    case .charge(let charge): "\(currency.format(charge.amount)) \(currency.symbol)"
    case .session(let session): session.price?.words ?? ""
    }
  }

  /// Whether what comes decides what an answer costs.
  public var isMetered: Bool {
    switch terms {
    case .charge: false
    case .session(let session): session.price?.isMetered ?? true
    }
  }

  /// The most that one answer costs, in base units; nil where what comes decides and nothing bounds it.
  var mostForAnswer: UInt128? {
    switch terms {
    case .charge(let charge): charge.amount
    case .session(let session):
      session.price.flatMap { $0.isMetered ? ($0.maximum < .max ? $0.maximum : nil) : $0.leastAmount }
    }
  }

  /// Whether a kept session can buy by these terms: the same ledger, currency and recipient in the same realm.
  func fits(_ session: KeptSession, origin: String) -> Bool {
    isSession && session.origin == origin && session.realm == challenge.realm && session.ledger == details.ledger
      && session.currency == currency && session.recipient == recipient
  }
}
