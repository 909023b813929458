import Ethereum
import Gateway
import HTTP
import Payments

/// Everything that an operator configures, resolved: paths are absolute, names are indices, secrets are read.
///
/// Plain values without a trace of the file format. `Configuration.load` makes them; tests make their own.
public struct Settings: Sendable {
  /// The addresses that clients connect to; at least one.
  public var listeners: [Listener] = []
  /// The operators' own socket.
  public var admin = Admin()
  /// How many event loops run; 0 means one a core.
  public var workers = 0
  /// What one connection or request may ask for.
  public var limits = Limits()
  /// How long each step may take.
  public var timeouts = Timeouts()
  /// How often clients, wallets and sessions may do something.
  public var rates = RateLimits()
  /// Peers whose `Forwarded` and `X-Forwarded-For` are believed.
  public var trustedProxies: [CIDR] = []
  /// The realm of every challenge: the host that clients call, or a parent domain of it.
  public var realm = "localhost"
  /// Scheme and authority in front of every URL in challenges, invoices and discovery documents: `https://api.example.com`.
  public var origin = "https://localhost"
  /// How long a challenge may be paid.
  public var expires = Duration.seconds(300)
  /// Whether an agent may register a wallet, empty, by itself.
  public var registration = false
  /// Where money is kept.
  public var ledger = Ledger()
  /// Where events are written for people.
  public var audit = Audit()
  /// Where secrets are kept.
  public var keys = Keys()
  /// The assets that wallets hold.
  public var currencies: [Currency] = []
  /// The accounts that are paid.
  public var merchants: [Merchant] = []
  /// The services that settle payments for us.
  public var facilitators: [Facilitator] = []
  /// The chains whose tokens are money here.
  public var chains: [Chain] = []
  /// The servers that answer.
  public var upstreams: [Upstream] = []
  /// What is sold or given away; a request that matches none is refused. `RouteIndex` counts these.
  public var routes: [Route] = []
  /// Which browser pages may call.
  public var cors = CORS()
  /// The extensions of x402 that all routes have.
  public var x402 = X402()
  /// Where a line about each request is written.
  public var accessLog = AccessLog()
  /// What the process is.
  public var process = Process()
  /// What the discovery documents say about the service.
  public var info = Info()
  /// The file that these settings came from; nil where there was none.
  public var source: String?

  /// Makes settings without listeners or routes, everything else at its default.
  public init() {}
}

extension Settings {
  /// One address that clients connect to.
  public struct Listener: Sendable, Hashable {
    /// What is listened on.
    public enum Endpoint: Sendable, Hashable {
      /// A numeric IPv4 or IPv6 address (without brackets) and a port; port 0 lets the kernel choose.
      case address(String, port: UInt16)
      /// A Unix socket at an absolute path.
      case unix(path: String)
    }

    /// What is listened on.
    public var endpoint: Endpoint
    /// Whether the operator confirmed that TLS is terminated in front of this listener.
    public var plaintext: Bool
    /// Whether clients may speak HTTP/2: by ALPN with TLS, by prior knowledge without.
    public var http2 = true
    /// Whether every connection begins with a PROXY protocol header, which tells the client's address; only trusted proxies
    /// and Unix sockets are listened to then.
    public var acceptsProxyProtocol = false
    /// How TLS is spoken; nil: not at all.
    public var tls: TLS?
    /// Whether clients are only told to come by TLS: every request is answered with a redirect to the origin.
    public var redirects = false
    /// The permissions of a Unix socket's file.
    public var mode: UInt32 = 0o660

    /// Makes a listener.
    public init(_ endpoint: Endpoint, plaintext: Bool = false) {
      self.endpoint = endpoint
      self.plaintext = plaintext
    }

    /// Whether only this machine can reach it: 127.0.0.0/8, ::1 or a Unix socket.
    public var isLoopback: Bool {
      switch endpoint {
      case .address(let address, _): address.hasPrefix("127.") || address == "::1"
      case .unix: true
      }
    }
  }

  /// The operators' own socket.
  public struct Admin: Sendable, Hashable {
    /// The absolute path of the Unix socket, created with mode 0600.
    public var socketPath = "/run/farebox/farebox.sock"

    /// Makes the default.
    public init() {}
  }

  /// What one connection or request may ask for. Sizes are octets.
  public struct Limits: Sendable, Hashable {
    /// Longest request line: 414 beyond it.
    public var requestLine = 8192
    /// Longest head, request line included: 431 beyond it.
    public var headBytes = 32_768
    /// Most header fields: 431 beyond it.
    public var headerCount = 100
    /// Longest request content: 413 beyond it; 0 means no limit.
    public var bodyBytes: UInt64 = 0
    /// Most client connections at once.
    public var connections = 20_000
    /// Most connections of one client address (IPv4 or IPv6 /64) at once, over all workers; those of trusted proxies and of
    /// Unix sockets do not count.
    public var connectionsPerClient = 1000
    /// Most requests on one connection; 0 means no limit.
    public var requestsPerConnection: UInt64 = 0
    /// Most requests at once on one HTTP/2 connection, of a client or to an upstream.
    public var streamsPerConnection = 100
    /// Most octets of the content of one client's requests (IPv4 or IPv6 /64) that a worker keeps while it is not known who pays for
    /// them: 429 beyond it. One request alone may be as long as its route allows.
    public var collectedPerClient = 8 << 20
    /// Longest answer content that is kept for an `Idempotency-Key`.
    public var outcomeBytes = 65_536

    /// Makes the defaults.
    public init() {}
  }

  /// How long each step may take.
  public struct Timeouts: Sendable, Hashable {
    /// From a request's first octet to its head's last: 408.
    public var headerRead = Duration.seconds(10)
    /// Between two octets of request content: 408.
    public var bodyIdle = Duration.seconds(30)
    /// Slowest request content in octets a second, judged after `bodyMinimumRateAfter`; 0 switches it off.
    public var bodyMinimumRate = 1024
    /// When `bodyMinimumRate` begins to count.
    public var bodyMinimumRateAfter = Duration.seconds(10)
    /// Between two requests on a connection: closed.
    public var idle = Duration.seconds(75)
    /// To connect to an upstream: 504.
    public var connect = Duration.seconds(5)
    /// From the request's last octet to the upstream's head: 504.
    public var firstOctet = Duration.seconds(60)
    /// Between two octets of an upstream's content: the answer is cut short.
    public var upstreamIdle = Duration.seconds(60)
    /// Without a client taking an octet of an answer: closed.
    public var writeStall = Duration.seconds(30)
    /// For exchanges in flight after SIGTERM.
    public var drain = Duration.seconds(30)
    /// For the upstream's head after the client of a paid exchange left.
    public var abandon = Duration.seconds(5)
    /// Before an idle upstream connection is closed.
    public var upstreamKeepAlive = Duration.seconds(60)

    /// Makes the defaults.
    public init() {}
  }

  /// How often one client (IPv4 address or IPv6 /64), wallet or session may do something, over all workers.
  public struct RateLimits: Sendable, Hashable {
    /// Challenges a second; 0 switches the limit off.
    public var challengesPerSecond = 50
    /// Challenges at once, before the rate counts.
    public var challengeBurst = 200
    /// Credentials a second that fail; 0 switches the limit off.
    public var failuresPerSecond = 10
    /// Failing credentials at once, before the rate counts.
    public var failureBurst = 50
    /// Requests of any kind of one address; nil: without limit.
    public var address: RateLimit?
    /// Paid requests of one wallet, by charge and by its sessions together; nil: without limit.
    public var wallet: RateLimit?
    /// Requests of one session; nil: without limit.
    public var session: RateLimit?

    /// Makes the defaults.
    public init() {}
  }

  /// Where money is kept.
  public struct Ledger: Sendable, Hashable {
    /// The absolute path of the folder with the database and its lock.
    public var directory = "/var/lib/farebox/ledger"
    /// The name that requests carry, so that a client knows which of its wallets to use.
    public var name = "localhost"
    /// Octets of disk kept free, so that closes and refunds still commit when the disk is full.
    public var reserveBytes: UInt64 = 16 << 20
    /// Longest wait for more entries before a commit.
    public var commitDelay = Duration.milliseconds(1)
    /// How long settled charges are kept for refunds; nil keeps them until 2^28 entries have followed.
    public var chargeRetention: Duration?

    /// Makes the defaults.
    public init() {}
  }

  /// Where events are written for people.
  public struct Audit: Sendable, Hashable {
    /// The absolute path of the JSON Lines file.
    public var path = "/var/lib/farebox/audit.jsonl"
    /// Size in octets at which the file is rotated; 0 means never by size.
    public var rotateBytes: UInt64 = 256 << 20
    /// How long files that were rotated are kept; nil keeps them for ever.
    public var retention: Duration?
    /// Most events between two checkpoints.
    public var checkpointEvery = 256
    /// Longest time between two checkpoints while events happen.
    public var checkpointInterval = Duration.seconds(1)
    /// Whether checkpoints are written to standard output as well, to be kept elsewhere.
    public var shipsCheckpoints = false

    /// Makes the defaults.
    public init() {}
  }

  /// Where secrets are kept.
  public struct Keys: Sendable, Hashable {
    /// The absolute path of the folder; its files are created on first start with mode 0600.
    public var directory = "/var/lib/farebox/keys"

    /// Makes the default.
    public init() {}
  }

  /// An account that is paid.
  public struct Merchant: Sendable, Hashable {
    /// The recipient in challenges and receipts: 1 to 64 of `[A-Za-z0-9._-]`.
    public var id: String
    /// The name that people read.
    public var displayName: String
    /// Where its money goes on each chain, by the chain's name.
    public var addresses: [String: Address] = [:]

    /// Makes a merchant; without a name the id is shown.
    public init(id: String, displayName: String? = nil) {
      self.id = id
      self.displayName = displayName ?? id
    }
  }

  /// Which browser pages may call.
  public struct CORS: Sendable, Hashable {
    /// Allowed origins; `*` alone allows every one, none switches CORS off.
    public var origins: [String] = []
    /// Fields of the upstream's responses that pages may read, beside those of payment.
    public var exposedFields: [String] = []

    /// Makes the default: none.
    public init() {}
  }

  /// What the discovery documents say about the service.
  public struct Info: Sendable, Hashable {
    /// The service's name.
    public var title = "Paid API"
    /// The version of the API that is sold.
    public var version = "1"
    /// One or more sentences.
    public var description = ""

    /// Makes the defaults.
    public init() {}
  }
}
