import Bytes
import Configuration
import Encoding
import Gateway
import HTTP
import IO
import Methods
import Testing

@testable import Proxy

/// Requests beyond a rate get 429, and no money moves for them.
@Suite struct RateTests {
  private static func answering() throws -> ScriptedUpstream {
    try ScriptedUpstream.answering { _ in "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" }
  }

  private static func slow(_ burst: UInt32) -> RateLimit { RateLimit(count: 1, seconds: 3600, burst: burst) }

  /// The statuses that `count` requests get, one after another on one connection.
  private static func statuses(_ wire: Wire, _ count: Int, _ request: String) throws -> [Int] {
    try (0..<count).map { _ in try Int(wire.request(request).status) }
  }

  @Test func anAddressIsLimitedOverAllWorkersAndConnections() throws {
    let upstream = try Self.answering()
    let relay = try RelayFixture(upstreamPort: upstream.port) {
      $0.workers = 3
      $0.rates.address = Self.slow(5)
    }
    var admitted = 0
    for _ in 0..<12 {
      let response = try relay.get()
      if response.status == 200 { admitted += 1 } else { #expect(response.status == 429 && response.head.contains("Retry-After: 3600")) }
    }
    #expect(admitted == 5)
    #expect(try relay.get("/healthz").status == 200, "probes are not limited")
    var settings = relay.server.settings
    settings.rates.address = Self.slow(20)
    try relay.server.reload(settings, at: .now())
    #expect(try relay.get().status == 200, "a reload changes the rate, and what was used stays used")
  }

  /// Every request counts once: also one that no route takes, one that is ours to answer, and one whose content is looked at first.
  @Test func everyRequestOfAnAddressCountsOnce() throws {
    let upstream = try Self.answering()
    func statuses(_ burst: UInt32, _ requests: [String]) throws -> [Int] {
      let relay = try PaidRelay(upstreamPort: upstream.port) { $0.rates.address = Self.slow(burst) }
      return try requests.map { try Int(relay.connect().request($0).status) }
    }
    let upload = PaidRelay.request("/upload/a", method: "POST", body: "abc")
    #expect(try statuses(3, [upload, upload, upload, upload]) == [402, 402, 402, 429])
    #expect(try statuses(1, [PaidRelay.request("/nowhere"), PaidRelay.request("/nowhere")]) == [404, 429])
    let query = PaidRelay.request("/.well-known/prepaid/wallet", method: "POST", body: "{}")
    #expect(try statuses(2, [query, query, query]).last == 429)
    let keys = PaidRelay.request("/.well-known/jwks.json")
    #expect(try statuses(2, [keys, keys, keys]) == [200, 200, 429])
  }

  @Test func aRouteIsLimitedAndOthersAreNot() throws {
    let upstream = try Self.answering()
    let relay = try RelayFixture(upstreamPort: upstream.port) {
      $0.routes = [Settings.Route(id: "slow", path: .exact("/slow")), Settings.Route(id: "fast", path: .exact("/fast"))]
      $0.routes[0].rate = Self.slow(2)
    }
    let wire = try relay.connect()
    #expect(try Self.statuses(wire, 4, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n") == [200, 200, 429, 429])
    #expect(try Self.statuses(wire, 2, "GET /fast HTTP/1.1\r\nHost: a\r\n\r\n") == [200, 200])
  }

  @Test func aSessionAndAWalletAreLimitedAndPayNothingThen() throws {
    let upstream = try Self.answering()
    let relay = try PaidRelay(upstreamPort: upstream.port) {
      $0.rates.session = Self.slow(3)
      $0.rates.wallet = Self.slow(5)
    }
    // Opening is a session's first request.
    let secret = try relay.openSession("/weather/a", deposit: 1_000_000)
    let request = PaidRelay.request("/weather/a", short(secret))
    let wire = try relay.connect()
    #expect(try Self.statuses(wire, 4, request) == [200, 200, 429, 429])
    #expect(try relay.view(secret).spent == 6000)
    let other = try relay.openSession("/weather/a", deposit: 1_000_000)
    #expect(try Self.statuses(wire, 2, PaidRelay.request("/weather/a", short(other))) == [200, 429])
    #expect(try relay.view(other).spent == 4000)
    let funds = relay.funds
    let charge = try relay.chargeFields("/weather/a")
    let refused = try relay.send("/weather/a", charge)
    #expect(refused.status == 429 && refused.head.contains("Retry-After:") && refused.body.contains("rate-limited"))
    #expect(relay.funds == funds)
    // The credential is not used up by it.
    var settings = relay.server.settings
    settings.rates.wallet = nil
    try relay.server.reload(settings, at: .now())
    #expect(try relay.send("/weather/a", charge).status == 200)
  }

  @Test func contentIsLimitedByTheRoute() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      while (try? wire.read(through: "\r\n\r\n")) != nil { wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") }
    }
    let relay = try RelayFixture(upstreamPort: upstream.port) {
      $0.limits.bodyBytes = 4
      $0.routes = [Settings.Route(id: "small", path: .exact("/small")), Settings.Route(id: "large", path: .exact("/large"))]
      $0.routes[1].bodyLimit = 100
    }
    func post(_ path: String, _ count: Int) throws -> Int {
      try Int(relay.connect().request("POST \(path) HTTP/1.1\r\nHost: a\r\nContent-Length: \(count)\r\n\r\n" + String(repeating: "x", count: count)).status)
    }
    #expect(try post("/small", 4) == 200 && post("/small", 5) == 413)
    #expect(try post("/large", 100) == 200 && post("/large", 101) == 413)
    let chunked = "POST /large HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + String(repeating: "x", count: 101) + "\r\n0\r\n\r\n"
    #expect(try relay.connect().request(chunked).status == 413)
  }

  @Test func fieldsComeAndGoBothWays() throws {
    let upstream = try ScriptedUpstream.answering { head in
      let seen = head.split(separator: "\r\n").filter { $0.lowercased().hasPrefix("x-") && !$0.lowercased().hasPrefix("x-forwarded") }.joined(separator: "|")
      return "HTTP/1.1 200 OK\r\nContent-Length: \(seen.utf8.count)\r\nX-Powered-By: php\r\nx_powered_by: php\r\nX-Frame-Options: ALLOW\r\nServer: secret\r\n\r\n\(seen)"
    }
    let relay = try RelayFixture(upstreamPort: upstream.port) {
      $0.routes[0].addedRequestFields = [Settings.AddedField(name: "X-Env", value: "prod")]
      $0.routes[0].removedRequestFields = ["X-Debug"]
      $0.routes[0].addedResponseFields = [Settings.AddedField(name: "X-Frame-Options", value: "DENY")]
      $0.routes[0].removedResponseFields = ["X-Powered-By", "Server"]
    }
    let response = try relay.get(fields: "X-Env: mine\r\nX_Env: mine\r\nX-Debug: 1\r\nX-Kept: 2\r\n")
    #expect(response.body == "X-Env: prod|X-Kept: 2" || response.body == "X-Kept: 2|X-Env: prod", "\(response.body)")
    #expect(response.head.contains("X-Frame-Options: DENY\r\n") && !response.head.contains("ALLOW"))
    #expect(!response.head.lowercased().contains("powered") && !response.head.contains("secret"))
  }
}
