import Bytes

/// What pricers answered, by everything that they were shown. Two halves of bounded size: what is asked for again moves to the young
/// one, and the old one is dropped when the young one is full.
struct PriceCache {
  /// Answers of one half.
  static let halfLimit = 4096

  private struct Entry {
    let answer: PriceAnswer
    /// Monotonic nanoseconds.
    let until: Int64
  }

  private var young: [Digest32: Entry] = [:]
  private var old: [Digest32: Entry] = [:]

  /// The answers that are kept.
  var count: Int { young.count + old.count }

  /// Finds an answer that still holds.
  mutating func find(_ key: Digest32, at now: Int64) -> PriceAnswer? {
    if let entry = young[key] { return entry.until > now ? entry.answer : nil }
    guard let entry = old.removeValue(forKey: key), entry.until > now else { return nil }
    put(entry, for: key)
    return entry.answer
  }

  /// Keeps an answer until an instant.
  mutating func insert(_ answer: PriceAnswer, for key: Digest32, until: Int64) {
    old[key] = nil
    put(Entry(answer: answer, until: until), for: key)
  }

  private mutating func put(_ entry: Entry, for key: Digest32) {
    if young.count >= Self.halfLimit, young[key] == nil {
      old = young
      young.removeAll(keepingCapacity: false)
    }
    young[key] = entry
  }
}
