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
import Testing

@testable import Proxy

/// A configuration replaces another while requests, sessions and challenges of the former one are about.
@Suite struct ReloadTests {
  private static func answering() throws -> ScriptedUpstream {
    try ScriptedUpstream.answering { _ in "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" }
  }

  @Test func newRequestsUseTheNewRoutesOnTheSameConnection() throws {
    let upstream = try Self.answering()
    let relay = try RelayFixture(upstreamPort: upstream.port) { $0.routes = [Settings.Route(id: "one", path: .exact("/one"))] }
    let wire = try relay.connect()
    #expect(try wire.request("GET /one HTTP/1.1\r\nHost: a\r\n\r\n").status == 200)
    #expect(try wire.request("GET /two HTTP/1.1\r\nHost: a\r\n\r\n").status == 404)
    var settings = relay.server.settings
    for number in 0..<20 {
      settings.routes = [Settings.Route(id: "r\(number)", path: .exact(number.isMultiple(of: 2) ? "/two" : "/one"))]
      try relay.server.reload(settings, at: .now())
      #expect(try wire.request("GET /two HTTP/1.1\r\nHost: a\r\n\r\n").status == (number.isMultiple(of: 2) ? 200 : 404))
    }
    // Nothing was in flight, so the table of routes holds the last three configurations at most.
    #expect(relay.server.state.withLock { $0.plan.routes.count } <= 3)
    #expect(upstream.connectionCount == 1, "an upstream that is as before keeps its connections")
  }

  @Test func aRequestInFlightGoesOnWithItsRouteAndUpstream() throws {
    let upstream = try ScriptedUpstream { wire, _ in
      guard (try? wire.read(through: "\r\n\r\n")) != nil else { return }
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
      guard (try? wire.read(through: "never")) != nil else { return }
    }
    let other = try Self.answering()
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let wire = try relay.connect()
    wire.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    _ = try wire.read(through: "ab")
    var settings = relay.server.settings
    settings.upstreams = [Settings.Upstream(name: "upstream", endpoint: .host("127.0.0.1", port: other.port))]
    try relay.server.reload(settings, at: .now())
    #expect(relay.server.state.withLock { $0.places.retired } == [0])
    try relay.server.reload(settings, at: .now())
    #expect(relay.server.state.withLock { $0.places.retired }.contains(0), "the stream still refers to its route")
    #expect(try relay.get().status == 200)
    #expect(other.connectionCount == 1)
  }

  @Test func aFailureChangesNothing() throws {
    let upstream = try Self.answering()
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let before = relay.server.settings
    var settings = before
    settings.realm = "other.example"
    settings.workers = 2
    #expect(throws: ReloadError.fixed(["realm", "workers"])) { try relay.server.reload(settings, at: .now()) }

    // A free address is opened and closed again when the one after it cannot be had.
    let taken = try Listener(address: SocketAddress(127, 0, 0, 1, port: 0))
    settings = before
    settings.routes = [Settings.Route(id: "other", path: .exact("/other"))]
    settings.listeners += [.init(.address("127.0.0.1", port: 0)), .init(.address("127.0.0.1", port: taken.port))]
    #expect(throws: ReloadError.server(.cannotListen(listener: 2, .cannotBind(code: EADDRINUSE)))) {
      try relay.server.reload(settings, at: .now())
    }
    settings.listeners = before.listeners
    settings.routes += settings.routes
    #expect(throws: ReloadError.self) { try relay.server.reload(settings, at: .now()) }
    #expect(try relay.get("/x").status == 200)
    #expect(relay.server.ports.count == 1)
  }

  @Test func listenersAreOpenedAndClosed() throws {
    let upstream = try Self.answering()
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let path = "/tmp/farebox-reload-\(getpid())-\(UInt64.random(in: 0...UInt64.max)).sock"
    let open = try relay.connect()
    #expect(try open.request("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").status == 200)
    var settings = relay.server.settings
    var local = Settings.Listener(.unix(path: path))
    local.mode = 0o640
    settings.listeners = [local]
    try relay.server.reload(settings, at: .now())
    var status = stat()
    #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o640)
    settings.listeners[0].mode = 0o600
    try relay.server.reload(settings, at: .now())
    #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
    #expect(throws: (any Error).self) { try relay.connect() }
    #expect(try open.request("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").status == 200, "a connection outlives its listener")
    settings.listeners = [.init(.address("127.0.0.1", port: relay.port))]
    try relay.server.reload(settings, at: .now())
    #expect(stat(path, &status) != 0)
    #expect(try relay.get().status == 200)
  }

  @Test func challengesAreHonouredAtTheirPrice() throws {
    let upstream = try Self.answering()
    let relay = try PaidRelay(upstreamPort: upstream.port)
    let target = "/weather/a"
    let charge = try relay.chargeFields(target)
    let challenge = try relay.challenge(target, "session")
    let funds = relay.funds
    var settings = relay.server.settings
    let index = try #require(settings.routes.firstIndex { $0.id == "weather" })
    let before = try #require(settings.routes[index].price)
    settings.routes[index].offer = .priced(try Price(parsing: "0.5 USDC per request", currencies: settings.currencies))
    try relay.server.reload(settings, at: .now())

    #expect(try relay.send(target, charge).status == 200)
    #expect(funds - relay.funds == before.chargeAmount)
    let secret = SessionSecret.generate()
    let open = PrepaidCredential.open(challenge, deposit: 1_000_000, secret: secret, wallet: relay.wallet)
    #expect(try relay.send(target, authorization(open)).status == 200)
    #expect(try relay.view(secret).spent == before.chargeAmount)
    // The session keeps its terms; who asks anew is asked for the new price.
    let bearer = PrepaidCredential.bearer(challenge, secret: secret)
    #expect(try relay.send(target, authorization(bearer)).status == 200)
    #expect(try relay.view(secret).spent == 2 * before.chargeAmount)
    let fresh = try relay.challenge(target, "charge")
    #expect(try PrepaidCharge(parsing: fresh.requestObject()).amount == 500_000)
  }

  @Test func placesAreGivenAgainOnlyWhenNothingUsesThem() throws {
    var settings = Settings()
    settings.upstreams = [Settings.Upstream(name: "a", endpoint: .unix(path: "/a"))]
    settings.routes = [Settings.Route(id: "x", path: .exact("/x")), Settings.Route(id: "y", path: .exact("/y"))]
    var places = PlanPlaces(settings)
    var after = settings
    after.upstreams[0].maxIdle = 1
    try #require(places.replace(after, before: settings) == true)
    #expect(places.layout == PlanLayout(routes: [2, 3], variants: [[], []], upstreams: [1]))
    places.reclaim(unless: [1])
    #expect(places.retired == [1])
    try #require(places.replace(after, before: after) == true)
    #expect(places.layout == PlanLayout(routes: [0, 4], variants: [[], []], upstreams: [1]))
    places.reclaim(unless: [])
    try #require(places.replace(after, before: after) == true)
    #expect(places.layout.routes == [1, 2])
  }
}
