public import Bytes
import Encoding
public import HTTP

/// The events of the audit log. The raw value is the store's; the name is the line's.
public enum AuditEventKind: UInt8, Sendable, CaseIterable {
  case start = 1, stop, configurationLoaded, challenges, keysRotated, ledgerRestored, auditRemoved
  case chargeSettled = 10, chargeVoided, paymentRefused
  case sessionOpened = 20, sessionDebited, sessionReturned, sessionToppedUp, sessionClosed, sessionConfirmed
  case walletCreated = 30, walletFunded, walletDefunded, walletPolicy, walletFrozen, walletThawed, walletRekeyed
  case merchantPayout = 40, refund
  case checkpoint = 50
  case paymentClaimed = 51, paymentSubmitted, paymentSettled, paymentFailed, paymentWrittenOff, chainTransaction
  case channelOpened = 60, channelDebited, channelReturned, channelToppedUp, channelSettled, channelClosed, channelSuspended, channelResumed

  /// The member `event` of a line.
  public var name: String {
    switch self {
    case .start: "start"
    case .stop: "stop"
    case .configurationLoaded: "configuration.loaded"
    case .challenges: "challenges"
    case .keysRotated: "keys.rotated"
    case .ledgerRestored: "ledger.restored"
    case .auditRemoved: "audit.removed"
    case .chargeSettled: "charge.settled"
    case .chargeVoided: "charge.voided"
    case .paymentRefused: "payment.refused"
    case .sessionOpened: "session.opened"
    case .sessionDebited: "session.debited"
    case .sessionReturned: "session.returned"
    case .sessionToppedUp: "session.toppedup"
    case .sessionClosed: "session.closed"
    case .sessionConfirmed: "session.confirmed"
    case .walletCreated: "wallet.created"
    case .walletFunded: "wallet.funded"
    case .walletDefunded: "wallet.defunded"
    case .walletPolicy: "wallet.policy"
    case .walletFrozen: "wallet.frozen"
    case .walletThawed: "wallet.thawed"
    case .walletRekeyed: "wallet.rekeyed"
    case .merchantPayout: "merchant.payout"
    case .refund: "refund"
    case .checkpoint: "checkpoint"
    case .paymentClaimed: "payment.claimed"
    case .paymentSubmitted: "payment.submitted"
    case .paymentSettled: "payment.settled"
    case .paymentFailed: "payment.failed"
    case .paymentWrittenOff: "payment.writtenoff"
    case .chainTransaction: "chain.transaction"
    case .channelOpened: "channel.opened"
    case .channelDebited: "channel.debited"
    case .channelReturned: "channel.returned"
    case .channelToppedUp: "channel.toppedup"
    case .channelSettled: "channel.settled"
    case .channelClosed: "channel.closed"
    case .channelSuspended: "channel.suspended"
    case .channelResumed: "channel.resumed"
    }
  }

  private static let named = Dictionary(uniqueKeysWithValues: allCases.map { ($0.name, $0) })

  /// Finds an event by the octets of its name.
  init?(named octets: some Collection<UInt8>) {
    guard let kind = Self.named[String(decoding: octets, as: UTF8.self)] else { return nil }
    self = kind
  }

  /// Whether its amounts are counted in a checkpoint's totals.
  var movesMoney: Bool {
    switch self {
    case .chargeSettled, .sessionOpened, .sessionDebited, .sessionReturned, .sessionToppedUp, .sessionClosed, .walletFunded, .walletDefunded,
      .merchantPayout, .refund, .paymentSettled, .paymentWrittenOff, .channelDebited, .channelReturned, .channelSettled, .channelClosed:
      true
    case .start, .stop, .configurationLoaded, .challenges, .keysRotated, .ledgerRestored, .auditRemoved, .sessionConfirmed, .chargeVoided, .paymentRefused, .walletCreated, .walletPolicy,
      .walletFrozen, .walletThawed, .walletRekeyed, .checkpoint, .paymentClaimed, .paymentSubmitted, .paymentFailed, .chainTransaction,
      .channelOpened, .channelToppedUp, .channelSuspended, .channelResumed:
      false
    }
  }

  /// Whether a line of it says what moved between a channel's session and its merchant, beside its amount.
  var saysEarned: Bool {
    switch self {
    case .channelDebited, .channelReturned, .channelSettled, .channelClosed: true
    case .start, .stop, .configurationLoaded, .challenges, .keysRotated, .ledgerRestored, .auditRemoved, .sessionConfirmed, .chargeSettled, .chargeVoided,
      .paymentRefused, .sessionOpened, .sessionDebited, .sessionReturned, .sessionToppedUp, .sessionClosed, .walletCreated, .walletFunded, .walletDefunded, .walletPolicy,
      .walletFrozen, .walletThawed, .walletRekeyed, .merchantPayout, .refund, .checkpoint, .paymentClaimed, .paymentSubmitted, .paymentSettled,
      .paymentFailed, .paymentWrittenOff, .chainTransaction, .channelOpened, .channelToppedUp, .channelSuspended, .channelResumed:
      false
    }
  }
}

/// What the committer needs to write one audit line: trivial, and names by index, so that a debit allocates nothing.
struct Entry {
  /// No wallet, session or merchant.
  static var nothing: UInt32 { .max }

  var kind: AuditEventKind
  var currency: UInt8 = .max
  var route = RouteLabel.none
  var session = Entry.nothing
  var wallet = Entry.nothing
  var merchant = Entry.nothing
  /// One more than the index of its words in the batch; 0 for none.
  var words: UInt32 = 0
  var time: Timestamp
  var client = ClientAddress.none
  var amount: UInt128 = 0
  var spent: UInt128 = 0
  /// A channel's budget, and what moved between its session and its merchant.
  var accepted: UInt128 = 0
  var earned: UInt128 = 0
  var units: UInt64 = 0
  var reference: LSN = 0

  init(_ kind: AuditEventKind, at time: Timestamp) {
    self.kind = kind
    self.time = time
  }
}

/// The rarer members of a line.
struct EntryWords {
  var cause: String?
  var reference: String?
  /// Text for a wallet or session that the ledger does not hold.
  var wallet: String?
  var session: String?
  var recipient: String?
  var amount: UInt128?
  var currency: String?
  var count: UInt64?
  var chain: ChainWords?
}

/// A constant piece of lines that the committer keeps by index.
enum Fragment {
  case session(UInt32, id: Digest32)
  /// The payer of the channel in a session's place.
  case payer(UInt32, String)
  case wallet(UInt32, key: Digest32)
  case merchant(UInt32, name: String)
  case currency(UInt8, code: String)
}

/// An event that the proxy records: what it saw, not what the ledger did.
public struct AuditEvent: Sendable {
  /// What may be recorded from outside.
  public enum Kind: Sendable {
    case start, stop, configurationLoaded, challenges, keysRotated, paymentRefused

    var kind: AuditEventKind {
      switch self {
      case .start: .start
      case .stop: .stop
      case .configurationLoaded: .configurationLoaded
      case .challenges: .challenges
      case .keysRotated: .keysRotated
      case .paymentRefused: .paymentRefused
      }
    }
  }

  public var kind: Kind
  public var route = RouteLabel.none
  public var client = ClientAddress.none
  /// The wallet's key.
  public var wallet: Digest32?
  public var session: Digest32?
  public var amount: UInt128?
  public var currency: String?
  public var recipient: String?
  /// A short word or number: why, which version, which digest. Never a credential.
  public var cause: String?
  /// How many, for counters.
  public var count: UInt64?

  public init(_ kind: Kind) {
    self.kind = kind
  }
}
