/// Names of the `prepaid` payment method: agents hold wallets on the proxy's own ledger, and pay from them with Ed25519 signatures.
public enum Prepaid {
  /// The method's identifier in challenges and receipts.
  public static let method = "prepaid"
  /// The path that a wallet query is posted to.
  public static let walletPath = "/.well-known/prepaid/wallet"
  /// The first line of what a payment signature covers.
  static let paymentContext = "prepaid-v1\n"
  /// The first line of what a wallet query's signature covers.
  static let queryContext = "prepaid-query-v1\n"
}
