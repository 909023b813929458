import Configuration
import Gateway
import HTTP
import Metering
import Payments

/// One method of one route, as the discovery documents tell it.
struct DiscoveryOperation: Sendable {
  /// The route's id.
  let route: String
  /// The path as an OpenAPI template.
  let path: String
  let method: HTTP.Method
  /// Hosts that the route is bound to; none means any.
  let hosts: [String]
  let description: String?
  /// Empty where the method is free.
  let offers: [Offer]
  /// The ways to pay on chains; empty where there are none.
  let chains: [ChainOffer]
  /// The price in words; nil where the method is free.
  let price: String?
  /// What chooses between several prices; empty where there is one or none.
  let selector: String
  /// The prices by what is chosen, in the order of the settings.
  let variants: [Variant]

  /// One of several prices.
  struct Variant: Sendable {
    let name: String
    let description: String?
    /// Empty where it is free.
    let offers: [Offer]
    /// The ways to pay on chains; empty where there are none.
    let chains: [ChainOffer]
    /// The price in words; nil where it is free.
    let price: String?
  }
  /// Whether each request has a price of its own, which only its challenge tells.
  var isDynamic = false

  /// Lists the operations in the order of the routes.
  static func list(settings: Settings, offers: [RouteOffers]) -> [DiscoveryOperation] {
    var list: [DiscoveryOperation] = []
    for (index, route) in settings.routes.enumerated() {
      for path in templates(route.path) {
        for method in methods(of: route) {
          let isFreeMethod = route.freeMethods.allows(method)
          let isFree = route.price == nil || isFreeMethod
          list.append(
            DiscoveryOperation(
              route: route.id, path: path, method: method, hosts: route.hosts, description: route.description,
              offers: isFree || index >= offers.count ? [] : offers[index].own,
              chains: isFree || index >= offers.count ? [] : offers[index].chains, price: isFree ? nil : words(route),
              selector: route.selector.words, variants: isFreeMethod || index >= offers.count ? [] : variants(route, offers[index]),
              isDynamic: route.pricer != nil))
        }
      }
    }
    return list
  }

  private static func variants(_ route: Settings.Route, _ offers: RouteOffers) -> [Variant] {
    zip(route.variants, offers.variants).enumerated().map { place, pair in
      let (variant, own) = pair
      return Variant(
        name: variant.name, description: variant.description, offers: own,
        chains: offers.variantChains.indices.contains(place) ? offers.variantChains[place] : [],
        price: variant.price.map { ([$0.words] + route.volumeWords).joined(separator: "; ") })
    }
  }

  /// The route's own price as people read it.
  private static func words(_ route: Settings.Route) -> String? {
    route.pricer == nil ? route.price.map { ([$0.words] + route.volumeWords).joined(separator: "; ") } : "priced for each request"
  }

  /// HEAD goes without saying where GET is; a route for every method is shown with the usual two.
  private static func methods(of route: Settings.Route) -> [HTTP.Method] {
    // Messages are POSTed; the streams that GET and DELETE open and end are no part of what is sold.
    if route.selector == .mcp { return [.post] }
    if route.methods == .any || route.methods.isEmpty { return [.get, .post] }
    return route.methods.named.filter { $0 != .head || !route.methods.allows(.get) }
  }

  /// The names of the template's parameters.
  var parameters: [String] {
    path.split(separator: "/").compactMap { segment in
      segment.hasPrefix("{") && segment.hasSuffix("}") ? String(segment.dropFirst().dropLast()) : nil
    }
  }

  /// A prefix becomes a template whose last parameter stands for the rest; one without a slash at its end is a path too.
  private static func templates(_ path: PathPattern) -> [String] {
    switch path {
    case .exact(let text), .segments(let text): [text]
    case .prefix(let text): text.hasSuffix("/") ? [text + "{path}"] : [text, text + "/{path}"]
    }
  }
}
