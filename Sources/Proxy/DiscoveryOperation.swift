import Configuration
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
  /// The price in words; nil where the method is free.
  let price: String?

  /// The methods of a route that names none.
  static let usualMethods: [HTTP.Method] = [.get, .post]

  /// Lists the operations in the order of the routes.
  static func list(settings: Settings, offers: [[Offer]]) -> [DiscoveryOperation] {
    var list: [DiscoveryOperation] = []
    for (index, route) in settings.routes.enumerated() {
      for method in route.methods.isEmpty ? usualMethods : route.methods.named {
        let isFree = route.price == nil || route.freeMethods.allows(method)
        list.append(
          DiscoveryOperation(
            route: route.id, path: template(route.path), method: method, hosts: route.hosts, description: route.description,
            offers: isFree || index >= offers.count ? [] : offers[index], price: isFree ? nil : route.price?.words))
      }
    }
    return list
  }

  /// The names of the template's parameters.
  var parameters: [String] {
    path.split(separator: "/").compactMap { segment in
      segment.hasPrefix("{") && segment.hasSuffix("}") ? String(segment.dropFirst().dropLast()) : nil
    }
  }

  /// A prefix becomes a template whose last parameter stands for the rest.
  private static func template(_ path: Settings.RoutePath) -> String {
    switch path {
    case .exact(let path), .segments(let path): path
    case .prefix(let path): path + "{path}"
    }
  }
}
