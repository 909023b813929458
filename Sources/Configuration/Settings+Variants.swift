import Metering

extension Settings {
  /// What a route's price depends on besides the route itself.
  public enum Selector: Sendable, Hashable {
    /// Nothing: the route has one price.
    case none
    /// A member of the JSON object that the request's content is, such as `model`.
    case member(String)
    /// The method of an MCP or JSON-RPC call, and its tool, resource or prompt.
    case mcp
  }

  /// One of several prices of a route, for the requests that its patterns match.
  public struct Variant: Sendable, Hashable {
    /// The most variants of one route.
    public static let limitPerRoute = 256
    /// The most variants of all routes together.
    public static let limit = 8192
    /// The longest name, in octets.
    public static let nameLimit = 63

    /// Names the variant in terms, bindings and the audit log: `<route>#<name>`; unique in its route.
    public var name: String
    /// What the request names: exact values, or beginnings with `*` behind them. The longest that matches counts.
    public var patterns: [String]
    /// What a request costs; nil where it is free.
    public var price: Price?
    /// What the challenge and the discovery documents say is sold.
    public var description: String?
    /// Least deposit of a session, in base units.
    public var minimumDeposit: UInt128 = 0
    /// The deposit that a challenge suggests, in base units.
    public var suggestedDeposit: UInt128 = 0

    /// Makes a variant.
    public init(name: String, patterns: [String], price: Price?, description: String? = nil) {
      self.name = name
      self.patterns = patterns
      self.price = price
      self.description = description
    }
  }
}

extension Settings.Route {
  /// Whether any request of the route costs something.
  public var isPriced: Bool { price != nil || variants.contains { $0.price != nil } }

  /// Every price of the route: its own first, then those of its variants.
  public var prices: [Price] { (price.map { [$0] } ?? []) + variants.compactMap(\.price) }

  /// The route as it would be if a variant's price were its only one, by the name that terms and bindings have for it.
  public func route(of variant: Settings.Variant) -> Settings.Route {
    var route = self
    route.id = "\(id)#\(variant.name)"
    route.offer = variant.price.map { .priced($0) } ?? .free
    route.description = variant.description ?? description
    route.minimumDeposit = variant.minimumDeposit
    route.suggestedDeposit = variant.suggestedDeposit
    // What is metered is not known when a chain charges for it.
    if variant.price?.isMetered == true { route.rails.removeAll { $0.chain != nil } }
    route.selector = .none
    route.variants = []
    route.tiers = []
    return route
  }

  /// What is sold by the route, each price as a route of its own.
  public var sold: [Settings.Route] {
    (price == nil ? [] : [self]) + variants.filter { $0.price != nil }.map { route(of: $0) }
  }
}
