import Configuration
import HTTP
import Payments
import Testing

@testable import Proxy

/// What clients and upstreams may do to harm each other through the proxy.
@Suite struct PaidRelayHardeningTests {
  private static func ok(_ body: String, _ fields: String = "") -> String {
    "HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\n\(fields)\r\n\(body)"
  }

  @Test func anUpstreamThatWantsPaymentCostsNothingAndInvitesNobodyToPay() throws {
    let upstream = try ScriptedUpstream.answering { _ in
      "HTTP/1.1 402 Payment Required\r\nContent-Length: 3\r\nWWW-Authenticate: Payment id=\"x\"\r\nPayment-Receipt: forged\r\n\r\npay"
    }
    // Even where the operator charges for that status.
    let relay = try PaidRelay(upstreamPort: upstream.port) { settings in
      for index in settings.routes.indices { settings.routes[index].chargeStatus = .init([200...499]) }
    }
    let before = relay.funds
    let paid = try relay.send("/weather/x", try relay.chargeFields("/weather/x"))
    #expect(paid.status == 502)
    #expect(paid.field("Content-Type") == "application/problem+json")
    #expect(paid.field("WWW-Authenticate") == nil && paid.field("Payment-Receipt") == nil)
    #expect(paid.body.contains("wants to be paid"))
    #expect(relay.funds == before)
    // A method that the route gives away is no exception.
    #expect(try relay.send("/weather/x", method: "OPTIONS").status == 502)
    // Nothing is sold on a free route.
    let free = try relay.send("/free/x")
    #expect(free.status == 402 && free.body == "pay")
    #expect(free.field("WWW-Authenticate") == nil && free.field("Payment-Receipt") == nil)
  }

  @Test func contentThatIsCollectedIsBoundedInTotal() throws {
    let upstream = try ScriptedUpstream.answering { _ in Self.ok("") }
    let relay = try PaidRelay(upstreamPort: upstream.port) { settings in
      settings.limits.bodyBytes = 0
      settings.limits.collectedPerClient = CollectedContent.limit
      for index in settings.routes.indices { settings.routes[index].digestLimit = CollectedContent.limit }
    }
    func unfinished() throws -> Wire {
      let wire = try relay.connect()
      wire.send("POST /upload/x HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: \(CollectedContent.limit)\r\n\r\n")
      return wire
    }
    let part = [UInt8](repeating: 0x78, count: CollectedContent.limit / 2 + 1)
    let first = try unfinished()
    first.send(part)
    let second = try unfinished()
    second.send(part)
    // One of them is refused, whichever reached the limit, and then there is room again.
    let refused = first.receivesNothing(for: 2000) ? second : first
    let answer = try refused.response()
    #expect(answer.status == 503)
    #expect(answer.field("Retry-After") == "1")
    #expect(try relay.send("/upload/x", method: "POST", body: "x").status == 402)
  }

  @Test func onlyOneSideSaysWhichPagesMayRead() throws {
    let theirs = "access-control-allow-origin: https://evil.example\r\nAccess-Control-Allow-Credentials: true\r\nX-Kept: 1\r\n"
    let upstream = try ScriptedUpstream.answering { _ in Self.ok("x", theirs) }
    let relay = try PaidRelay(upstreamPort: upstream.port) { $0.cors.origins = ["https://app.example"] }
    let origin = [("Origin", "https://app.example")]
    let paid = try relay.send("/weather/x", try relay.chargeFields("/weather/x") + origin)
    #expect(paid.status == 200)
    let sharing = paid.head.lowercased().split(separator: "\r\n").filter { $0.hasPrefix("access-control-allow") }
    #expect(sharing == ["access-control-allow-origin: https://app.example"])
    #expect(paid.field("X-Kept") == "1")
    // Kept answers too, which are written a second time.
    let kept = [("Idempotency-Key", "k-1")] + origin
    let withheld = try relay.send("/weather/y", try relay.chargeFields("/weather/y") + kept)
    #expect(withheld.status == 200)
    #expect(withheld.field("Access-Control-Allow-Credentials") == nil)
    // Where we say nothing, the upstream's word stands.
    let other = try relay.send("/weather/x", try relay.chargeFields("/weather/x"))
    #expect(other.field("Access-Control-Allow-Credentials") == "true")
  }

  @Test(arguments: ["text/event-stream", "TEXT/Event-Stream", "text/event-stream\t;charset=utf-8", "text/plain, text/event-stream"])
  func anEventStreamIsOneHoweverItIsSpelt(type: String) throws {
    let upstream = try ScriptedUpstream.answering { _ in
      Self.ok("event: payment-receipt\ndata: forged\n\n", "Content-Type: \(type)\r\n")
    }
    let relay = try PaidRelay(upstreamPort: upstream.port)
    let response = try relay.send("/weather/x", try relay.chargeFields("/weather/x"))
    #expect(response.status == 200)
    #expect(response.body.components(of: "event: payment-receipt\n").count == 2, "\(response.body)")
    #expect(!response.body.contains("event: payment-receipt\ndata: forged"))
  }
}
