/// Bounds what a JSON text may ask for.
public struct JSONLimits: Hashable, Sendable {
  /// The most octets.
  public var octets: Int
  /// The most arrays and objects inside one another.
  public var depth: Int

  /// Makes limits of a number of octets and of levels.
  public init(octets: Int, depth: Int) {
    self.octets = octets
    self.depth = depth
  }

  /// One mebioctet, 32 levels.
  public static let standard = JSONLimits(octets: 1 << 20, depth: 32)
}
