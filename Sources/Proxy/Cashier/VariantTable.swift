import Configuration
import Gateway
import HTTP
import Usage

/// The prices of a route that has several: which one a request has is told by what it names.
///
/// A class for the reason that `PricedRoute` is one. Each variant has a place of its own in the cashier's table of routes, to which
/// the router never leads.
final class VariantTable: Sendable {
  /// What a name leads to.
  enum Match: Equatable {
    /// The priced route at this place.
    case priced(RouteIndex)
    case free
    /// Nothing: no price is known for it.
    case none
  }

  let selector: Settings.Selector
  /// The member's place in the content; nil where no member decides.
  let paths: JSONPaths?
  /// Whether the path may name the model, as Gemini's does.
  let readsPath: Bool
  /// The format of usage where it is configured.
  let format: UsageFormat?
  /// Most octets of content that are buffered to be read.
  let bodyLimit: Int
  let freeMethods: MethodSet
  /// Whether the route has a price of its own, for everything that no variant matches.
  let hasOwnPrice: Bool
  /// The route's own place.
  let place: RouteIndex
  /// The place of the first variant that is sold.
  private let firstSold: RouteIndex?
  private let exact: [String: Match]
  /// Beginnings of names, the longest first.
  private let beginnings: [(text: String, match: Match)]

  /// Prepares a route's table; nil where the route has one price or none.
  init?(_ route: Settings.Route, place: RouteIndex, variants: [RouteIndex]) {
    guard route.selector != .none, route.variants.count == variants.count else { return nil }
    selector = route.selector
    self.place = place
    if case .member(let name) = route.selector {
      paths = MemberReading.paths(of: name)
      readsPath = name == "model"
    } else {
      paths = nil
      readsPath = false
    }
    format = route.usage.format.flatMap { UsageFormat(name: $0) }
    bodyLimit = route.usage.bodyLimit
    freeMethods = route.freeMethods
    hasOwnPrice = route.price != nil
    var exact: [String: Match] = [:]
    var beginnings: [(text: String, match: Match)] = []
    var first: RouteIndex?
    for (variant, place) in zip(route.variants, variants) {
      let match: Match = variant.price == nil ? .free : .priced(place)
      if first == nil, variant.price != nil { first = place }
      for pattern in variant.patterns {
        if pattern.hasSuffix("*") {
          beginnings.append((String(pattern.dropLast()), match))
        } else {
          exact[pattern] = match
        }
      }
    }
    firstSold = first
    self.exact = exact
    self.beginnings = beginnings.sorted { $0.text.utf8.count > $1.text.utf8.count }
  }

  /// Finds what a name leads to: the variant of just this name, that of the longest beginning, or the route's own price.
  func find(_ name: String) -> Match {
    if let match = exact[name] { return match }
    for (text, match) in beginnings where name.utf8.starts(with: text.utf8) { return match }
    return other
  }

  /// What leads to none of the variants.
  var other: Match { hasOwnPrice ? .priced(place) : .none }

  /// Some place of the route where something is sold: what manages sessions there needs no more.
  var anySold: RouteIndex? { hasOwnPrice ? place : firstSold }
}
