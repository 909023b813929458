import Configuration
import Gateway
import Ledger
import Payments

/// What a route's 402 offers: for its own price, and for each of its variants.
struct RouteOffers: Sendable {
  /// Empty where the route has no price of its own.
  var own: [Offer] = []
  /// In the settings' order; empty where a variant is free.
  var variants: [[Offer]] = []
  /// The ways to pay on chains, in the same order.
  var chains: [ChainOffer] = []
  var variantChains: [[ChainOffer]] = []
}

/// What one configuration sells, worked out for one worker's cashier.
///
/// Each worker has prepared routes of its own: what several threads count references to costs each of them dear.
struct Sale: Sendable {
  let settings: Settings
  /// Every place of routes and variants in the order of places: what is sold there, nil where it is free, and the table of variants
  /// where there are several prices.
  let routes: [(place: RouteIndex, route: PricedRoute?, variants: VariantTable?)]
  /// What each route offers, in the settings' order.
  let offers: [RouteOffers]

  /// Prepares the routes.
  ///
  /// - Throws: where a name of the settings cannot be sent or bound, which `farebox check` reports better.
  init(
    _ settings: Settings, layout: PlanLayout? = nil, former: FormerOffers = FormerOffers(), ledger: Ledger?
  ) throws(PaymentError) {
    self.settings = settings
    let layout = layout ?? PlanLayout(settings)
    var routes: [(place: RouteIndex, route: PricedRoute?, variants: VariantTable?)] = []
    var offers: [RouteOffers] = []
    for (index, route) in settings.routes.enumerated() {
      let place = layout.routes[index]
      let priced = try Self.priced(route, settings, former, ledger, layout: layout)
      routes.append((place, priced, VariantTable(route, place: place, variants: layout.variants[index])))
      offers.append(RouteOffers(own: priced?.printer.offers ?? [], chains: priced?.rails.discovered ?? []))
    }
    for (index, route) in settings.routes.enumerated() {
      for (variant, place) in zip(route.variants, layout.variants[index]) {
        let priced = try Self.priced(route.route(of: variant), settings, former, ledger, service: route.id)
        routes.append((place, priced, nil))
        offers[index].variants.append(priced?.printer.offers ?? [])
        offers[index].variantChains.append(priced?.rails.discovered ?? [])
      }
    }
    self.routes = routes
    self.offers = offers
  }

  private static func priced(
    _ route: Settings.Route, _ settings: Settings, _ former: FormerOffers, _ ledger: Ledger?, service: String? = nil,
    layout: PlanLayout? = nil
  ) throws(PaymentError) -> PricedRoute? {
    let label = ledger?.label(route: route.id) ?? .none
    let pricing = route.pricer.flatMap { pricer in
      layout.map { RoutePricing(route: route, pricer: pricer, label: label, upstream: $0.upstreams[pricer.upstream]) }
    }
    return try PricedRoute(route, settings: settings, label: label, former: former[route.id], service: service, pricing: pricing)
  }
}
