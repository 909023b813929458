import Bytes
import Configuration
import Crypto
import Encoding
import Ledger
import Metering
import Methods
import Payments

/// What a route gives away, and for less, by how much of it was asked for.
struct VolumePlan: Sendable {
  /// What volume is counted by: all prices of a route together.
  let scope: String
  /// The same for clients' addresses.
  let addressScope: Digest32
  private let wallet: Settings.FreeUnits?
  /// What each address has free.
  let address: Settings.FreeUnits?
  private let tiers: [Settings.Tier]

  /// Prepares a route's plan; nil where nothing depends on volume.
  init?(_ route: Settings.Route, scope: String) {
    guard !route.freeUnits.isEmpty || !route.tiers.isEmpty else { return nil }
    self.scope = scope
    addressScope = SHA256.hash(Array(scope.utf8))
    wallet = route.freeUnits.first { $0.subject == .wallet }
    address = route.freeUnits.first { $0.subject == .address }
    tiers = route.tiers
  }

  /// Whether anything is counted by wallet.
  var countsWallets: Bool { wallet != nil || !tiers.isEmpty }

  /// Takes one of a wallet's free requests; nil where there is none.
  func takeFree(of payer: Digest32, from ledger: Ledger, at now: Timestamp) throws(Refusal) -> CountedVolume? {
    guard let wallet else { return nil }
    return try ledger.count(VolumeOrder("free", scope: scope, subject: payer, period: wallet.period), below: wallet.count, at: now)
  }

  /// Counts a request for the tiers; nil where there are none.
  func count(of payer: Digest32, in ledger: Ledger, at now: Timestamp) throws(Refusal) -> CountedVolume? {
    guard let first = tiers.first else { return nil }
    return try ledger.count(VolumeOrder("volume", scope: scope, subject: payer, period: first.period), below: .max, at: now)
  }

  /// Tells operators how much of what is free a wallet has used in the present period, and which tier its next request falls into.
  func usage(of payer: Digest32, in ledger: Ledger, at now: Timestamp) -> JSONObject {
    var object: JSONObject = ["route": .string(scope)]
    if let wallet {
      let used = ledger.volume(VolumeOrder("free", scope: scope, subject: payer, period: wallet.period), at: now)
      object.set(
        "freeUnits",
        ["units": .string(String(wallet.count)), "used": .string(String(min(used, wallet.count))), "period": .string(wallet.period.word)])
    }
    guard let first = tiers.first else { return object }
    let position = ledger.volume(VolumeOrder("volume", scope: scope, subject: payer, period: first.period), at: now)
    var volume: JSONObject = ["requests": .string(String(position)), "period": .string(first.period.word)]
    if let tier = tiers.last(where: { $0.beyond <= position }) {
      volume.set("tier", ["beyond": .string(String(tier.beyond)), "price": .string(tier.price.words)])
    }
    if let next = tiers.first(where: { $0.beyond > position }) {
      volume.set("next", ["beyond": .string(String(next.beyond)), "price": .string(next.price.words)])
    }
    object.set("volume", .object(volume))
    return object
  }

  /// What a request costs behind so many others; nil: what the route costs.
  func price(at position: UInt64) -> Price? { tiers.last { $0.beyond <= position }?.price }

  /// Adds what a session's challenge says of volume.
  func tell(_ details: inout JSONObject) {
    if let wallet {
      details.set("freeUnits", ["unitType": "request", "units": .string(String(wallet.count)), "period": .string(wallet.period.word)])
    }
    guard !tiers.isEmpty else { return }
    let list = tiers.map { tier -> JSONValue in
      var object: JSONObject = [
        "beyond": .string(String(tier.beyond)), "unitType": "request", "period": .string(tier.period.word), "prices": PrepaidSession.list(tier.price.parts),
      ]
      if tier.price.minimum > 0 { object.set("minimum", .string(String(tier.price.minimum))) }
      if tier.price.maximum < .max { object.set("maximum", .string(String(tier.price.maximum))) }
      return .object(object)
    }
    details.set("tiers", .array(list))
  }
}
