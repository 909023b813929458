import Bytes
import Glibc
import HTTP
import Methods
import Payments
import Synchronization
import Testing

@testable import Ledger
@testable import Proxy

/// Holds a ledger's commits up, and lets them fail.
final class CommitGate: Sendable {
  enum Failure: Sendable { case before, after }

  private let state = Mutex<(isShut: Bool, failures: [Failure])>((false, []))

  /// Lets no commit through from here on.
  func shut() { state.withLock { $0.isShut = true } }

  /// Lets commits through again; the first of them fail as listed.
  func open(_ failures: Failure...) { state.withLock { $0 = (false, failures) } }

  func pass() -> Failure? {
    while true {
      let (isShut, failure) = state.withLock { state -> (Bool, Failure?) in
        if state.isShut { return (true, nil) }
        return (false, state.failures.isEmpty ? nil : state.failures.removeFirst())
      }
      if !isShut { return failure }
      Pause.milliseconds(1)
    }
  }
}

/// A store behind a gate.
private final class GatedStore: Store {
  private let store: SQLiteStore
  private let gate: CommitGate

  init(path: String, gate: CommitGate) throws(LedgerError) {
    store = try SQLiteStore(path: path)
    self.gate = gate
  }

  func commit(_ batch: borrowing CommitBatch) throws(LedgerError) {
    let failure = gate.pass()
    if failure == .before { throw .store(code: 10) }
    try store.commit(batch)
    if failure == .after { throw .store(code: 10) }
  }

  func load(order: [RecordKind], _ body: (RecordKey, UnsafeRawBufferPointer) throws(LedgerError) -> Void) throws(LedgerError) -> [UInt8]? {
    try store.load(order: order, body)
  }

  func lines(from first: UInt64, _ body: (UInt64, UnsafeRawBufferPointer) throws(LedgerError) -> Void) throws(LedgerError) {
    try store.lines(from: first, body)
  }

  func exported() throws(LedgerError) -> UInt64 { try store.exported() }
  func record(_ key: RecordKey) throws(LedgerError) -> [UInt8]? { try store.record(key) }
  var isUntidy: Bool { store.isUntidy }
  func tidy(exported: UInt64) throws(LedgerError) { try store.tidy(exported: exported) }
  func close(afterFailure: Bool) { store.close(afterFailure: afterFailure) }
}

extension Ledger {
  /// Opens a ledger whose commits pass a gate.
  static func open(_ options: LedgerOptions, gate: CommitGate) throws(LedgerError) -> Ledger {
    let path = "\(options.directory)/ledger.db"
    return try open(options, at: .now()) { () throws(LedgerError) -> any Store in try GatedStore(path: path, gate: gate) }
  }
}

/// What clients see while the disk works, and when it fails: nothing leaves before it is paid for durably.
@Suite(.timeLimit(.minutes(2))) struct ReadBackTests {
  private static func ok(_ body: String) -> String { "HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)" }

  /// Whether anything comes within a fifth of a second.
  private func hears(_ wire: Wire) -> Bool {
    var entry = pollfd(descriptor: wire.descriptor)
    return poll(&entry, 1, 200) > 0
  }

  private func waitUntilSelling(_ relay: PaidRelay, after epoch: UInt32) {
    #expect(relay.wait { relay.ledger.epoch > epoch && relay.ledger.availability == .selling })
  }

  /// An upstream that shuts the gate before it answers: the settlement cannot be committed.
  private func shutting(_ gate: CommitGate, when target: String = "/weather/") throws -> ScriptedUpstream {
    try ScriptedUpstream.answering { head in
      if head.contains(target) { gate.shut() }
      return Self.ok("goods")
    }
  }

  @Test(arguments: ["GET", "POST"]) func aChargeLeavesWhenItsSettlementIsDurable(method: String) throws {
    let gate = CommitGate()
    let upstream = try shutting(gate)
    let relay = try PaidRelay(upstreamPort: upstream.port, gate: gate)
    let wire = try relay.connect()
    wire.send(PaidRelay.request("/weather/x", method: method, try relay.chargeFields("/weather/x", method: method)))
    #expect(!hears(wire))
    gate.open()
    #expect(try wire.response().body == "goods")
  }

  /// Whichever side of the write the failure is on, the goods stay here; the ledger that was read back says what it cost.
  @Test(arguments: [CommitGate.Failure.before, .after], [[], [("Idempotency-Key", "k")]])
  func aSettlementThatFailsDeliversNothing(failure: CommitGate.Failure, key: [(String, String)]) throws {
    let gate = CommitGate()
    let upstream = try shutting(gate)
    let relay = try PaidRelay(upstreamPort: upstream.port, gate: gate)
    let epoch = relay.ledger.epoch
    let fields = try relay.chargeFields("/weather/x") + key
    let wire = try relay.connect()
    wire.send(PaidRelay.request("/weather/x", fields))
    #expect(!hears(wire))
    gate.open(failure)
    let response = try wire.response()
    #expect(response.status == 503)
    #expect(!response.body.contains("goods"))
    waitUntilSelling(relay, after: epoch)
    #expect(relay.ledger.verify().isBalanced)
    #expect(relay.funds == 1_000_000_000 - (failure == .after ? 2000 : 0))
    let again = try relay.connect()
    again.send(PaidRelay.request("/weather/x", fields))
    Pause.milliseconds(50)
    gate.open()
    #expect(try again.response().status == (failure == .before || !key.isEmpty ? 200 : 403))
    #expect(relay.funds == 1_000_000_000 - 2000)
  }

  @Test(arguments: [CommitGate.Failure.before, .after]) func aSessionsRequestThatFailsDeliversNothing(failure: CommitGate.Failure) throws {
    let gate = CommitGate()
    let upstream = try shutting(gate, when: "/weather/x")
    let relay = try PaidRelay(upstreamPort: upstream.port, gate: gate)
    let secret = try relay.openSession("/weather/s", deposit: 100_000)
    let epoch = relay.ledger.epoch
    gate.shut()
    let wire = try relay.connect()
    wire.send(PaidRelay.request("/weather/s", short(secret)))
    #expect(!hears(wire))
    gate.open(failure)
    let response = try wire.response()
    #expect(response.status == 503)
    #expect(!response.body.contains("goods"))
    waitUntilSelling(relay, after: epoch)
    #expect(try relay.view(secret).spent == (failure == .after ? 4000 : 2000))
    #expect(try relay.view(secret).inFlight == 0)
    #expect(try relay.send("/weather/s", short(secret)).body == "goods")
    #expect(relay.ledger.verify().isBalanced)
  }

  /// A stored outcome is no more durable than the payment behind it.
  @Test func aRepeatedRequestWaitsForTheFirstOnesPayment() throws {
    let gate = CommitGate()
    let upstream = try shutting(gate)
    let relay = try PaidRelay(upstreamPort: upstream.port, gate: gate)
    let fields = try relay.chargeFields("/weather/x") + [("Idempotency-Key", "k")]
    let wires = try [relay.connect(), relay.connect()]
    wires[0].send(PaidRelay.request("/weather/x", fields))
    #expect(relay.wait { relay.ledger.merchants().first { $0.name == "acme" }?.balances.first?.balance == 2000 })
    wires[1].send(PaidRelay.request("/weather/x", fields))
    #expect(!hears(wires[1]))
    gate.open()
    for wire in wires { #expect(try wire.response().body == "goods") }
    #expect(relay.funds == 1_000_000_000 - 2000)
  }

  /// What was paid for durably goes on, whatever becomes of the ledger meanwhile.
  @Test func aPaidResponseOutlivesTheReadingBack() throws {
    let gate = CommitGate()
    let mayEnd = Atomic<Bool>(false)
    let upstream = try ScriptedUpstream { wire, _ in
      guard (try? wire.read(through: "\r\n\r\n")) != nil else { return }
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
      for _ in 0..<1000 where !mayEnd.load(ordering: .sequentiallyConsistent) { Pause.milliseconds(5) }
      wire.send("-last")
    }
    let relay = try PaidRelay(upstreamPort: upstream.port, gate: gate)
    let epoch = relay.ledger.epoch
    let wire = try relay.connect()
    wire.send(PaidRelay.request("/weather/x", try relay.chargeFields("/weather/x")))
    _ = try wire.read(through: "\r\n\r\n")
    #expect(try wire.read(5) == Array("first".utf8))
    gate.open(.before)
    _ = try relay.ledger.fund(relay.wallet.publicKey.octets, currency: "usdc", amount: 1, reference: "more", at: .now())
    waitUntilSelling(relay, after: epoch)
    Pause.milliseconds(250)
    mayEnd.store(true, ordering: .sequentiallyConsistent)
    #expect(try wire.read(5) == Array("-last".utf8))
    #expect(relay.funds == 1_000_000_000 - 2000)
  }
}

extension pollfd {
  /// Asks whether there is something to read.
  fileprivate init(descriptor: Int32) {
    self.init(fd: descriptor, events: Int16(POLLIN), revents: 0)
  }
}
