import HTTP

extension Settings {
  /// The servers that answer alike.
  public struct Upstream: Sendable, Hashable {
    /// Where a server listens.
    public enum Endpoint: Sendable, Hashable {
      /// A host name or numeric address (without brackets) and a port.
      case host(String, port: UInt16)
      /// A Unix socket at an absolute path.
      case unix(path: String)
    }

    /// What the `Host` field of a forwarded request says.
    public enum HostField: Sendable, Hashable {
      /// The upstream's own authority, the first server's where it has several.
      case upstream
      /// What the client sent.
      case client
      /// Always this.
      case fixed(String)
    }

    /// Whether HTTP/2 is spoken to the servers.
    public enum HTTP2: Sendable, Hashable {
      /// Where they choose it in TLS (ALPN).
      case automatic
      /// Always; without TLS they have to know.
      case always
      case never
    }

    /// The name that routes refer to.
    public var name: String
    /// The servers; at least one.
    public var servers: [Server]
    /// What the `Host` field says.
    public var hostField: HostField = .upstream
    /// Most connections of one worker to one server at once; requests beyond wait.
    public var maxConnections = 512
    /// Most idle connections to one server that one worker keeps.
    public var maxIdle = 512
    /// How TLS is spoken to all servers; nil: not at all.
    public var tls: TLS?
    /// Whether HTTP/2 is spoken.
    public var http2 = HTTP2.automatic
    /// How the server for a request is chosen.
    public var balance = Balance.roundRobin
    /// How often a request is sent anew after a failure, where that is safe.
    public var retries = 2
    /// How often names are looked up again; zero: at start, and when a connect failed.
    public var resolveEvery = Duration.seconds(30)
    /// The PROXY protocol's header that begins every connection; nil for none.
    public var proxyProtocol: ProxyProtocol.Version?
    /// How servers are asked whether they are well; nil: not at all.
    public var health: Health?
    /// When a server that fails is left alone.
    public var ejection = Ejection()
    /// When the whole upstream is; nil: never.
    public var breaker: Breaker?

    /// Makes an upstream of one server.
    public init(name: String, endpoint: Endpoint) {
      self.init(name: name, servers: [Server(endpoint)])
    }

    /// Makes an upstream.
    public init(name: String, servers: [Server]) {
      self.name = name
      self.servers = servers
    }

    /// The authority of the first server's URL, as a `Host` field carries it.
    public var authority: String {
      switch servers.first?.endpoint {
      case .host(let host, let port):
        let name = host.contains(":") ? "[\(host)]" : host
        return port == (tls == nil ? 80 : 443) ? name : "\(name):\(port)"
      case .unix, nil: return "localhost"
      }
    }
  }
}
