import Payments

extension Settings {
  /// The extensions of x402 that all routes have.
  public struct X402: Sendable, Hashable {
    /// Whether payers may name their payments, or must (extension payment-identifier).
    public enum Identifier: String, Sendable, Hashable, CaseIterable {
      case none
      case optional
      case required
    }

    public var identifier = Identifier.none
    /// Whether offers and settlements are signed (extension offer-receipt).
    public var signs = false

    /// Makes the defaults.
    public init() {}
  }
}
