import Encoding
import Ledger

/// Says why an operators' command did nothing.
public enum AdministrationError: Error, Sendable, Equatable {
  /// No command has this name.
  case unknownCommand(String)
  /// The command takes no such member.
  case unknownMember(String)
  /// The command needs this member.
  case missingMember(String)
  /// The member's value is not of the form that it takes.
  case malformedMember(String, form: Form)
  /// The ledger refused.
  case refused(Refusal)
  /// The account has too little; both in words, such as `5 USDC`.
  case tooLittle(required: String, available: String)
  /// The entry did not become durable in time: it may yet, so repeat the command with the same reference, or look.
  case notDurable
  /// The session still has exchanges in flight; it closes when they end.
  case stillClosing
  /// Another copy of the ledger is being made.
  case copying
  /// The payment's fate is not the operator's to say.
  case unresolved(ResolutionObstacle)
  /// The keys cannot be changed.
  case keys(KeyRingError)
  /// The ledger is not kept by this process.
  case noLedger
  /// No process that deals with chains runs.
  case noDesk
  /// The channel's chain is not configured with its escrow any more, or nobody can send to it.
  case noEscrow

  /// What a member should have been.
  public enum Form: String, Sendable {
    case wallet = "a wallet's id: did:key:z6Mk…"
    case session = "a session's id: 64 hexadecimal digits"
    case amount = "an amount such as \"5 USDC\", in one of the ledger's currencies"
    case accountAmount = "an amount such as \"5 USDC\", or \"5 USDC@base\" of what was received on a chain"
    case account = "an account such as usdc@base or usdc@eip155:8453, as `farebox merchant list --json` names them"
    case payment = "a payment's id: 64 hexadecimal digits"
    case transaction = "a transaction's hash: 0x and 64 hexadecimal digits"
    case flag = "true or false"
    case selection = "open or unserved"
    case channel = "a channel's id: 64 hexadecimal digits"
    case channels = "unsettled or closing"
    case text = "a text of 1 to 256 octets"
    case path = "the absolute path of a file"
    case count = "a whole number"
    case time = "a time such as 2027-01-31T00:00:00Z"
    case texts = "an array of texts"
    case reference = "the reference of a receipt: a whole number"
    case kind = "challenge or receipt"
    case policy = "an object of limits"
  }

  /// The error's name for programs.
  public var code: String {
    switch self {
    case .unknownCommand: "unknown-command"
    case .unknownMember: "unknown-member"
    case .missingMember: "missing-member"
    case .malformedMember: "malformed-member"
    case .refused(let refusal): refusal.code
    case .tooLittle: "insufficient-funds"
    case .notDurable: "not-durable"
    case .stillClosing: "still-closing"
    case .unresolved: "not-resolved"
    case .copying: "backup-busy"
    case .keys: "keys"
    case .noLedger: "no-ledger"
    case .noDesk: "not-running"
    case .noEscrow: "no-escrow"
    }
  }

  /// The HTTP status that the socket answers with.
  public var status: UInt16 {
    switch self {
    case .unknownCommand: 404
    case .unknownMember, .missingMember, .malformedMember: 400
    case .refused(.unavailable), .notDurable, .noLedger, .noDesk: 503
    case .refused(.unknownWallet), .refused(.unknownSession), .refused(.unknownMerchant), .refused(.unknownReference), .refused(.unknownPayment): 404
    case .refused, .tooLittle, .stillClosing, .noEscrow, .unresolved, .copying: 409
    case .keys: 500
    }
  }

  /// What happened, in a sentence for people.
  public var message: String {
    switch self {
    case .unknownCommand(let name): "there is no command \(name)"
    case .unknownMember(let name): "the command takes no member \(name)"
    case .missingMember(let name): "the member \(name) is missing"
    case .malformedMember(let name, let form): "\(name) must be \(form.rawValue)"
    case .refused(let refusal): refusal.message
    case .tooLittle(let required, let available): "too little money: \(required) are needed, \(available) are there"
    case .notDurable: "the change did not reach the disk within ten seconds"
    case .stillClosing: "the session is closing; exchanges in flight have not ended yet"
    case .unresolved(let obstacle): obstacle.rawValue
    case .copying: "another backup is being made"
    case .keys(let error): error.message
    case .noLedger: "this proxy keeps no ledger"
    case .noDesk: "no proxy runs, and only one that runs sends anything to a chain"
    case .noEscrow: "nobody sends to the channel's escrow: its chain is not configured with it, or has no signer"
    }
  }

  /// What to do about it; nil where the message says it.
  public var advice: String? {
    switch self {
    case .refused(let refusal): refusal.advice
    case .notDurable: "look at the proxy's log; repeating the command with the same reference is safe"
    case .stillClosing: "ask again with `farebox session show`"
    case .keys(let error): error.advice
    case .copying: "wait until it is done; one whose command has ended is given up after a minute"
    case .unknownCommand, .unknownMember, .missingMember, .malformedMember, .tooLittle, .unresolved, .noLedger: nil
    case .noDesk: "start one with `farebox serve`"
    case .noEscrow: "`farebox chain status` tells what is configured"
    }
  }

  /// The error as a JSON document.
  public var json: JSONValue {
    var object: JSONObject = ["error": .string(code), "message": .string(message)]
    if let advice { object.set("advice", .string(advice)) }
    return .object(object)
  }
}

extension Refusal {
  /// The refusal's name for programs.
  var code: String {
    switch self {
    case .unknownWallet: "unknown-wallet"
    case .walletExists: "wallet-exists"
    case .insufficientFunds: "insufficient-funds"
    case .policy(let limit): "policy-\(limit.rawValue)"
    case .claimInFlight: "claim-in-flight"
    case .claimSettled: "claim-settled"
    case .claimExpired: "claim-expired"
    case .alreadyOpen: "already-open"
    case .sessionExists: "session-exists"
    case .unknownSession: "unknown-session"
    case .sessionClosing: "session-closing"
    case .sessionClosed: "session-closed"
    case .insufficientBudget: "insufficient-budget"
    case .wrongWallet: "wrong-wallet"
    case .wrongTerms: "wrong-terms"
    case .unknownHold: "unknown-hold"
    case .unknownCurrency: "unknown-currency"
    case .unknownMerchant: "unknown-merchant"
    case .unknownReference: "unknown-reference"
    case .referenceUsed: "reference-used"
    case .alreadyRefunded: "already-refunded"
    case .tooMany: "too-many"
    case .unavailable: "unavailable"
    case .overflow: "overflow"
    case .malformedName: "malformed-name"
    case .outcomeInFlight: "outcome-in-flight"
    case .outcomeMismatch: "outcome-mismatch"
    case .unknownPayment: "unknown-payment"
    case .paymentMismatch: "payment-mismatch"
    case .unknownTransaction: "unknown-transaction"
    case .wrongNonce: "wrong-nonce"
    case .wrongBudgetSource: "wrong-budget-source"
    case .channelSuspended: "channel-suspended"
    case .sessionUnconfirmed: "session-unconfirmed"
    case .beyondDeposit: "beyond-deposit"
    case .channelBusy: "channel-busy"
    }
  }

  /// The refusal in a sentence for operators; amounts are base units.
  var message: String {
    switch self {
    case .unknownWallet: "no wallet has this id"
    case .walletExists: "the wallet exists already"
    case .insufficientFunds(let required, let available): "too little money: \(required) base units are needed, \(available) are there"
    case .policy(let limit): "the wallet's policy forbids it: \(limit.rawValue)"
    case .claimInFlight: "the challenge is being paid, or the payment is being settled or served, at this moment"
    case .claimSettled(let reference): "the challenge has been paid, or the payment is used up, with reference \(reference)"
    case .claimExpired: "the challenge expired too long ago"
    case .alreadyOpen, .sessionExists: "the session has been opened before"
    case .unknownSession: "no session has this id, or it was closed more than a day ago"
    case .sessionClosing: "the session is closing"
    case .sessionClosed: "the session is closed"
    case .insufficientBudget(let required): "the session's budget lacks \(required) base units"
    case .wrongWallet: "the session belongs to another wallet"
    case .wrongTerms: "the session has other terms"
    case .unknownHold: "no money is held under this number"
    case .unknownCurrency: "the ledger has no such currency"
    case .unknownMerchant: "no merchant account has this name"
    case .unknownReference: "no settled charge has this reference"
    case .referenceUsed: "the reference was used before, for something else"
    case .alreadyRefunded: "the charge has been refunded before"
    case .tooMany(let limit): "a limit of the ledger is reached: \(limit) (\(limit.most))"
    case .unavailable: "the ledger is not available"
    case .overflow: "the sum is larger than an account can hold"
    case .malformedName: "a name or reference is empty, too long, or holds control characters"
    case .outcomeInFlight: "a request with this idempotency key has not ended"
    case .outcomeMismatch: "the idempotency key was used with another request"
    case .unknownPayment: "no payment has this id: it was never claimed, has failed, or was forgotten"
    case .paymentMismatch: "the payment was made for another request"
    case .unknownTransaction: "no such transaction is on its way"
    case .wrongNonce(let next?): "the next transaction has to bear the nonce \(next)"
    case .wrongNonce(nil): "no nonce is known for the address"
    case .wrongBudgetSource: "the session's budget is a payment channel, or it is no channel's"
    case .channelSuspended: "the channel's opening is not on its chain at the moment"
    case .sessionUnconfirmed: "the session was read from a backup, and nobody has confirmed it"
    case .beyondDeposit: "the voucher is not within what lies in the channel's escrow"
    case .channelBusy: "something is in flight on the channel, or under way on its chain"
    }
  }

  /// What an operator can do about it.
  var advice: String? {
    switch self {
    case .unknownWallet: "`farebox wallet list` shows them; `farebox wallet create` makes one"
    case .unknownSession: "`farebox session list` shows those that are open; the audit log has the others"
    case .unknownMerchant: "`farebox merchant list` shows them"
    case .unknownReference: "the reference stands in the payment's receipt and audit line; sessions are not refunded, but closed"
    case .unknownPayment: "`farebox payment list` shows those that are kept; the audit log has the others"
    case .referenceUsed: "choose another --reference, or repeat the first command as it was"
    case .wrongBudgetSource: "`farebox channel list` shows channels; `farebox channel close` closes one on its chain"
    case .sessionUnconfirmed: "`farebox session confirm` opens it again"
    case .unavailable: "look at the proxy's log: the disk may be full or failing"
    case .walletExists, .insufficientFunds, .policy, .claimInFlight, .claimSettled, .claimExpired, .alreadyOpen, .sessionExists,
      .sessionClosing, .sessionClosed, .insufficientBudget, .wrongWallet, .wrongTerms, .unknownHold, .unknownCurrency,
      .alreadyRefunded, .tooMany, .overflow, .malformedName, .outcomeInFlight, .outcomeMismatch, .paymentMismatch,
      .unknownTransaction, .wrongNonce, .channelSuspended, .beyondDeposit, .channelBusy:
      nil
    }
  }
}
