import Bytes
import Crypto
import Encoding
import Foundation
import Methods
import Payments
import Testing

@testable import Agent

@Suite struct PurchaseTests {
  /// A booth, its server and an agent with a folder of its own.
  private struct Scene {
    static let usdc = Currency(code: "usdc", decimals: 6)!

    let booth: TollBooth
    let server: ScriptedServer
    let keeper: Keeper
    let key: WalletKey

    init() throws {
      booth = try TollBooth()
      server = booth.serve()
      keeper = Keeper(path: NSTemporaryDirectory() + "agent-\(UUID().uuidString)/farebox")
      key = WalletKey(signingKey: .generate())
    }

    func agent(_ change: (inout AgentOptions) -> Void = { _ in }) -> Agent {
      var options = AgentOptions()
      options.maximum = SpendingLimit("0.01 USDC")
      options.limits.head = .seconds(5)
      change(&options)
      return Agent(options: options, keeper: keeper, walletKey: key)
    }

    func request(_ path: String, method: String = "GET") throws -> AgentRequest {
      try AgentRequest(method: method, address: try WebAddress(server.url + path))
    }
  }

  private func text(_ answer: AgentAnswer) throws -> String {
    var octets: [UInt8] = []
    while let more = try answer.next() { octets += more }
    return String(decoding: octets, as: UTF8.self)
  }

  // MARK: - Charges

  @Test func freeCostsNothing() throws {
    let scene = try Scene()
    let answer = try scene.agent { $0.maximum = nil }.fetch(try scene.request("/free"))
    #expect(try text(answer) == "free")
    #expect(answer.payment == nil)
  }

  @Test func paysCharge() throws {
    let scene = try Scene()
    let answer = try scene.agent().fetch(try scene.request("/charge/a?b=c"))
    #expect(try text(answer) == "paid")
    #expect(answer.payment?.receipt?.amount == TollBooth.price)
    #expect(answer.payment?.fault == nil)
    #expect(scene.booth.books.withLock { $0.charges.count } == 1)
  }

  @Test func paysNothingAboveMaximum() throws {
    let scene = try Scene()
    let request = try scene.request("/charge")
    #expect(throws: AgentError.overMaximum(price: TollBooth.price, maximum: nil, currency: Scene.usdc)) { try scene.agent { $0.maximum = nil }.fetch(request) }
    #expect(throws: AgentError.overMaximum(price: TollBooth.price, maximum: 1999, currency: Scene.usdc)) {
      try scene.agent { $0.maximum = SpendingLimit("0.001999 USDC") }.fetch(request)
    }
    #expect(throws: AgentError.noUsableOffer) { try scene.agent { $0.maximum = SpendingLimit("5 eurc") }.fetch(request) }
    #expect(throws: AgentError.noUsableOffer) { try scene.agent { $0.preference = .session }.fetch(request) }
    #expect(scene.booth.books.withLock { $0.charges.isEmpty })
    let exact = try scene.agent { $0.maximum = SpendingLimit("0.002 usdc") }.fetch(request)
    #expect(try text(exact) == "paid")
  }

  @Test(arguments: [
    (TollBooth.Lie.realm, AgentError.offer(.realm)), (.resource, .offer(.resource)), (.noInvoice, .offer(.invoiceMissing)),
    (.foreignInvoice, .offer(.invoiceSignature)), (.otherInvoice, .offer(.invoiceOffer)), (.issuer, .offer(.invoiceIssuer)),
    (.expired, .offer(.expired)),
  ])
  func believesNoFalseOffer(lie: TollBooth.Lie, error: AgentError) throws {
    let scene = try Scene()
    scene.booth.books.withLock { $0.lie = lie }
    for path in ["/charge", "/body"] {
      let request = try scene.request(path)
      #expect(throws: error) { try scene.agent().fetch(request) }
      #expect(throws: error) { try scene.agent().quote(request) }
    }
    #expect(scene.booth.books.withLock { $0.charges.isEmpty && $0.opens.isEmpty })
  }

  @Test func believesNoServerThatChanges() throws {
    let scene = try Scene()
    _ = try scene.agent().fetch(try scene.request("/charge")).drain()
    scene.booth.books.withLock { $0.lie = .decimalsChange }
    let request = try scene.request("/charge")
    #expect(throws: AgentError.offer(.decimals)) { try scene.agent().fetch(request) }
    scene.booth.books.withLock { $0.lie = .keysChange }
    #expect(throws: AgentError.serverKeys(.pinnedKeyMissing)) { try scene.agent().fetch(request) }
    #expect(scene.booth.books.withLock { $0.charges.count } == 1)
  }

  @Test(arguments: [
    (TollBooth.Lie.receiptAmount, AgentError.ReceiptFault.amount), (.receiptKey, .signature), (.noReceipt, .missing),
  ])
  func tellsFalseReceipt(lie: TollBooth.Lie, fault: AgentError.ReceiptFault) throws {
    let scene = try Scene()
    scene.booth.books.withLock { $0.lie = lie }
    let answer = try scene.agent().fetch(try scene.request("/charge"))
    #expect(try text(answer) == "paid")
    #expect(answer.payment?.fault == fault)
    #expect(answer.payment?.receipt == nil)
  }

  // MARK: - Failures

  @Test func repeatsCredentialThatWasNotTaken() throws {
    let scene = try Scene()
    scene.booth.books.withLock { $0.faults = [.dropBefore, .inFlight, .unavailable, .dropBefore] }
    #expect(try text(try scene.agent().fetch(try scene.request("/charge"))) == "paid")
    #expect(scene.booth.books.withLock { $0.charges.count } == 1)
    #expect(scene.booth.books.withLock { $0.unpaid } == 1)
  }

  @Test func neverPaysAgainAfterLostAnswer() throws {
    let scene = try Scene()
    scene.booth.books.withLock { $0.faults = [.dropAfter] }
    let request = try scene.request("/charge")
    #expect(throws: AgentError.answerLost(reference: "7")) { try scene.agent().fetch(request) }
    #expect(scene.booth.books.withLock { $0.charges.count } == 1)
    #expect(scene.booth.books.withLock { $0.unpaid } == 1)
  }

  @Test func stopsAtSecond402() throws {
    let scene = try Scene()
    scene.booth.books.withLock { $0.faults = [.askAgain, .askAgain, .askAgain] }
    for path in ["/charge", "/body"] {
      let request = try scene.request(path)
      do {
        _ = try scene.agent().fetch(request)
        Issue.record("a second 402 was not told")
      } catch {
        guard case .rejected(402, "verification-failed", _) = error else {
          Issue.record("\(error)")
          continue
        }
      }
    }
    #expect(scene.booth.books.withLock { $0.charges.isEmpty && $0.faults.count == 1 })
    #expect(try scene.keeper.sessions().isEmpty)
  }

  @Test func tellsPolicy() throws {
    let scene = try Scene()
    scene.booth.books.withLock { $0.faults = [.denied] }
    let request = try scene.request("/charge")
    #expect(throws: AgentError.refusedByPolicy(detail: "daily-cap")) { try scene.agent().fetch(request) }
  }

  @Test func keysUnsafeRequests() throws {
    let scene = try Scene()
    scene.booth.books.withLock { $0.faults = [.dropBefore] }
    #expect(try text(try scene.agent().fetch(try scene.request("/charge", method: "POST"))) == "paid")
    let keys = scene.booth.books.withLock { $0.keys }
    #expect(keys.count == 2)
    #expect(Set(keys).count == 1)
  }

  // MARK: - Sessions

  @Test func opensTopsUpAndCloses() throws {
    let scene = try Scene()
    scene.booth.books.withLock { $0.announces = false }
    let agent = scene.agent { $0.deposit = SpendingLimit("0.00005 USDC") }
    let journal = Journal<String>()
    let answer = try agent.fetch(try scene.request("/body")) { event in
      if case .toppedUp(let amount, _, _) = event { journal.add(String(amount.units)) }
    }
    #expect(try text(answer) == String(repeating: "x", count: 100))
    // The length is known, so one top-up pays for all of the rest, and a unit for rounding.
    #expect(journal.all == ["51"])
    let session = try #require(try scene.keeper.sessions().first)
    #expect(session.state == .open)
    #expect(session.deposit == 101)
    let closed = try agent.close(session)
    #expect(closed.result == SessionClosed(spent: 100, refunded: 1))
    #expect(closed.receipt?.session?.remaining == 1)
    #expect(try scene.keeper.sessions().isEmpty)
    #expect(try agent.close(session).result == nil)
  }

  @Test func topsUpAtEvent() throws {
    let scene = try Scene()
    let answer = try scene.agent { $0.maximum = SpendingLimit("0.0001 USDC") }.fetch(try scene.request("/events"))
    let body = try text(answer)
    #expect(body.contains("event: payment-need-topup"))
    #expect(body.filter { $0 == "x" }.count == 100)
    #expect(answer.payment?.receipt?.session?.spent == 100)
    #expect(answer.budget == SessionBudget(currency: Scene.usdc, deposit: 100, spent: 100))
  }

  @Test func stopsAtMaximumInMidstream() throws {
    let scene = try Scene()
    let agent = scene.agent { $0.maximum = SpendingLimit("0.00008 USDC") }
    let answer = try agent.fetch(try scene.request("/events"))
    var count = 0
    #expect(throws: AgentError.overMaximum(price: 1, maximum: 0, currency: Scene.usdc)) {
      while let octets = try answer.next() { count += octets.filter { $0 == UInt8(ascii: "x") }.count }
    }
    #expect(count == 80)
  }

  @Test func usesOpenSessionAgain() throws {
    let scene = try Scene()
    let first = scene.agent { $0.deposit = SpendingLimit("0.001 USDC") }
    for _ in 0..<2 { try first.fetch(try scene.request("/body")).drain() }
    // Another process, which was never told of a maximum: what the session holds has left the wallet before.
    let second = scene.agent { $0.maximum = nil }
    try second.fetch(try scene.request("/body?other=query")).drain()
    let books = scene.booth.books.withLock { $0 }
    #expect(books.opens.count == 1)
    #expect(books.bearers == 2)
    #expect(books.unpaid == 1)
    #expect(books.sessions.values.first?.spent == 300)
    // New terms are looked at first, and are as bound by the maximum as a payment.
    let other = try scene.request("/body/other")
    #expect(throws: AgentError.overMaximum(price: 1, maximum: nil, currency: Scene.usdc)) { try second.fetch(other) }
    try first.fetch(other).drain()
    #expect(scene.booth.books.withLock { $0.opens.count } == 1)
  }

  @Test func opensAnewWhereSessionIsGone() throws {
    let scene = try Scene()
    let agent = scene.agent { $0.deposit = SpendingLimit("0.001 USDC") }
    try agent.fetch(try scene.request("/body")).drain()
    scene.booth.books.withLock { $0.sessions = [:] }
    try agent.fetch(try scene.request("/body")).drain()
    #expect(scene.booth.books.withLock { $0.opens.count } == 2)
    #expect(try scene.keeper.sessions().count == 1)
  }

  @Test func repeatsBearerOnlyWhereItCostNothing() throws {
    let scene = try Scene()
    let agent = scene.agent { $0.deposit = SpendingLimit("0.001 USDC") }
    try agent.fetch(try scene.request("/body")).drain()
    // The booth's count of what was spent is unchanged, so the request may be repeated.
    scene.booth.books.withLock { $0.faults = [.dropBefore] }
    try agent.fetch(try scene.request("/body")).drain()
    #expect(scene.booth.books.withLock { $0.bearers } == 1)
    // Now more was spent than this agent knows of: the lost request may be the cause.
    scene.booth.books.withLock { $0.faults = [.dropBefore] }
    for session in try scene.keeper.sessions() { try agent.note(session.sessionID) { $0.spent = 150 } }
    let request = try scene.request("/body")
    #expect(throws: AgentError.answerLost(reference: nil)) { try agent.fetch(request) }
    #expect(scene.booth.books.withLock { $0.bearers } == 1)
  }

  @Test func continuesSessionWhoseOpeningWasLost() throws {
    let scene = try Scene()
    scene.booth.books.withLock { $0.faults = [.dropAfter] }
    let agent = scene.agent { $0.deposit = SpendingLimit("0.001 USDC") }
    #expect(try text(try agent.fetch(try scene.request("/body"))).count == 100)
    let books = scene.booth.books.withLock { $0 }
    #expect(books.opens.count == 1)
    #expect(books.bearers == 1)
    #expect(books.sessions.values.first?.spent == 100)
    #expect(try scene.keeper.sessions().map(\.state) == [.open])
  }

  @Test func depositIsBounded() throws {
    let scene = try Scene()
    let request = try scene.request("/body")
    // The suggestion is 60, the minimum 10.
    let agent = scene.agent { $0.maximum = SpendingLimit("0.00002 USDC") }
    _ = try agent.fetch(request)
    #expect(try scene.keeper.sessions().map(\.deposit) == [20])
    try scene.keeper.forget(try #require(try scene.keeper.sessions().first).sessionID)
    #expect(throws: AgentError.overMaximum(price: 10, maximum: 9, currency: Scene.usdc)) {
      try scene.agent { $0.maximum = SpendingLimit("0.000009 USDC") }.fetch(request)
    }
    #expect(throws: AgentError.overMaximum(price: 30, maximum: 20, currency: Scene.usdc)) {
      try scene.agent {
        $0.maximum = SpendingLimit("0.00002 USDC")
        $0.deposit = SpendingLimit("0.00003 USDC")
      }.fetch(request)
    }
  }

  @Test func learnsWhatMeteredBodyCost() throws {
    let scene = try Scene()
    let agent = scene.agent { $0.deposit = SpendingLimit("0.001 USDC") }
    let answer = try agent.fetch(try scene.request("/body"))
    try answer.drain()
    #expect(answer.budget == SessionBudget(currency: Scene.usdc, deposit: 1000, spent: 100))
    #expect(try scene.keeper.sessions().map(\.spent) == [100])
  }

  @Test func leavesAuthorizationToCaller() throws {
    let scene = try Scene()
    let request = try AgentRequest(
      address: try WebAddress(scene.server.url + "/body"), fields: [.init(name: "Authorization", value: "Basic eDp5")])
    #expect(throws: AgentError.offer(.header)) { try scene.agent().fetch(request) }
    try scene.agent().fetch(try scene.request("/body")).drain()
    // An open session pays by its short form beside the caller's own credential.
    let answer = try scene.agent().fetch(request)
    #expect(try text(answer).count == 100)
    #expect(scene.booth.books.withLock { $0.bearers } == 1)
    // Another wallet's session is not touched.
    let stranger = Agent(options: AgentOptions(), keeper: scene.keeper, walletKey: WalletKey(signingKey: .generate()))
    let plain = try scene.request("/body")
    #expect(throws: AgentError.overMaximum(price: 10, maximum: nil, currency: Scene.usdc)) { try stranger.fetch(plain) }
  }

  @Test func reportsWallet() throws {
    let scene = try Scene()
    let agent = scene.agent()
    let answer = try agent.fetch(try scene.request("/body"))
    try answer.drain()
    let report = try agent.walletReport(at: try WebAddress(scene.server.url + "/any"))
    #expect(report.wallet == scene.key.wallet)
    #expect(report.balances.map(\.available) == [5000])
    #expect(report.left["daily-cap"]?["usdc"]?.stringValue == "7000")
    #expect(report.sessions.map(\.sessionID) == [answer.payment?.session?.sessionID])
    #expect(report.sessions.map(\.state.spent) == [100])
    let address = try WebAddress(scene.server.url)
    #expect(throws: AgentError.noWalletKey) {
      try Agent(keeper: nil, walletKey: nil).walletReport(at: address)
    }
  }

  @Test func worksWithoutKeeper() throws {
    let scene = try Scene()
    var options = AgentOptions()
    options.deposit = SpendingLimit("0.0005 USDC")
    let agent = Agent(options: options, keeper: nil, walletKey: scene.key)
    for _ in 0..<3 { try agent.fetch(try scene.request("/body")).drain() }
    #expect(scene.booth.books.withLock { $0.opens.count } == 1)
    let session = try #require(try agent.sessions().first)
    #expect(try agent.close(session).result == SessionClosed(spent: 300, refunded: 200))
    #expect(try agent.sessions().isEmpty)
  }

  @Test func quotesWithoutPaying() throws {
    let scene = try Scene()
    let quote = try #require(try scene.agent { $0.maximum = nil }.quote(try scene.request("/charge")))
    #expect(quote.offers.map(\.priceText) == ["0.002 USDC"])
    #expect(try scene.agent().quote(try scene.request("/free")) == nil)
    let session = try #require(try scene.agent().quote(try scene.request("/body")))
    #expect(session.offers.map(\.priceText) == ["0.000001 USDC per byte"])
    #expect(scene.booth.books.withLock { $0.charges.isEmpty && $0.opens.isEmpty })
  }
}
