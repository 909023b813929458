/// Decides which connection to an upstream serves which request: reuse the one used last, open another, wait, or
/// refuse. It never opens, reads or closes anything: the driver does, and reports.
///
/// A *slot* is the driver's number for a connection, a *ticket* its number for a request that waits.
public struct UpstreamPool: ~Copyable {
  /// How much of an upstream may be used at once.
  public struct Limits: Sendable, Hashable {
    /// Most connections, busy, idle and being opened together.
    public var connections: Int
    /// Most connections kept without work.
    public var idle: Int
    /// Most requests that wait for a connection.
    public var waiting: Int

    public init(connections: Int, idle: Int, waiting: Int = 1024) {
      self.connections = max(1, connections)
      self.idle = max(0, idle)
      self.waiting = max(0, waiting)
    }
  }

  /// What to do for a request that needs a connection.
  public enum Lease: Equatable, Sendable {
    /// Send it on this idle connection.
    case reuse(slot: Int32)
    /// Open a connection for it; the place is counted already.
    case connect
    /// Its ticket is in the queue: it comes back from `released` or `closed`.
    case wait
    /// Too many wait.
    case refuse
  }

  /// What to do with a connection that has served its request.
  public enum Release: Equatable, Sendable {
    /// Keep it; it is listed as idle.
    case keep
    /// Close it and report `closed`.
    case close
    /// Give it to the request with this ticket.
    case assign(ticket: UInt64)
  }

  public let limits: Limits
  /// Connections that are open or being opened.
  public private(set) var connectionCount = 0
  private var idle: [Int32] = []
  private var queue: [UInt64] = []
  private var queueStart = 0

  /// Makes an empty pool.
  public init(limits: Limits) {
    self.limits = limits
    idle.reserveCapacity(min(limits.idle, 256))
  }

  /// Connections without work.
  public var idleCount: Int { idle.count }
  /// Requests in the queue.
  public var waitingCount: Int { queue.count - queueStart }

  /// Asks for a connection. `fresh` excludes idle ones: a request that was lost on one must not meet another dead one.
  public mutating func lease(ticket: UInt64, fresh: Bool = false) -> Lease {
    if !fresh, let slot = idle.popLast() { return .reuse(slot: slot) }
    if connectionCount < limits.connections {
      connectionCount += 1
      return .connect
    }
    guard waitingCount < limits.waiting else { return .refuse }
    queue.append(ticket)
    return .wait
  }

  /// Reports that a connection has served its request and can serve another.
  public mutating func released(slot: Int32) -> Release {
    if let ticket = nextTicket() { return .assign(ticket: ticket) }
    guard idle.count < limits.idle else { return .close }
    idle.append(slot)
    return .keep
  }

  /// Reports that a connection (busy, idle, or one that could not be opened) is gone. The ticket that comes back may
  /// open one in its place, which is counted already.
  public mutating func closed(slot: Int32) -> UInt64? {
    if let index = idle.lastIndex(of: slot) { idle.remove(at: index) }
    connectionCount -= 1
    guard let ticket = nextTicket() else { return nil }
    connectionCount += 1
    return ticket
  }

  /// Gives a place back that a ticket did not use after all (its request has gone). As `closed`, another may use it.
  public mutating func unused() -> UInt64? { closed(slot: -1) }

  private mutating func nextTicket() -> UInt64? {
    guard queueStart < queue.count else { return nil }
    let ticket = queue[queueStart]
    queueStart += 1
    if queueStart == queue.count || queueStart >= 256 {
      queue.removeFirst(queueStart)
      queueStart = 0
    }
    return ticket
  }
}
