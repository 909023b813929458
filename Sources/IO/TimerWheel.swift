/// Finds the connections whose time has come: a wheel of lists of indices, coarse and cheap.
///
/// A timer is *lazy*: its owner keeps the true deadline and moves it as often as it likes; the wheel only holds
/// an entry at or before that deadline, hands it out when its time comes, and the owner then looks whether the
/// deadline has really passed and schedules again if not. So a request on a kept-alive connection, which moves
/// its deadline several times, costs the wheel nothing.
public struct TimerWheel: ~Copyable {
  /// Nanoseconds that one place stands for.
  public static let granularity: Int64 = 50_000_000
  /// Places; what lies further ahead is handed out early and scheduled again by its owner.
  public static let placeCount: Int64 = 1024

  private struct Entry {
    var next: Int32 = -1
    var previous: Int32 = -1
    /// The tick it is listed at; -1 when it is not.
    var tick: Int64 = -1
  }

  private var heads: [Int32]
  private var entries: [Entry] = []
  private var currentTick: Int64
  private var scheduledCount = 0

  /// Starts the wheel at `now`, in monotonic nanoseconds.
  public init(now: Int64) {
    heads = Array(repeating: -1, count: Int(Self.placeCount))
    currentTick = now / Self.granularity
  }

  /// Says whether nothing is scheduled.
  public var isEmpty: Bool { scheduledCount == 0 }

  /// Makes sure that `index` is handed out no later than just after `deadline` (monotonic nanoseconds).
  @inline(__always)
  public mutating func schedule(_ index: Int, deadline: Int64) {
    let tick = deadline / Self.granularity + 1
    if index < entries.count {
      let listed = entries[index].tick
      if listed >= 0 && listed <= tick { return }
    }
    place(index, tick: tick)
  }

  private mutating func place(_ index: Int, tick wanted: Int64) {
    while entries.count <= index { entries.append(Entry()) }
    if entries[index].tick >= 0 { cancel(index) }
    let tick = min(max(wanted, currentTick + 1), currentTick + Self.placeCount - 1)
    let slot = Int(tick % Self.placeCount)
    entries[index] = Entry(next: heads[slot], previous: -1, tick: tick)
    if heads[slot] >= 0 { entries[Int(heads[slot])].previous = Int32(index) }
    heads[slot] = Int32(index)
    scheduledCount += 1
  }

  /// Takes `index` out; nothing happens when it is not scheduled.
  public mutating func cancel(_ index: Int) {
    guard index < entries.count, entries[index].tick >= 0 else { return }
    let entry = entries[index]
    if entry.previous >= 0 {
      entries[Int(entry.previous)].next = entry.next
    } else {
      heads[Int(entry.tick % Self.placeCount)] = entry.next
    }
    if entry.next >= 0 { entries[Int(entry.next)].previous = entry.previous }
    entries[index].tick = -1
    scheduledCount -= 1
  }

  /// Says whether ``expire(now:into:)`` would do anything at `now`.
  @inline(__always)
  public func isDue(now: Int64) -> Bool { now / Self.granularity > currentTick }

  /// Appends to `expired` every index listed at or before `now`, and takes them out.
  public mutating func expire(now: Int64, into expired: inout [Int]) {
    let target = now / Self.granularity
    if scheduledCount == 0 {
      currentTick = max(currentTick, target)
    } else if target - currentTick >= Self.placeCount {
      // After a long sleep each place is visited once, not once for every lap.
      currentTick = max(currentTick, target - Self.placeCount)
    }
    while currentTick < target {
      currentTick += 1
      let slot = Int(currentTick % Self.placeCount)
      while heads[slot] >= 0 {
        let index = Int(heads[slot])
        cancel(index)
        expired.append(index)
      }
    }
  }

  /// Gives the milliseconds to sleep until the next tick that may matter, or -1 when nothing is scheduled.
  ///
  /// Looks ahead over at most `horizon` places, so that the answer costs little; the sleep is then that long.
  public func sleepMilliseconds(now: Int64, horizon: Int64 = 20) -> Int32 {
    if scheduledCount == 0 { return -1 }
    var tick = currentTick + 1
    let last = currentTick + horizon
    while tick < last && heads[Int(tick % Self.placeCount)] < 0 { tick += 1 }
    let wait = tick * Self.granularity - now
    return Int32(clamping: max(1, wait / 1_000_000 + 1))
  }
}
