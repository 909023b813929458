import Bytes
import Crypto
import Encoding
import Ethereum

/// A payment on a chain that passed every check that needs no network.
public struct ChainCharge: Sendable, Hashable {
  /// Names what may be used once: the payer's nonce at a contract, or a transaction; the same for every dialect.
  public var id: Digest32
  /// Who pays: recovered from the signature, or claimed where ``signatureCheck`` is another; zero where nobody is claimed.
  public var payer: Address
  /// The total, in base units of the token.
  public var amount: UInt128
  /// The instant after which it cannot settle, or, for transactions, is no longer taken.
  public var expires: Timestamp
  /// How the money moves.
  public var means: SettlementMeans
  /// What the receipt's logs must show, in any order, each by a log of its own.
  public var transfers: [ExpectedTransfer]
  /// What is known of the payer's signature.
  public var signatureCheck: SignatureCheck
  /// A block older than this holds a payment for something else; nil where the signature binds the challenge.
  public var notBefore: Timestamp?

  /// Takes the members.
  public init(
    id: Digest32, payer: Address, amount: UInt128, expires: Timestamp, means: SettlementMeans, transfers: [ExpectedTransfer],
    signatureCheck: SignatureCheck, notBefore: Timestamp? = nil
  ) {
    self.id = id
    self.payer = payer
    self.amount = amount
    self.expires = expires
    self.means = means
    self.transfers = transfers
    self.signatureCheck = signatureCheck
    self.notBefore = notBefore
  }
}

/// How the money of a charge moves.
public enum SettlementMeans: Sendable, Hashable {
  /// We make the transaction, which calls a contract, and pay for it.
  case call(to: Address, data: [UInt8])
  /// The payer's own transaction, to be broadcast.
  case transaction(raw: [UInt8], hash: Digest32)
  /// A transaction that the payer has broadcast himself; ``ChainCharge/isPayment(sender:to:data:at:)`` says whether it is one.
  case hash(Digest32)
  /// Nothing moves: a proof for a charge of nothing.
  case none
}

/// What is known of the signature that a charge stands on.
public enum SignatureCheck: Sendable, Hashable {
  /// The payer's own key made it.
  case recovered
  /// No key gives the payer; a contract at his address may take it (ERC-1271), which a simulation tells.
  case byContract
  /// There is none to look at: the chain tells who paid.
  case none
}

/// A transfer that a receipt's logs must show.
public struct ExpectedTransfer: Sendable, Hashable {
  /// The contract whose log it is.
  public var token: Address
  /// Whose money moves; nil where anybody's does.
  public var from: Address?
  /// Who receives it.
  public var to: Address
  /// Base units.
  public var amount: UInt128
  /// What its memo must be (TIP-20).
  public var memo: ExpectedMemo

  /// Takes the members.
  public init(token: Address, from: Address?, to: Address, amount: UInt128, memo: ExpectedMemo = .any) {
    self.token = token
    self.from = from
    self.to = to
    self.amount = amount
    self.memo = memo
  }
}

/// What the memo of a transfer must be (TIP-20).
public enum ExpectedMemo: Sendable, Hashable {
  /// It may have any memo or none.
  case any
  /// It must have this one.
  case exact(Digest32)
  /// It must have one that attributes it to a challenge.
  case attributed(Attribution)

  /// Whether a transfer's memo will do; nil for a transfer without one.
  public func isMet(by memo: Digest32?) -> Bool {
    switch self {
    case .any: true
    case .exact(let expected): memo == expected
    case .attributed(let attribution): memo.map { attribution.isMade(in: $0) } ?? false
    }
  }
}

extension UInt128 {
  /// What parts leave of a whole; nil where that is nothing.
  func remainder(after parts: [UInt128]) -> UInt128? {
    var rest = self
    for part in parts {
      let (difference, isBelow) = rest.subtractingReportingOverflow(part)
      guard !isBelow else { return nil }
      rest = difference
    }
    return rest > 0 ? rest : nil
  }
}

extension ChainCharge {
  /// Names a nonce that a payer uses at a contract: the token for EIP-3009, Permit2 for its permits.
  public static func id(chain: UInt64, contract: Address, payer: Address, nonce: Digest32) -> Digest32 {
    var hash = identifier(kind: 1, chain: chain)
    contract.withUnsafeBytes { hash.update($0) }
    payer.withUnsafeBytes { hash.update($0) }
    hash.update(nonce)
    return hash.finalize()
  }

  /// Names a transaction, whoever brings it, signed or as its hash.
  public static func id(chain: UInt64, transaction: Digest32) -> Digest32 {
    var hash = identifier(kind: 2, chain: chain)
    hash.update(transaction)
    return hash.finalize()
  }

  /// Names the proof of a challenge's charge of nothing.
  static func id(chain: UInt64, payer: Address, proofOf challenge: Digest32) -> Digest32 {
    var hash = identifier(kind: 3, chain: chain)
    payer.withUnsafeBytes { hash.update($0) }
    hash.update(challenge)
    return hash.finalize()
  }

  private static func identifier(kind: UInt8, chain: UInt64) -> SHA256 {
    var hash = SHA256()
    hash.update("evm")
    hash.update(byte: kind)
    withUnsafeBytes(of: chain.bigEndian) { hash.update($0) }
    return hash
  }
}
