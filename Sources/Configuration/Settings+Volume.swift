import Metering

extension Settings.Route {
  /// What is free or cheaper by volume, in words.
  public var volumeWords: [String] { freeUnits.map { "\($0.words) free" } + tiers.map(\.words) }
}

extension Settings {
  /// Whose requests are counted together.
  public enum VolumeSubject: String, Sendable, Hashable, CaseIterable {
    /// Of a wallet: what its sessions ask for.
    case wallet
    /// Of a client's address: what is asked for without a credential. An IPv6 customer's addresses are one.
    case address
  }

  /// How many requests a subject has free in each period.
  public struct FreeUnits: Sendable, Hashable {
    public var count: UInt64
    public var subject: VolumeSubject
    public var period: Period

    /// Makes an allowance.
    public init(count: UInt64, subject: VolumeSubject, period: Period) {
      self.count = count
      self.subject = subject
      self.period = period
    }

    /// As a configuration has it.
    public var words: String { "\(count) requests per \(subject.rawValue) per \(period.word)" }
  }

  /// What a wallet pays once it has asked for so many requests in a period.
  public struct Tier: Sendable, Hashable {
    /// The most tiers of a route.
    public static let limit = 8

    public var price: Price
    /// The requests before.
    public var beyond: UInt64
    public var period: Period

    /// Makes a tier.
    public init(price: Price, beyond: UInt64, period: Period) {
      self.price = price
      self.beyond = beyond
      self.period = period
    }

    /// As a configuration has it.
    public var words: String { "\(price.words) beyond \(beyond) requests per wallet per \(period.word)" }
  }
}
