public import Crypto
public import Payments

/// How a ledger is opened.
public struct LedgerOptions: Sendable {
  /// The folder of `ledger.db`, `ledger.lock` and `ledger.reserve`; made with mode 0700 where it is missing.
  public var directory: String
  public var currencies: [Currency]
  /// Codes of accounts beside those of the currencies, as `usdc@eip155:8453` for what was received on a chain: they never mix with prepaid money.
  public var accounts: [String] = []
  /// Names the log in checkpoints: `<realm>/audit`.
  public var realm: String
  /// The audit log's file; `audit.jsonl` in the folder by default.
  public var auditPath: String
  /// The file is renamed when it has grown past this; 0 for never.
  public var rotateOctets: UInt64 = 1 << 30
  /// Renamed files go when their last line is older than this; nil keeps them for ever.
  public var auditRetention: Duration?
  /// Settled charges are forgotten, and cannot be refunded any more, when they are older than this; nil keeps the last 2^28 entries'.
  public var chargeRetention: Duration?
  public var checkpointKey: Ed25519.SigningKey
  /// A checkpoint follows after this many lines …
  public var checkpointLines: UInt64 = 256
  /// … or after this time, where there are any.
  public var checkpointInterval: Duration = .seconds(1)
  /// The longest that an entry waits for others; 0 commits at once.
  public var commitDelay: Duration = .milliseconds(1)
  /// Disk space kept back for closes and refunds.
  public var reserveOctets = 8 << 20
  /// Whether opening and closing write their lines; the operators' commands on a ledger that nobody serves leave them out.
  public var recordsLifecycle = true
  /// Whether the committer closes idle sessions and forgets expired records by itself, each second; otherwise `sweep` is the caller's.
  public var sweeps = false
  /// Called on the committer's thread with each checkpoint's signed note, once it is durable: for keeping it elsewhere.
  public var ship: (@Sendable (String) -> Void)?
  /// Called on any thread with what operators should read.
  public var notify: (@Sendable (LedgerNotice) -> Void)?

  public init(directory: String, currencies: [Currency], realm: String, checkpointKey: Ed25519.SigningKey, auditPath: String? = nil) {
    self.directory = directory
    self.currencies = currencies
    self.realm = realm
    self.checkpointKey = checkpointKey
    self.auditPath = auditPath ?? "\(directory)/audit.jsonl"
  }

  var origin: String { "\(realm)/audit" }
}

/// What operators should read in the operational log.
public enum LedgerNotice: Sendable, Equatable {
  /// A commit failed; paid routes stop until the ledger has been read back.
  case commitFailed(LedgerError)
  case reopenFailed(LedgerError)
  /// The ledger was read back and sells again, or closes only.
  case reopened(Availability)
  /// The disk is nearly full (`closingOnly`), or has room again (`selling`).
  case availability(Availability)
  /// Lines could not be written to the audit file; they are kept in the ledger and written later.
  case auditBehind(LedgerError)
  case auditCaughtUp
  /// Files of the audit log were removed because of their age: how many, and the last line that is gone.
  case auditRemoved(files: Int, last: UInt64)
  /// A restoration that a crash had cut off was carried through.
  case restorationFinished
  /// Moving or checkpointing the store failed; it is tried again.
  case maintenanceFailed(LedgerError)
}
