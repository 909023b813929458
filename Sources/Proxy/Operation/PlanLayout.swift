import Configuration
import Gateway

/// Where the routes and upstreams of one configuration stand in the workers' tables.
///
/// Exchanges refer to their route and connections to their upstream by place. A new configuration takes other places than the
/// one before it, so that what began with the old one goes on with it, and nothing has to be counted for each request.
struct PlanLayout: Sendable, Equatable {
  /// The place of each route, in the settings' order.
  var routes: [RouteIndex]
  /// The places of each route's variants, in the settings' order; behind those of all routes.
  var variants: [[RouteIndex]]
  /// The place of each upstream, in the settings' order.
  var upstreams: [Int]
}

extension PlanLayout {
  /// The layout of the first configuration: everything in its order.
  init(_ settings: Settings) {
    routes = settings.routes.indices.map { RouteIndex(clamping: $0) }
    var next = routes.count
    variants = settings.routes.map { route in
      defer { next += route.variants.count }
      return route.variants.indices.map { RouteIndex(clamping: next + $0) }
    }
    upstreams = Array(settings.upstreams.indices)
  }
}

/// Gives places to configurations one after another, and takes back those that nothing refers to any more.
struct PlanPlaces: Sendable {
  /// Most places of routes and variants; an exchange in flight keeps the places of its own route only.
  static let routeLimit = Int(RouteIndex.max)
  /// Most places of upstreams. A place is never given to another upstream, since look-ups of its name may be under way.
  static let upstreamLimit = 16_384
  /// Most places of servers, which go with their upstreams'.
  static let serverLimit = 65_536

  private var routeCount: Int
  private var upstreamCount: Int
  private var serverCount: Int
  private var free: [RouteIndex] = []
  /// Places of former configurations that exchanges may still refer to.
  private(set) var retired: Set<RouteIndex> = []
  /// The places of the variants of retired routes: exchanges of a variant are known by their route's place.
  private var families: [RouteIndex: [RouteIndex]] = [:]
  private(set) var layout: PlanLayout

  /// Begins with the first configuration.
  init(_ settings: Settings) {
    layout = PlanLayout(settings)
    routeCount = layout.routes.count + layout.variants.reduce(0) { $0 + $1.count }
    upstreamCount = layout.upstreams.count
    serverCount = settings.upstreams.reduce(0) { $0 + $1.servers.count }
  }

  /// Takes back the places that no worker uses any more.
  mutating func reclaim(unless inUse: Set<RouteIndex>) {
    let unused = retired.subtracting(inUse.reduce(into: inUse) { $0.formUnion(families[$1] ?? []) })
    retired.subtract(unused)
    for place in unused { families[place] = nil }
    // The least place is taken first, so that tables stay as short as they can.
    free = (free + unused).sorted(by: >)
  }

  /// Lays a new configuration out; an upstream that is as before keeps its place, and with it its connections. Returns
  /// false, with nothing changed, where there is no room.
  mutating func replace(_ settings: Settings, before: Settings) -> Bool {
    let needed = settings.routes.reduce(settings.routes.count) { $0 + $1.variants.count }
    guard free.count + Self.routeLimit - routeCount >= needed else { return false }
    var known: [Settings.Upstream: Int] = [:]
    for (upstream, place) in zip(before.upstreams, layout.upstreams) { known[upstream] = place }
    let fresh = settings.upstreams.filter { known[$0] == nil }
    let freshServers = fresh.reduce(0) { $0 + $1.servers.count }
    guard upstreamCount + fresh.count <= Self.upstreamLimit, serverCount + freshServers <= Self.serverLimit else { return false }

    serverCount += freshServers
    retired.formUnion(layout.routes)
    for (place, variants) in zip(layout.routes, layout.variants) where !variants.isEmpty {
      retired.formUnion(variants)
      families[place] = variants
    }
    layout.upstreams = settings.upstreams.map { upstream in
      if let place = known[upstream] { return place }
      upstreamCount += 1
      return upstreamCount - 1
    }
    layout.routes = settings.routes.map { _ in takePlace() }
    layout.variants = settings.routes.map { route in route.variants.map { _ in takePlace() } }
    return true
  }

  private mutating func takePlace() -> RouteIndex {
    if let place = free.popLast() { return place }
    routeCount += 1
    return RouteIndex(routeCount - 1)
  }
}
