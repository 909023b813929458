import Bytes
import Encoding
import HTTP
import Metering
import Synchronization

/// Counts the free requests that clients' addresses have used, over all workers. In memory only: who does not pay writes nothing to the
/// disk, and a restart begins anew.
final class AddressVolumes: Sendable {
  /// The most addresses and routes that are counted; who comes when all are in use gets nothing free.
  static let limit = 65_536

  /// A request that was counted; given back where the upstream failed.
  struct Counted {
    fileprivate let key: Key
    fileprivate let number: Int64
  }

  fileprivate struct Key: Hashable {
    let scope: Digest32
    let client: ClientAddress
    let period: Period
  }

  private struct Counts {
    var byKey: [Key: (number: Int64, count: UInt64)] = [:]
    /// The latest instant seen: a clock that is set back gives nothing twice.
    var clock = Timestamp(microseconds: 0)
    /// When what is over may be looked for again.
    var nextTidying = Timestamp(microseconds: 0)
  }

  private let counts = Mutex(Counts())

  /// Takes one of the requests that an address has free in the present period; nil where there is none left. An IPv6 customer's
  /// addresses are one.
  func take(_ scope: Digest32, _ client: ClientAddress, _ period: Period, below limit: UInt64, at now: Timestamp) -> Counted? {
    let key = Key(scope: scope, client: client.limitKey, period: period)
    return counts.withLock { counts in
      if now > counts.clock { counts.clock = now }
      let number = period.number(at: counts.clock)
      if let known = counts.byKey[key] {
        let used = known.number == number ? known.count : 0
        guard used < limit else { return nil }
        counts.byKey[key] = (number, used + 1)
        return Counted(key: key, number: number)
      }
      if counts.byKey.count >= Self.limit { Self.tidy(&counts) }
      guard counts.byKey.count < Self.limit, limit > 0 else { return nil }
      counts.byKey[key] = (number, 1)
      return Counted(key: key, number: number)
    }
  }

  /// Gives back a request that was counted; one of a period that is over is nobody's any more.
  func giveBack(_ counted: Counted) {
    counts.withLock { counts in
      guard let known = counts.byKey[counted.key], known.number == counted.number, known.count > 0 else { return }
      counts.byKey[counted.key] = (known.number, known.count - 1)
    }
  }

  /// Forgets periods that are over; at most once a minute, since it looks at every entry.
  private static func tidy(_ counts: inout Counts) {
    guard counts.clock >= counts.nextTidying else { return }
    let clock = counts.clock
    counts.nextTidying = clock + .seconds(60)
    counts.byKey = counts.byKey.filter { $0.key.period.number(at: clock) == $0.value.number }
  }
}
