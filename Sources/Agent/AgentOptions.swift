import Methods
import Payments

/// Says what an agent may spend, and how it pays.
public struct AgentOptions: Sendable {
  /// Which kind of payment is wanted.
  public enum Preference: Sendable {
    /// An open session where one fits; a session where a stream is asked for or what comes is metered; else a charge where one is
    /// offered, else a new session.
    case offered
    case charge
    case session
  }

  /// What the HTTP client waits for and takes in.
  public var limits = HTTPLimits()
  /// Allows plain HTTP to other machines; payments can then be read on the way.
  public var allowsPlaintext = false
  /// The most that may leave the wallet for one call: its charge, or its deposit and top-ups. Without it `budget` is the maximum too, and
  /// without both nothing may leave.
  ///
  /// What an open session still holds has left the wallet before, and is used whatever this says.
  public var maximum: SpendingLimit?
  /// The most that one call may cost in all. A session that holds more is not used, unless the answer's price is known and fits.
  public var budget: SpendingLimit?
  /// The most that one call may cost within any minute. A top-up waits until the minute allows it; what can never be allowed is not paid.
  public var rate: SpendingLimit?
  /// The first deposit of a new session, in place of what the server suggests; without a maximum it is the maximum too.
  public var deposit: SpendingLimit?
  /// What one top-up adds; without it the suggested deposit, twice as much each time, or what the rest costs where that is known.
  public var step: SpendingLimit?
  /// Which kind of payment is made where both are offered.
  public var preference = Preference.offered
  /// The only rail that is paid by; nil: a prepaid wallet where it can pay, else the method evm, else x402.
  public var rail: Rail?
  /// The tokens that are paid with on chains.
  public var tokens = TrustedToken.known
  /// The contracts that are deposited into for sessions on chains; none but these.
  public var escrows: [TrustedEscrow] = []
  /// The only chain (EIP-155) that is paid on; nil: any.
  public var chain: UInt64?
  /// How often a new payment is signed after one was refused and, by the server's words, no money moved; each counts against the maximum.
  public var refusalRetries = 0
  /// Whether an answer whose connection was lost is continued where that costs nothing again.
  public var continuesLostAnswers = true

  /// Makes options by which nothing is paid.
  public init() {}

  /// The most that may leave the wallet, in base units; nil where nothing may.
  func allowance(in currency: Currency) -> UInt128? { (maximum ?? deposit ?? budget)?.units(in: currency) }

  /// The currency that the caller's limits name, nil where there are none.
  var currencyCode: String? { (maximum ?? deposit ?? budget ?? rate ?? step)?.code }
}

/// Tells an observer what happens while a request is paid for.
public enum AgentEvent: Sendable {
  /// A challenge came whose checks all passed, and this offer of it was chosen.
  case challenged(PrepaidOffer, Invoice)
  /// A 402 came, and this offer on a chain was chosen.
  case chosen(ChainOffer)
  /// The server tells of the transaction that the payment was settled by.
  case settled(ChainReceipt, Currency)
  /// A 402 came, and this session over a channel was chosen.
  case chosenChannel(ChannelOffer)
  /// An open channel is used.
  case usingChannel(KeptChannel)
  /// A voucher over this much in all was signed and sent beside the request.
  case voucher(Amount, Currency)
  /// A receipt of a session over a channel came, and does not contradict what was signed.
  case channelReceipt(ChannelReceipt, Currency)
  /// A charge was sent, or a session opened with the deposit.
  case paying(Amount, Currency)
  /// An open session is used.
  case usingSession(KeptSession)
  /// The same credential is sent again; its fate was unknown.
  case repeating(count: Int)
  /// A stream waits for this much more.
  case waiting(Amount, Currency)
  /// A top-up has to wait this long, for the minute has cost what it may.
  case pacing(Duration)
  /// A session's budget was raised by the first amount, to the second.
  case toppedUp(Amount, deposit: Amount, Currency)
  /// The connection was lost in the middle of an answer; its rest is asked for after a wait.
  case resuming(after: Duration, attempt: Int)
  /// The rest of the answer comes.
  case resumed
  /// A receipt came; `isSigned` says that its signature was verified.
  case receipt(Receipt, isSigned: Bool)
  /// A receipt came that does not hold, or none came.
  case receiptFault(AgentError.ReceiptFault)
}

/// What is known of a session's budget; between receipts an estimate from what has come.
public struct SessionBudget: Equatable, Sendable {
  /// The currency of the figures.
  public let currency: Currency
  /// What was moved into the session, top-ups included, in base units.
  public let deposit: UInt128
  /// What was spent of it, in base units.
  public let spent: UInt128

  /// Makes a budget from its figures.
  public init(currency: Currency, deposit: UInt128, spent: UInt128) {
    self.currency = currency
    self.deposit = deposit
    self.spent = spent
  }

  /// What is left, in base units.
  public var remaining: UInt128 { deposit > spent ? deposit - spent : 0 }
}
