import Bytes
import Encoding
import HTTP
import Synchronization

/// Counts rates of clients, wallets, sessions and routes over all workers, in a table of fixed size that never allocates after it was
/// made.
///
/// Rates follow the generic cell rate algorithm: an entry holds the instant up to which its rate is used. An entry that has
/// fallen behind the clock says nothing and is taken over by another; one that has not is never given up, so nobody gets a
/// fresh rate by pushing his entry out. Those for which the table has no place share one entry of their kind.
public final class RateTable: Sendable {
  /// What is counted.
  public enum Kind: UInt8, Sendable, CaseIterable {
    /// Of a client's address: all requests, challenges, credentials that failed.
    case requests, challenges, failures
    /// Of all clients together.
    case registrations
    case wallet, session, route
  }

  /// What an entry belongs to.
  public struct Key: Sendable, Equatable {
    let kind: Kind
    let high: UInt64
    let low: UInt64

    /// Counts by address; an IPv6 customer's addresses are one.
    public init(_ kind: Kind, _ client: ClientAddress) {
      self.kind = kind
      (high, low) = (client.limitKey.high, client.limitKey.low)
    }

    /// Counts by a digest or key, of which half is enough: nobody can choose two that agree in it.
    public init(_ kind: Kind, _ digest: Digest32) {
      self.kind = kind
      (high, low) = digest.withUnsafeBytes {
        ($0.loadUnaligned(as: UInt64.self), $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
      }
    }

    /// Counts all together.
    public init(_ kind: Kind) { (self.kind, high, low) = (kind, 0, 0) }
  }

  private struct Entry {
    var key = Key(.requests)
    /// Nanoseconds of the monotonic clock up to which the rate is used.
    var until = Int64.min
  }

  /// A part of the table behind a lock of its own.
  private final class Shard: Sendable {
    let entries: Mutex<[Entry]>
    init(count: Int) { entries = Mutex(Array(repeating: Entry(), count: count)) }
  }

  /// Entries that a key may be among.
  private static let setSize = 8
  /// Entries that a table has at least and at most.
  private static let sizes = 1024...262_144
  /// Entries of one lock.
  private static let shardSize = 4096

  private let seed: UInt64
  private let shards: [Shard]
  private let setMask: Int

  /// Makes a table with room for `places` entries, from 1,024 to 262,144. `seed` is random, so that nobody can choose
  /// addresses that meet in one set.
  public init(places: Int, seed: UInt64) {
    self.seed = seed
    var size = Self.sizes.lowerBound
    while size < Self.sizes.upperBound, size < places { size *= 2 }
    let shardSize = min(size, Self.shardSize)
    // One entry of each kind stands behind the sets: those without a place share it.
    shards = (0..<size / shardSize).map { _ in Shard(count: shardSize + Kind.allCases.count) }
    setMask = shardSize / Self.setSize - 1
  }

  /// Decides whether `count` more of what the key counts may happen at once, and counts them; all or none.
  public func spend(_ key: Key, _ limit: RateLimit, count: UInt32 = 1, at now: Instant) -> RateDecision {
    with(key, now) { Self.spend(&$0, limit, count, now.nanoseconds) }
  }

  /// Decides as `spend` does, and counts nothing.
  public func look(_ key: Key, _ limit: RateLimit, at now: Instant) -> RateDecision {
    with(key, now) { until in
      var copy = until
      return Self.spend(&copy, limit, 1, now.nanoseconds)
    }
  }

  private static func spend(_ until: inout Int64, _ limit: RateLimit, _ count: UInt32, _ now: Int64) -> RateDecision {
    guard !limit.refusesAll else { return .refused(retryAfter: 60) }
    guard count > 0 else { return .admitted }
    let (others, overflows) = limit.interval.multipliedReportingOverflow(by: Int64(count - 1))
    let start = max(until, now)
    // The last of them is as far ahead as all before it take it.
    let (ahead, passes) = (start - now).addingReportingOverflow(others)
    guard !overflows, !passes else { return .refused(retryAfter: .max) }
    guard ahead <= limit.allowance else {
      let wait = (ahead - limit.allowance + 999_999_999) / 1_000_000_000
      return .refused(retryAfter: UInt32(clamping: max(1, wait)))
    }
    until = start + others + limit.interval
    return .admitted
  }

  /// Finds the key's entry, or takes over an idle one of its set, or uses the shared one.
  private func with(_ key: Key, _ now: Instant, _ body: (inout Int64) -> RateDecision) -> RateDecision {
    let hash = hash(key)
    let shard = shards[Int(truncatingIfNeeded: hash >> 40) & (shards.count - 1)]
    let first = (Int(truncatingIfNeeded: hash) & setMask) * Self.setSize
    return shard.entries.withLock { entries in
      var idle: Int?
      for place in first..<first + Self.setSize {
        if entries[place].key == key { return body(&entries[place].until) }
        if idle == nil, entries[place].until <= now.nanoseconds { idle = place }
      }
      guard let idle else { return body(&entries[entries.count - 1 - Int(key.kind.rawValue)].until) }
      entries[idle] = Entry(key: key)
      return body(&entries[idle].until)
    }
  }

  private func hash(_ key: Key) -> UInt64 {
    let low = key.low ^ UInt64(key.kind.rawValue) << 56
    let product = (key.high ^ seed).multipliedFullWidth(by: low ^ 0x9E37_79B9_7F4A_7C15 &+ seed &* 3 | 1)
    let mixed = (product.high ^ product.low ^ low).multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
    return mixed.high ^ mixed.low
  }
}
