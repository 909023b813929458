import Crypto
import Encoding
import Ethereum
import Foundation
import Methods
import Payments
import Testing

@testable import Agent

@Suite struct ChainPurchaseTests {
  static let usdc = Currency(code: "usdc", decimals: 6)!

  private struct Scene {
    let booth: ChainBooth
    let server: ScriptedServer
    let keeper = Keeper(path: NSTemporaryDirectory() + "agent-\(UUID().uuidString)/farebox")
    let key = AccountKey(EthereumKey.generate())

    init(_ change: (inout ChainBooth.Menu) -> Void = { _ in }) throws {
      booth = try ChainBooth()
      server = booth.serve()
      booth.books.withLock { change(&$0.menu) }
    }

    func agent(_ change: (inout AgentOptions) -> Void = { _ in }) -> Agent {
      var options = AgentOptions()
      options.maximum = SpendingLimit("0.01 USDC")
      options.limits.head = .seconds(5)
      change(&options)
      return Agent(options: options, keeper: keeper, walletKey: nil, accountKey: key)
    }

    func request(_ path: String = "/page?a=1", method: String = "GET", fields: [AgentRequest.Field] = []) throws -> AgentRequest {
      try AgentRequest(method: method, address: try WebAddress(server.url + path), fields: fields)
    }
  }

  @Test(arguments: [
    (Rail.x402, 2, AssetTransferMethod?.none, ChainOffer.Means.authorization), (.x402, 2, .permit2, .permit2), (.x402, 1, nil, .authorization),
    (.evm, 0, nil, .authorization), (.evm, 0, .permit2, .permit2),
  ])
  func pays(rail: Rail, version: Int, method: AssetTransferMethod?, means: ChainOffer.Means) throws {
    let scene = try Scene {
      $0.v1 = version == 1
      $0.v2 = version == 2
      $0.evm = rail == .evm
      $0.method = method
    }
    let journal = Journal<ChainOffer.Means>()
    let answer = try scene.agent().fetch(try scene.request()) { event in
      if case .chosen(let offer) = event { journal.add(offer.means) }
    }
    #expect(journal.all == [means])
    #expect(answer.payment?.rail == rail)
    #expect(answer.payment?.fault == nil)
    #expect(answer.payment?.chain?.transaction == ChainBooth.transaction)
    #expect(answer.payment?.chain?.amount == 1000)
    let charge = try #require(scene.booth.books.withLock { $0.charges.first })
    #expect(charge.payer == scene.key.address)
    #expect(charge.amount == 1000)
    #expect(try scene.keeper.spentToday().map(\.number) == ["0.001"])
  }

  @Test func choosesInAStableOrder() throws {
    let scene = try Scene {
      $0.v1 = true
      $0.evm = true
    }
    for (rail, field) in [(Rail?.none, "authorization "), (.evm, "authorization "), (.x402, "payment-signature ")] {
      try scene.agent { $0.rail = rail }.fetch(try scene.request()).drain()
      #expect(scene.booth.books.withLock { $0.shown.last }?.hasPrefix(field) == true)
    }
    // The caller's own Authorization is for the upstream: x402 leaves it alone.
    let request = try scene.request(fields: [.init(name: "X-Other", value: "1")])
    try scene.agent { $0.rail = .x402 }.fetch(request).drain()
    let quote = try #require(try scene.agent().quote(try scene.request()))
    #expect(quote.chainOffers.map(\.railText) == ["evm", "x402 v2", "x402 v1"])
    #expect(quote.chainOffers.map(\.priceText) == ["0.001 USDC", "0.001 USDC", "0.001 USDC"])
    let bare = try scene.request()
    #expect(throws: AgentError.self) { try scene.agent { $0.rail = .prepaid }.fetch(bare) }
    #expect(throws: AgentError.noAccountKey) { try Agent(options: scene.agent().options, keeper: scene.keeper, walletKey: nil).fetch(bare) }
  }

  @Test func takesTheOfferThatIsAllowed() throws {
    let scene = try Scene { $0.amounts = [20_000, 1000, 900] }
    try scene.agent().fetch(try scene.request()).drain()
    #expect(scene.booth.books.withLock { $0.charges.map(\.amount) } == [1000])
    let request = try scene.request()
    #expect(throws: AgentError.overMaximum(price: 20_000, maximum: nil, currency: Self.usdc)) { try scene.agent { $0.maximum = nil }.fetch(request) }
    #expect(scene.booth.books.withLock { $0.shown.count } == 1)
  }

  @Test(arguments: [
    ("token", RefusedOffer.Reason.unknownToken), ("chain", .unknownToken), ("resource", .resource), ("query", .resource), ("scheme", .scheme),
    ("seconds", .noMeans),
  ])
  func paysNothingThatIsNotKnown(what: String, reason: RefusedOffer.Reason) throws {
    let scene = try Scene {
      switch what {
      case "token": $0.token = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
      case "chain": $0.chain = 8454
      case "resource": $0.resource = "http://other.example/page?a=1"
      case "query": $0.resource = "http://127.0.0.1/page?a=2"
      case "scheme": $0.scheme = "upto"
      default: $0.seconds = 3
      }
    }
    let request = try scene.request()
    do {
      _ = try scene.agent().fetch(request)
      Issue.record("it was paid")
    } catch {
      guard case .noPayableOffer(let refused) = error else {
        Issue.record("\(error)")
        return
      }
      #expect(refused.map(\.reason) == [reason])
    }
    #expect(scene.booth.books.withLock { $0.shown.isEmpty })
  }

  @Test func believesNoForeignChallenge() throws {
    let scene = try Scene {
      $0.v2 = false
      $0.evm = true
      $0.realm = "other.example"
    }
    let quote = try #require(try scene.agent().quote(try scene.request()))
    #expect(quote.chainOffers.isEmpty)
    #expect(quote.refusedOffers.map(\.reason) == [.challenge(.realm)])
  }

  /// The decimals are the agent's own: the booth's challenge says two, and its maximum would be far below the price by them.
  @Test func decidesDecimalsItself() throws {
    let scene = try Scene {
      $0.v2 = false
      $0.evm = true
    }
    let request = try scene.request()
    #expect(throws: AgentError.overMaximum(price: 1000, maximum: 999, currency: Self.usdc)) {
      try scene.agent { $0.maximum = SpendingLimit("0.000999 USDC") }.fetch(request)
    }
    try scene.agent { $0.maximum = SpendingLimit("0.001 USDC") }.fetch(request).drain()
  }

  @Test(arguments: [Rail.x402, .evm]) func signsForAnHourAtMost(rail: Rail) throws {
    let scene = try Scene {
      $0.seconds = 86_000
      $0.v2 = rail == .x402
      $0.evm = rail == .evm
    }
    try scene.agent().fetch(try scene.request()).drain()
    let charge = try #require(scene.booth.books.withLock { $0.charges.first })
    #expect(charge.expires - .now() <= .seconds(3601))
    #expect(charge.expires - .now() > .seconds(3500))
  }

  // MARK: - Failures

  @Test(arguments: [1, 2]) func showsTheSamePaymentAgain(version: Int) throws {
    let scene = try Scene {
      $0.v1 = version == 1
      $0.v2 = version == 2
    }
    scene.booth.books.withLock { $0.faults = [.drop, .unavailable, .pending, .drop] }
    try scene.agent().fetch(try scene.request(method: "POST")).drain()
    let books = scene.booth.books.withLock { $0 }
    #expect(books.shown.count == 5)
    #expect(Set(books.shown).count == 1)
    #expect(books.unpaid == 1)
    #expect(try scene.keeper.spentToday().map(\.number) == ["0.001"])
  }

  @Test(arguments: [ChainBooth.Fault.noMoney, .unknown]) func stopsAtARefusal(fault: ChainBooth.Fault) throws {
    let scene = try Scene()
    scene.booth.books.withLock { $0.faults = [fault, fault] }
    let request = try scene.request()
    #expect(throws: AgentError.self) { try scene.agent().fetch(request) }
    #expect(scene.booth.books.withLock { $0.shown.count } == 1)
    #expect(scene.booth.books.withLock { $0.faults.count } == 1)
  }

  @Test func paysAnewOnlyWhereNothingMovedAndThatWasAsked() throws {
    let scene = try Scene()
    scene.booth.books.withLock { $0.faults = [.noMoney] }
    try scene.agent { $0.refusalRetries = 1 }.fetch(try scene.request()).drain()
    #expect(scene.booth.books.withLock { Set($0.shown).count } == 2)
    // What leaves it open if money moved ends the call.
    scene.booth.books.withLock { $0.faults = [.unknown] }
    let request = try scene.request()
    #expect(throws: AgentError.rejected(status: 402, problem: "unknown_error", detail: "")) {
      try scene.agent { $0.refusalRetries = 1 }.fetch(request)
    }
    // Each signature counts against the maximum.
    scene.booth.books.withLock { $0.faults = [.noMoney] }
    #expect(throws: AgentError.overMaximum(price: 1000, maximum: 500, currency: Self.usdc)) {
      try scene.agent {
        $0.refusalRetries = 1
        $0.maximum = SpendingLimit("0.0015 USDC")
      }.fetch(request)
    }
  }

  @Test(arguments: [
    (ChainBooth.Fault.otherNetwork, AgentError.ReceiptFault.network), (.otherAmount, .amount), (.noTransaction, .transaction),
    (.otherPayer, .payer), (.noReceipt, .missing),
  ])
  func tellsFalseReceipt(fault: ChainBooth.Fault, expected: AgentError.ReceiptFault) throws {
    let scene = try Scene()
    for isEVM in [false, true] where !isEVM || expected != .payer {
      scene.booth.books.withLock {
        $0.faults = [fault]
        $0.menu.v2 = !isEVM
        $0.menu.evm = isEVM
      }
      let answer = try scene.agent().fetch(try scene.request())
      try answer.drain()
      #expect(answer.payment?.fault == expected)
      #expect(answer.payment?.chain == nil)
    }
  }

  /// A call that ends without an answer leaves its payment to the next one for the same purchase, and to no other.
  @Test(arguments: [(Rail.x402, 2), (.x402, 1), (.evm, 0)]) func goesOnWithAPaymentWhoseFateIsNotKnown(rail: Rail, version: Int) throws {
    let scene = try Scene {
      $0.v1 = version == 1
      $0.v2 = version == 2
      $0.evm = rail == .evm
    }
    let request = try scene.request(method: "POST")
    scene.booth.books.withLock { $0.faults = Array(repeating: .drop, count: 40) }
    do {
      _ = try scene.agent { $0.limits.whole = .seconds(1) }.fetch(request)
      Issue.record("an answer came")
    } catch {
      guard case .paymentPending = error else {
        Issue.record("\(error)")
        return
      }
    }
    scene.booth.books.withLock { $0.faults = [] }
    let other = try scene.request("/other", method: "POST")
    try scene.agent().fetch(other).drain()
    // What was spent already needs no maximum.
    let answer = try scene.agent { $0.maximum = nil }.fetch(request)
    try answer.drain()
    #expect(answer.payment?.chain?.amount == 1000)
    #expect(answer.payment?.fault == nil)
    #expect(scene.booth.books.withLock { Set($0.shown).count } == 2)
    #expect(try scene.keeper.spentToday().map(\.number) == ["0.002"])
    // Its fate is known now: the next purchase is a new one.
    try scene.agent().fetch(request).drain()
    #expect(scene.booth.books.withLock { Set($0.shown).count } == 3)
  }

  // MARK: - Limits

  @Test func limitsHoldForAllCalls() throws {
    let scene = try Scene()
    _ = try scene.keeper.changeLimits { $0.set(SpendingLimit("0.0025 USDC")!, for: .day) }
    let request = try scene.request()
    for _ in 0..<2 { try scene.agent().fetch(request).drain() }
    #expect(throws: AgentError.overLimit(.day(1000, left: 500, Self.usdc))) { try scene.agent().fetch(request) }
    #expect(scene.booth.books.withLock { $0.shown.count } == 2)
    _ = try scene.keeper.changeLimits {
      $0.remove("usdc", for: .day)
      $0.setRecipients([ChainBooth.merchant.lowercase])
    }
    try scene.agent().fetch(request).drain()
    _ = try scene.keeper.changeLimits { $0.setRecipients(["0x" + String(repeating: "1", count: 40)]) }
    #expect(throws: AgentError.overLimit(.recipient(ChainBooth.merchant.lowercase))) { try scene.agent().fetch(request) }
    #expect(scene.booth.books.withLock { $0.shown.count } == 3)
  }

  @Test func limitsHoldForPrepaidWalletsToo() throws {
    let booth = try TollBooth()
    let server = booth.serve()
    let keeper = Keeper(path: NSTemporaryDirectory() + "agent-\(UUID().uuidString)/farebox")
    var options = AgentOptions()
    options.maximum = SpendingLimit("0.01 USDC")
    let agent = Agent(options: options, keeper: keeper, walletKey: WalletKey(signingKey: .generate()))
    _ = try keeper.changeLimits {
      $0.set(SpendingLimit("0.003 USDC")!, for: .day)
      $0.set(SpendingLimit("0.00007 USDC")!, for: .session)
    }
    try agent.fetch(try AgentRequest(address: try WebAddress(server.url + "/charge"))).drain()
    // 60 are suggested as deposit; the top-up would bring the session to more than 70.
    let answer = try agent.fetch(try AgentRequest(address: try WebAddress(server.url + "/body")))
    do {
      try answer.drain()
      Issue.record("the session has no limit")
    } catch {
      guard case .overLimit(.session) = error else {
        Issue.record("\(error)")
        return
      }
    }
    let request = try AgentRequest(address: try WebAddress(server.url + "/charge"))
    #expect(throws: AgentError.overLimit(.day(2000, left: 940, Self.usdc))) { try agent.fetch(request) }
    #expect(booth.books.withLock { $0.charges.count } == 1)
  }

  @Test func limitsThatCannotBeReadForbid() throws {
    let scene = try Scene()
    _ = try scene.keeper.changeLimits { $0.set(SpendingLimit("1 USDC")!, for: .payment) }
    try Data("{\"version\":1,\"dya\":{\"usdc\":\"1\"}}".utf8).write(to: URL(fileURLWithPath: scene.keeper.limitsPath))
    chmod(scene.keeper.limitsPath, 0o600)
    let request = try scene.request()
    #expect(throws: AgentError.keeper(.malformed(path: scene.keeper.limitsPath))) { try scene.agent().fetch(request) }
    #expect(scene.booth.books.withLock { $0.shown.isEmpty })
  }
}
