public import Encoding

/// Leaves servers alone that fail requests, for longer each time, and never so many that the others are overrun.
///
/// This is passive: requests themselves tell. A server that comes back is on probation, and its first failure takes it
/// out again.
public struct Ejection: Sendable {
  /// When a server is ejected, and for how long.
  public struct Rules: Sendable, Hashable {
    /// Failures in a row; 0: never.
    public var failures: Int
    /// Nanoseconds of the first ejection; doubled each time.
    public var time: Int64
    /// Nanoseconds of the longest.
    public var longest: Int64
    /// Most servers that are out at once, in percent of all.
    public var share: Int

    public init(failures: Int, time: Int64, longest: Int64, share: Int) {
      self.failures = max(0, failures)
      self.time = max(1, time)
      self.longest = max(self.time, longest)
      self.share = min(max(0, share), 100)
    }
  }

  private struct Server {
    /// Failures since the last success.
    var failures = 0
    /// Ejections without a long time of peace between.
    var times = 0
    /// When it may come back, or came back last.
    var returns = Instant(nanoseconds: .min)
  }

  /// Most times that the ejection's time is doubled.
  private static let doublings = 20

  private let rules: Rules
  private var servers: [Server]
  /// The servers that are out.
  public private(set) var ejected: ServerSet = []
  /// The servers whose last request failed: a success of any other changes nothing and need not be reported.
  public private(set) var suspected: ServerSet = []

  /// Makes a state in which every server is in.
  public init(_ rules: Rules, serverCount: Int) {
    precondition(serverCount <= ServerSet.limit)
    self.rules = rules
    servers = Array(repeating: Server(), count: serverCount)
  }

  /// When the next server comes back; nil where none is out.
  public var nextReturn: Instant? {
    var rest = ejected
    var next: Instant?
    while let server = rest.popFirst() { next = min(next ?? servers[server].returns, servers[server].returns) }
    return next
  }

  /// Takes the failure of a request. Where it ejects the server, the time in nanoseconds is returned.
  ///
  /// `usable` has the servers that can be used at the moment: one other than this must be among them.
  public mutating func failed(_ server: Int, usable: ServerSet, at now: Instant) -> Int64? {
    guard rules.failures > 0, servers.indices.contains(server), !ejected.has(server) else { return nil }
    let isOnProbation = servers[server].times > 0 && servers[server].failures == 0 && suspected.has(server)
    servers[server].failures += 1
    suspected.insert(ServerSet(server: server))
    guard servers[server].failures >= rules.failures || isOnProbation else { return nil }
    guard !usable.subtracting([ejected, ServerSet(server: server)]).isEmpty else { return nil }
    guard (ejected.count + 1) * 100 <= servers.count * rules.share else { return nil }
    return eject(server, at: now)
  }

  private mutating func eject(_ server: Int, at now: Instant) -> Int64 {
    // Each longest time of peace since it came back makes up for one ejection.
    let peace = now.nanoseconds(since: servers[server].returns) / rules.longest
    servers[server].times = max(0, servers[server].times - Int(clamping: min(peace, 1000)))
    var time = rules.time
    for _ in 0..<min(servers[server].times, Self.doublings) where time < rules.longest { time = min(time * 2, rules.longest) }
    servers[server].times += 1
    servers[server].failures = 0
    servers[server].returns = now.advanced(nanoseconds: time)
    ejected.insert(ServerSet(server: server))
    return time
  }

  /// Takes a request that the server answered.
  public mutating func succeeded(_ server: Int) {
    guard servers.indices.contains(server) else { return }
    servers[server].failures = 0
    if !ejected.has(server) { suspected.remove(ServerSet(server: server)) }
  }

  /// Lets the servers back in whose time is over, and names them.
  public mutating func returned(at now: Instant) -> ServerSet {
    var rest = ejected
    var back: ServerSet = []
    while let server = rest.popFirst() {
      if servers[server].returns <= now { back.insert(ServerSet(server: server)) }
    }
    ejected.subtract(back)
    return back
  }
}
