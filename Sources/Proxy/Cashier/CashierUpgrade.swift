import Encoding
import Ledger
import Metering

/// What a session's exchange is metered in, by the terms that the session recorded.
struct MeteredRates {
  var request: Rate?
  var response: Rate?
  var requestMessages: Rate?
  var responseMessages: Rate?
  var seconds: Rate?

  var isEmpty: Bool { request == nil && response == nil && requestMessages == nil && responseMessages == nil && seconds == nil }

  /// What must be paid at the start: one unit of each, and all of the request's content that is here already.
  func firstCost(besides own: ExactCost, collected: UInt64?) throws(Refusal) -> ExactCost {
    var sum = own
    let firsts = [(request, collected ?? 1), (response, 1), (requestMessages, 1), (responseMessages, 1), (seconds, 1)]
    for case (let rate?, let units) in firsts {
      guard let first = ExactCost(units: units, rate: rate), let next = sum.adding(first) else { throw .overflow }
      sum = next
    }
    return sum
  }
}

/// Names one of an exchange's meters.
enum MeterPlace: CaseIterable {
  case request
  case response
  case requestMessages
  case responseMessages
  case seconds

  /// The same of the other direction.
  var sibling: MeterPlace? {
    switch self {
    case .request: .response
    case .response: .request
    case .requestMessages: .responseMessages
    case .responseMessages: .requestMessages
    case .seconds: nil
    }
  }
}

extension ExchangeRecord {
  /// The meter of a place; nil where nothing is counted there.
  subscript(meter place: MeterPlace) -> Meter? {
    get {
      switch place {
      case .request: requestMeter
      case .response: responseMeter
      case .requestMessages: requestMessageMeter
      case .responseMessages: responseMessageMeter
      case .seconds: secondMeter
      }
    }
    set {
      switch place {
      case .request: requestMeter = newValue
      case .response: responseMeter = newValue
      case .requestMessages: requestMessageMeter = newValue
      case .responseMessages: responseMessageMeter = newValue
      case .seconds: secondMeter = newValue
      }
    }
  }
}

// What passes on upgraded connections.
extension Cashier {
  /// Lets a frame begin: its message, where it begins one, and its octets count as passed. All is granted or nothing.
  mutating func grantFrame(
    _ exchange: inout PaidExchange, isClients: Bool, octets: UInt64, messages: UInt64, at now: Timestamp
  ) -> GrantResult {
    let octetPlace: MeterPlace = isClients ? .request : .response
    let messagePlace: MeterPlace = isClients ? .requestMessages : .responseMessages
    if octets > 0 {
      let result = allow(exchange, octetPlace, wanted: octets, atLeast: octets, at: now)
      guard case .granted = result else { return result }
    }
    if messages > 0 {
      let result = allow(exchange, messagePlace, wanted: messages, atLeast: messages, at: now)
      guard case .granted = result else { return result }
    }
    exchanges[exchange.place][meter: octetPlace]?.pass(octets)
    exchanges[exchange.place][meter: messagePlace]?.pass(messages)
    return .granted(octets)
  }

  /// Tells how many octets may pass on, and counts them as passed.
  mutating func grantOctets(_ exchange: inout PaidExchange, isClients: Bool, wanted: UInt64, at now: Timestamp) -> GrantResult {
    pass(exchange, isClients ? .request : .response, wanted: wanted, at: now)
  }

  /// Pays for seconds that have begun, as many as the budget affords, and counts them.
  mutating func grantSeconds(_ exchange: inout PaidExchange, _ seconds: UInt64, at now: Timestamp) -> GrantResult {
    pass(exchange, .seconds, wanted: seconds, at: now)
  }

  /// Takes octets back that were granted and will not pass.
  mutating func takeBack(_ exchange: inout PaidExchange, isClients: Bool, octets: UInt64) {
    guard exchange.place != PaidExchange.none else { return }
    exchanges[exchange.place][meter: isClients ? .request : .response]?.takeBack(octets)
  }

  private mutating func pass(_ exchange: borrowing PaidExchange, _ place: MeterPlace, wanted: UInt64, at now: Timestamp) -> GrantResult {
    let result = allow(exchange, place, wanted: wanted, atLeast: 1, at: now)
    if case .granted(let granted) = result { exchanges[exchange.place][meter: place]?.pass(granted) }
    return result
  }

  /// Before a direction of an upgraded connection runs dry it gets what the other one was debited for at the same price and has
  /// not used: one budget pays for both.
  mutating func borrow(_ exchange: UInt32, _ place: MeterPlace, _ meter: inout Meter, missing: UInt64) {
    guard exchanges[exchange].isUpgrade, let other = place.sibling, var sibling = exchanges[exchange][meter: other],
      sibling.rate.amount == meter.rate.amount, sibling.rate.unitSize == meter.rate.unitSize
    else { return }
    if let ledger { sibling.publish(durable: ledger.durable) }
    // Half of it, so that the two do not pass single units to and fro.
    meter.take(from: &sibling, max(missing, sibling.available / 2))
    exchanges[exchange][meter: other] = sibling
  }
}
