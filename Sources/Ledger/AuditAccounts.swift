/// One currency's accounts as the lines of an audit log tell them, in base units: what `Ledger.balances()` must agree with.
public struct AuditAccounts: Sendable, Equatable {
  public let currency: String
  /// What wallets were funded with and what arrived on chains, less what was taken back.
  public let issued: Int128
  /// What is left of the deposits of open sessions; of channels, what has arrived and is not spent.
  public let sessions: Int128
  /// Negative when returns came after a payout.
  public let merchants: Int128
  public let paidOut: Int128
  /// The rest: what stands in wallets and in holds, or for a chain's money in payments for which nothing was served yet.
  public let payers: Int128

  /// Adds up the sums of the events; nil where one passes what accounts hold.
  init?(currency: String, sum: (AuditEventKind) -> UInt128, earned: (AuditEventKind) -> UInt128) {
    func total(
      _ plus: [AuditEventKind], minus: [AuditEventKind] = [], from start: Int128? = 0, of sum: (AuditEventKind) -> UInt128
    ) -> Int128? {
      guard var total = start else { return nil }
      for (kinds, sign) in [(plus, Int128(1)), (minus, -1)] {
        for kind in kinds {
          guard let amount = Int128(exactly: sum(kind)) else { return nil }
          let (next, overflows) = total.addingReportingOverflow(sign * amount)
          if overflows { return nil }
          total = next
        }
      }
      return total
    }
    let arrived: [AuditEventKind] = [.channelSettled, .channelClosed]
    // What a channel's merchant has earned moved there from its session.
    let (earning, returning): ([AuditEventKind], [AuditEventKind]) = ([.channelDebited] + arrived, [.channelReturned])
    guard let issued = total([.walletFunded, .paymentSettled] + arrived, minus: [.walletDefunded], of: sum),
      let moved = total(
        [.sessionOpened, .sessionToppedUp, .sessionReturned] + arrived, minus: [.sessionDebited, .sessionClosed], of: sum),
      let sessions = total(returning, minus: earning, from: moved, of: earned),
      let sold = total(
        [.chargeSettled, .sessionDebited, .paymentWrittenOff], minus: [.sessionReturned, .refund, .merchantPayout], of: sum),
      let merchants = total(earning, minus: returning, from: sold, of: earned),
      let paidOut = total([.merchantPayout], of: sum)
    else { return nil }
    self.currency = currency
    self.issued = issued
    self.sessions = sessions
    self.merchants = merchants
    self.paidOut = paidOut
    // Wraps only where the parts are not those of a ledger.
    payers = issued &- sessions &- merchants &- paidOut
  }
}
