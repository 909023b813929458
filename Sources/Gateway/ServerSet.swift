/// A set of the servers of one upstream, by their numbers in the order of the configuration.
@frozen public struct ServerSet: OptionSet, Sendable, Hashable {
  /// One bit a server.
  public let rawValue: UInt64

  /// Most servers of one upstream.
  public static let limit = 64

  /// Makes a set of bits.
  @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// Makes the set of one server, below `limit`.
  @inlinable public init(server: Int) {
    precondition(server >= 0 && server < Self.limit)
    rawValue = 1 << UInt64(server)
  }

  /// Makes the set of the first `count` servers.
  @inlinable public init(first count: Int) { rawValue = count >= Self.limit ? .max : (1 << UInt64(max(0, count))) - 1 }

  /// How many servers it has.
  @inlinable public var count: Int { rawValue.nonzeroBitCount }

  /// Tells whether the server is one of it.
  @inlinable public func has(_ server: Int) -> Bool { rawValue >> UInt64(server) & 1 == 1 }

  /// The server with the lowest number; nil where the set is empty.
  @inlinable public var first: Int? { rawValue == 0 ? nil : rawValue.trailingZeroBitCount }

  /// Takes the server with the lowest number out.
  @inlinable public mutating func popFirst() -> Int? {
    guard let first else { return nil }
    self = ServerSet(rawValue: rawValue & (rawValue &- 1))
    return first
  }
}
