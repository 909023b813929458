public import Bytes
public import Encoding
public import HTTP
public import Metering

/// Names an open or closing session. Stale handles are recognised: by their generation, and by the ledger's epoch.
public struct SessionHandle: Sendable, Hashable {
  let index: UInt32
  let generation: UInt32
  let epoch: UInt32
}

/// The terms of one route, as recorded at open or by an authentic bearer credential.
public struct RouteTerms: Sendable, Hashable {
  public var routeID: String
  public var priceVersion: String
  public var price: Price

  /// Is set in a record's number of parts where a price's minimum and maximum follow them.
  static let boundedMark: UInt32 = 1 << 31

  public init(routeID: String, priceVersion: String, price: Price) {
    self.routeID = routeID
    self.priceVersion = priceVersion
    self.price = price
  }
}

/// What a session was opened for.
public struct SessionTerms: Sendable, Hashable {
  public var realm: String
  public var currency: String
  public var merchant: String
  public var routes: [RouteTerms]

  public init(realm: String, currency: String, merchant: String, routes: [RouteTerms]) {
    self.realm = realm
    self.currency = currency
    self.merchant = merchant
    self.routes = routes
  }
}

/// What an open asks for.
public struct SessionOrder: Sendable {
  public var challengeID: Digest32
  public var sessionID: Digest32
  /// The wallet's key.
  public var wallet: Digest32
  /// Base units, at least 1.
  public var deposit: UInt128
  public var terms: SessionTerms
  /// Closed after this long with nothing in flight.
  public var idleTimeout: Duration
  /// The most exchanges in flight at once.
  public var maximumInFlight: UInt32
  /// When the challenge expires.
  public var expires: Timestamp
  public var route: RouteLabel
  public var client: ClientAddress

  public init(
    challengeID: Digest32, sessionID: Digest32, wallet: Digest32, deposit: UInt128, terms: SessionTerms, idleTimeout: Duration,
    maximumInFlight: UInt32 = 64, expires: Timestamp, route: RouteLabel = .none, client: ClientAddress = .none
  ) {
    self.challengeID = challengeID
    self.sessionID = sessionID
    self.wallet = wallet
    self.deposit = deposit
    self.terms = terms
    self.idleTimeout = idleTimeout
    self.maximumInFlight = maximumInFlight
    self.expires = expires
    self.route = route
    self.client = client
  }
}

/// What a top-up asks for.
public struct TopUpOrder: Sendable {
  public var challengeID: Digest32
  /// Digest of the credential, so that the same one is recognised.
  public var credential: Digest32
  public var sessionID: Digest32
  public var wallet: Digest32
  /// Base units, at least 1.
  public var amount: UInt128
  public var currency: String
  public var merchant: String
  public var expires: Timestamp
  public var client: ClientAddress

  public init(
    challengeID: Digest32, credential: Digest32, sessionID: Digest32, wallet: Digest32, amount: UInt128, currency: String,
    merchant: String, expires: Timestamp, client: ClientAddress = .none
  ) {
    self.challengeID = challengeID
    self.credential = credential
    self.sessionID = sessionID
    self.wallet = wallet
    self.amount = amount
    self.currency = currency
    self.merchant = merchant
    self.expires = expires
    self.client = client
  }
}

/// What a debit is for.
public struct DebitContext: Sendable {
  public var route: RouteLabel
  public var client: ClientAddress
  /// Whether the debit's line is written when it begins (a request at a fixed price) or when it ends (a stream).
  public var writesLine: Bool
  /// Units that the line names.
  public var units: UInt64

  @inlinable
  public init(route: RouteLabel, client: ClientAddress = .none, writesLine: Bool, units: UInt64 = 1) {
    self.route = route
    self.client = client
    self.writesLine = writesLine
    self.units = units
  }
}

/// Why a session is closed.
public enum CloseCause: UInt8, Sendable, CaseIterable {
  case payer, idle, frozen, rekeyed, operated, restart
  /// A channel's payer asked the chain to close it; its opening vanished from the chain.
  case forced, reorganised

  var name: String {
    switch self {
    case .payer: "payer"
    case .idle: "idle"
    case .frozen: "frozen"
    case .rekeyed: "rekeyed"
    case .operated: "operator"
    case .restart: "restart"
    case .forced: "forced"
    case .reorganised: "reorganised"
    }
  }
}

/// The states of a session's slot.
enum SessionPhase: UInt8 {
  /// No session stands here.
  case vacant
  case open
  /// No new debit; closed when nothing is in flight.
  case closing
  /// A channel whose opening vanished from the chain: no new debit until it is back.
  case suspended
  /// Read from a backup, so that what was spent afterwards is not known: no new debit until an operator confirms it.
  case unconfirmed
}

/// The part of a session that every debit touches: trivial, so that a debit copies and frees nothing.
struct SessionBalance {
  var number: UInt64 = 0
  var generation: UInt32 = 0
  var phase: SessionPhase = .vacant
  var isDirty = false
  /// A channel that the chain is about to take away, or has: no new exchange, and no more budget.
  var isEnding = false
  /// A stream has waited for budget since the last was added.
  var hasWaiting = false
  var currency: UInt8 = 0
  var inFlight: UInt32 = 0
  var maximumInFlight: UInt32 = 0
  /// The place of its wallet; none for a channel.
  var wallet: UInt32 = 0
  /// The place of its channel; none for a wallet's session.
  var channel: UInt32 = .max
  var merchant: UInt32 = 0
  /// The budget: what was moved in from the wallet, or what the channel's last voucher amounts to.
  var deposit: UInt128 = 0
  /// What has arrived for a channel, all in all: settled on its chain and booked.
  var arrived: UInt128 = 0
  /// What audit lines say.
  var settled = ExactCost.zero
  /// `settled` and what exchanges in flight have debited ahead.
  var total = ExactCost.zero
  /// What exchanges in flight may come to cost beside that, and nobody else may spend. It is not stored: a restart frees it.
  var held = ExactCost.zero
  var units: UInt64 = 0
  var lastUse = Instant(nanoseconds: 0)
  var idleMicroseconds: Int64 = 0
  /// What a waiting stream needs, in base units; 0 when none waits.
  var required: UInt128 = 0
  /// The last day on which something was deposited, and how much of it: what a refund gives back to that day's cap.
  var depositDay: Int32 = 0
  var depositOfDay: UInt128 = 0
}

extension SessionBalance {
  /// Whether a channel is its budget's source.
  var isChannel: Bool { channel != .max }

  /// The part of what has arrived for a channel that is the merchant's when so much is spent; the rest is the session's.
  func earned(spent: UInt128) -> UInt128 { min(arrived, spent) }

  /// What is debited or held: all that a new debit finds gone. Never above the deposit, so the sum fits.
  var committed: ExactCost { held == .zero ? total : total.adding(held) ?? ExactCost(whole: deposit) }
}

/// What a receipt says about a session or the ledger at the moment that it is made for.
public struct ReceiptFacts: Sendable, Hashable {
  public var deposit: UInt128 = 0
  public var spent: UInt128 = 0
  public var remaining: UInt128 = 0
  public var refunded: UInt128 = 0
  public var units: UInt64 = 0
  public var time: Timestamp
  /// The audit log's last checkpoint.
  public var logSize: UInt64 = 0
  public var logRoot: Digest32

  public init(time: Timestamp, logSize: UInt64, logRoot: Digest32) {
    self.time = time
    self.logSize = logSize
    self.logRoot = logRoot
  }
}

/// The states that a session's payer can see.
public enum SessionState: String, Sendable {
  case open, closing, closed
  /// A channel's opening vanished from the chain, or the session was read from a backup and waits for an operator's confirmation.
  case suspended
}

/// A copy of a session's account.
public struct SessionView: Sendable, Hashable {
  public let id: Digest32
  public let state: SessionState
  /// The wallet's key; zeros for a channel, which has a payer instead.
  public let wallet: Digest32
  /// The address of a channel's payer.
  public let payer: String?
  public let terms: SessionTerms
  /// All amounts are base units.
  public let deposit: UInt128
  /// ceil(settled + ahead).
  public let spent: UInt128
  /// The part of `spent` that exchanges in flight have debited ahead.
  public let held: UInt128
  public let remaining: UInt128
  /// What a waiting stream needs added; 0 when none waits.
  public let required: UInt128
  public let units: UInt64
  public let inFlight: UInt32
  /// The challenge that it was opened by.
  public let challengeID: Digest32
}

/// What became of a close.
public enum CloseResult: Sendable, Equatable {
  case pending
  case closed(ClosedSession)
}

/// What is kept of a closed session for 24 hours.
public struct ClosedSession: Sendable, Equatable {
  /// Zeros for a channel.
  public var wallet: Digest32
  public var currency: String
  public var merchant: String
  public var deposit: UInt128
  public var spent: UInt128
  public var refunded: UInt128
  public var units: UInt64
  public var cause: CloseCause
  public var time: Timestamp
  /// Durable before the answer leaves.
  public var lsn: LSN
  /// The claim of the credential that closed it, and its answer; nil after a restart in between, and when operators or time closed it.
  public var claim: Digest32?
  public var answer: [UInt8]?
  var claims: [Digest32]
  /// The answer is being made.
  var isPending = false
  /// What the chain did, where it was a channel.
  public var channel: ClosedChannel?

  /// Is set in a record's cause where a channel follows.
  static let channelMark: UInt8 = 1 << 7
}
