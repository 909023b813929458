public import Bytes
public import Encoding

/// A signed transaction that is on its way to a chain, kept until the chain has taken it or its nonce is used by another.
public struct OutgoingTransaction: Sendable, Hashable {
  /// The chain's number.
  public var chain: UInt64
  /// The address that signed it, 20 octets.
  public var sender: [UInt8]
  public var nonce: UInt64
  /// The payment or channel that it is for.
  public var purpose: Digest32
  /// The newest version's hash.
  public var hash: Digest32
  /// The signed transaction's octets, at most `LedgerLimit.transactionOctets`.
  public var raw: [UInt8]
  public var createdAt: Timestamp
  /// Hashes of earlier versions with the same nonce, oldest first, at most `LedgerLimit.replacements`: any of them may land.
  public var replaced: [Digest32]

  public init(
    chain: UInt64, sender: [UInt8], nonce: UInt64, purpose: Digest32, hash: Digest32, raw: [UInt8], createdAt: Timestamp,
    replaced: [Digest32] = []
  ) {
    self.chain = chain
    self.sender = sender
    self.nonce = nonce
    self.purpose = purpose
    self.hash = hash
    self.raw = raw
    self.createdAt = createdAt
    self.replaced = replaced
  }
}

/// What one address has sent on one chain.
public struct ChainSenderView: Sendable, Hashable {
  public let chain: UInt64
  /// 20 octets.
  public let sender: [UInt8]
  /// The nonce that the next transaction has to bear; nil until one was adopted.
  public let nextNonce: UInt64?
  /// How many transactions are on their way.
  public let outgoing: Int
  /// What transactions have cost, in the chain's own base units (wei).
  public let gas: UInt128
  public let succeeded: UInt64
  public let failed: UInt64
}

/// Names an address on a chain.
struct ChainSenderKey: Hashable {
  var chain: UInt64
  var address: [UInt8]

  /// The octets of an address.
  static var addressCount: Int { 20 }
}

/// What the ledger keeps of an address that sends.
struct ChainSender {
  /// One above the highest nonce that was given out; nil until a first one was adopted.
  var next: UInt64?
  /// Nonces below that whose transactions were taken back before anybody saw them, ascending.
  var freed: [UInt64] = []
  var waiting: [UInt64: OutgoingTransaction] = [:]
  var gas: UInt128 = 0
  var succeeded: UInt64 = 0
  var failed: UInt64 = 0

  /// The nonce that comes next.
  var nextNonce: UInt64? { freed.first ?? next }

  /// Takes the next nonce.
  mutating func take(_ nonce: UInt64) {
    if freed.first == nonce {
      freed.removeFirst()
    } else {
      next = nonce &+ 1
    }
  }

  /// Gives back the nonce of a transaction that nobody saw.
  mutating func giveBack(_ nonce: UInt64) {
    freed.insert(nonce, at: freed.firstIndex { $0 > nonce } ?? freed.count)
    // Nothing above the last of them is in use, so there is no gap to fill.
    while let last = freed.last, last &+ 1 == next {
      freed.removeLast()
      next = last
    }
  }
}
