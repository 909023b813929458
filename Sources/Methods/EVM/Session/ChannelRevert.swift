import Ethereum

/// The errors by which escrows revert (draft-evm-session-00 "Contract Errors").
public enum ChannelRevert: String, Sendable, Hashable, CaseIterable {
  case channelAlreadyExists = "ChannelAlreadyExists"
  case channelNotFound = "ChannelNotFound"
  case channelFinalized = "ChannelFinalized"
  case notPayee = "NotPayee"
  case notPayer = "NotPayer"
  case amountNotIncreasing = "AmountNotIncreasing"
  case amountExceedsDeposit = "AmountExceedsDeposit"
  case invalidSignature = "InvalidSignature"
  case nonceMismatch = "NonceMismatch"
  case nonceAlreadyUsed = "NonceAlreadyUsed"
  case authorizationExpired = "AuthorizationExpired"
  case closeNotReady = "CloseNotReady"
  case zeroDeposit = "ZeroDeposit"
  case depositOverflow = "DepositOverflow"
  case transferFailed = "TransferFailed"

  private static let selectors: [Selector: ChannelRevert] = Dictionary(
    uniqueKeysWithValues: allCases.map { (Selector(signature: $0.rawValue + "()"), $0) })

  /// Reads what a reverted call returned: an error of the escrow's own, or its name as a text; nil for anything else.
  public init?(_ reason: RevertReason) {
    switch reason {
    case .custom(let selector, _):
      guard let revert = Self.selectors[selector] else { return nil }
      self = revert
    case .message(let text): self.init(rawValue: text)
    case .panic, .none: return nil
    }
  }

  /// The rule that was broken (draft-evm-session-00 "Error Responses", the table of reverts).
  public var error: ChannelError {
    switch self {
    case .amountExceedsDeposit: .amountExceedsDeposit
    case .channelNotFound: .channelNotFound
    case .channelFinalized: .channelFinalized
    case .invalidSignature: .invalidSignature
    case .transferFailed: .depositFailed
    case .channelAlreadyExists, .notPayee, .notPayer, .amountNotIncreasing, .nonceMismatch, .nonceAlreadyUsed,
      .authorizationExpired, .closeNotReady, .zeroDeposit, .depositOverflow:
      .transactionReverted
    }
  }
}

extension ChannelError {
  /// Reads why a transaction of a channel was, or would be, reverted.
  public init(_ reason: RevertReason) {
    self = ChannelRevert(reason)?.error ?? .transactionReverted
  }
}
