internal import CLinux

/// Where a socket is: an IPv4 or IPv6 address with a port, or nothing more than "a Unix socket".
@frozen public struct SocketAddress: Hashable, Sendable {
  /// Which kind of address it is.
  @frozen public enum Family: UInt8, Sendable { case unix = 0, inet = 4, inet6 = 6 }

  /// The kind.
  public var family: Family
  /// The first eight octets of the address in network order, as a big-endian number (IPv4 is mapped, ::ffff:a.b.c.d).
  public var high: UInt64
  /// The last eight octets.
  public var low: UInt64
  /// The port, in host order.
  public var port: UInt16

  /// Makes an address from its two halves.
  @inlinable public init(family: Family, high: UInt64, low: UInt64, port: UInt16) {
    self.family = family
    self.high = high
    self.low = low
    self.port = port
  }

  /// Makes an IPv4 address.
  @inlinable public init(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8, port: UInt16) {
    let address = UInt64(a) << 24 | UInt64(b) << 16 | UInt64(c) << 8 | UInt64(d)
    self.init(family: .inet, high: 0, low: 0xffff_0000_0000 | address, port: port)
  }

  /// A Unix socket's address; its path is kept elsewhere.
  public static let unix = SocketAddress(family: .unix, high: 0, low: 0, port: 0)

  /// The 16 octets in network order.
  public var octets: [UInt8] {
    (0..<16).map { index in
      let half = index < 8 ? high : low
      return UInt8(truncatingIfNeeded: half >> UInt64(8 * (7 - index % 8)))
    }
  }

  init(octets: UnsafeBufferPointer<UInt8>, family: Family, port: UInt16) {
    var high: UInt64 = 0
    var low: UInt64 = 0
    for index in 0..<8 {
      high = high << 8 | UInt64(octets[index])
      low = low << 8 | UInt64(octets[index + 8])
    }
    self.init(family: family, high: high, low: low, port: port)
  }

  /// Looks up the addresses of a host name or address literal. Blocks: not for a loop thread.
  public static func resolve(_ host: String, port: UInt16) throws(IOError) -> [SocketAddress] {
    let capacity = 16
    var entries = [UInt8](repeating: 0, count: 17 * capacity)
    let count = clinux_resolve(host, &entries, Int32(capacity))
    guard count > 0 else { throw .cannotResolve(code: -count) }
    return (0..<Int(count)).map { index in
      entries.withUnsafeBufferPointer { all in
        let entry = UnsafeBufferPointer(rebasing: all[17 * index..<17 * index + 17])
        return SocketAddress(
          octets: UnsafeBufferPointer(rebasing: entry[1...]), family: entry[0] == 4 ? .inet : .inet6, port: port)
      }
    }
  }
}
