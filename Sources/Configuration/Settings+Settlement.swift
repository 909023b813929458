extension Settings {
  /// When an exchange that is sold by the request is paid for, and what of it goes back when its response does not come whole.
  public struct Settlement: Sendable, Hashable {
    /// What goes back.
    public enum Refund: Sendable, Hashable {
      /// Nothing: the price stands.
      case none
      /// The share of the content that was not delivered, where its length was announced; nothing where it was not.
      case share
      /// Everything; but where the client did not take what there was, the share of it.
      case all
    }

    /// When an exact payment of x402 is settled.
    public enum Order: Sendable, Hashable {
      /// Before the upstream is asked.
      case upfront
      /// When the upstream has answered with what costs something; the answer is withheld until then.
      case after
    }

    /// When exact payments of x402 are settled.
    public var order = Order.upfront
    /// Whether responses of at most `limit` octets are withheld until they are whole, and paid for then; longer ones, and event
    /// streams, are paid for at the head.
    public var isAtEnd = false
    /// Most octets of a response that is withheld.
    public var limit = 65_536
    /// What goes back where the upstream breaks off.
    public var broken = Refund.share
    /// What goes back where the client leaves in the middle.
    public var left = Refund.none

    /// Makes the defaults.
    public init() {}
  }
}
