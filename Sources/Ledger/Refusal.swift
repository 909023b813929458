/// Why the ledger did not do what was asked. Nothing has changed when one is thrown.
public enum Refusal: Error, Equatable, Sendable {
  case unknownWallet
  /// The wallet exists already.
  case walletExists
  /// The wallet (or account) has too little, in base units.
  case insufficientFunds(required: UInt128, available: UInt128)
  /// The wallet's policy forbids it.
  case policy(PolicyLimit)
  /// The challenge is being paid by a request that has not ended.
  case claimInFlight
  /// The challenge has been paid; the reference of what it paid for.
  case claimSettled(reference: LSN)
  /// The challenge expired so long ago that its claim may have been forgotten.
  case claimExpired
  /// The same challenge opened this session before: the receipt of then.
  case alreadyOpen(receipt: [UInt8])
  /// The session id has been used before.
  case sessionExists
  case unknownSession
  case sessionClosing
  case sessionClosed
  /// The session's budget cannot pay; `required` is what a top-up has to add at least, in base units.
  case insufficientBudget(required: UInt128)
  /// The session belongs to another wallet.
  case wrongWallet
  /// Currency or recipient are not the session's.
  case wrongTerms
  /// The hold is unknown: settled, voided, or of an older epoch.
  case unknownHold
  case unknownCurrency
  case unknownMerchant
  /// The reference names no charge that can be refunded.
  case unknownReference
  /// The reference was used before, for something else.
  case referenceUsed
  /// The charge has been refunded before.
  case alreadyRefunded
  /// A named limit of the ledger is reached.
  case tooMany(LedgerLimit)
  /// Nothing new can be sold now: see `Ledger.availability`.
  case unavailable
  /// A sum passes what accounts hold.
  case overflow
  /// A name, reference or cause is empty, too long, or holds control characters.
  case malformedName
  /// A request with this idempotency key has not ended.
  case outcomeInFlight
  /// The idempotency key was used with another request.
  case outcomeMismatch
  /// The ledger knows no such payment: it was never claimed, was freed by a restart, has failed, or is forgotten.
  case unknownPayment
  /// The payment was made for another request.
  case paymentMismatch
  /// The outbox has no such transaction.
  case unknownTransaction
  /// The transaction's nonce is not the next one, which is unknown until one was adopted.
  case wrongNonce(next: UInt64?)
  /// The session's budget comes from a channel, or the session is none: this is done otherwise there.
  case wrongBudgetSource
  /// The channel's opening vanished from the chain.
  case channelSuspended
  /// The session was read from a backup, and no operator has confirmed it.
  case sessionUnconfirmed
  /// The voucher's amount is not within what lies in the escrow.
  case beyondDeposit
  /// Something is in flight, or under way on the chain, on the channel.
  case channelBusy
}

/// The limits of the ledger's memory, and their values.
public enum LedgerLimit: UInt8, Sendable, Equatable {
  case openSessions, closedSessions, claims, holds, inFlight, sessionRoutes, sessionTopUps, wallets, merchants, outcomes, labels, currencies, nonces, volumes
  /// Payments on chains: all that are kept, and those that have neither settled nor failed.
  case payments, openPayments
  /// Signed maxima of one payer that are not settled, and those of one client (an address or a /64) that are not served to the end.
  case promisesOfPayer, promisesOfClient
  /// Payments that move nothing: all, and those of one client.
  case freePayments, freePaymentsOfClient
  /// Octets of a voucher's signature, and of a channel's descriptor; challenges by which a channel's payer is known.
  case voucherSignature, channelDescriptor, channelProofs
  /// Octets of a payment's proof.
  case proofOctets
  /// Addresses that send transactions, and what each has on its way.
  case senders, outgoing
  /// Earlier versions of a transaction, and octets of one.
  case replacements, transactionOctets

  /// The most there may be at once.
  public var most: Int {
    switch self {
    case .openSessions, .closedSessions: 1_000_000
    case .claims: 4_000_000
    case .holds: 100_000
    case .inFlight: 4_096
    case .sessionRoutes: 64
    case .sessionTopUps: 1_024
    case .wallets: 4_000_000
    case .merchants: 100_000
    case .outcomes: 1_000_000
    case .labels: 65_535
    case .currencies: 255
    case .nonces, .volumes, .payments: 1_000_000
    case .openPayments, .proofOctets: 16_384
    case .promisesOfPayer: 256
    case .promisesOfClient, .freePaymentsOfClient: 1_024
    case .freePayments: 65_536
    case .senders: 256
    case .outgoing: 1_024
    case .replacements, .channelProofs: 8
    case .voucherSignature: 4_096
    case .channelDescriptor: 2_048
    case .transactionOctets: 131_072
    }
  }
}
