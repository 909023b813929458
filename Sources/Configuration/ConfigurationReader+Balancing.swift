import HTTP

extension ConfigurationReader {
  /// Reads how an upstream's servers are chosen, watched and left alone.
  static func readBalancing(_ table: TableReader, _ upstream: inout Settings.Upstream) {
    if let balance = balance(table) { upstream.balance = balance }
    upstream.retries = table.integer("retries", in: 0...10) ?? upstream.retries
    upstream.resolveEvery = table.duration("resolve-every", in: .zero...(.seconds(86_400))) ?? upstream.resolveEvery
    if upstream.resolveEvery > .zero, upstream.resolveEvery < .seconds(1) {
      table.report(.outOfRange, "resolve-every", expected: "a time from 1 s to 1 d, or \"0 s\" to look names up once")
    }
    upstream.proxyProtocol = proxyProtocol(table)
    if let health = table.table("health") { upstream.health = Self.health(health, of: table) }
    if let ejection = table.table("ejection") { upstream.ejection = Self.ejection(ejection, of: table) }
    if let breaker = table.table("breaker") { upstream.breaker = Self.breaker(breaker, of: table) }
  }

  private static let balances = ["round-robin", "least-connections", "hash:session", "hash:wallet", "hash:address"]

  private static func balance(_ table: TableReader) -> Settings.Upstream.Balance? {
    let expected = "one of \(balances.joined(separator: ", ")), or hash:header: and a field's name"
    guard let text = table.string("balance", expected: expected) else { return nil }
    switch text {
    case "round-robin": return .roundRobin
    case "least-connections": return .leastConnections
    case "hash:session": return .hash(.session)
    case "hash:wallet": return .hash(.wallet)
    case "hash:address": return .hash(.address)
    default:
      let name = text.hasPrefix("hash:header:") ? text.dropFirst("hash:header:".count).lowercased() : ""
      guard isFieldName(name) else {
        table.report(.invalidValue, "balance", expected: expected, nearest: Nearest.name(to: text, in: balances))
        return nil
      }
      return .hash(.field(name))
    }
  }

  /// A token (RFC 9110 section 5.6.2) of letters, digits and `-` `_` `.`, which is what field names are made of.
  private static func isFieldName(_ name: String) -> Bool {
    (1...64).contains(name.utf8.count)
      && name.utf8.allSatisfy { octet in
        switch octet {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"),
          UInt8(ascii: "."):
          true
        default: false
        }
      }
  }

  private static func proxyProtocol(_ table: TableReader) -> ProxyProtocol.Version? {
    let expected = "\"v1\" or \"v2\""
    guard let text = table.string("proxy-protocol", expected: expected) else { return nil }
    switch text {
    case "v1": return .v1
    case "v2": return .v2
    default:
      table.report(.invalidValue, "proxy-protocol", expected: expected)
      return nil
    }
  }

  // MARK: Watching

  private static let times = Duration.milliseconds(10)...Duration.seconds(86_400)

  private static func health(_ table: TableReader, of upstream: TableReader) -> Settings.Upstream.Health {
    table.place = "\(upstream.place) health"
    defer { table.finish() }
    var health = Settings.Upstream.Health()
    let expected = "a path such as \"/healthz\", or \"\" to connect only"
    let path = table.string("path", expected: expected) { text in
      text.isEmpty || text.hasPrefix("/") && text.utf8.count <= 1024 && text.utf8.allSatisfy { (0x21...0x7E).contains($0) }
    }
    if let path { health.path = path.isEmpty ? nil : path }
    health.interval = table.duration("interval", in: times) ?? health.interval
    health.timeout = table.duration("timeout", in: times) ?? health.timeout
    health.rise = table.integer("rise", in: 1...100) ?? health.rise
    health.fall = table.integer("fall", in: 1...100) ?? health.fall
    health.statuses = statuses(table, "statuses") ?? health.statuses
    return health
  }

  private static func ejection(_ table: TableReader, of upstream: TableReader) -> Settings.Upstream.Ejection {
    table.place = "\(upstream.place) ejection"
    defer { table.finish() }
    var ejection = Settings.Upstream.Ejection()
    ejection.failures = table.integer("failures", in: 0...10_000) ?? ejection.failures
    ejection.time = table.duration("time", in: times) ?? ejection.time
    ejection.longest = table.duration("longest", in: times) ?? max(ejection.longest, ejection.time)
    ejection.share = table.integer("share", in: 0...100) ?? ejection.share
    ejection.statuses = statuses(table, "statuses", allowsNone: true) ?? ejection.statuses
    if ejection.longest < ejection.time {
      table.report(.conflict, table.has("longest") ? "longest" : "time", expected: "a longest time that is not below the first")
    }
    return ejection
  }

  private static func breaker(_ table: TableReader, of upstream: TableReader) -> Settings.Upstream.Breaker {
    table.place = "\(upstream.place) breaker"
    defer { table.finish() }
    var breaker = Settings.Upstream.Breaker()
    breaker.share = table.integer("share", in: 1...100) ?? breaker.share
    breaker.requests = table.integer("requests", in: 1...1_000_000) ?? breaker.requests
    breaker.window = table.duration("window", in: times) ?? breaker.window
    breaker.open = table.duration("open", in: times) ?? breaker.open
    breaker.probes = table.integer("probes", in: 1...1000) ?? breaker.probes
    breaker.statuses = statuses(table, "statuses", allowsNone: true) ?? breaker.statuses
    return breaker
  }

  // MARK: Routes and listeners

  /// Reads how long the upstream may take on one route.
  static func readUpstreamTimeouts(_ table: TableReader, _ route: inout Settings.Route) {
    let range = Duration.milliseconds(1)...Duration.seconds(86_400)
    route.upstreamTimeouts.connect = table.duration("connect-timeout", in: range)
    route.upstreamTimeouts.firstOctet = table.duration("first-octet-timeout", in: range)
    route.upstreamTimeouts.idle = table.duration("upstream-idle-timeout", in: range)
  }

  /// Anybody could claim to be anybody on a listener that believes every peer's header.
  func checkProxyProtocol(_ table: TableReader, _ listener: Settings.Listener) {
    guard case .address = listener.endpoint, settings.trustedProxies.isEmpty else { return }
    table.report(
      .conflict, "proxy-protocol", expected: "the peers that may send the header, such as trusted-proxies = [\"10.0.0.0/8\"] at the top level")
  }
}
