/// One currency's accounts as the lines of an audit log tell them, in base units: what `Ledger.balances()` must agree with.
public struct AuditAccounts: Sendable, Equatable {
  public let currency: String
  /// What wallets were funded with and what arrived on chains, less what was taken back.
  public let issued: Int128
  /// What is left of the deposits of open sessions.
  public let sessions: Int128
  /// Negative when returns came after a payout.
  public let merchants: Int128
  public let paidOut: Int128
  /// The rest: what stands in wallets and in holds, or for a chain's money in payments for which nothing was served yet.
  public let payers: Int128

  /// Adds up the sums of the events; nil where one passes what accounts hold.
  init?(currency: String, sum: (AuditEventKind) -> UInt128) {
    func total(_ plus: [AuditEventKind], minus: [AuditEventKind] = []) -> Int128? {
      var total: Int128 = 0
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
    guard let issued = total([.walletFunded, .paymentSettled], minus: [.walletDefunded]),
      let sessions = total([.sessionOpened, .sessionToppedUp, .sessionReturned], minus: [.sessionDebited, .sessionClosed]),
      let merchants = total(
        [.chargeSettled, .sessionDebited, .paymentWrittenOff], minus: [.sessionReturned, .refund, .merchantPayout]),
      let paidOut = total([.merchantPayout])
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
