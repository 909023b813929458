import Configuration
import Gateway
import HTTP
import IO
import TLS

extension RelayPlan {
  /// How an upstream's servers are chosen, watched and left alone.
  struct Upstream: Sendable {
    var name: String
    /// Its servers, as places of `RelayPlan.servers`.
    var servers: Range<Int>
    var policy: Balancer.Policy
    /// What requests are hashed by, where they are.
    var key: BalanceField
    /// How often a request may be sent anew.
    var retries: Int
    var proxyProtocol: ProxyProtocol.Version?
    /// What TLS takes from it; nil: it is spoken to without.
    var tls: Renewable<TLSClientContext>?
    /// The name that a server proves with TLS; nil: the host of its URL.
    var serverName: String?
    /// Whether HTTP/2 is spoken to the servers.
    var http2: Settings.Upstream.HTTP2
    /// Nanoseconds between two look-ups of names; 0: only when a connect failed.
    var resolveEvery: Int64
    var health: Health?
    var ejection: Ejection.Rules
    var ejectingStatuses: Settings.StatusSet
    var breaker: CircuitBreaker.Rules?
    var breakingStatuses: Settings.StatusSet
  }

  /// One server: where it is, and how it is used. Every worker has a pool of connections for each.
  struct Server: Sendable {
    var upstream: Int
    /// What notices and metrics call it: its URL.
    var label: String
    var host: String?
    var port: UInt16
    var unixPath: String?
    var weight: Int
    /// Whether a connection may carry several requests at once.
    var mayMultiplex: Bool
    var pool: UpstreamPool.Limits
  }

  /// What a request is hashed by.
  enum BalanceField: Sendable {
    case none
    case session
    case wallet
    case address
    /// The value of a field, by its name in lower case.
    case field([UInt8])
  }

  /// How servers are asked whether they are well.
  struct Health: Sendable {
    var rules: HealthCheck.Rules
    /// The request; nil only connects.
    var request: [UInt8]?
    var statuses: Settings.StatusSet
  }

  /// How long an upstream may take on one route, nanoseconds each.
  struct UpstreamTimes: Sendable {
    var connect: Int64
    var firstOctet: Int64
    var idle: Int64
  }

  /// Gives an upstream and its servers the next places.
  static func append(_ upstream: Settings.Upstream, to upstreams: inout [Upstream], _ servers: inout [Server]) {
    let first = servers.count
    servers += upstream.servers.prefix(ServerSet.limit).map { Server($0, of: upstream, at: upstreams.count) }
    upstreams.append(Upstream(upstream, servers: first..<servers.count))
  }

  /// Puts what TLS takes from the upstreams at their places.
  mutating func put(_ contexts: [Renewable<TLSClientContext>?], at places: [Int]) {
    for (context, place) in zip(contexts, places) { upstreams[place].tls = context }
  }

  /// What notices call each server: its upstream's name, and where that has several servers, which one is meant.
  var serverNames: [String] {
    servers.map { server in
      let upstream = upstreams[server.upstream]
      return upstream.servers.count == 1 ? upstream.name : "\(upstream.name) (\(server.label))"
    }
  }
}

extension RelayPlan.Server {
  init(_ server: Settings.Upstream.Server, of upstream: Settings.Upstream, at index: Int) {
    self.upstream = index
    label = server.words(hasTLS: upstream.tls != nil)
    weight = server.weight
    // A connection that names its client in front serves no other.
    mayMultiplex =
      upstream.proxyProtocol == nil && (upstream.http2 == .always || (upstream.http2 == .automatic && upstream.tls != nil))
    pool = UpstreamPool.Limits(connections: upstream.maxConnections, idle: upstream.maxIdle)
    switch server.endpoint {
    case .host(let name, let port):
      host = name
      self.port = port
      unixPath = nil
    case .unix(let path):
      host = nil
      port = 0
      unixPath = path
    }
  }

  /// Whether its name may come to mean other addresses.
  var hasName: Bool { host.map { ClientAddress($0) == nil } ?? false }
}

extension RelayPlan.Upstream {
  init(_ upstream: Settings.Upstream, servers: Range<Int>) {
    name = upstream.name
    self.servers = servers
    switch upstream.balance {
    case .roundRobin: (policy, key) = (.roundRobin, .none)
    case .leastConnections: (policy, key) = (.leastConnections, .none)
    case .hash(.session): (policy, key) = (.hash, .session)
    case .hash(.wallet): (policy, key) = (.hash, .wallet)
    case .hash(.address): (policy, key) = (.hash, .address)
    case .hash(.field(let name)): (policy, key) = (.hash, .field(Array(name.utf8)))
    }
    retries = upstream.retries
    proxyProtocol = upstream.proxyProtocol
    serverName = upstream.tls?.serverName
    http2 = upstream.proxyProtocol == nil ? upstream.http2 : .never
    resolveEvery = upstream.resolveEvery.nanoseconds
    health = upstream.health.map { RelayPlan.Health($0, host: upstream.authority) }
    let ejection = upstream.ejection
    self.ejection = Ejection.Rules(
      failures: ejection.failures, time: ejection.time.nanoseconds, longest: ejection.longest.nanoseconds, share: ejection.share)
    ejectingStatuses = ejection.statuses
    breaker = upstream.breaker.map {
      CircuitBreaker.Rules(
        share: $0.share, requests: $0.requests, window: $0.window.nanoseconds, open: $0.open.nanoseconds, probes: $0.probes)
    }
    breakingStatuses = upstream.breaker?.statuses ?? Settings.StatusSet([])
  }
}

extension RelayPlan.Health {
  init(_ health: Settings.Upstream.Health, host: String) {
    rules = HealthCheck.Rules(
      interval: health.interval.nanoseconds, timeout: health.timeout.nanoseconds, rise: health.rise, fall: health.fall)
    request = health.path.map {
      Array("GET \($0) HTTP/1.1\r\nHost: \(host)\r\nUser-Agent: farebox-health\r\nAccept: */*\r\nConnection: close\r\n\r\n".utf8)
    }
    statuses = health.statuses
  }
}

extension RelayPlan.UpstreamTimes {
  init(_ times: Settings.Route.UpstreamTimeouts, default timeouts: RelayPlan.Timeouts) {
    connect = times.connect?.nanoseconds ?? timeouts.connect
    firstOctet = times.firstOctet?.nanoseconds ?? timeouts.firstOctet
    idle = times.idle?.nanoseconds ?? timeouts.upstreamIdle
  }
}
