import Bytes
import Crypto
public import Encoding
import HTTP
public import Metering

/// Counts requests of one kind by one subject over a period, such as a wallet's on a route in a day.
public struct VolumeOrder: Sendable, Hashable {
  /// Names what is counted of whom; made by `key(of:scope:subject:)`.
  public var key: Digest32
  public var period: Period

  /// Names what a subject uses of something in a period; different uses of the same scope have different names.
  public init(_ use: StaticString, scope: String, subject: Digest32, period: Period) {
    var hash = SHA256()
    let text = "volume-v1|\(use)|\(period.word)|\(scope)|"
    hash.update(text)
    hash.update(subject)
    key = hash.finalize()
    self.period = period
  }
}

/// A request that was counted; given back where it then cost nothing.
public struct CountedVolume: Sendable, Hashable {
  let key: Digest32
  let number: Int64
  let epoch: UInt32
  /// How many were counted in the period before.
  public let position: UInt64
  /// The entry that counted it.
  public let lsn: LSN
}

/// What one key has counted.
struct Volume {
  var period: Period
  /// Which period it is.
  var number: Int64
  var count: UInt64
}

extension Ledger {
  /// Counts a request, unless as many as `limit` were counted in the present period; nil then, and where no more is kept. What is applied
  /// later is durable later, so whoever waits for the debit waits for this too.
  ///
  /// The period is that of the later of the clock and the last entry: a clock that is set back gives nothing twice.
  public func count(_ order: VolumeOrder, below limit: UInt64, at now: Timestamp) throws(Refusal) -> CountedVolume? {
    try debit { (state) throws(Refusal) in try state.count(order, below: limit, at: now) }
  }

  /// Takes back what was counted for a request that cost nothing in the end.
  public func uncount(_ counted: CountedVolume, at now: Timestamp) {
    try? debit { (state) throws(Refusal) in state.uncount(counted, at: now) }
  }

  /// Tells how many were counted in the present period.
  public func volume(_ order: VolumeOrder, at now: Timestamp) -> UInt64 {
    state.withLock { state in
      guard let volume = state.volumes[order.key], volume.number == order.period.number(at: max(now, state.clock)) else { return 0 }
      return volume.count
    }
  }
}

extension LedgerState {
  mutating func count(_ order: VolumeOrder, below limit: UInt64, at now: Timestamp) throws(Refusal) -> CountedVolume? {
    try checkSelling()
    if now > clock { clock = now }
    let number = order.period.number(at: clock)
    let known = volumes[order.key]
    // A new period begins with nothing.
    let position = known.map { $0.number == number ? $0.count : 0 } ?? 0
    guard position < limit, position < .max else { return nil }
    if known == nil {
      guard volumes.count < LedgerLimit.volumes.most else { return nil }
      expiries.add(.volume(order.key), at: clock + order.period.longest)
    }
    volumes[order.key] = Volume(period: order.period, number: number, count: position + 1)
    write(volume: order.key)
    return CountedVolume(key: order.key, number: number, epoch: epoch, position: position, lsn: advance(at: now))
  }

  mutating func uncount(_ counted: CountedVolume, at now: Timestamp) {
    // Memory that was read back may never have heard of it.
    guard availability != .unavailable, counted.epoch == epoch, let volume = volumes[counted.key], volume.number == counted.number, volume.count > 0 else { return }
    volumes[counted.key]?.count -= 1
    write(volume: counted.key)
    _ = advance(at: now)
  }

  /// Forgets a volume whose period is over; one that goes on is looked at again.
  mutating func forgetVolume(_ key: Digest32, at now: Timestamp) {
    guard let volume = volumes[key] else { return }
    let latest = max(now, clock)
    guard volume.number != volume.period.number(at: latest) else { return expiries.add(.volume(key), at: latest + volume.period.longest) }
    volumes[key] = nil
    redo.removeRecord(RecordKey(.volume, key))
    // The entry takes the clock along: what is forgotten cannot be had again by setting it back.
    _ = advance(at: now)
  }

  private mutating func write(volume key: Digest32) {
    guard let volume = volumes[key] else { return }
    let place = redo.beginRecord(RecordKey(.volume, key))
    redo.put(volume.period.rawValue)
    redo.put(volume.number)
    redo.put(volume.count)
    redo.endRecord(place)
  }

  mutating func readVolume(_ reader: inout RecordReader, _ key: Digest32) throws(LedgerError) {
    guard let period = Period(rawValue: try reader.integer()) else { throw .malformed(.volume) }
    volumes[key] = Volume(period: period, number: try reader.integer(), count: try reader.integer())
    expiries.add(.volume(key), at: clock + period.longest)
  }
}
