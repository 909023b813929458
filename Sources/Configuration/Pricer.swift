import HTTP
import Metering
import Payments

extension Settings {
  /// A service that is asked what a request costs.
  public struct Pricer: Sendable, Hashable {
    /// Where it is asked, as an index into `Settings.upstreams`: one of them with the same origin, or one that was made for it.
    public var upstream = 0
    /// The URL as it was written.
    public var url: String
    /// Its authority, as `Host` carries it.
    public var authority: String
    /// Its path and query.
    public var target: String
    /// How long it may take.
    public var timeout = Duration.seconds(2)
    /// How long an answer holds for the same question, unless it says less itself; zero: for the requests that wait for it only.
    public var lifetime = Duration.seconds(30)
    /// Names of the request fields that it is shown, in lower case.
    public var fields: [String] = []
    /// Most octets of request content, which it is shown; 0: none is shown.
    public var bodyLimit = 0
    /// What a request costs when it cannot be asked; nil: nothing is sold then.
    public var fallback: Price?

    /// Makes a pricer.
    public init(url: String, authority: String, target: String) {
      self.url = url
      self.authority = authority
      self.target = target
    }
  }
}

extension Price {
  /// What stands for a price that is asked for and not known: nobody can pay it, should it ever be offered.
  public static func unknown(in currency: Currency) -> Price? {
    Rate(amount: .max >> 8, unitSize: 1, unit: .request).flatMap { Price(currency: currency, parts: [$0]) }
  }
}
