import Encoding
import Ledger
import Payments

/// Changes to a wallet's policy: a member that is left out stays as it was, null removes the limit.
struct PolicyChange {
  private var caps: [(limit: WritableKeyPath<Policy.Caps, UInt128?> & Sendable, amounts: [String: UInt128]?)] = []
  private var maximumSessions: UInt32??
  private var allowed: [String]??
  private var expires: Timestamp??

  init(_ object: JSONObject, currencies: [Currency]) throws(AdministrationError) {
    var arguments = AdministrationArguments(object, currencies: currencies)
    if let daily = try arguments.amounts("daily-cap") { caps.append((\.daily, daily)) }
    if let payment = try arguments.amounts("payment-cap") { caps.append((\.payment, payment)) }
    if let session = try arguments.amounts("session-cap") { caps.append((\.session, session)) }
    if let value = arguments.optional("max-sessions") {
      guard value.isNull || value.intValue.flatMap({ UInt32(exactly: $0) }) != nil else { throw .malformedMember("max-sessions", form: .count) }
      maximumSessions = .some(value.intValue.flatMap { UInt32(exactly: $0) })
    }
    if let value = arguments.optional("allow") {
      let names = value.arrayValue?.compactMap(\.stringValue)
      guard value.isNull || names != nil && names?.count == value.arrayValue?.count else { throw .malformedMember("allow", form: .texts) }
      allowed = .some(names)
    }
    if let value = arguments.optional("expires") {
      let time = value.stringValue.flatMap { Timestamp(rfc3339: $0) }
      guard value.isNull || time != nil else { throw .malformedMember("expires", form: .time) }
      expires = .some(time)
    }
    try arguments.finish()
  }

  /// Applies the changes.
  func applied(to policy: Policy) -> Policy {
    var policy = policy
    for (limit, amounts) in caps {
      if let amounts {
        for (currency, units) in amounts { policy.caps[currency, default: Policy.Caps()][keyPath: limit] = units }
      } else {
        for currency in policy.caps.keys { policy.caps[currency]?[keyPath: limit] = nil }
      }
    }
    policy.caps = policy.caps.filter { $0.value != Policy.Caps() }
    if let maximumSessions { policy.maximumSessions = maximumSessions }
    if let allowed { policy.allowed = allowed }
    if let expires { policy.expires = expires }
    return policy
  }
}

extension Policy {
  /// The limits as JSON; amounts are base units by currency code.
  var json: JSONValue {
    var object = JSONObject()
    let limits: [(String, KeyPath<Caps, UInt128?>)] = [("daily-cap", \.daily), ("payment-cap", \.payment), ("session-cap", \.session)]
    for (name, limit) in limits {
      let amounts = caps.keys.sorted().compactMap { code in
        caps[code].flatMap { $0[keyPath: limit] }.map { (code, JSONValue.string(String($0))) }
      }
      if !amounts.isEmpty { object.set(name, .object(JSONObject(amounts))) }
    }
    if let maximumSessions { object.set("max-sessions", .integer(maximumSessions)) }
    if let allowed { object.set("allow", .array(allowed.map { .string($0) })) }
    if let expires { object.set("expires", .string(expires.rfc3339)) }
    return .object(object)
  }
}
