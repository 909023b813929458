import HTTP

extension Settings.Upstream {
  /// One server of an upstream.
  public struct Server: Sendable, Hashable {
    /// Where it listens.
    public var endpoint: Endpoint
    /// Its share of the requests beside the other servers' weights; 0 gives it nothing new.
    public var weight = 1

    /// Makes a server.
    public init(_ endpoint: Endpoint, weight: Int = 1) {
      self.endpoint = endpoint
      self.weight = weight
    }

    /// The most servers of one upstream.
    public static let limit = 64
    /// The weights that a server may have.
    public static let weights = 0...256
  }

  /// How the server for a request is chosen.
  public enum Balance: Sendable, Hashable {
    /// In turn, by weight.
    case roundRobin
    /// The one with the fewest requests in flight for its weight.
    case leastConnections
    /// Always the same one for the same key, as long as it is there.
    case hash(HashKey)
  }

  /// What a request is hashed by. Where it has none of it, the next one down counts: session, wallet, client address.
  public enum HashKey: Sendable, Hashable {
    /// The session that pays.
    case session
    /// The wallet that pays.
    case wallet
    /// The value of a request field, by its name in lower case; the client's address where it is missing.
    case field(String)
    /// The client's address, an IPv6 one by its /64.
    case address
  }

  /// How servers are asked whether they are well.
  public struct Health: Sendable, Hashable {
    /// The path of a GET; nil only connects.
    public var path: String? = "/"
    /// Between two checks of a server.
    public var interval = Duration.seconds(5)
    /// For one check.
    public var timeout = Duration.seconds(2)
    /// Checks in a row that bring a server back.
    public var rise = 2
    /// Failed checks in a row that take it out.
    public var fall = 3
    /// The statuses of a server that is well.
    public var statuses = Settings.StatusSet.successful

    /// Makes the defaults.
    public init() {}
  }

  /// When a server that fails requests is left alone for a while. At least one server always stays.
  public struct Ejection: Sendable, Hashable {
    /// Failures in a row; 0 switches ejection off.
    public var failures = 5
    /// For how long at first; twice as long each time it fails again soon.
    public var time = Duration.seconds(10)
    /// For how long at most.
    public var longest = Duration.seconds(300)
    /// Most servers that are out at once, in percent.
    public var share = 50
    /// Statuses that count as failures, beside connections that fail.
    public var statuses = Settings.StatusSet([502...504])

    /// Makes the defaults.
    public init() {}
  }

  /// When an upstream that fails too much of what it is asked is not asked for a while.
  public struct Breaker: Sendable, Hashable {
    /// Failed requests of all, in percent.
    public var share = 50
    /// Requests in the window before the share counts.
    public var requests = 20
    /// The time that is looked back on.
    public var window = Duration.seconds(10)
    /// How long nothing is sent.
    public var open = Duration.seconds(10)
    /// Requests that are let through then; when all of them succeed, everything is.
    public var probes = 3
    /// Statuses that count as failures, beside connections that fail.
    public var statuses = Settings.StatusSet([502...504])

    /// Makes the defaults.
    public init() {}
  }
}

extension Settings.Route {
  /// How long each step at the upstream may take where the route differs from `Settings.Timeouts`.
  public struct UpstreamTimeouts: Sendable, Hashable {
    /// To connect: 504.
    public var connect: Duration?
    /// From the request's last octet to the upstream's head: 504.
    public var firstOctet: Duration?
    /// Between two octets of the upstream's content: the answer is cut short.
    public var idle: Duration?

    /// Makes what differs in nothing.
    public init() {}
  }
}
