import HTTP
import Testing

@testable import Configuration

private func configuration(_ upstream: String, top: String = "", listen: String = "", route: String = "") -> String {
  """
  realm = "api.example.com"
  \(top)
  [[listen]]
  address = "127.0.0.1:8402"
  \(listen)
  [[route]]
  id = "all"
  prefix = "/"
  free = true
  \(route)
  [[upstream]]
  name = "api"
  \(upstream)
  """
}

/// The line on which what an upstream is given begins.
private let first = 13

private func inspect(_ text: String) -> Configuration.Outcome {
  Configuration.inspect(text: text, file: "/etc/proxy.conf", state: "/tmp/state", environment: [:])
}

private func diagnostics(_ text: String) -> [String] { inspect(text).diagnostics.map { $0.text(file: "f") } }

private func upstream(_ text: String) throws -> Settings.Upstream {
  let outcome = inspect(configuration(text))
  #expect(outcome.diagnostics.map { $0.text(file: "f") } == [])
  return try #require(outcome.settings?.upstreams.first)
}

private let one = "url = \"http://127.0.0.1:8081\"\n"

private struct Case: CustomTestStringConvertible, Sendable {
  let text: String
  let expected: String
  var testDescription: String { expected }

  init(_ text: String, _ expected: String) {
    self.text = text
    self.expected = expected
  }
}

private let faults = [
  Case("", "f:11:1: error: [[upstream]] \"api\": url: missing key"),
  Case(one + "server = []", "f:14:1: error: [[upstream]] \"api\": server: unknown key\n  did you mean: servers"),
  Case(one + "servers = [{ url = \"http://a\" }]", "f:13:7: error: [[upstream]] \"api\": url = \"http://127.0.0.1:8081\": excludes another key"),
  Case("servers = []", "f:13:11: error: [[upstream]] \"api\": servers: out of range\n  expected: 1 to 64 servers"),
  Case("servers = [{ url = \"http://a\", wait = 2 }]", "f:13:32: error: [[upstream]] \"api\" server 1: wait: unknown key"),
  Case("servers = [{ weight = 2 }]", "f:13:12: error: [[upstream]] \"api\" server 1: url: missing key"),
  Case("servers = [{ url = \"http://a\", weight = 257 }]", "f:13:41: error: [[upstream]] \"api\" server 1: weight = 257: out of range\n  expected: a whole number from 0 to 256"),
  Case("servers = [{ url = \"http://a\" }, { url = \"http://a\" }]", "f:13:42: error: [[upstream]] \"api\" server 2: url = \"http://a\": is there twice"),
  Case("servers = [{ url = \"http://a\", weight = 0 }]", "f:13:11: error: [[upstream]] \"api\": servers: excludes another key\n  expected: at least one server whose weight is not 0"),
  Case("servers = [{ url = \"a:80\" }]", "f:13:20: error: [[upstream]] \"api\" server 1: url = \"a:80\": invalid value"),
  Case(one + "balance = \"round-robbin\"", "f:14:11: error: [[upstream]] \"api\": balance = \"round-robbin\": invalid value\n  expected: one of round-robin, least-connections, hash:session, hash:wallet, hash:address, or hash:header: and a field's name\n  did you mean: round-robin"),
  Case(one + "balance = \"hash:header:\"", "f:14:11: error: [[upstream]] \"api\": balance = \"hash:header:\": invalid value"),
  Case(one + "balance = \"hash:header:a b\"", "f:14:11: error: [[upstream]] \"api\": balance = \"hash:header:a b\": invalid value"),
  Case(one + "retries = 11", "f:14:11: error: [[upstream]] \"api\": retries = 11: out of range\n  expected: a whole number from 0 to 10"),
  Case(one + "resolve-every = \"5 ms\"", "f:14:17: error: [[upstream]] \"api\": resolve-every = \"5 ms\": out of range"),
  Case(one + "proxy-protocol = \"v3\"", "f:14:18: error: [[upstream]] \"api\": proxy-protocol = \"v3\": invalid value\n  expected: \"v1\" or \"v2\""),
  Case(one + "[upstream.health]\npath = \"healthz\"", "f:15:8: error: [[upstream]] \"api\" health: path = \"healthz\": invalid value"),
  Case(one + "[upstream.health]\ninterwal = \"1 s\"", "f:15:1: error: [[upstream]] \"api\" health: interwal: unknown key\n  did you mean: interval"),
  Case(one + "[upstream.health]\nrise = 0", "f:15:8: error: [[upstream]] \"api\" health: rise = 0: out of range"),
  Case(one + "[upstream.health]\nstatuses = []", "f:15:12: error: [[upstream]] \"api\" health: statuses: invalid value"),
  Case(one + "[upstream.ejection]\nshare = 101", "f:15:9: error: [[upstream]] \"api\" ejection: share = 101: out of range"),
  Case(one + "[upstream.ejection]\nlongest = \"1 s\"", "f:15:11: error: [[upstream]] \"api\" ejection: longest = \"1 s\": excludes another key"),
  Case(one + "[upstream.breaker]\nshare = 0", "f:15:9: error: [[upstream]] \"api\" breaker: share = 0: out of range"),
  Case(one + "[upstream.breaker]\nprobe = 1", "f:15:1: error: [[upstream]] \"api\" breaker: probe: unknown key\n  did you mean: probes"),
]

@Suite struct BalancingTests {
  @Test(arguments: faults)
  private func faultIsReportedAtItsPlace(_ fault: Case) throws {
    let found = diagnostics(configuration(fault.text))
    #expect(found.count == 1)
    #expect(try #require(found.first).hasPrefix(fault.expected), "\(found)")
  }

  @Test func linesCountAsTheTestsSay() {
    #expect(configuration("X").split(separator: "\n", omittingEmptySubsequences: false)[first - 1] == "X")
  }

  @Test func readsServersAndHowTheyAreWatched() throws {
    let upstream = try upstream(
      """
      servers = [
        { url = "http://10.0.0.1:8080", weight = 3 },
        { url = "http://[2001:db8::1]" },
        { url = "unix:/run/api.sock", weight = 0 },
      ]
      balance = "hash:header:X-Tenant"
      retries = 0
      resolve-every = "0 s"
      proxy-protocol = "v2"
      [upstream.health]
      path = ""
      interval = "1 s"
      timeout = "500 ms"
      rise = 1
      fall = 2
      statuses = ["2xx", "404"]
      [upstream.ejection]
      failures = 3
      time = "10 min"
      share = 100
      statuses = []
      [upstream.breaker]
      share = 10
      requests = 5
      window = "1 min"
      open = "2 s"
      probes = 1
      """)
    #expect(
      upstream.servers == [
        .init(.host("10.0.0.1", port: 8080), weight: 3), .init(.host("2001:db8::1", port: 80)), .init(.unix(path: "/run/api.sock"), weight: 0),
      ])
    #expect(upstream.balance == .hash(.field("x-tenant")) && upstream.retries == 0 && upstream.resolveEvery == .zero)
    #expect(upstream.proxyProtocol == .v2 && upstream.authority == "10.0.0.1:8080")
    let health = try #require(upstream.health)
    #expect(health.path == nil && health.interval == .seconds(1) && health.timeout == .milliseconds(500))
    #expect(health.rise == 1 && health.fall == 2 && health.statuses.contains(404) && !health.statuses.contains(500))
    #expect(upstream.ejection.failures == 3 && upstream.ejection.longest == .seconds(600) && upstream.ejection.statuses.ranges.isEmpty)
    #expect(upstream.breaker?.share == 10 && upstream.breaker?.probes == 1 && upstream.breaker?.open == .seconds(2))
  }

  @Test(arguments: [
    ("round-robin", Settings.Upstream.Balance.roundRobin), ("least-connections", .leastConnections), ("hash:session", .hash(.session)),
    ("hash:wallet", .hash(.wallet)), ("hash:address", .hash(.address)),
  ])
  func readsEachBalance(text: String, balance: Settings.Upstream.Balance) throws {
    #expect(try upstream(one + "balance = \"\(text)\"").balance == balance)
  }

  @Test func routeHasTimesOfItsOwn() throws {
    let text = configuration(one, route: "connect-timeout = \"1 s\"\nfirst-octet-timeout = \"2 s\"\nupstream-idle-timeout = \"3 s\"")
    let times = try #require(inspect(text).settings?.routes.first?.upstreamTimeouts)
    #expect(times.connect == .seconds(1) && times.firstOctet == .seconds(2) && times.idle == .seconds(3))
    let outOfRange = diagnostics(configuration(one, route: "connect-timeout = \"2 d\""))
    #expect(outOfRange.count == 1 && outOfRange[0].contains("connect-timeout = \"2 d\": out of range"))
  }

  @Test func proxyProtocolNeedsTrustedPeers() throws {
    let bare = diagnostics(configuration(one, listen: "proxy-protocol = true"))
    #expect(bare.count == 1 && bare[0].hasPrefix("f:5:18: error: [[listen]] number 1: proxy-protocol = true: excludes another key"))
    let trusting = inspect(configuration(one, top: "trusted-proxies = [\"10.0.0.0/8\"]", listen: "proxy-protocol = true"))
    #expect(trusting.diagnostics == [] && trusting.settings?.listeners.first?.acceptsProxyProtocol == true)
  }

  @Test func explanationSaysHowServersAreChosen() {
    let text =
      "servers = [{ url = \"http://a\", weight = 2 }, { url = \"http://b\" }]\nproxy-protocol = \"v1\"\n[upstream.health]\npath = \"/up\"\n[upstream.breaker]"
    let explanation = Explanation(inspect(configuration(text)))
    for line in [
      "upstream   api: http://a:80 weight 2, http://b:80 weight 1", "balance round-robin; each request tried at most 3 times",
      "ejection: 5 failures in a row take a server out for 10 s to 5 min, at most 50 % of them",
      "health: GET /up every 5 s within 2 s; down after 3, up after 2",
      "breaker: 50 % failures of at least 20 requests in 10 s answer 503 for 10 s; 3 probes", "PROXY protocol v1: one connection a request",
    ] { #expect(explanation.text.contains(line), "\(explanation.text)") }
    #expect(explanation.json["upstreams"]?.arrayValue?.first?["servers"]?.arrayValue?.count == 2)
    let plain = Explanation(inspect(configuration(one)))
    #expect(plain.text.contains("upstream   api: http://127.0.0.1:8081\nroutes"))
  }
}
