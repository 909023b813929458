import Bytes
import Encoding
import Gateway
import HTTP
import Methods
import Payments

/// Remembers the last credential of each channel and challenge, by its octets.
///
/// The same octets again need no look at all. A credential that begins with the same challenge, which was found authentic, needs a look at its
/// payload only: no HMAC, and no JSON but that of the voucher. There is one entry for each, and the next voucher takes its place, so that many
/// vouchers of one channel push nobody out.
struct VoucherCache: ~Copyable {
  /// What is known of a credential.
  enum Match {
    /// The last one again.
    case repeated(Entry)
    /// The same challenge; the payload's object begins at this octet of the text that the digits from `start` on stand for.
    case fresh(Entry, start: Int)
  }

  /// A credential and what it was resolved to.
  final class Entry: Sendable {
    let session: ResolvedSession
    let voucher: SessionVoucher
    fileprivate let octets: [UInt8]
    fileprivate let field: FieldName
    fileprivate let route: RouteIndex
    /// How many of the field's octets stand for the challenge: whole groups of four digits.
    fileprivate let prefixCount: Int
    /// What of the challenge the next group begins with.
    fileprivate let lead: [UInt8]

    fileprivate init(
      _ session: ResolvedSession, _ voucher: SessionVoucher, _ octets: [UInt8], _ field: FieldName, _ route: RouteIndex, prefixCount: Int,
      lead: [UInt8]
    ) {
      self.session = session
      self.voucher = voucher
      self.octets = octets
      self.field = field
      self.route = route
      self.prefixCount = prefixCount
      self.lead = lead
    }
  }

  /// Places in the table; a power of two.
  static let capacity = 4_096
  /// Places that a challenge may stand in.
  private static let ways = 4
  /// The longest credential that is remembered, in octets.
  static let octetLimit = 8_192
  /// How many of a field's first octets are hashed: the challenge's id stands among them.
  private static let hashedCount = 192

  private var hashes = [UInt64](repeating: 0, count: VoucherCache.capacity)
  private var entries = [Entry?](repeating: nil, count: VoucherCache.capacity)
  /// Which place of a full set is taken next.
  private var next = [UInt8](repeating: 0, count: VoucherCache.capacity / VoucherCache.ways)
  private let seed: UInt64

  /// Makes an empty cache; `seed` is random, so that nobody can choose challenges that meet in one set.
  init(seed: UInt64) { self.seed = seed }

  /// Finds what is known of a credential on a route.
  func find(_ value: PresentedCredential.Value, route: RouteIndex) -> Match? {
    guard value.octets.count > Self.hashedCount, let place = place(value, route), let entry = entries[place] else { return nil }
    let isSame = entry.octets.withUnsafeBytes { $0.count == value.octets.count && CredentialCache.isEqual($0, value.octets) }
    return isSame ? .repeated(entry) : .fresh(entry, start: entry.prefixCount)
  }

  /// Remembers a credential whose challenge is authentic and whose voucher was accepted; nothing where the challenge does not stand first in it.
  mutating func insert(_ value: PresentedCredential.Value, route: RouteIndex, _ session: ResolvedSession, _ voucher: SessionVoucher) {
    guard value.octets.count > Self.hashedCount, value.octets.count <= Self.octetLimit,
      case .one(let token) = CredentialScan(value.octets), token.lowerBound < value.octets.count,
      let text = Base64URL.decode(UnsafeRawBufferPointer(rebasing: value.octets[token])), let payload = Self.payload(in: text)
    else { return }
    let whole = payload / 3 * 3
    let entry = Entry(
      session, voucher, Array(value.octets), value.field, route, prefixCount: token.lowerBound + whole / 3 * 4,
      lead: Array(text[whole..<payload]))
    put(entry, hash(value.octets, route), over: place(value, route))
  }

  /// Puts another voucher in an entry's place.
  mutating func replace(_ entry: Entry, by value: PresentedCredential.Value, _ voucher: SessionVoucher) {
    guard value.octets.count <= Self.octetLimit else { return }
    let fresh = Entry(
      entry.session, voucher, Array(value.octets), entry.field, entry.route, prefixCount: entry.prefixCount, lead: entry.lead)
    put(fresh, hash(value.octets, entry.route), over: place(value, entry.route))
  }

  /// Forgets a credential whose channel has ended.
  mutating func remove(_ value: PresentedCredential.Value, route: RouteIndex) {
    guard value.octets.count > Self.hashedCount, let place = place(value, route) else { return }
    hashes[place] = 0
    entries[place] = nil
  }

  /// The payload's object of a credential that begins as an entry's does; nil where it is another thing.
  static func payload(of value: PresentedCredential.Value, after entry: Entry, start: Int) -> JSONObject? {
    guard start < value.octets.count, var text = Base64URL.decode(UnsafeRawBufferPointer(rebasing: value.octets[start...])),
      text.starts(with: entry.lead)
    else { return nil }
    if entry.lead.isEmpty { text.insert(UInt8(ascii: "{"), at: 0) } else { text.replaceSubrange(..<entry.lead.count, with: [UInt8(ascii: "{")]) }
    // A second challenge among the rest would be another reading of the whole.
    guard let rest = (try? JSON.parse(text))?.objectValue, rest["challenge"] == nil else { return nil }
    return rest["payload"]?.objectValue
  }

  private mutating func put(_ entry: Entry, _ hash: UInt64, over known: Int?) {
    let places = Self.places(hash)
    let place = known ?? places.first { hashes[$0] == 0 } ?? displaced(places)
    hashes[place] = hash
    entries[place] = entry
  }

  private func place(_ value: PresentedCredential.Value, _ route: RouteIndex) -> Int? {
    let hash = hash(value.octets, route)
    return Self.places(hash).first { hashes[$0] == hash && isBegun($0, value, route) }
  }

  private func isBegun(_ place: Int, _ value: PresentedCredential.Value, _ route: RouteIndex) -> Bool {
    guard let entry = entries[place], entry.route == route, entry.field == value.field, value.octets.count > entry.prefixCount else { return false }
    return entry.octets.withUnsafeBytes {
      CredentialCache.isEqual(
        UnsafeRawBufferPointer(rebasing: $0[..<entry.prefixCount]), UnsafeRawBufferPointer(rebasing: value.octets[..<entry.prefixCount]))
    }
  }

  private static func places(_ hash: UInt64) -> Range<Int> {
    let first = Int(truncatingIfNeeded: hash) & (capacity - ways)
    return first..<first + ways
  }

  private mutating func displaced(_ places: Range<Int>) -> Int {
    let set = places.lowerBound / Self.ways
    defer { next[set] = (next[set] + 1) % UInt8(Self.ways) }
    return places.lowerBound + Int(next[set])
  }

  /// Hashes a credential's beginning; never 0, which is a vacant place's.
  private func hash(_ octets: UnsafeRawBufferPointer, _ route: RouteIndex) -> UInt64 {
    var hash = seed ^ UInt64(route) << 48
    var index = 0
    while index + 8 <= Self.hashedCount {
      let product = (hash ^ octets.loadUnaligned(fromByteOffset: index, as: UInt64.self)).multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
      hash = product.high ^ product.low
      index += 8
    }
    return max(1, hash ^ hash >> 29)
  }

  /// Where the member `payload` begins in a credential's text whose only member before it is the challenge; nil elsewhere.
  static func payload(in text: [UInt8]) -> Int? {
    let challenge = Array("{\"challenge\":{".utf8)
    guard text.starts(with: challenge) else { return nil }
    var depth = 1
    var place = challenge.count
    var isString = false
    while place < text.count, depth > 0 {
      switch (text[place], isString) {
      case (UInt8(ascii: "\\"), true): place += 1
      case (UInt8(ascii: "\""), _): isString.toggle()
      case (UInt8(ascii: "{"), false), (UInt8(ascii: "["), false): depth += 1
      case (UInt8(ascii: "}"), false), (UInt8(ascii: "]"), false): depth -= 1
      default: break
      }
      place += 1
    }
    let rest = Array(",\"payload\":{".utf8)
    guard text[min(place, text.count)...].starts(with: rest) else { return nil }
    return place + 1
  }
}
