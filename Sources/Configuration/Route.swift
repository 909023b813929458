import Gateway
import HTTP
import Metering
import Payments

extension Settings {
  /// What is sold, or given away, at one place.
  public struct Route: Sendable {
    /// Names the route in terms, bindings, receipts and the audit log: 1 to 64 of `[A-Za-z0-9._-]`, unique.
    public var id: String
    /// The hosts, paths and methods that match.
    public var pattern: RoutePattern
    /// What a request costs.
    public var offer: RouteOffer = .free
    /// What chooses between the route's prices; without a variant that matches its own is taken, where it has one.
    public var selector = Selector.none
    /// The prices by what the request asks for.
    public var variants: [Variant] = []
    /// Who is asked what a request costs; nil: the price is known. `offer` then holds what stands in for the answer.
    public var pricer: Pricer?
    /// How calls are settled where messages of an MCP endpoint decide.
    public var calls = Calls()
    /// Methods of a priced route that cost nothing.
    public var freeMethods: MethodSet = []
    /// How a priced route may be paid.
    public var intents: Intents = [.charge, .session]
    /// With what a priced route may be paid, in the order in which it is offered.
    public var rails: [Rail] = [.prepaid]
    /// The most that one request may cost where what is metered is paid by x402 (scheme upto), in base units; nil: the price's maximum.
    public var upto: UInt128?
    /// Whether what is sold per request is also paid by x402's scheme batch-settlement, on the chains that take its channels.
    public var batch = false
    /// Whether requests cost nothing, and are answered to who proves which account on Tempo is his.
    public var proof = false
    /// What of a charge on a chain goes to others than the merchant, in order.
    public var splits: [Split] = []
    /// The memo that a payer's transfer to the merchant must have on Tempo.
    public var memo: Memo?
    /// For how long who has paid by x402 may ask for the same again, when he signs in by his wallet (extension sign-in-with-x); nil: not at all.
    public var signIn: Duration?
    /// What facilitators' catalogues say of the route (extension bazaar).
    public var bazaar: ExtensionDeclaration?
    /// The merchant that is paid, by id; empty on a free route.
    public var merchant = ""
    /// Index into `Settings.upstreams`.
    public var upstream: Int
    /// Removed from the front of the path before the upstream sees it.
    public var stripPrefix: String?
    /// Put in front of the path, after `stripPrefix` was removed.
    public var rewritePrefix: String?
    /// Fields that the upstream gets, and that replace what the client sent under the same name.
    public var injectedFields: [InjectedField] = []
    /// How long the upstream may take where this route differs.
    public var upstreamTimeouts = UpstreamTimeouts()
    /// What the challenge and the discovery documents say is sold.
    public var description: String?
    /// Whether a charge is bound to the request content's digest.
    public var digest = false
    /// Most octets of content that are buffered for the digest: 413 beyond.
    public var digestLimit = 1 << 20
    /// Whether challenges ask for the credential in `Payment-Authorization`.
    public var paymentAuthorization = false
    /// The upstream's statuses that cost something.
    public var chargeStatus = StatusSet.successful
    /// When exchanges that are sold by the request are paid for, and what of them goes back.
    public var settlement = Settlement()
    /// After which time without use a session is closed and refunded.
    public var idleTimeout = Duration.seconds(600)
    /// How long a stream that ran dry waits for a top-up.
    public var holdTimeout = Duration.seconds(60)
    /// Least deposit of a session, in base units.
    public var minimumDeposit: UInt128 = 0
    /// The deposit that a challenge suggests, in base units.
    public var suggestedDeposit: UInt128 = 0
    /// How often the route may be asked, by all clients together; nil: without limit.
    public var rate: RateLimit?
    /// Most octets of a request's content: 413 beyond it; nil: what `Settings.Limits.bodyBytes` says, 0: no limit.
    public var bodyLimit: UInt64?
    /// Whether clients of gRPC are told errors, and that they have to pay, in its own words: `grpc-status` beside a 200.
    public var tellsGRPC = false
    /// Fields that the upstream gets in every request, in place of the client's of the same name.
    public var addedRequestFields: [AddedField] = []
    /// Names of fields that the upstream never gets.
    public var removedRequestFields: [String] = []
    /// Fields that clients get in every response of the upstream's, in place of its own of the same name.
    public var addedResponseFields: [AddedField] = []
    /// Names of fields that clients never get from the upstream.
    public var removedResponseFields: [String] = []
    /// The protocols that a connection may be switched to, as `Upgrade` names them, in lower case; a request for another is
    /// forwarded without the field.
    public var upgrades: [String] = []
    /// Whether a request that does not switch is refused with 426.
    public var requiresUpgrade = false
    /// What is free, for each wallet and each address.
    public var freeUnits: [Settings.FreeUnits] = []
    /// Lower prices for wallets that ask for much, in rising order; all of one period.
    public var tiers: [Settings.Tier] = []
    /// How the usage of exchanges is learned where the price counts it.
    public var usage = UsageReading()
    /// Most exchanges of one session at once.
    public var maxInFlight = 256

    /// Makes a free route.
    public init(id: String, pattern: RoutePattern, upstream: Int = 0) {
      self.id = id
      self.pattern = pattern
      self.upstream = upstream
    }

    /// Makes a free route for every host and method.
    public init(id: String, path: RoutePath, upstream: Int = 0) {
      self.init(id: id, pattern: RoutePattern(path: path), upstream: upstream)
    }

    /// Hosts in lower case, without port; none means any.
    public var hosts: [String] {
      get { pattern.hosts }
      set { pattern.hosts = newValue }
    }

    /// The paths that match, in canonical form.
    public var path: RoutePath {
      get { pattern.path }
      set { pattern.path = newValue }
    }

    /// The methods that match, HEAD included where GET is.
    public var methods: MethodSet {
      get { pattern.methods }
      set { pattern.methods = newValue }
    }

    /// The price; nil where the route is free.
    public var price: Price? {
      switch offer {
      case .free: nil
      case .priced(let price): price
      }
    }
  }

  /// The paths of a route: one, all with a prefix, or all of a `{segment}` form.
  public typealias RoutePath = PathPattern

  /// What a request costs.
  public enum RouteOffer: Sendable, Hashable {
    /// Nothing.
    case free
    /// A price, by request or by octet.
    case priced(Price)
  }

  /// How a route may be paid.
  public struct Intents: OptionSet, Sendable, Hashable {
    /// One bit an intent.
    public let rawValue: UInt8

    /// Makes a set of bits.
    public init(rawValue: UInt8) {
      self.rawValue = rawValue
    }

    /// One payment for one request.
    public static let charge = Intents(rawValue: 1)
    /// A budget for many requests.
    public static let session = Intents(rawValue: 2)
  }

  /// A field that the upstream gets in every request.
  public struct InjectedField: Sendable {
    /// The field's name as it is sent.
    public var name: String
    /// Its value; a secret, wherever it came from.
    public var value: SecretValue

    /// Makes a field.
    public init(name: String, value: SecretValue) {
      self.name = name
      self.value = value
    }
  }

  /// A set of status codes.
  public struct StatusSet: Sendable, Hashable {
    /// The ranges, in no order.
    public var ranges: [ClosedRange<UInt16>]

    /// Makes a set.
    public init(_ ranges: [ClosedRange<UInt16>]) {
      self.ranges = ranges
    }

    /// 200 to 299.
    public static let successful = StatusSet([200...299])

    /// Tells whether `status` is one of the set.
    public func contains(_ status: UInt16) -> Bool {
      for range in ranges where range.contains(status) { return true }
      return false
    }
  }
}

/// Octets that never appear in what is printed: only `bytes` gives them away.
public struct SecretValue: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  /// The secret itself.
  public let bytes: [UInt8]

  /// Keeps a secret.
  public init(_ bytes: [UInt8]) {
    self.bytes = bytes
  }

  /// Says that there is a secret, and nothing of it.
  public var description: String { "<secret>" }
  /// The same.
  public var debugDescription: String { "<secret>" }
  /// Shows no children.
  public var customMirror: Mirror { Mirror(self, children: []) }
}
