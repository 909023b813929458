import Encoding

extension Settings.Upstream {
  /// The URLs as the configuration writes them.
  public var words: String {
    servers.map { server in
      let words = server.words(hasTLS: tls != nil)
      return servers.count == 1 ? words : "\(words) weight \(server.weight)"
    }.joined(separator: ", ")
  }

  /// How servers are chosen and watched, one sentence a line; nothing where there is nothing to say.
  var terms: [String] {
    var lines = tls.map { [$0.terms] } ?? []
    if servers.count > 1 {
      lines.append("balance \(balance.words); each request tried at most \(retries + 1) times")
      if ejection.failures > 0 {
        lines.append(
          "ejection: \(ejection.failures) failures in a row take a server out for \(Quantity.words(ejection.time)) to \(Quantity.words(ejection.longest)), at most \(ejection.share) % of them"
        )
      }
    }
    if let health {
      let what = health.path.map { "GET \($0)" } ?? "a connection"
      lines.append(
        "health: \(what) every \(Quantity.words(health.interval)) within \(Quantity.words(health.timeout)); down after \(health.fall), up after \(health.rise)")
    }
    if let breaker {
      lines.append(
        "breaker: \(breaker.share) % failures of at least \(breaker.requests) requests in \(Quantity.words(breaker.window)) answer 503 for \(Quantity.words(breaker.open)); \(breaker.probes) probes"
      )
    }
    if let proxyProtocol { lines.append("PROXY protocol \(proxyProtocol.rawValue): one connection a request") }
    return lines
  }

  /// The same for programs.
  var json: JSONValue {
    var object: JSONObject = [
      "name": .string(name),
      "servers": .array(servers.map { ["url": .string($0.words(hasTLS: tls != nil)), "weight": .integer($0.weight)] }),
      "balance": .string(balance.words), "retries": .integer(retries),
    ]
    if let health { object.set("health", .string(health.path ?? "connect")) }
    object.set("ejection", .bool(servers.count > 1 && ejection.failures > 0))
    object.set("breaker", .bool(breaker != nil))
    if let proxyProtocol { object.set("proxyProtocol", .string(proxyProtocol.rawValue)) }
    return .object(object)
  }
}

extension Settings.Upstream.Server {
  /// The URL as the configuration writes it.
  public func words(hasTLS: Bool) -> String {
    switch endpoint {
    case .host(let host, let port): (hasTLS ? "https://" : "http://") + (host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)")
    case .unix(let path): "unix:\(path)"
    }
  }
}

extension Settings.Upstream.Balance {
  /// The policy as the configuration writes it.
  var words: String {
    switch self {
    case .roundRobin: "round-robin"
    case .leastConnections: "least-connections"
    case .hash(.session): "hash:session"
    case .hash(.wallet): "hash:wallet"
    case .hash(.address): "hash:address"
    case .hash(.field(let name)): "hash:header:\(name)"
    }
  }
}
