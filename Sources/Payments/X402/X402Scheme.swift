/// Names how an amount is authorised and settled (x402 v2 section 6), as far as this proxy speaks it.
public enum X402Scheme: String, Sendable, Hashable, CaseIterable {
  /// Exactly the amount, once.
  case exact
  /// At most the amount, once; the server names what is settled.
  case upto
  /// Vouchers of a channel, each for the sum of all that was charged.
  case batchSettlement = "batch-settlement"
}

/// Names how the token moves: `extra.assetTransferMethod`.
public enum AssetTransferMethod: String, Sendable, Hashable {
  /// `transferWithAuthorization` of the token itself; the default where nothing is named.
  case eip3009
  /// Uniswap's Permit2 with a witness.
  case permit2
}

/// Names the order of verifying, working and settling: `extra.paymentFlow`.
public enum PaymentFlow: String, Sendable, Hashable {
  /// Verify, work, settle; the default where nothing is named.
  case authorization
  /// Settle, work.
  case upfront
  /// Settle a deposit, work, settle.
  case escrow
}
