import Configuration
import Gateway
import Ledger
import Payments

/// What one configuration sells, worked out for one worker's cashier.
///
/// Each worker has prepared routes of its own: what several threads count references to costs each of them dear.
struct Sale: Sendable {
  let settings: Settings
  /// Every route with its place; nil where it is free.
  let routes: [(place: RouteIndex, route: PricedRoute?)]

  /// Prepares the routes.
  ///
  /// - Throws: where a name of the settings cannot be sent or bound, which `farebox check` reports better.
  init(
    _ settings: Settings, layout: PlanLayout? = nil, former: FormerOffers = FormerOffers(), ledger: Ledger?
  ) throws(PaymentError) {
    self.settings = settings
    let places = (layout ?? PlanLayout(settings)).routes
    var routes: [(place: RouteIndex, route: PricedRoute?)] = []
    for (route, place) in zip(settings.routes, places) {
      let label = ledger?.label(route: route.id) ?? .none
      routes.append((place, try PricedRoute(route, settings: settings, label: label, former: former[route.id])))
    }
    self.routes = routes
  }

  /// What each route offers, in the settings' order.
  var offers: [[Offer]] { routes.map { $0.route?.printer.offers ?? [] } }
}
