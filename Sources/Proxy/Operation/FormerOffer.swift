import Configuration
import Encoding
import Metering

/// What a route was sold for before its configuration changed: challenges that were issued with it may still be paid.
struct FormerOffer: Sendable {
  let price: Price
  let merchant: String
  let intents: Settings.Intents
  /// What the price came to on chains; nil where nothing was sold there.
  let rails: RouteRails?
  /// When the last challenge that was issued with it has expired.
  let until: Timestamp
}

/// The former offers of all routes, by route id.
struct FormerOffers: Sendable {
  /// Most former offers that are kept of one route; a challenge of an older one is answered with a fresh challenge.
  static let limitPerRoute = 16
  /// A worker goes on with the former configuration for a moment after the change.
  private static let grace = Duration.seconds(60)

  private var byRoute: [String: [FormerOffer]] = [:]

  /// The former offers of a route, the newest first.
  subscript(id: String) -> [FormerOffer] { byRoute[id] ?? [] }

  /// Whether a route's offers on chains say the same as before.
  private func isSameOnChains(_ old: Settings.Route, _ new: Settings.Route, _ before: Settings, _ after: Settings) -> Bool {
    old.rails == new.rails && old.description == new.description && before.chains == after.chains && before.merchants == after.merchants
  }

  /// Remembers what `before` sold and `after` sells otherwise; forgets what has expired.
  mutating func replace(_ before: Settings, with after: Settings, at now: Timestamp) {
    for (id, offers) in byRoute {
      let alive = offers.filter { $0.until > now }
      byRoute[id] = alive.isEmpty ? nil : alive
    }
    let kept = Dictionary(after.routes.flatMap { $0.sold.map { ($0.id, $0) } }) { first, _ in first }
    for route in before.routes.flatMap(\.sold) {
      guard let price = route.price, let next = kept[route.id], next.price != nil else { continue }
      let isSame = next.price == price && next.merchant == route.merchant && next.intents.isSuperset(of: route.intents)
      let isSold = route.rails.contains { $0.chain != nil }
      guard !isSame || isSold && !isSameOnChains(route, next, before, after) else { continue }
      // An authorization of x402 holds for as long as it says, whatever a challenge's lifetime is.
      let lifetime = isSold ? max(before.expires, RouteRails.authorizationTime) : before.expires
      let offer = FormerOffer(
        price: price, merchant: route.merchant, intents: PricedRoute.intents(of: route, price),
        rails: isSold ? try? RouteRails(route, price, before) : nil, until: now + lifetime + Self.grace)
      byRoute[route.id] = Array(([offer] + (byRoute[route.id] ?? [])).prefix(Self.limitPerRoute))
    }
  }
}
