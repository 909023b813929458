import Configuration
import Encoding
import Metering

/// What a route was sold for before its configuration changed: challenges that were issued with it may still be paid.
struct FormerOffer: Sendable {
  let price: Price
  let merchant: String
  let intents: Settings.Intents
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
      guard !isSame else { continue }
      let offer = FormerOffer(
        price: price, merchant: route.merchant, intents: PricedRoute.intents(of: route, price),
        until: now + before.expires + Self.grace)
      byRoute[route.id] = Array(([offer] + (byRoute[route.id] ?? [])).prefix(Self.limitPerRoute))
    }
  }
}
