import Ethereum
import Payments

/// Names the rule of sessions over channels that was broken (draft-evm-session-00 and draft-tempo-session-00).
///
/// No case carries octets that a peer sent.
public enum ChannelError: Error, Hashable, Sendable {
  /// The payload's form, or the deposit's payment, breaks a rule that charges have too.
  case payment(ChainChargeError)

  // The challenge and the channel.
  /// The echoed challenge is unknown, or its time is over.
  case challengeNotFound
  /// The credential names another escrow than the challenge's.
  case escrowMismatch
  /// The id is not the one that follows from the channel's members, or is another channel's.
  case channelMismatch
  /// The members of the channel are not those that the challenge, the transaction or the open channel has.
  case descriptorMismatch
  /// The member `authorizedSigner` and the descriptor name different signers.
  case authorizedSignerMismatch
  /// `source` is missing where only it names the payer.
  case sourceMissing
  /// The challenge sells sessions of another kind.
  case protocolMismatch

  // Deposits.
  /// Nothing is deposited.
  case depositZero
  /// Less is deposited than the route asks for; the least is named, in base units.
  case depositBelowMinimum(UInt128)
  /// The deposit would not fit the escrow's type.
  case depositTooLarge
  /// `additionalDeposit` is not what the authorization allows.
  case depositMismatch
  /// The nonce does not follow from the channel's members (draft-evm-session-00 "Front-Running Protection").
  case nonceMismatch
  /// The witness does not hold the channel's members.
  case witnessMismatch
  /// The payer's tokens could not be moved.
  case depositFailed
  /// The payer's transaction does not do what the credential says.
  case transactionMismatch

  // Vouchers.
  /// Nobody's key made the signature, or it has not the form that is taken.
  case invalidSignature
  /// Somebody else than the channel's signer signed.
  case signerMismatch
  /// More is signed than deposited.
  case amountExceedsDeposit
  /// Less is added than the challenge asks for; the least is named, in base units.
  case deltaTooSmall(UInt128)
  /// Less is signed than was signed before, where that is refused.
  case amountNotIncreasing
  /// The last voucher of a close does not cover what was spent; the least is named, in base units.
  case amountBelowSpent(UInt128)
  /// What was signed and not spent does not pay for the request; what is missing is named, in base units.
  case insufficientBalance(UInt128)

  // The chain.
  /// There is no such channel.
  case channelNotFound
  /// The channel is closed for good.
  case channelFinalized
  /// The payer has begun to close it by force.
  case closeRequested
  /// The chain's state of the channel is another one than the credential says.
  case stateMismatch
  /// The escrow answers in a form that is not its interface's.
  case malformedState
  /// The escrow lets payers withdraw sooner than can be answered.
  case gracePeriodTooShort
  /// The transaction was mined and changed nothing.
  case transactionReverted
}

extension ChannelError {
  /// The problem that answers a credential which broke this rule (draft-evm-session-00 "Error Responses").
  public var problem: PaymentProblem {
    switch self {
    case .payment(.signatureMismatch): .sessionInvalidSignature
    case .payment(let error): error.problem
    case .challengeNotFound: .sessionChallengeNotFound
    case .escrowMismatch, .channelMismatch, .descriptorMismatch, .authorizedSignerMismatch, .protocolMismatch, .depositZero,
      .depositTooLarge, .depositMismatch, .nonceMismatch, .witnessMismatch, .transactionMismatch, .amountNotIncreasing,
      .amountBelowSpent, .stateMismatch:
      .verificationFailed
    case .sourceMissing: .malformedCredential
    case .depositBelowMinimum: .paymentInsufficient
    case .invalidSignature: .sessionInvalidSignature
    case .signerMismatch: .sessionSignerMismatch
    case .amountExceedsDeposit: .sessionAmountExceedsDeposit
    case .deltaTooSmall: .sessionDeltaTooSmall
    case .insufficientBalance, .depositFailed: .sessionInsufficientBalance
    case .channelNotFound: .sessionNotFound
    case .channelFinalized, .closeRequested: .sessionFinalized
    case .malformedState, .gracePeriodTooShort: .internalPaymentError
    case .transactionReverted: .sessionTransactionReverted
    }
  }

  /// A sentence for the problem document; it names rules and members, never octets that were sent.
  public var detail: String {
    switch self {
    case .payment(let error): error.detail
    case .challengeNotFound: "The challenge is unknown or has expired."
    case .escrowMismatch: "The escrow is another one than the challenge's."
    case .channelMismatch: "The channel's id does not follow from its members."
    case .descriptorMismatch: "The channel's members are other ones than the challenge's or the open channel's."
    case .authorizedSignerMismatch: "The authorized signer is another one than the descriptor's."
    case .sourceMissing: "The source is missing, which alone names the payer."
    case .protocolMismatch: "The session's protocol is another one than the challenge's."
    case .depositZero: "Nothing is deposited."
    case .depositBelowMinimum(let least): "The deposit is below the least of \(least)."
    case .depositTooLarge: "The deposit is larger than what the escrow holds."
    case .depositMismatch: "The additional deposit is another one than the authorization's."
    case .nonceMismatch: "The authorization's nonce does not follow from the channel's members."
    case .witnessMismatch: "The permit's witness does not hold the channel's members."
    case .depositFailed: "The payer's tokens could not be moved."
    case .transactionMismatch: "The transaction does not do what the credential says."
    case .invalidSignature: "The voucher's signature does not verify."
    case .signerMismatch: "The voucher was signed by another key than the channel's."
    case .amountExceedsDeposit: "The voucher is beyond the channel's deposit."
    case .deltaTooSmall(let least): "The voucher adds less than the least of \(least)."
    case .amountNotIncreasing: "The voucher is below one that was accepted before."
    case .amountBelowSpent(let spent): "The voucher does not cover the \(spent) that were spent."
    case .insufficientBalance(let missing): "What is signed lacks \(missing) for the request."
    case .channelNotFound: "No channel of this id is open."
    case .channelFinalized: "The channel is closed."
    case .closeRequested: "The payer has requested the channel's close."
    case .stateMismatch: "The channel on the chain is another one than the credential says."
    case .malformedState: "The escrow's answer cannot be read."
    case .gracePeriodTooShort: "The escrow's grace period is too short."
    case .transactionReverted: "The transaction was reverted."
    }
  }
}
