import Configuration
import HTTP
import Ledger
import Methods
import Payments
import Synchronization
import Testing

@testable import Proxy

/// A relay that sells the shop's routes. Sessions are opened by the shop's own cashier, on the same ledger.
private final class PaidRelay {
  let shop: Shop
  let server: Server
  let port: UInt16

  init(upstreamPort: UInt16, _ configure: (inout Settings) -> Void = { _ in }) throws {
    var settings = try shopSettings()
    settings.listeners = [.init(.address("127.0.0.1", port: 0))]
    settings.workers = 1
    settings.upstreams = [Settings.Upstream(name: "up", endpoint: .host("127.0.0.1", port: upstreamPort))]
    configure(&settings)
    shop = try Shop(settings)
    server = try Server(settings: settings, ledger: shop.ledger, keys: shop.keys)
    try server.start()
    port = try #require(server.ports.first)
  }

  deinit {
    server.stop()
    server.join()
  }

  /// Sends a request of a session and leaves its answer to be read.
  func send(_ target: String, method: String, _ secret: SessionSecret, body: String = "") throws -> Wire {
    let wire = try Wire(port: port)
    let length = method == "GET" ? "" : "Content-Length: \(body.utf8.count)\r\n"
    wire.send(
      "\(method) \(target) HTTP/1.1\r\nHost: api.example.com\r\nPrepaid-Session: \(PrepaidSessionField.print(secret))\r\n\(length)\r\n\(body)")
    return wire
  }

  /// Waits until the session is closed, and tells what it cost.
  func spent(_ secret: SessionSecret) throws -> UInt128 {
    for _ in 0..<200 {
      if case .closed(let record) = shop.ledger.closeResult(secret.id) { return record.spent }
      Pause.milliseconds(10)
    }
    Issue.record("The session was not closed.")
    return 0
  }
}

/// Says once that something has happened.
private final class Flag: Sendable {
  private let value = Atomic<Bool>(false)
  var isSet: Bool { value.load(ordering: .sequentiallyConsistent) }
  func set() { value.store(true, ordering: .sequentiallyConsistent) }

  /// Waits for at most ten seconds.
  func wait() {
    for _ in 0..<2000 where !isSet { Pause.milliseconds(5) }
  }
}

@Suite struct RelayPaidTests {
  /// A payer who closes the session while the upstream works would otherwise be served for nothing.
  @Test(arguments: [("POST", UInt128(4000)), ("GET", 2000)]) func closingASessionDoesNotUndoWhatWentUpstream(method: String, cost: UInt128) throws {
    let (reached, mayEnd) = (Flag(), Flag())
    let upstream = try ScriptedUpstream { wire, _ in
      guard (try? wire.read(through: "\r\n\r\n")) != nil else { return }
      reached.set()
      mayEnd.wait()
    }
    defer {
      mayEnd.set()
      upstream.close()
    }
    let relay = try PaidRelay(upstreamPort: upstream.port)
    let (challenge, secret) = try relay.shop.openSession("/weather", deposit: 100_000)
    let wire = try relay.send("/weather", method: method, secret)
    reached.wait()
    let close = authorization(PrepaidCredential.close(challenge, secret: secret))
    guard case .pending = try relay.shop.send("/weather", close) else { throw ShopError.unexpectedVerdict }
    #expect(try wire.response().status == 410)
    // The request that opened the session cost 2000.
    #expect(try relay.spent(secret) == cost)
    relay.shop.settleBooks()
  }

  /// An upload that runs dry costs what an upload costs whose client leaves.
  @Test func anUploadThatRunsDryIsPaidAsFarAsItWent() throws {
    let mayEnd = Flag()
    let upstream = try ScriptedUpstream { wire, _ in
      guard (try? wire.read(through: "\r\n\r\n")) != nil else { return }
      mayEnd.wait()
    }
    defer {
      mayEnd.set()
      upstream.close()
    }
    let relay = try PaidRelay(upstreamPort: upstream.port) { settings in
      for index in settings.routes.indices { settings.routes[index].holdTimeout = .milliseconds(100) }
    }
    let (challenge, secret) = try relay.shop.openSession("/both", deposit: 5000)
    let wire = try relay.send("/both", method: "POST", secret, body: String(repeating: "x", count: 65_536))
    #expect(try wire.response().status == 408)
    guard case .answer(let closed) = try relay.shop.send("/both", authorization(PrepaidCredential.close(challenge, secret: secret))) else {
      throw ShopError.unexpectedVerdict
    }
    #expect(closed.status == 200)
    // The opening request cost 100, this one 100 and an octet 1.
    let spent = try relay.spent(secret)
    #expect(spent > 200 && spent <= 5000)
    relay.shop.settleBooks()
  }
}
