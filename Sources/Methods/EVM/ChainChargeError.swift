import Encoding
import Ethereum
import Payments

/// Names the rule that a payment on a chain breaks (draft-evm-charge-00 and draft-tempo-charge-00 "Verification Procedure"; x402's
/// schemes exact and upto on EVM).
///
/// No case carries octets that a peer sent.
public enum ChainChargeError: Error, Hashable, Sendable {
  /// Names how a payment was made, where one rule has several wire strings.
  public enum Means: String, Hashable, Sendable {
    case authorization, permit2, transaction, hash, proof
  }

  /// The members of the methods' objects that a case may point at.
  public enum Member: String, Hashable, Sendable {
    case amount, currency, recipient, description, externalId, methodDetails
    case chainId, permit2Address, spender, credentialTypes, decimals, splits, memo, feePayer, supportedModes
    case type, permit, permitted, token, nonce, deadline, transferDetails, to, requestedAmount, witness, challengeHash, signature
    case from, value, validAfter, validBefore, hash, source
    // Sessions'.
    case action, channelId, cumulativeAmount, additionalDeposit, authorization, authorizedSigner, voucherSignature, salt, deposit
    case transaction, payer, payee, `operator`, expiringNonceHash, descriptor, escrowContract, minVoucherDelta, permit2Contract
    case sessionProtocol, sessionSnapshot, highestVoucher, escrow, acceptedCumulative, requiredCumulative, settled, spent
    case closeRequestedAt, units, unitType, unitSize, suggestedDeposit, prices, minimum, maximum, minimumDeposit, idleTimeout
    case receipt, status, intent, method, reference, challengeId, timestamp, txHash
  }

  // The form of objects.
  case missing(Member)
  case malformed(Member)
  /// A number is greater than what is held inside: 128 bits for amounts.
  case overflow(Member)
  /// A list or text has more elements than its limit.
  case tooLong(Member, limit: Int)
  /// `payload.type` names nothing that the method knows.
  case unknownType

  // What was asked for.
  /// The splits' sum is not below the amount.
  case splitsReachAmount
  /// The challenge does not take this type of credential.
  case typeNotOffered(Means)
  /// Only Permit2 pays splits at once.
  case splitsNeedPermit2
  /// The token does not implement EIP-3009 under a known domain.
  case tokenWithoutEIP3009
  /// The token is not moved by Permit2 here.
  case tokenWithoutPermit2
  /// The request is for another chain or token than the one that it is checked with.
  case tokenMismatch(Means)
  case chainMismatch

  // x402's envelope.
  case schemeMismatch
  case networkMismatch
  /// The payload moves the token by another method than the offer names.
  case transferMethodMismatch

  // What was signed.
  case recipientMismatch(Means)
  case amountMismatch(Means)
  /// `validBefore` or `deadline` has passed, or is less than the margin away.
  case expired(Means)
  /// `validAfter` lies ahead.
  case notYetValid(Means)
  /// It would stay valid for longer than it can be remembered.
  case validTooLong(Means)
  /// The nonce or the witness is not the challenge's hash.
  case challengeMismatch(Means)
  case externalIDMismatch
  /// The lists of the permit and of the transfers differ in length, or are not one for each transfer.
  case transferCountMismatch
  /// The split's recipient or amount differs.
  case splitMismatch(index: Int)
  /// The permit allows less than the transfer takes.
  case permittedTooLow(index: Int)
  /// Somebody else may take the money than the one who would.
  case spenderMismatch
  /// Nobody is known who could take the money.
  case noSpender
  /// The witness names another account to settle.
  case facilitatorMismatch
  /// More is to be settled than was signed.
  case settlementAboveMaximum

  // Who signed.
  /// The signature is not the payer's.
  case signatureMismatch(Means)
  /// The payer is a contract that does not exist yet (ERC-6492).
  case undeployedWallet
  /// `source` is no `did:pkh` of namespace eip155.
  case malformedSource
  /// `source` names another chain or account than the payload.
  case sourceMismatch

  // A payer's own transaction.
  /// The octets are no transaction of the kind that the method takes.
  case malformedTransaction(EthereumError)
  /// The transaction calls something else than the token.
  case callMismatch
  /// The call is no `transfer`, or not in its one encoding.
  case notATransfer
  /// The memo is missing, or another one.
  case memoMismatch
  /// A transfer that was asked for is missing, or one is there that was not.
  case transferMismatch
  /// The fees are above what is sponsored here, or the transaction does not leave them to a sponsor.
  case feesNotSponsored
}

extension ChainChargeError {
  /// The string that tells a peer of x402 about it.
  public var x402Reason: X402Reason {
    switch self {
    case .missing, .malformed, .overflow, .tooLong, .malformedSource, .malformedTransaction, .notATransfer: .invalidPayload
    case .unknownType, .typeNotOffered, .splitsNeedPermit2, .transferMethodMismatch, .tokenWithoutPermit2: .unsupportedPayloadType
    case .splitsReachAmount, .noSpender: .invalidPaymentRequirements
    case .tokenWithoutEIP3009: .exactEIP3009NotSupported
    case .tokenMismatch(let means): means == .permit2 ? .permit2TokenMismatch : .invalidPaymentRequirements
    case .chainMismatch, .networkMismatch: .networkMismatch
    case .schemeMismatch: .unsupportedScheme
    case .recipientMismatch(let means): means == .permit2 ? .invalidPermit2RecipientMismatch : .exactPayloadRecipientMismatch
    case .amountMismatch(let means): means == .permit2 ? .permit2AmountMismatch : .exactPayloadAuthorizationValueMismatch
    case .expired(let means), .validTooLong(let means):
      means == .permit2 ? .permit2DeadlineExpired : .exactPayloadAuthorizationValidBefore
    case .notYetValid(let means): means == .permit2 ? .permit2NotYetValid : .exactPayloadAuthorizationValidAfter
    case .permittedTooLow: .permit2AmountMismatch
    case .spenderMismatch: .invalidPermit2Spender
    case .facilitatorMismatch: .uptoFacilitatorMismatch
    case .settlementAboveMaximum: .uptoPayloadSettlementExceedsAmount
    case .signatureMismatch(let means): means == .permit2 ? .invalidPermit2Signature : .exactPayloadSignature
    case .undeployedWallet: .exactPayloadUndeployedSmartWallet
    case .challengeMismatch, .externalIDMismatch, .transferCountMismatch, .splitMismatch, .sourceMismatch, .callMismatch,
      .memoMismatch, .transferMismatch, .feesNotSponsored:
      .invalidPayload
    }
  }

  /// The problem that answers an MPP credential which broke this rule.
  public var problem: PaymentProblem {
    switch self {
    case .missing, .malformed, .overflow, .tooLong, .unknownType, .malformedSource, .malformedTransaction: .malformedCredential
    case .splitsReachAmount, .noSpender: .internalPaymentError
    case .challengeMismatch, .externalIDMismatch: .invalidChallenge
    case .typeNotOffered, .splitsNeedPermit2, .tokenWithoutEIP3009, .tokenWithoutPermit2, .tokenMismatch, .chainMismatch,
      .schemeMismatch, .networkMismatch, .transferMethodMismatch, .recipientMismatch, .amountMismatch, .expired, .notYetValid,
      .validTooLong, .transferCountMismatch, .splitMismatch, .permittedTooLow, .spenderMismatch, .facilitatorMismatch,
      .settlementAboveMaximum, .signatureMismatch, .undeployedWallet, .sourceMismatch, .callMismatch, .notATransfer,
      .memoMismatch, .transferMismatch, .feesNotSponsored:
      .verificationFailed
    }
  }

  /// A sentence for the problem document; it names rules and members, never octets that were sent.
  public var detail: String {
    switch self {
    case .missing(let member): "The member \(member.rawValue) is missing."
    case .malformed(let member): "The member \(member.rawValue) is malformed."
    case .overflow(let member): "The number in \(member.rawValue) is larger than 128 bits."
    case .tooLong(let member, let limit): "The member \(member.rawValue) is longer than \(limit)."
    case .unknownType: "The type of the payload is unknown."
    case .splitsReachAmount: "The splits leave nothing of the amount."
    case .typeNotOffered(let means): "The challenge does not take a credential of type \(means.rawValue)."
    case .splitsNeedPermit2: "Only a credential of type permit2 pays a challenge with splits."
    case .tokenWithoutEIP3009: "The token does not take authorizations."
    case .tokenWithoutPermit2: "The token is not taken by Permit2 here."
    case .tokenMismatch: "The token is another one than the challenge's."
    case .chainMismatch: "The chain is another one than the challenge's."
    case .schemeMismatch: "The scheme is another one than the offer's."
    case .networkMismatch: "The network is another one than the offer's."
    case .transferMethodMismatch: "The payload moves the token by another method than the offer's."
    case .recipientMismatch: "The recipient is another one than the challenge's."
    case .amountMismatch: "The amount is another one than the challenge's."
    case .expired: "The payment has expired, or would before it settles."
    case .notYetValid: "The payment is not valid yet."
    case .validTooLong: "The payment would stay valid for too long."
    case .challengeMismatch: "The payment was signed for another challenge."
    case .externalIDMismatch: "The witness holds another externalId than the challenge."
    case .transferCountMismatch: "The permit does not hold one transfer for each that the challenge asks for."
    case .splitMismatch(let index): "The transfer of split \(index) is another one than the challenge's."
    case .permittedTooLow(let index): "The permit allows less than transfer \(index) takes."
    case .spenderMismatch: "The spender is another one than who would settle."
    case .noSpender: "Nobody here can settle a permit."
    case .facilitatorMismatch: "The witness names another facilitator than who would settle."
    case .settlementAboveMaximum: "The amount to settle is above the maximum that was signed."
    case .signatureMismatch: "The signature is not the payer's."
    case .undeployedWallet: "The payer's wallet does not exist on the chain yet."
    case .malformedSource: "The source is no did:pkh of an account on an EVM chain."
    case .sourceMismatch: "The source is another account than the payload's, or on another chain."
    case .malformedTransaction: "The transaction cannot be read."
    case .callMismatch: "The transaction does not call the token."
    case .notATransfer: "The call is no plain transfer."
    case .memoMismatch: "The memo is missing or another one than asked for."
    case .transferMismatch: "The transfers are not those that the challenge asks for."
    case .feesNotSponsored: "The transaction's fees are not sponsored as they stand."
    }
  }
}
