import Bytes
import Gateway
import Synchronization

/// What one worker counts of each server.
final class ServerMetrics: Sendable {
  private struct Counts: ~Copyable {
    let requests = Counter()
    let failures = Counter()
    let inFlight = Counter()
  }

  private let count = Mutex(0)
  // Safe because: allocated in init for as many servers as there can be, of which only those in use take memory; freed in
  // deinit. A server's counters are filled before its worker uses them, written by that worker and read by any thread.
  private nonisolated(unsafe) let counts: UnsafeMutablePointer<Counts>

  init() { counts = .allocate(capacity: PlanPlaces.serverLimit) }

  deinit {
    counts.deinitialize(count: count.withLock { $0 })
    counts.deallocate()
  }

  /// Makes counters for so many servers; those that are there stay.
  func grow(to serverCount: Int) {
    count.withLock { count in
      while count < serverCount {
        (counts + count).initialize(to: Counts())
        count += 1
      }
    }
  }

  /// Counts a request that is sent to the server.
  @inline(__always)
  func began(_ server: Int) {
    counts[server].requests.add()
    counts[server].inFlight.add()
  }

  /// Counts one that is no longer there.
  @inline(__always)
  func ended(_ server: Int) { counts[server].inFlight.subtract() }

  /// Counts a failure of the server.
  func failures(_ server: Int) { counts[server].failures.add() }

  /// Reads what was counted, from any thread.
  func read(_ server: Int) -> (requests: UInt64, failures: UInt64, inFlight: UInt64) {
    guard count.withLock({ server < $0 }) else { return (0, 0, 0) }
    return (counts[server].requests.read(), counts[server].failures.read(), counts[server].inFlight.read())
  }
}

/// Prints how the servers stand as Prometheus text.
enum ServerMetricsText {
  /// Writes a label's value: a socket's path may have any octet.
  static func escaped(_ value: String) -> [UInt8] {
    value.utf8.flatMap { octet -> [UInt8] in
      switch octet {
      case UInt8(ascii: "\\"), UInt8(ascii: "\""): [UInt8(ascii: "\\"), octet]
      case UInt8(ascii: "\n"): Array("\\n".utf8)
      default: [octet]
      }
    }
  }

  /// Appends the lines of the upstreams at the places `upstreams`.
  static func append(_ plan: RelayPlan, _ upstreams: [Int], _ board: UpstreamBoard, _ workers: [WorkerMetrics], to text: inout ByteBuffer) {
    func head(_ name: StaticString, _ kind: StaticString, _ help: StaticString) {
      for (word, rest) in [("HELP", help), ("TYPE", kind)] as [(StaticString, StaticString)] {
        text.append("# ")
        text.append(word)
        text.append(" farebox_upstream_")
        text.append(name)
        text.append(" ")
        text.append(rest)
        text.append("\n")
      }
    }
    func value(_ name: StaticString, _ upstream: String, _ server: String?, _ number: UInt64) {
      text.append("farebox_upstream_")
      text.append(name)
      text.append("{upstream=\"")
      text.append(escaped(upstream))
      if let server {
        text.append("\",server=\"")
        text.append(escaped(server))
      }
      text.append("\"} ")
      text.append(decimal: number)
      text.append("\n")
    }
    func perServer(_ name: StaticString, _ kind: StaticString, _ help: StaticString, _ read: (Int) -> UInt64) {
      head(name, kind, help)
      for upstream in upstreams {
        for server in plan.upstreams[upstream].servers { value(name, plan.upstreams[upstream].name, plan.servers[server].label, read(server)) }
      }
    }
    let views = Dictionary(upstreams.map { ($0, board.view($0)) }, uniquingKeysWith: { $1 })
    func place(_ server: Int) -> Int { server - plan.upstreams[plan.servers[server].upstream].servers.lowerBound }
    func sum(_ read: (ServerMetrics) -> UInt64) -> UInt64 { workers.reduce(0) { $0 &+ read($1.servers) } }

    perServer("server_up", "gauge", "Whether a server's checks pass.") { views[plan.servers[$0].upstream]?.down.has(place($0)) ?? false ? 0 : 1 }
    perServer("server_ejected", "gauge", "Whether a server is left alone because it failed requests.") {
      views[plan.servers[$0].upstream]?.ejected.has(place($0)) ?? false ? 1 : 0
    }
    perServer("server_requests_total", "counter", "Requests sent to a server.") { server in sum { $0.read(server).requests } }
    perServer("server_failures_total", "counter", "Requests that a server failed.") { server in sum { $0.read(server).failures } }
    perServer("server_requests_in_flight", "gauge", "Requests at a server.") { server in sum { $0.read(server).inFlight } }
    head("breaker_open", "gauge", "Whether an upstream is left alone because too much failed.")
    for upstream in upstreams { value("breaker_open", plan.upstreams[upstream].name, nil, views[upstream]?.isBreakerOpen ?? false ? 1 : 0) }
  }
}
