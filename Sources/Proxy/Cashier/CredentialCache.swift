import Bytes
import Gateway
import HTTP

/// Remembers what bearer credentials were resolved to, by the octets of their fields: the same ones come again with each request.
///
/// It has a fixed number of places in sets of four; in a full set new entries take one place after the other. Only credentials that were
/// verified come in, and an entry is found only by all of its octets, compared in constant time.
struct CredentialCache {
  private struct Entry {
    var octets: [UInt8]
    var field: FieldName
    var route: RouteIndex
    var hash: UInt64
    var session: ResolvedSession
  }

  /// Places in the table; a power of two.
  static let capacity = 8192
  /// Places that a credential may stand in: a thousand sessions in turn then hardly ever displace one another.
  private static let ways = 4
  /// The longest credential that is remembered, in octets.
  static let octetLimit = 4096
  /// How many of a credential's last octets are hashed: the session's id stands there.
  private static let hashedCount = 64

  private var entries: [Entry?] = Array(repeating: nil, count: CredentialCache.capacity)
  /// Which place of a full set is taken next.
  private var next: [UInt8] = Array(repeating: 0, count: CredentialCache.capacity / CredentialCache.ways)
  private let seed: UInt64

  /// Makes an empty cache; `seed` is random, so that nobody can choose credentials that meet in one set.
  init(seed: UInt64) {
    self.seed = seed
  }

  /// Finds what a credential was resolved to on a route.
  func find(_ value: PresentedCredential.Value, route: RouteIndex) -> ResolvedSession? {
    let hash = hash(value.octets, route)
    for place in Self.places(hash) where isEntry(place, value, route, hash) { return entries[place]?.session }
    return nil
  }

  /// Remembers a credential.
  mutating func insert(_ value: PresentedCredential.Value, route: RouteIndex, _ session: ResolvedSession) {
    guard value.octets.count <= Self.octetLimit else { return }
    let hash = hash(value.octets, route)
    let places = Self.places(hash)
    let place = places.first { isEntry($0, value, route, hash) } ?? places.first { entries[$0] == nil } ?? displaced(places)
    entries[place] = Entry(octets: Array(value.octets), field: value.field, route: route, hash: hash, session: session)
  }

  /// Forgets a credential whose session has ended.
  mutating func remove(_ value: PresentedCredential.Value, route: RouteIndex) {
    let hash = hash(value.octets, route)
    for place in Self.places(hash) where isEntry(place, value, route, hash) { entries[place] = nil }
  }

  private static func places(_ hash: UInt64) -> Range<Int> {
    let first = Int(truncatingIfNeeded: hash) & (capacity - ways)
    return first..<first + ways
  }

  /// The place of a full set that has been used longest.
  private mutating func displaced(_ places: Range<Int>) -> Int {
    let set = places.lowerBound / Self.ways
    defer { next[set] = (next[set] + 1) % UInt8(Self.ways) }
    return places.lowerBound + Int(next[set])
  }

  private func isEntry(_ place: Int, _ value: PresentedCredential.Value, _ route: RouteIndex, _ hash: UInt64) -> Bool {
    guard entries[place]?.hash == hash, let entry = entries[place], entry.route == route, entry.field == value.field,
      entry.octets.count == value.octets.count
    else { return false }
    return entry.octets.withUnsafeBytes { Self.isEqual($0, value.octets) }
  }

  private func hash(_ octets: UnsafeRawBufferPointer, _ route: RouteIndex) -> UInt64 {
    var hash = seed ^ UInt64(octets.count) &* 0x9E37_79B9_7F4A_7C15 ^ UInt64(route) << 48
    var index = max(0, octets.count - Self.hashedCount)
    while index + 8 <= octets.count {
      let product = (hash ^ octets.loadUnaligned(fromByteOffset: index, as: UInt64.self)).multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
      hash = product.high ^ product.low
      index += 8
    }
    while index < octets.count {
      hash = (hash ^ UInt64(octets[index])) &* 0x9E37_79B9_7F4A_7C15
      index += 1
    }
    return hash ^ hash >> 29
  }

  /// Compares octets of equal count in a time that depends on the count only, eight at a time: a preimage stands among them.
  private static func isEqual(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
    var difference: UInt64 = 0
    var index = 0
    while index + 8 <= left.count {
      difference |=
        left.loadUnaligned(fromByteOffset: index, as: UInt64.self) ^ right.loadUnaligned(fromByteOffset: index, as: UInt64.self)
      index += 8
    }
    while index < left.count {
      difference |= UInt64(left[index] ^ right[index])
      index += 1
    }
    return difference == 0
  }
}
