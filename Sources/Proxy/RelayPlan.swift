import Bytes
import Configuration
import Crypto
import Gateway
import HTTP
import HTTP2
import IO
import TLS

/// What the relay needs of the settings, worked out once: octets instead of strings, nanoseconds instead of durations.
struct RelayPlan: Sendable {
  /// What the relay needs to know of a route.
  struct Route: Sendable {
    var id: [UInt8]
    var upstream: Int
    var isPriced: Bool
    /// Which calls cost what, where the route leads to an MCP endpoint.
    var mcp: MCPRoute?
    /// Whether clients of gRPC are told errors in its own words.
    var tellsGRPC: Bool
    /// Host, Via and what the route injects.
    var fields: UpstreamFields
    /// Removed from the front of the path.
    var stripPrefix: [UInt8]
    /// Put in its place.
    var rewritePrefix: [UInt8]
    /// How long the upstream may take.
    var times: UpstreamTimes
    /// What is added to responses, and taken from them.
    var responseFields: ResponseFields
    /// Most octets of a request's content.
    var contentLimit: UInt64
    /// The protocols that connections may be switched to, in lower case.
    var upgrades: [[UInt8]]
    /// Whether requests that do not switch are refused.
    var requiresUpgrade: Bool
    /// How often the route may be asked, and what it is counted by.
    var rate: (key: Digest32, limit: RateLimit)?
    var rewritesPath: Bool { !stripPrefix.isEmpty || !rewritePrefix.isEmpty }
  }

  /// What the relay needs to know of a listener.
  struct Listener: Sendable {
    /// Its address in words.
    var name: String
    /// What TLS takes from it; nil: clients speak without.
    var tls: Renewable<TLSServerContext>?
    /// The field that tells the upstream whom a client has proved to be; empty: none.
    var subjectField: [UInt8] = []
    /// Whether clients without TLS may speak HTTP/2.
    var acceptsHTTP2 = true
    /// Whether every request is sent to the origin instead.
    var redirects = false
    /// Whether a PROXY protocol header begins every connection.
    var acceptsIntroduction = false
  }

  /// Nanoseconds each.
  struct Timeouts: Sendable {
    var headerRead: Int64
    var bodyIdle: Int64
    var bodyMinimumRate: Int64
    var bodyMinimumRateAfter: Int64
    var idle: Int64
    var connect: Int64
    var firstOctet: Int64
    var upstreamIdle: Int64
    var upstreamKeepAlive: Int64
    var writeStall: Int64
    var drain: Int64
    var abandon: Int64
    /// How long a closed connection is still read, so that the peer sees our last octets before a reset.
    var linger: Int64 = 2_000_000_000
    /// From a challenge to the line of the audit log that counts it, and all that came until then.
    var challengeReport: Int64 = 60_000_000_000
  }

  var headLimits: HeadLimits
  var responseHeadLimits: HeadLimits
  var contentLimit: UInt64
  var connectionLimit: Int
  var connectionsPerClient: Int
  var requestLimit: UInt64
  /// Most octets of request content of one client that a worker keeps before anybody is known to pay for it.
  var collectedPerClient: Int
  var timeouts: Timeouts
  /// Of sessions with clients, and with upstreams.
  var http2Limits: HTTP2Limits
  var upstreamHTTP2Limits: HTTP2Limits
  /// By their numbers.
  var listeners: [Listener]
  var upstreams: [Upstream]
  /// The servers of all upstreams, one behind another.
  var servers: [Server]
  var routes: [Route]
  var router: Router
  var trustedProxies: [CIDR]
  /// Scheme and authority of the service, where listeners that redirect send to.
  var origin: [UInt8]
  /// Whether records are kept for the access log, and with them the queries.
  var logsAccess: Bool
  var logsQuery: Bool

  /// Most octets of a client's unanswered request that are read and thrown away to keep its connection.
  static let discardLimit: UInt64 = 256 << 10
  /// Most octets held for one direction of an exchange. It bounds pipelining too: requests that a client sends ahead of its
  /// answers are left unparsed in its input buffer, and nothing more is received before the one that is being answered is done, so
  /// their number needs no limit of its own.
  static let bufferLimit = 64 << 10

  /// Works the plan out. Throws where two routes conflict or a name cannot be sent, which `farebox check` reports better.
  ///
  /// - Parameters:
  ///   - layout: where the settings' routes and upstreams stand in the tables; nil: in their order.
  ///   - previous: the plan before this one, whose places that the layout does not name stay as they are, since exchanges
  ///     in flight refer to them.
  init(_ settings: Settings, layout: PlanLayout? = nil, over previous: RelayPlan? = nil) throws(ServerError) {
    let layout = layout ?? PlanLayout(settings)
    let limits = settings.limits
    headLimits = HeadLimits(requestLine: limits.requestLine, head: limits.headBytes, fieldCount: limits.headerCount)
    responseHeadLimits = HeadLimits(
      requestLine: max(limits.requestLine, 8192), head: max(limits.headBytes, 32768), fieldCount: max(limits.headerCount, 100))
    contentLimit = limits.bodyBytes == 0 ? .max : limits.bodyBytes
    connectionLimit = max(1, limits.connections)
    connectionsPerClient = limits.connectionsPerClient
    requestLimit = limits.requestsPerConnection == 0 ? .max : limits.requestsPerConnection
    collectedPerClient = limits.collectedPerClient
    timeouts = Timeouts(settings.timeouts)
    let (request, response, streams) = (headLimits.head, responseHeadLimits.head, limits.streamsPerConnection)
    // What goes out has lines of our own besides.
    http2Limits = HTTP2Limits(head: request, sentHead: response, streams: streams)
    upstreamHTTP2Limits = HTTP2Limits(head: response, sentHead: request, streams: streams)
    listeners = previous?.listeners ?? settings.listeners.map(Listener.init)
    upstreams = previous?.upstreams ?? []
    servers = previous?.servers ?? []
    // One that has a place already is as it was, and so are its servers.
    for (upstream, place) in zip(settings.upstreams, layout.upstreams) where place == upstreams.count {
      Self.append(upstream, to: &upstreams, &servers)
    }
    routes = previous?.routes ?? []
    // Only we say whom a client has proved to be.
    let subjects = Set(settings.listeners.compactMap { $0.tls?.clients?.subjectField }).sorted()
    for (index, route) in settings.routes.enumerated() {
      guard settings.upstreams.indices.contains(route.upstream) else { throw .upstreamUnknown(route: index) }
      var made: Route
      do { made = try Route(route, upstream: settings.upstreams[route.upstream], timeouts, contentLimit: contentLimit, withheld: subjects) } catch {
        throw .fieldsInvalid(route: index, error)
      }
      made.upstream = layout.upstreams[route.upstream]
      made.mcp = MCPRoute(route, places: layout.variants[index])
      Self.put(made, at: Int(layout.routes[index]), in: &routes)
    }
    // The router never leads to a variant's place; it is filled so that tables have no gaps.
    for (index, places) in layout.variants.enumerated() {
      for place in places { Self.put(routes[Int(layout.routes[index])], at: Int(place), in: &routes) }
    }
    do { router = try Router(settings.routes.map(RoutePattern.init), numbers: layout.routes) } catch { throw .routesInvalid(error) }
    trustedProxies = settings.trustedProxies
    origin = Array(settings.origin.utf8)
    logsAccess = settings.accessLog.target != .none
    logsQuery = settings.accessLog.keepsQuery
  }

  /// Puts a value at a place of a table, at most one behind its end.
  static func put<Value>(_ value: Value, at place: Int, in table: inout [Value]) {
    if place == table.count { table.append(value) } else { table[place] = value }
  }
}

extension RelayPlan {
  /// Descriptors that are left to the ledger, the audit log, listeners and epoll.
  private static let ownDescriptors = 64

  /// Gives one worker's plan: its share of the connections, of which clients may take three quarters of the descriptors,
  /// so that upstreams can still be reached when clients take all they can get.
  func share(of workers: Int, descriptors: Int) -> RelayPlan {
    var share = self
    let reachable = max(16, (descriptors - Self.ownDescriptors) * 3 / 4)
    share.connectionLimit = (min(connectionLimit, reachable) + workers - 1) / workers
    return share
  }
}

extension RelayPlan {
  /// Puts what is new of listeners at their numbers.
  mutating func put(_ settings: [Settings.Listener], numbers: [Int], _ contexts: TLSPlan) {
    for (index, listener) in settings.enumerated() {
      var made = Listener(listener)
      made.tls = contexts.listeners[index]
      Self.put(made, at: numbers[index], in: &listeners)
    }
  }
}

extension RelayPlan.Listener {
  init(_ listener: Settings.Listener) {
    name = listener.words
    subjectField = Array((listener.tls?.clients?.subjectField ?? "").utf8)
    acceptsHTTP2 = listener.http2
    redirects = listener.redirects
    acceptsIntroduction = listener.acceptsProxyProtocol
  }
}

extension RelayPlan.Timeouts {
  init(_ timeouts: Settings.Timeouts) {
    headerRead = timeouts.headerRead.nanoseconds
    bodyIdle = timeouts.bodyIdle.nanoseconds
    bodyMinimumRate = Int64(timeouts.bodyMinimumRate)
    bodyMinimumRateAfter = timeouts.bodyMinimumRateAfter.nanoseconds
    idle = timeouts.idle.nanoseconds
    connect = timeouts.connect.nanoseconds
    firstOctet = timeouts.firstOctet.nanoseconds
    upstreamIdle = timeouts.upstreamIdle.nanoseconds
    upstreamKeepAlive = timeouts.upstreamKeepAlive.nanoseconds
    writeStall = timeouts.writeStall.nanoseconds
    drain = timeouts.drain.nanoseconds
    abandon = timeouts.abandon.nanoseconds
  }
}

extension RelayPlan.Route {
  init(
    _ route: Settings.Route, upstream: Settings.Upstream, _ timeouts: RelayPlan.Timeouts, contentLimit: UInt64, withheld: [String]
  ) throws(HTTPError) {
    id = Array(route.id.utf8)
    self.upstream = route.upstream
    isPriced = route.isPriced
    tellsGRPC = route.tellsGRPC
    let host: String? =
      switch upstream.hostField {
      case .upstream: upstream.authority
      case .fixed(let host): host
      case .client: nil
      }
    // Between the upstream and us only: a client's would be taken for the upstream's where that repeats it.
    let overrides = isPriced ? ["Settlement-Overrides"] : []
    let reports = route.price?.countsUnits == true ? overrides + [route.usage.unitsField] : overrides
    let added = route.addedRequestFields.map { ($0.name, Array($0.value.utf8)) }
    fields = try UpstreamFields(
      host: host, injected: route.injectedFields.map { ($0.name, $0.value.bytes) } + added,
      removed: route.removedRequestFields + withheld + reports, codings: route.acceptedCodings)
    responseFields = try ResponseFields(
      added: route.addedResponseFields.map { ($0.name, Array($0.value.utf8)) }, removed: route.removedResponseFields + overrides)
    upgrades = route.upgrades.map { Array($0.utf8) }
    requiresUpgrade = route.requiresUpgrade || route.price?.needsUpgrade == true
    self.contentLimit = route.bodyLimit.map { $0 == 0 ? .max : $0 } ?? contentLimit
    rate = route.rate.map { (SHA256.hash(Array(route.id.utf8)), $0) }
    stripPrefix = Array((route.stripPrefix ?? "").utf8)
    rewritePrefix = Array((route.rewritePrefix ?? "").utf8)
    times = RelayPlan.UpstreamTimes(route.upstreamTimeouts, default: timeouts)
  }

  /// Appends the target that the upstream is asked for.
  func append(target: UnsafeRawBufferPointer, to buffer: inout ByteBuffer) {
    var rest = target
    if rest.count >= stripPrefix.count, rest.prefix(stripPrefix.count).elementsEqual(stripPrefix) {
      rest = UnsafeRawBufferPointer(rebasing: rest[stripPrefix.count...])
    }
    buffer.append(rewritePrefix)
    // What is left after the prefix begins with a slash exactly once.
    let endsWithSlash = rewritePrefix.last == UInt8(ascii: "/")
    let beginsWithSlash = rest.first == UInt8(ascii: "/")
    if endsWithSlash, beginsWithSlash { rest = UnsafeRawBufferPointer(rebasing: rest[1...]) }
    if !endsWithSlash, !beginsWithSlash { buffer.append("/") }
    buffer.append(rest)
  }
}

extension Settings.Route {
  /// The content codings that the upstream may answer in: where events are counted none, for whole events are what passes; where tokens
  /// are, none or those that the reader of their usage can decode. Messages of MCP are read, so there are none either.
  var acceptedCodings: AcceptedCodings {
    if selector == .mcp { return .identity }
    if prices.contains(where: \.countsEvents) { return .identity }
    guard prices.contains(where: \.countsTokens) else { return .asAsked }
    return usage.decodesContent ? .readable : .identity
  }
}

extension RoutePattern {
  init(_ route: Settings.Route) {
    let path: PathPattern =
      switch route.path {
      case .exact(let text): .exact(text)
      case .prefix(let text): .prefix(text)
      case .segments(let text): .segments(text)
      }
    self.init(hosts: route.hosts, path: path, methods: route.methods.isEmpty ? .any : route.methods)
  }
}

extension Duration {
  /// Whole nanoseconds, held within what an Int64 holds.
  var nanoseconds: Int64 {
    let (seconds, attoseconds) = components
    let (scaled, overflows) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    if overflows { return seconds < 0 ? .min : .max }
    let (sum, carries) = scaled.addingReportingOverflow(attoseconds / 1_000_000_000)
    return carries ? (seconds < 0 ? .min : .max) : sum
  }
}
