import Bytes
import Gateway
import HTTP

/// Remembers what bearer credentials were resolved to, by the octets of their fields: the same ones come again with each request.
///
/// It has a fixed number of places in sets of four; in a full set new entries take one place after the other. Only credentials that were
/// verified come in, and an entry is found only by all of its octets, compared in constant time.
///
/// Of a thousand sessions in turn nothing is left in the processor's caches: so a look touches one line of hashes, one entry and its octets.
struct CredentialCache: ~Copyable {
  private struct Entry {
    var octets: UnsafeMutableRawBufferPointer
    var field: FieldName
    var route: RouteIndex
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

  // Safe because: both have `capacity` elements from init to deinit; an entry is initialised, and owns its octets, exactly while its hash
  // is not 0.
  private let hashes: UnsafeMutablePointer<UInt64>
  private let entries: UnsafeMutablePointer<Entry>
  /// Which place of a full set is taken next.
  private var next: [UInt8] = Array(repeating: 0, count: CredentialCache.capacity / CredentialCache.ways)
  private let seed: UInt64

  /// Makes an empty cache; `seed` is random, so that nobody can choose credentials that meet in one set.
  init(seed: UInt64) {
    self.seed = seed
    hashes = .allocate(capacity: Self.capacity)
    hashes.initialize(repeating: 0, count: Self.capacity)
    entries = .allocate(capacity: Self.capacity)
  }

  deinit {
    for place in 0..<Self.capacity { vacate(place) }
    hashes.deallocate()
    entries.deallocate()
  }

  /// Finds what a credential was resolved to on a route.
  func find(_ value: PresentedCredential.Value, route: RouteIndex) -> ResolvedSession? {
    let hash = hash(value.octets, route)
    for place in Self.places(hash) where isEntry(place, value, route, hash) { return entries[place].session }
    return nil
  }

  /// Remembers a credential.
  mutating func insert(_ value: PresentedCredential.Value, route: RouteIndex, _ session: ResolvedSession) {
    guard value.octets.count <= Self.octetLimit else { return }
    let hash = hash(value.octets, route)
    let places = Self.places(hash)
    let place = places.first { isEntry($0, value, route, hash) } ?? places.first { hashes[$0] == 0 } ?? displaced(places)
    vacate(place)
    let octets = UnsafeMutableRawBufferPointer.allocate(byteCount: value.octets.count, alignment: 8)
    octets.copyMemory(from: value.octets)
    (entries + place).initialize(to: Entry(octets: octets, field: value.field, route: route, session: session))
    hashes[place] = hash
  }

  /// Forgets a credential whose session has ended.
  mutating func remove(_ value: PresentedCredential.Value, route: RouteIndex) {
    let hash = hash(value.octets, route)
    for place in Self.places(hash) where isEntry(place, value, route, hash) { vacate(place) }
  }

  private func vacate(_ place: Int) {
    guard hashes[place] != 0 else { return }
    hashes[place] = 0
    entries[place].octets.deallocate()
    (entries + place).deinitialize(count: 1)
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

  @inline(__always)
  private func isEntry(_ place: Int, _ value: PresentedCredential.Value, _ route: RouteIndex, _ hash: UInt64) -> Bool {
    guard hashes[place] == hash else { return false }
    let entry = entries + place
    guard entry.pointee.route == route, entry.pointee.field == value.field, entry.pointee.octets.count == value.octets.count else { return false }
    return Self.isEqual(UnsafeRawBufferPointer(entry.pointee.octets), value.octets)
  }

  /// Hashes a credential's end; never 0, which is a vacant place's.
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
    return max(1, hash ^ hash >> 29)
  }

  /// Compares octets of equal count in a time that depends on the count only, eight at a time: a preimage stands among them.
  static func isEqual(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
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
