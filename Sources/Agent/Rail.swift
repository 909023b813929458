/// Names a way for money to move, as a caller chooses among them.
public enum Rail: String, Sendable, CaseIterable {
  /// A prepaid wallet of the server's ledger.
  case prepaid
  /// The method `evm` of MPP: a signed authorization or permit, which the server submits to its chain.
  case evm
  /// x402 of version 2 or 1, scheme exact.
  case x402
}
