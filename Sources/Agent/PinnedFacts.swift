import Bytes
import Crypto
import Encoding
import Payments

/// Remembers what a server said the first time, so that it cannot say something else later.
///
/// Keys: a server serves its retired keys for ever, so a key that was seen and is gone, or has another value, is a sign that
/// somebody else answers. Decimals: a currency whose decimals grow would make every price look smaller.
struct PinnedFacts: Sendable {
  /// The keys of one origin by `kid`, the public keys in base64url.
  private(set) var keys: [String: [String: String]] = [:]
  /// Decimals by origin, ledger and currency code.
  private(set) var decimals: [String: UInt8] = [:]

  /// The origins that are remembered at most.
  static let originLimit = 1024

  /// Takes the keys that an origin serves now.
  ///
  /// - Returns: whether something new was learnt.
  /// - Throws: `.serverKeys` where a key that was seen before is missing or changed.
  mutating func admit(_ served: [String: Ed25519.PublicKey], of origin: String) throws(AgentError) -> Bool {
    let now = served.mapValues { key in Base64URL.encode(key.bytes) }
    guard let before = keys[origin] else {
      if keys.count >= Self.originLimit { return false }
      keys[origin] = now
      return true
    }
    for (kid, key) in before {
      guard let same = now[kid] else { throw .serverKeys(.pinnedKeyMissing) }
      guard same == key else { throw .serverKeys(.pinnedKeyChanged) }
    }
    guard now.count > before.count else { return false }
    keys[origin] = now
    return true
  }

  /// Takes the decimals that an origin's ledger gives a currency.
  ///
  /// - Returns: whether something new was learnt.
  /// - Throws: `.offer(.decimals)` where they were others before.
  mutating func admit(_ currency: Currency, ledger: String, of origin: String) throws(AgentError) -> Bool {
    let name = "\(origin) \(ledger) \(currency.code)"
    if let before = decimals[name] {
      guard before == currency.decimals else { throw .offer(.decimals) }
      return false
    }
    if decimals.count >= Self.originLimit { return false }
    decimals[name] = currency.decimals
    return true
  }

  /// Forgets an origin; returns whether it was known.
  mutating func forget(_ origin: String) -> Bool {
    let isKnown = keys.removeValue(forKey: origin) != nil
    decimals = decimals.filter { !$0.key.hasPrefix(origin + " ") }
    return isKnown
  }

  init() {}

  /// Reads what `json` wrote; nil where it is something else.
  init?(json: JSONValue) {
    guard let object = json.objectValue, let origins = object["keys"]?.objectValue,
      let list = object["decimals"]?.objectValue
    else { return nil }
    for member in origins.members {
      guard let served = member.value.objectValue else { return nil }
      var byKid: [String: String] = [:]
      for key in served.members { byKid[key.name] = key.value.stringValue }
      keys[member.name] = byKid
    }
    for member in list.members {
      guard let count = member.value.stringValue.flatMap({ UInt8($0) }) else { return nil }
      decimals[member.name] = count
    }
  }

  /// The facts as their file has them, in a stable order.
  var json: JSONValue {
    var origins = JSONObject()
    for (origin, served) in keys.sorted(by: { $0.key < $1.key }) {
      var byKid = JSONObject()
      for (kid, key) in served.sorted(by: { $0.key < $1.key }) { byKid.set(kid, .string(key)) }
      origins.set(origin, .object(byKid))
    }
    var list = JSONObject()
    for (name, count) in decimals.sorted(by: { $0.key < $1.key }) { list.set(name, .string(String(count))) }
    return .object(["version": 1, "keys": .object(origins), "decimals": .object(list)])
  }
}
