import Payments

/// Names the rule of x402's scheme batch-settlement that was broken (scheme_batch_settlement_evm, "Verification Rules").
public enum BatchChannelError: Error, Hashable, Sendable {
  // What was sent.
  case schemeMismatch
  case networkMismatch
  /// The offer lacks what a channel needs.
  case malformedOffer
  case tokenMismatch
  case receiverMismatch
  case authorizerMismatch
  case delayMismatch
  /// The delay of withdrawals is not from 15 minutes to 30 days.
  case delayOutOfRange
  /// The id is not the hash of the channel's members.
  case channelMismatch
  case voucherSignature
  case undeployedWallet

  // Deposits.
  case transferMethodMismatch
  case tokenWithoutMethod
  case depositBelowMinimum
  case amountMismatch
  case spenderMismatch
  case notYetValid
  case expired
  case authorizationSignature
  case permitSignature

  // How the channel stands.
  /// There is no channel with a balance.
  case channelNotFound
  /// Another request of the channel has not ended.
  case channelBusy
  /// The voucher's sum is not what was charged and this request's most: the answer tells both (``BatchChannel/corrective``).
  case cumulativeMismatch
  case exceedsBalance
  case belowClaimed
  /// More is to be charged than was signed.
  case chargeExceedsSigned
  case refundAmount
  case nothingToRefund
}

extension BatchChannelError {
  /// The string that tells a peer about it.
  public var x402Reason: X402Reason {
    switch self {
    case .schemeMismatch: .batchScheme
    case .networkMismatch: .batchNetworkMismatch
    case .malformedOffer: .invalidPaymentRequirements
    case .tokenMismatch: .batchTokenMismatch
    case .receiverMismatch: .batchReceiverMismatch
    case .authorizerMismatch: .batchReceiverAuthorizerMismatch
    case .delayMismatch: .batchWithdrawDelayMismatch
    case .delayOutOfRange: .batchWithdrawDelayOutOfRange
    case .channelMismatch: .batchChannelIDMismatch
    case .voucherSignature: .batchVoucherSignature
    case .undeployedWallet: .batchEIP6492FactoryNotAllowed
    case .transferMethodMismatch, .tokenWithoutMethod: .batchDepositPayload
    case .depositBelowMinimum: .batchDepositBelowMinDeposit
    case .amountMismatch: .batchPermit2AmountMismatch
    case .spenderMismatch: .batchPermit2InvalidSpender
    case .notYetValid: .batchPayloadAuthorizationValidAfter
    case .expired: .batchPayloadAuthorizationValidBefore
    case .authorizationSignature: .batchReceiveAuthorizationSignature
    case .permitSignature: .batchPermit2InvalidSignature
    case .channelNotFound: .batchChannelNotFound
    case .channelBusy: .batchChannelBusy
    case .cumulativeMismatch: .batchCumulativeAmountMismatch
    case .exceedsBalance: .batchCumulativeExceedsBalance
    case .belowClaimed: .batchCumulativeBelowClaimed
    case .chargeExceedsSigned: .batchChargeExceedsSignedCumulative
    case .refundAmount: .batchRefundAmountInvalid
    case .nothingToRefund: .batchRefundNoBalance
    }
  }
}
