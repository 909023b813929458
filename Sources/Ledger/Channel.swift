public import Bytes
public import Encoding
public import HTTP

/// A voucher: how much of a channel's deposit its payer has signed over, all in all.
public struct AcceptedVoucher: Sendable, Hashable {
  /// Cumulative, in base units.
  public var amount: UInt128
  /// The signature's octets as they were sent, at most `LedgerLimit.voucherSignature`.
  public var signature: [UInt8]

  @inlinable
  public init(amount: UInt128, signature: [UInt8]) {
    self.amount = amount
    self.signature = signature
  }
}

/// What a chain says of a channel, and the block that this rests on. Amounts are base units.
public struct ChannelAccount: Sendable, Hashable {
  /// What lies, or lay, in the escrow for it.
  public var deposit: UInt128
  /// What was paid out of that to the merchant, all in all.
  public var settled: UInt128
  /// When its payer asked the escrow to close it, in the chain's seconds; 0 where nobody did.
  public var closeRequestedAt: UInt64
  public var isFinalized: Bool
  /// Number and hash of the newest block that this rests on; the hash is zeros where it is unknown.
  public var block: UInt64
  public var blockHash: Digest32

  public init(
    deposit: UInt128, settled: UInt128 = 0, closeRequestedAt: UInt64 = 0, isFinalized: Bool = false, block: UInt64 = 0,
    blockHash: Digest32 = Digest32()
  ) {
    self.deposit = deposit
    self.settled = settled
    self.closeRequestedAt = closeRequestedAt
    self.isFinalized = isFinalized
    self.block = block
    self.blockHash = blockHash
  }

  /// Whether the chain is about to take the channel away, or has: nothing more is sold on it.
  public var isEnding: Bool { closeRequestedAt != 0 || isFinalized }
}

/// The states of a channel that is kept.
public enum ChannelPhase: UInt8, Sendable, CaseIterable {
  case open = 1
  /// Its opening vanished from the chain and may come back: nothing is sold on it.
  case suspended
  /// Nothing more is sold on it; it waits to be closed on the chain.
  case closing
  /// It was read from a backup: nothing is sold on it until an operator confirms it.
  case unconfirmed
}

/// What opening a channel asks for.
public struct ChannelOrder: Sendable, Hashable {
  /// The channel's id, which is its session's too.
  public var id: Digest32
  public var challengeID: Digest32
  /// The payer's address as audit lines show it, `0x` and lower case.
  public var payer: String
  /// The chain's number.
  public var chain: UInt64
  /// What says how to check vouchers and call the escrow, opaque to the ledger; at most `LedgerLimit.channelDescriptor` octets.
  public var descriptor: [UInt8]
  /// The first voucher: the budget that it opens with.
  public var voucher: AcceptedVoucher
  /// The currency is the account's code, as `usdc@eip155:8453`.
  public var terms: SessionTerms
  /// Recorded for whoever closes idle channels: the ledger closes none by itself, since that costs gas.
  public var idleTimeout: Duration
  /// The most exchanges in flight at once.
  public var maximumInFlight: UInt32
  public var route: RouteLabel
  public var client: ClientAddress
  /// Whether the id may be opened again once the channel was closed, as contracts allow whose channels never end. What was settled before the
  /// opening is not booked then: it was by whoever had the channel, which may have been this ledger.
  public var isResumable: Bool

  public init(
    id: Digest32, challengeID: Digest32, payer: String, chain: UInt64, descriptor: [UInt8], voucher: AcceptedVoucher, terms: SessionTerms,
    idleTimeout: Duration, maximumInFlight: UInt32 = 64, route: RouteLabel = .none, client: ClientAddress = .none, isResumable: Bool = false
  ) {
    self.isResumable = isResumable
    self.id = id
    self.challengeID = challengeID
    self.payer = payer
    self.chain = chain
    self.descriptor = descriptor
    self.voucher = voucher
    self.terms = terms
    self.idleTimeout = idleTimeout
    self.maximumInFlight = maximumInFlight
    self.route = route
    self.client = client
  }
}

/// What a payment into an escrow is for.
public enum EscrowDeposit: Sendable, Hashable {
  case open(ChannelOrder)
  case topUp(channel: Digest32)

  /// The channel that it is for.
  public var channel: Digest32 {
    switch self {
    case .open(let order): order.id
    case .topUp(let channel): channel
    }
  }
}

/// A channel as those who serve, settle and close it see it. Amounts are base units.
public struct ChannelView: Sendable, Hashable {
  /// Names its session.
  public let handle: SessionHandle
  public let id: Digest32
  public let chain: UInt64
  public let payer: String
  public let currency: String
  public let merchant: String
  public let descriptor: [UInt8]
  /// The last voucher that was accepted, and the one before it.
  public let voucher: AcceptedVoucher
  public let previous: AcceptedVoucher?
  /// The voucher that its payer closed it with.
  public let closing: AcceptedVoucher?
  /// What the chain was last seen to say.
  public let account: ChannelAccount
  public let phase: ChannelPhase
  /// What may be spent: the last voucher's amount.
  public let budget: UInt128
  /// ceil of what was debited, with what is held for exchanges in flight.
  public let spent: UInt128
  /// ceil of what was debited and is written down, without what exchanges in flight have ahead.
  public let debited: UInt128
  /// The part of `account.settled` that is confirmed, and booked.
  public let booked: UInt128
  public let inFlight: UInt32
  /// Since when there has been a voucher above what is booked.
  public let unsettledSince: Timestamp?
  /// The newest version of the transaction that settles or closes it, while that is under way.
  public let underWay: Digest32?
  public let isCloseUnderWay: Bool
  /// The transaction that opened it, where that is known.
  public let openedBy: Digest32?
  /// Why it is closing.
  public let cause: CloseCause?
  /// When something was last debited or a voucher accepted; after a restart when a voucher was.
  public let lastUse: Timestamp
  public let idleTimeout: Duration
  public let opened: Timestamp
  public let terms: SessionTerms
  /// The most that a voucher was for which was ever handed out on the chain, landed or not: everybody may have it since. Nil before the first.
  public let published: UInt128?
  /// The challenge that it was opened by.
  public let challengeID: Digest32
  /// The newest of the challenges by which somebody has brought a voucher that was not published then: they are its payer's.
  public let proofs: [Digest32]
  /// What is on its way back to its payer while it stays open: not in `account.deposit` any more.
  public var returning: UInt128?
  /// The entry that made it what it is; 0 for one that was read back. Wait for it before anything follows from this.
  public let changed: LSN

  /// Whether a voucher for so much may be known to others than the payer and us.
  public func isPublic(_ amount: UInt128) -> Bool {
    (published.map { amount <= $0 } ?? false) || (account.settled > 0 && amount <= account.settled)
  }

  /// Whether a challenge is known to be the payer's.
  public func isPayers(_ challenge: Digest32) -> Bool { challenge == challengeID || proofs.contains(challenge) }
}

/// Which channels a list is to have.
public enum ChannelSelection: Sendable, Equatable {
  case all
  /// Those in a phase.
  case phase(ChannelPhase)
  /// Those of a chain.
  case chain(UInt64)
  /// Those with a voucher above what is settled.
  case unsettled
}

/// What channels add up to in one currency, in base units: none of it is in the books, since it has not arrived.
public struct ChannelTotals: Sendable, Hashable {
  public let currency: String
  public let open: Int
  public let suspended: Int
  public let closing: Int
  /// What was debited and is not settled.
  public let earned: UInt128
  /// What vouchers allow to be settled and is not.
  public let claimable: UInt128
}

/// What is kept of how a channel was closed.
public struct ClosedChannel: Sendable, Hashable {
  public let chain: UInt64
  public let payer: String
  /// What lay in the escrow, in base units.
  public let deposit: UInt128
  /// What the merchant got out of it, all in all.
  public let captured: UInt128
  /// The part of `captured` beyond what was spent.
  public let overpaid: UInt128
  /// What was spent and never paid.
  public let lost: UInt128
  /// The transaction that closed it, where that is known.
  public let transaction: Digest32?
}

/// What the ledger keeps of a channel beside its session's account.
struct Channel {
  var id: Digest32
  var slot: UInt32 = 0
  var chain: UInt64
  var payer: String
  var descriptor: [UInt8]
  var challengeID: Digest32
  var openedBy: Digest32?
  var opened: Timestamp
  var account: ChannelAccount
  var underWay: Digest32?
  var isCloseUnderWay = false
  var closing: AcceptedVoucher?
  var published: UInt128?
  var proofs: [Digest32] = []
  var returning: UInt128?

  // What every fresh voucher changes stands in a record of its own.
  var voucher: AcceptedVoucher
  var previous: AcceptedVoucher?
  var unsettledSince: Timestamp?
  var lastUse: Timestamp

  /// The entry of the last acceptance, and of the last change.
  var accepted: LSN = 0
  var changed: LSN = 0
  var isDirty = false
  var isVoucherDirty = false

  /// Makes a change that is no voucher.
  mutating func change(as entry: LSN, _ body: (inout Channel) -> Void) {
    body(&self)
    changed = entry
    isDirty = true
  }

  /// Makes a voucher the last one.
  @inline(__always)
  mutating func take(_ voucher: AcceptedVoucher, as entry: LSN, exceeds arrived: UInt128, at now: Timestamp) {
    previous = self.voucher
    self.voucher = voucher
    lastUse = now
    if unsettledSince == nil, voucher.amount > arrived { unsettledSince = now }
    accepted = entry
    changed = entry
    isVoucherDirty = true
  }
}
