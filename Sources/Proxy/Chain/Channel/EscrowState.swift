import Methods

/// The escrow of a chain's sessions as the cashier deals with it.
struct EscrowState: Sendable {
  let escrow: SessionEscrow
  /// Seconds between the begin of a payer's forced close and its end.
  let gracePeriod: UInt64
  /// Whether a forced close would be seen in time. While it would not, nothing is sold, and no voucher is taken.
  let isWatched: Bool
}
