public import Bytes

/// An idempotency key within its scope, and the digest of the request that it came with.
public struct OutcomeKey: Sendable, Hashable {
  /// Digest of payer, route, method, path and query, and the key itself.
  public var key: Digest32
  /// Digest of the request's content.
  public var request: Digest32

  public init(key: Digest32, request: Digest32) {
    self.key = key
    self.request = request
  }
}

/// A settled answer, kept for 24 hours.
public struct StoredOutcome: Sendable, Hashable {
  public var status: UInt16
  /// The answer's fields as CRLF-terminated lines.
  public var head: [UInt8]
  /// The content; nil when it was too long to keep.
  public var body: [UInt8]?
  /// The receipt's octets.
  public var receipt: [UInt8]

  public init(status: UInt16, head: [UInt8], body: [UInt8]?, receipt: [UInt8]) {
    self.status = status
    self.head = head
    self.body = body
    self.receipt = receipt
  }

  /// What it takes up in memory, about.
  var octetCount: Int { head.count + (body?.count ?? 0) + receipt.count }
}

/// What is known of an idempotency key.
public enum OutcomeState: Sendable, Equatable {
  case inFlight
  /// The key came with another request before.
  case mismatch
  case stored(StoredOutcome)
}

/// What the ledger keeps of a key.
struct OutcomeRecord {
  var request: Digest32
  /// nil while in flight.
  var outcome: StoredOutcome?
}
