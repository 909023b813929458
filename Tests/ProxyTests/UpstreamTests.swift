import Bytes
import Configuration
import Encoding
import Gateway
import Glibc
import HTTP
import IO
import Metering
import Methods
import Payments
import Synchronization
import Testing

@testable import Proxy

private let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
private let down = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

/// Servers that count what they are asked, and answer as they are told.
private final class Farm: Sendable {
  let servers: [ScriptedUpstream]
  private let counts: Mutex<[Int]>
  private let answers: Mutex<[String]>

  init(_ count: Int) throws {
    let farm = Box()
    var servers: [ScriptedUpstream] = []
    for number in 0..<count {
      servers.append(try ScriptedUpstream.answering { head in farm.value.withLock { $0 }?.answer(number, head) ?? down })
    }
    self.servers = servers
    counts = Mutex(Array(repeating: 0, count: count))
    answers = Mutex(Array(repeating: ok, count: count))
    farm.value.withLock { $0 = self }
  }

  private final class Box: Sendable { let value = Mutex<Farm?>(nil) }

  private func answer(_ number: Int, _ head: String) -> String {
    if head.hasPrefix("GET /health ") { return answers.withLock { $0[number] } }
    counts.withLock { $0[number] += 1 }
    return answers.withLock { $0[number] }
  }

  func tell(_ number: Int, _ answer: String) { answers.withLock { $0[number] = answer } }
  var counted: [Int] { counts.withLock { $0 } }

  func settings(weights: [Int]? = nil) -> [Settings.Upstream.Server] {
    servers.enumerated().map { .init(.host("127.0.0.1", port: $1.port), weight: weights?[$0] ?? 1) }
  }
}

private final class Notices: Sendable {
  private let all = Mutex<[ServerNotice]>([])
  func add(_ notice: ServerNotice) { all.withLock { $0.append(notice) } }
  var list: [ServerNotice] { all.withLock { $0 } }

  /// Waits for a notice, ten seconds at most.
  func wait(for isWanted: (ServerNotice) -> Bool) -> Bool {
    for _ in 0..<1000 {
      if list.contains(where: isWanted) { return true }
      Pause.milliseconds(10)
    }
    return false
  }
}

/// A port that refuses connections. It stays bound, so that nobody else (the proxy under test above all, which would then be
/// its own upstream) is given it meanwhile.
private final class RefusingPort: Sendable {
  let number: UInt16
  private let descriptor: Int32

  init() throws {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var count = socklen_t(MemoryLayout<sockaddr_in>.size)
    let (descriptor, length) = (descriptor, count)
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
    }
    try #require(bound == 0)
    _ = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &count) }
    }
    number = UInt16(bigEndian: address.sin_port)
  }

  deinit { Glibc.close(descriptor) }
}

extension RelayFixture {
  /// The metrics as they are printed.
  fileprivate var text: String {
    var text = Bytes.ByteBuffer()
    server.appendMetrics(to: &text)
    return text.string()
  }
}

@Suite struct UpstreamTests {
  private func relay(
    _ servers: [Settings.Upstream.Server], notices: Notices? = nil, _ configure: @escaping (inout Settings) -> Void = { _ in }
  ) throws -> RelayFixture {
    try RelayFixture(
      upstreamPort: 1,
      { settings in
        settings.upstreams = [Settings.Upstream(name: "farm", servers: servers)]
        configure(&settings)
      }, notify: { notices?.add($0) })
  }

  // MARK: Choosing

  @Test func requestsAreSpreadByWeight() throws {
    let farm = try Farm(3)
    let relay = try relay(farm.settings(weights: [3, 1, 0]))
    let wire = try relay.connect()
    for _ in 0..<40 { #expect(try wire.request("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").status == 200) }
    #expect(farm.counted == [30, 10, 0])
    #expect(farm.servers.map(\.connectionCount) == [1, 1, 0], "every server has connections of its own, and keeps them")
  }

  @Test func theSameKeyMeetsTheSameServer() throws {
    let farm = try Farm(4)
    let relay = try relay(farm.settings()) { $0.upstreams[0].balance = .hash(.field("x-tenant")) }
    for tenant in 0..<12 {
      let before = farm.counted
      for _ in 0..<3 { #expect(try relay.get(fields: "X-TENANT: t\(tenant)\r\n").status == 200) }
      #expect(zip(before, farm.counted).map { $1 - $0 }.sorted() == [0, 0, 0, 3])
    }
    #expect(farm.counted.count { $0 > 0 } >= 2)
    // Without the field, the address decides.
    let before = farm.counted
    for _ in 0..<4 { _ = try relay.get() }
    #expect(zip(before, farm.counted).map { $1 - $0 }.sorted() == [0, 0, 0, 4])
  }

  @Test func theServerWithTheFewestRequestsIsChosen() throws {
    let slow = try ScriptedUpstream { wire, _ in
      guard (try? wire.read(through: "\r\n\r\n")) != nil else { return }
      _ = try? wire.read(through: "never")
    }
    let farm = try Farm(1)
    let relay = try relay([.init(.host("127.0.0.1", port: slow.port))] + farm.settings()) { $0.upstreams[0].balance = .leastConnections }
    let waiting = try relay.connect()
    waiting.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    while slow.connectionCount == 0 { Pause.milliseconds(5) }
    for _ in 0..<10 { #expect(try relay.get().status == 200) }
    #expect(farm.counted == [10] && slow.connectionCount == 1)
  }

  @Test func unixSocketsAreServersToo() throws {
    let farm = try Farm(1)
    let relay = try relay([.init(.unix(path: "/nonexistent/socket"))] + farm.settings())
    for _ in 0..<6 { #expect(try relay.get().status == 200) }
    #expect(farm.counted == [6])
  }

  // MARK: Retries

  @Test(arguments: ["GET", "POST"])
  func whatNeverLeftGoesToAnotherServer(method: String) throws {
    let farm = try Farm(1)
    let dead = try RefusingPort()
    defer { withExtendedLifetime(dead) {} }
    let relay = try relay([.init(.host("127.0.0.1", port: dead.number))] + farm.settings())
    for _ in 0..<4 {
      let wire = try relay.connect()
      #expect(try wire.request("\(method) /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status == 200)
    }
    #expect(farm.counted == [4])
    #expect(relay.metric("upstream_retries_total").map { $0 > 0 } == true && relay.metric("upstream_failures_total") == 0)
  }

  @Test(arguments: [("GET", 200, 3), ("POST", 502, 1)])
  func whatWasSentGoesToAnotherServerOnlyWhereThatIsSafe(method: String, status: Int, attempts: Int) throws {
    // Two of three servers die over every request.
    let asked = Mutex(0)
    let dying = try (0..<2).map { _ in
      try ScriptedUpstream { wire, _ in
        if (try? wire.read(through: "\r\n\r\n")) != nil { asked.withLock { $0 += 1 } }
      }
    }
    let farm = try Farm(1)
    let servers = dying.map { Settings.Upstream.Server(.host("127.0.0.1", port: $0.port), weight: 256) } + farm.settings()
    let relay = try relay(servers) { $0.upstreams[0].ejection.failures = 0 }
    #expect(try relay.connect().request("\(method) /x HTTP/1.1\r\nHost: a\r\n\r\n").status == status)
    #expect(asked.withLock { $0 } + farm.counted[0] == attempts)
  }

  @Test func noMoreRetriesThanConfigured() throws {
    let farm = try Farm(1)
    let ports = try (0..<3).map { _ in try RefusingPort() }
    defer { withExtendedLifetime(ports) {} }
    let dead = ports.map { Settings.Upstream.Server(.host("127.0.0.1", port: $0.number), weight: 256) }
    for (retries, status) in [(0, 502), (2, 502), (3, 200)] {
      let relay = try relay(dead + farm.settings()) {
        $0.upstreams[0].retries = retries
        $0.upstreams[0].ejection.failures = 0
      }
      #expect(try relay.get().status == status, "\(retries)")
    }
  }

  // MARK: Watching

  @Test func checksTakeServersOutAndBringThemBack() throws {
    let farm = try Farm(2)
    let notices = Notices()
    farm.tell(1, down)
    let relay = try relay(farm.settings(), notices: notices) { settings in
      var health = Settings.Upstream.Health()
      (health.path, health.interval, health.rise, health.fall) = ("/health", .milliseconds(20), 2, 2)
      settings.upstreams[0].health = health
    }
    let label = "http://127.0.0.1:\(farm.servers[1].port)"
    #expect(notices.wait { $0 == .serverDown(upstream: "farm", server: label) })
    let before = farm.counted
    for _ in 0..<10 { #expect(try relay.get().status == 200) }
    #expect(zip(before, farm.counted).map { $1 - $0 } == [10, 0])
    #expect(relay.text.contains("farebox_upstream_server_up{upstream=\"farm\",server=\"\(label)\"} 0\n"))

    farm.tell(1, ok)
    #expect(notices.wait { $0 == .serverUp(upstream: "farm", server: label) })
    for _ in 0..<10 { #expect(try relay.get().status == 200) }
    #expect(farm.counted[1] > before[1])
    #expect(relay.text.contains("farebox_upstream_server_up{upstream=\"farm\",server=\"\(label)\"} 1\n"))
  }

  @Test func withoutAServerThatIsUpRequestsAreRefusedAtOnce() throws {
    let notices = Notices()
    let dead = try RefusingPort()
    defer { withExtendedLifetime(dead) {} }
    let relay = try relay([.init(.host("127.0.0.1", port: dead.number))], notices: notices) { settings in
      var health = Settings.Upstream.Health()
      (health.path, health.interval, health.rise) = (nil, .seconds(3), 2)
      settings.upstreams[0].health = health
    }
    #expect(notices.wait { if case .serverDown = $0 { true } else { false } })
    let response = try relay.get()
    #expect(response.status == 503 && response.field("Retry-After") == "6")
    #expect(relay.metric("upstream_connects_total") == 0)
  }

  @Test func failuresInARowEjectForAWhile() throws {
    let farm = try Farm(2)
    let notices = Notices()
    let relay = try relay(farm.settings(), notices: notices) { $0.upstreams[0].ejection.time = .milliseconds(300) }
    farm.tell(0, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
    let statuses = try (0..<20).map { _ in try relay.get().status }
    #expect(statuses.count { $0 == 502 } == 5 && farm.counted[0] == 5)
    let label = "http://127.0.0.1:\(farm.servers[0].port)"
    #expect(notices.list.contains(.serverEjected(upstream: "farm", server: label, milliseconds: 300)))
    #expect(relay.text.contains("farebox_upstream_server_ejected{upstream=\"farm\",server=\"\(label)\"} 1\n"))
    #expect(relay.text.contains("farebox_upstream_server_failures_total{upstream=\"farm\",server=\"\(label)\"} 5\n"))
    farm.tell(0, ok)
    Pause.milliseconds(350)
    for _ in 0..<10 { #expect(try relay.get().status == 200) }
    #expect(farm.counted[0] >= 9 && notices.list.contains(.serverReturned(upstream: "farm", server: label)))
  }

  @Test func breakerRefusesAndProbes() throws {
    let farm = try Farm(1)
    let notices = Notices()
    let relay = try relay(farm.settings(), notices: notices) { settings in
      var breaker = Settings.Upstream.Breaker()
      (breaker.requests, breaker.open, breaker.probes) = (4, .milliseconds(400), 2)
      settings.upstreams[0].breaker = breaker
    }
    farm.tell(0, down)
    for _ in 0..<4 { #expect(try relay.get().status == 503) }
    #expect(notices.list.contains(.breakerOpened(upstream: "farm")))
    let refused = try relay.get()
    #expect(refused.status == 503 && refused.field("Retry-After") == "1" && farm.counted == [4])
    #expect(relay.text.contains("farebox_upstream_breaker_open{upstream=\"farm\"} 1\n"))
    // One probe fails, and it stays open.
    Pause.milliseconds(450)
    #expect(try relay.get().status == 503 && farm.counted == [5])
    #expect(try relay.get().status == 503 && farm.counted == [5])
    farm.tell(0, ok)
    Pause.milliseconds(450)
    for _ in 0..<6 { #expect(try relay.get().status == 200) }
    #expect(notices.list.contains(.breakerClosed(upstream: "farm")))
    #expect(relay.text.contains("farebox_upstream_breaker_open{upstream=\"farm\"} 0\n"))
  }

  @Test func reloadKeepsWhatIsKnownOfServersThatStay() throws {
    let farm = try Farm(2)
    let relay = try relay(farm.settings()) { $0.upstreams[0].ejection.time = .seconds(60) }
    farm.tell(0, down)
    for _ in 0..<20 { _ = try relay.get() }
    #expect(farm.counted[0] == 5)
    var settings = relay.server.settings
    settings.routes[0].id = "other"
    try relay.server.reload(settings, at: .now())
    for _ in 0..<10 { #expect(try relay.get().status == 200) }
    #expect(farm.counted[0] == 5)
    // Other servers are another upstream, of which nothing is known.
    settings.upstreams[0].servers = farm.settings(weights: [1, 2])
    try relay.server.reload(settings, at: .now())
    for _ in 0..<9 { _ = try relay.get() }
    #expect(farm.counted[0] > 5)
  }

  // MARK: Times and names

  @Test func routesHaveTimesOfTheirOwn() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      guard let head = try? wire.read(through: "\r\n\r\n") else { return }
      if head.hasPrefix("GET /stall") { wire.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc") }
      _ = try? wire.read(through: "never")
    }
    let relay = try relay([.init(.host("127.0.0.1", port: upstream.port))]) { settings in
      settings.routes = [Settings.Route(id: "silent", path: .exact("/silent")), Settings.Route(id: "stall", path: .exact("/stall"))]
      settings.routes[0].upstreamTimeouts.firstOctet = .milliseconds(200)
      settings.routes[1].upstreamTimeouts.idle = .milliseconds(200)
    }
    #expect(try relay.get("/silent").status == 504)
    let wire = try relay.connect()
    wire.send("GET /stall HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(wire.readToEnd().hasSuffix("\r\n\r\nabc"))
  }

  @Test func requestsFollowANameToItsNewAddress() throws {
    let old = try ScriptedUpstream.answering { _ in ok }
    let ended = Atomic<Bool>(false)
    let new = try ScriptedUpstream(address: 0x7f00_0002, port: old.port) { wire, _ in
      while (try? wire.read(through: "\r\n\r\n")) != nil { wire.send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n") }
      ended.store(true, ordering: .relaxed)
    }
    let known = Mutex([SocketAddress(127, 0, 0, 1, port: old.port)])
    let relay = try RelayFixture(
      upstreamPort: old.port,
      { settings in
        settings.upstreams = [Settings.Upstream(name: "named", endpoint: .host("api.test", port: old.port))]
        settings.upstreams[0].resolveEvery = .milliseconds(40)
      }, resolve: { _, _ in known.withLock { $0 } })
    let wire = try relay.connect()
    func status() throws -> Int { try wire.request("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").status }
    func follows(_ wanted: Int) throws -> Bool {
      for _ in 0..<500 {
        if try status() == wanted { return true }
        Pause.milliseconds(10)
      }
      return false
    }
    #expect(try status() == 200)
    known.withLock { $0 = [SocketAddress(127, 0, 0, 2, port: old.port)] }
    #expect(try follows(201))
    #expect(old.connectionCount == 1 && new.connectionCount == 1)
    // A second address is tried when the first one fails, and connections to those that went away are closed.
    known.withLock { $0 = [SocketAddress(127, 0, 0, 3, port: old.port), SocketAddress(127, 0, 0, 1, port: old.port)] }
    #expect(try follows(200))
    for _ in 0..<500 where !ended.load(ordering: .relaxed) { Pause.milliseconds(10) }
    #expect(ended.load(ordering: .relaxed) && relay.metric("upstream_failures_total") == 0)
  }

  @Test func connectionsAreSpreadOverTheAddressesOfAName() throws {
    let closing = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    let first = try ScriptedUpstream.answering { _ in closing }
    let others = try [2, 3].map { last in
      try ScriptedUpstream(address: 0x7f00_0000 | last, port: first.port) { wire, _ in
        while (try? wire.read(through: "\r\n\r\n")) != nil { wire.send(closing) }
      }
    }
    let relay = try RelayFixture(
      upstreamPort: first.port,
      { settings in settings.upstreams = [Settings.Upstream(name: "named", endpoint: .host("api.test", port: first.port))] },
      resolve: { _, port in (1...4).map { SocketAddress(127, 0, 0, $0, port: port) } })
    // Nobody listens at the fourth.
    for _ in 0..<12 { #expect(try relay.get().status == 200) }
    #expect(([first] + others).map(\.connectionCount) == [4, 4, 4])
    #expect(relay.metric("upstream_retries_total") == 1 && relay.metric("upstream_failures_total") == 0)
  }

  @Test func namesAreLookedUpAgainAndWorkersTold() throws {
    var settings = Settings()
    settings.upstreams = [
      Settings.Upstream(name: "a", servers: [.init(.host("one.test", port: 1)), .init(.unix(path: "/x")), .init(.host("two.test", port: 2))])
    ]
    settings.routes = [Settings.Route(id: "all", path: .prefix("/"))]
    let plan = try RelayPlan(settings)
    let known = Mutex<[String: [SocketAddress]]>(["one.test": [SocketAddress(10, 0, 0, 1, port: 1), SocketAddress(10, 0, 0, 2, port: 1)]])
    let resolver = UpstreamResolver(plan.servers) { host, _ in known.withLock { $0[host] ?? [] } }
    let notices = NoticeBoard(upstreams: plan.serverNames, report: { _ in })
    let board = UpstreamBoard(notices: notices)
    let control = try WorkerControl(
      seed: 0, resolver: resolver, board: board, notices: notices, clients: ClientConnections(limit: 1))
    resolver.serve([control])
    #expect(plan.servers.indices.map { resolver.lookUp($0).count } == [2, 0, 0])

    func told() -> [(Int, [SocketAddress])] {
      for _ in 0..<200 where !control.mailbox.mayHaveMessages { Pause.milliseconds(5) }
      return control.mailbox.takeAll().compactMap { if case .resolved(let server, let found) = $0 { (server, found) } else { nil } }
    }
    // Another order is no news, other addresses are, and a name that is not known any more leaves what was known.
    known.withLock { $0["one.test"]?.reverse() }
    resolver.refresh(0, unlessWithin: 0)
    known.withLock { $0["two.test"] = [SocketAddress(10, 0, 0, 9, port: 2)] }
    resolver.refresh(2, unlessWithin: 0)
    let first = told()
    #expect(first.count == 1 && first.first?.0 == 2 && first.first?.1 == [SocketAddress(10, 0, 0, 9, port: 2)])
    known.withLock { $0["one.test"] = [SocketAddress(10, 0, 0, 3, port: 1)] }
    resolver.refresh(0, unlessWithin: 60_000_000_000)
    resolver.refresh(0, unlessWithin: 0)
    #expect(told().first?.1 == [SocketAddress(10, 0, 0, 3, port: 1)])
    known.withLock { $0["one.test"] = [] }
    #expect(resolver.lookUp(0) == [SocketAddress(10, 0, 0, 3, port: 1)])
  }
}

// MARK: Money

@Suite struct UpstreamMoneyTests {
  /// Before a request is paid, the relay knows that it could not be served.
  @Test func anOpenBreakerMovesNoMoney() throws {
    let isWell = Atomic<Bool>(true)
    let upstream = try ScriptedUpstream.answering { _ in isWell.load(ordering: .relaxed) ? ok : down }
    let relay = try PaidRelay(upstreamPort: upstream.port) { settings in
      var breaker = Settings.Upstream.Breaker()
      (breaker.requests, breaker.open) = (2, .seconds(60))
      settings.upstreams[0].breaker = breaker
      settings.cors.origins = ["https://page.example"]
    }
    let secret = try relay.openSession("/weather/x", deposit: 10_000_000)
    let charge = try relay.chargeFields("/weather/x")
    let challenge = try relay.challenge("/weather/x", "session")
    isWell.store(false, ordering: .relaxed)
    let session = [("Prepaid-Session", "\(secret.id.hex); key=\(secret.hex)")]
    let funds = relay.funds
    let spent = try relay.view(secret).spent
    for _ in 0..<3 { #expect(try relay.send("/weather/x", session).status == 503) }
    for fields in [session, charge, []] {
      let refused = try relay.send("/weather/x", fields + [("Origin", "https://page.example")])
      #expect(refused.field("Access-Control-Allow-Origin") == "https://page.example")
      #expect(refused.status == 503 && refused.field("Retry-After") != nil && refused.field("Payment-Receipt") == nil)
    }
    #expect(relay.funds == funds)
    #expect(try relay.view(secret).spent == spent)
    // What was begun with it can still be managed.
    let topUp = PrepaidCredential.topUp(challenge, additionalDeposit: 1000, session: secret.id, wallet: relay.wallet)
    #expect(try relay.send("/weather/x", method: "POST", authorization(topUp)).status == 200)
    #expect(try relay.view(secret).deposit == 10_001_000)
  }
}
