public import Bytes
public import Encoding
public import HTTP

/// What of a payment goes to somebody else than the merchant, and stands in no account here.
public struct ChainSplit: Sendable, Hashable {
  /// The address, `0x` and lower case.
  public var recipient: String
  /// Base units.
  public var amount: UInt128

  public init(recipient: String, amount: UInt128) {
    self.recipient = recipient
    self.amount = amount
  }

  /// The most that one payment has.
  static var limit: Int { 10 }
}

/// What claiming a payment on a chain asks for.
public struct ChainPaymentOrder: Sendable {
  /// Names the thing that may be used once: an authorization, a nonce, a signed transaction, a transaction's hash.
  public var id: Digest32
  /// Digest of the request that it pays for.
  public var request: Digest32
  /// The payer's address as audit lines show it, `0x` and lower case.
  public var payer: String
  /// Whom it pays on the chain, as receipts name him.
  public var recipient: String
  /// Digest of what the payer has presented: who brings anything else under this id is not the payer.
  public var presented: Digest32
  /// What its payer calls it, together with who he is: of all that he calls so, one is taken. nil: nothing.
  public var name: Digest32?
  /// Base units: the merchant's part.
  public var amount: UInt128
  /// What goes to others besides.
  public var splits: [ChainSplit]
  /// The account's code, as `usdc@eip155:8453`.
  public var currency: String
  /// The merchant account to credit.
  public var merchant: String
  public var route: RouteLabel
  public var client: ClientAddress
  /// The authorization cannot settle after this instant. The payment is kept for a day longer at least, so that nothing is used twice: where
  /// a transaction's hash is the payment, this is how long so old a transaction is taken.
  public var expires: Timestamp
  /// The challenge that is paid, where there is one; claimed with the payment.
  public var challengeID: Digest32?
  /// What going on after a restart needs, opaque to the ledger; at most `LedgerLimit.proofOctets`. Dropped once the money has arrived, but for
  /// what opened a channel.
  public var proof: [UInt8]
  /// The channel that it opens or tops up, where it is no payment for a request: nothing is expected to arrive by it, nor issued.
  public var deposit: EscrowDeposit?
  /// Of a promise: whether its answer is withheld until it has settled, so that one that cannot is forgotten and not lost.
  public var isWithheld = false

  public init(
    id: Digest32, request: Digest32, payer: String, recipient: String = "", presented: Digest32 = Digest32(), name: Digest32? = nil, amount: UInt128,
    splits: [ChainSplit] = [], currency: String, merchant: String, route: RouteLabel = .none, client: ClientAddress = .none, expires: Timestamp, challengeID: Digest32? = nil, proof: [UInt8] = [],
    deposit: EscrowDeposit? = nil
  ) {
    self.id = id
    self.request = request
    self.payer = payer
    self.recipient = recipient
    self.presented = presented
    self.name = name
    self.amount = amount
    self.splits = splits
    self.currency = currency
    self.merchant = merchant
    self.route = route
    self.client = client
    self.expires = expires
    self.challengeID = challengeID
    self.proof = proof
    self.deposit = deposit
  }
}

/// How far a payment on a chain has come. Raw values are the file format.
public enum ChainPaymentState: UInt8, Sendable, Equatable, CaseIterable {
  /// Nothing was sent out; a restart frees it.
  case claimed = 1
  /// It may settle at any time; only the chain can tell.
  case submitted
  /// The money has arrived, and nothing was served for it yet.
  case settled
  /// A request that it pays for has not ended.
  case serving
  /// It is used up.
  case served
  /// An operator gave it to the merchant, though nothing was served for it.
  case writtenOff
}

/// A payment on a chain as those who move it, and operators, see it.
public struct ChainPaymentView: Sendable, Equatable {
  public let id: Digest32
  public let request: Digest32
  public let state: ChainPaymentState
  public let payer: String
  public let recipient: String
  /// Digest of what the payer has presented.
  public let presented: Digest32
  /// Base units: the merchant's part.
  public let amount: UInt128
  /// What goes to others besides.
  public internal(set) var splits: [ChainSplit] = []
  public let currency: String
  public let merchant: String
  /// Who brought it, or was served for it.
  public let client: ClientAddress
  public let expires: Timestamp
  public let challengeID: Digest32?
  /// The transaction that moves or has moved the money, so far as it is known.
  public let transaction: Digest32?
  /// Empty once the money has arrived.
  public let proof: [UInt8]
  /// What it is a deposit for, until that is booked.
  public let deposit: EscrowDeposit?
  /// The channel that it was, or is to be, deposited for.
  public let channel: Digest32?
  /// The number of the claim's entry: what receipts and audit lines call the payment.
  public let reference: LSN
  /// Since when it is in its state.
  public let since: Timestamp
  /// The entry that made it what it is; 0 for one that was read back. Wait for it before anything follows from this.
  public let changed: LSN
}

/// Which payments a list is to have.
public enum ChainPaymentSelection: Sendable {
  /// All that are kept, the newest first.
  case all
  /// Those that have neither settled nor failed, the oldest first.
  case open
  /// Those that have settled and for which nothing was served, the oldest first.
  case unserved
}

/// What the ledger keeps of a payment on a chain.
struct ChainPayment {
  var request: Digest32
  var payer: String
  var recipient: String
  var presented: Digest32
  var name: Digest32?
  var amount: UInt128
  var splits: [ChainSplit] = []
  var currency: UInt8
  var merchant: UInt32
  var route: RouteLabel
  var client: ClientAddress
  var expires: Timestamp
  var challengeID: Digest32?
  var proof: [UInt8]
  var deposit: EscrowDeposit?
  var channel: Digest32?
  var reference: LSN
  var state = ChainPaymentState.claimed
  var transaction: Digest32?
  /// The hold under which it is being served; 0 otherwise.
  var hold: LSN = 0
  /// When it may be forgotten, where it is used up.
  var until: Timestamp?
  var changed: LSN = 0
  /// When it came to its state.
  var since = Timestamp(microseconds: 0)
  /// Who is counted for it, where it moves nothing: who brought it.
  var counted = ClientAddress.none

  /// Is set in a record's state where a channel follows.
  static let depositMark: UInt8 = 1 << 7
  /// Marks those whose recipient and credential the record has.
  static var presentedMark: UInt8 { 0x40 }
  /// Marks those whose payer has a name for them.
  static var namedMark: UInt8 { 0x20 }
  /// Marks those of which parts go to others.
  static var splitMark: UInt8 { 0x10 }
  static var marks: UInt8 { depositMark | presentedMark | namedMark | splitMark }

  /// Whether it moves nothing, to nobody: it only shows who asks.
  var isFree: Bool { amount == 0 && splits.isEmpty && channel == nil }

  /// How long it is kept after it can no longer settle, or after it was served: what moves nothing is known by its challenge's end.
  var retention: Duration { isFree ? .zero : Self.retention }

  /// How long payments are kept after they can no longer settle, or after they were served.
  static var retention: Duration { .seconds(86_400) }
}
