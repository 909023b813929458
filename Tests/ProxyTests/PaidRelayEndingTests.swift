import Bytes
import HTTP
import Ledger
import Methods
import Payments
import Synchronization
import Testing

@testable import Proxy

/// Says once that something has happened.
private final class Flag: Sendable {
  private let value = Atomic<Bool>(false)
  func set() { value.store(true, ordering: .sequentiallyConsistent) }

  /// Waits for at most ten seconds.
  func wait() {
    for _ in 0..<2000 where !value.load(ordering: .sequentiallyConsistent) { Pause.milliseconds(5) }
  }
}

extension PaidRelay {
  /// Closes a session on a connection of its own, and tells what it cost.
  fileprivate func close(_ secret: SessionSecret, _ target: String) throws -> UInt128 {
    let credential = PrepaidCredential.close(try challenge(target, "session"), secret: secret)
    #expect(try send(target, authorization(credential)).status == 200)
    guard case .closed(let record) = ledger.closeResult(secret.id) else {
      Issue.record("The session is not closed.")
      return 0
    }
    return record.spent
  }
}

/// What is owed for a request that the upstream has, and whose payer takes the session or its budget away.
@Suite struct PaidRelayEndingTests {
  /// An upstream that answers the first request, and then keeps the next one's head for itself.
  private static func upstream(_ reached: Flag, _ mayEnd: Flag) throws -> ScriptedUpstream {
    try ScriptedUpstream { wire, _ in
      while let head = try? wire.read(through: "\r\n\r\n") {
        if head.contains("/slow") {
          reached.set()
          return mayEnd.wait()
        }
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
      }
    }
  }

  /// A payer who closes the session while the upstream works would otherwise be served for nothing.
  @Test(arguments: [("POST", UInt128(4000)), ("GET", 2000)])
  func closingASessionDoesNotUndoWhatWentUpstream(method: String, cost: UInt128) throws {
    let (reached, mayEnd) = (Flag(), Flag())
    let upstream = try Self.upstream(reached, mayEnd)
    defer {
      mayEnd.set()
      upstream.close()
    }
    let relay = try PaidRelay(upstreamPort: upstream.port)
    let secret = try relay.openSession("/weather/x", deposit: 100_000)
    let wire = try relay.connect()
    wire.send(PaidRelay.request("/weather/slow", method: method, short(secret), body: method == "POST" ? "go" : nil))
    reached.wait()
    // The request that opened the session cost 2000.
    #expect(try relay.close(secret, "/weather/x") == cost)
    #expect(try wire.response().status == 410)
    #expect(relay.ledger.verify().isBalanced)
  }

  /// An upload that runs dry costs what an upload costs whose client leaves.
  @Test func anUploadThatRunsDryIsPaidAsFarAsItWent() throws {
    let (reached, mayEnd) = (Flag(), Flag())
    let upstream = try Self.upstream(reached, mayEnd)
    defer {
      mayEnd.set()
      upstream.close()
    }
    let relay = try PaidRelay(upstreamPort: upstream.port) { settings in
      for index in settings.routes.indices { settings.routes[index].holdTimeout = .milliseconds(100) }
    }
    let secret = try relay.openSession("/both/x", deposit: 5000)
    let upload = PaidRelay.request("/both/slow", method: "POST", short(secret), body: String(repeating: "x", count: 65_536))
    #expect(try relay.connect().request(upload).status == 408)
    // The opening request cost 100, this one 100 and each octet 1.
    let spent = try relay.close(secret, "/both/x")
    #expect(spent > 200 && spent <= 5000)
    #expect(relay.ledger.verify().isBalanced)
  }
}
