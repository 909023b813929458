import Bytes
import Encoding
import Ethereum
import Foundation
import Methods
import Metering
import Payments
import Testing

@testable import Agent

@Suite struct ChannelPurchaseTests {
  private struct Scene {
    let booth: ChannelBooth
    let server: ScriptedServer
    let keeper = Keeper(path: NSTemporaryDirectory() + "agent-\(UUID().uuidString)/farebox")
    let key = AccountKey(EthereumKey.generate())

    init(_ change: (inout ChannelBooth.Books) -> Void = { _ in }) throws {
      booth = try ChannelBooth()
      server = booth.serve()
      booth.books.withLock { change(&$0) }
    }

    func agent(_ change: (inout AgentOptions) -> Void = { _ in }) -> Agent {
      var options = AgentOptions()
      options.maximum = SpendingLimit("0.01 USDC")
      options.escrows = [ChannelBooth.escrow]
      options.limits.head = .seconds(5)
      change(&options)
      return Agent(options: options, keeper: keeper, walletKey: nil, accountKey: key)
    }

    func request(_ path: String) throws -> AgentRequest { try AgentRequest(address: try WebAddress(server.url + path)) }

    func channel() throws -> KeptChannel { try #require(try keeper.channels().first) }

    /// What the server has of the only channel.
    func books() throws -> ChannelBooth.Channel { try #require(booth.books.withLock { $0.channels.values.first }) }

    var actions: [String] { booth.books.withLock { $0.actions } }
  }

  private func failure(_ body: () throws -> Void) -> AgentError? {
    do { try body() } catch { return error as? AgentError }
    return nil
  }

  @Test func opensOnceAndSignsForEachRequest() throws {
    let scene = try Scene()
    let first = try scene.agent().fetch(try scene.request("/page"))
    try first.drain()
    #expect(first.payment?.kind == .opened)
    #expect(first.payment?.rail == .evm)
    #expect(first.payment?.fault == nil)
    #expect(first.payment?.channelReceipt?.spent == 100)
    let opened = try scene.channel()
    #expect(opened.state == .open)
    #expect(opened.underWay == nil)
    #expect(opened.deposit == 1600)
    #expect((opened.signed, opened.counted, opened.spent) == (100, 100, 100))
    #expect(try scene.keeper.spentToday().map(\.number) == ["0.0016"])
    // Another agent goes on with the channel; no limit is needed, for the deposit has left the wallet already.
    for total in [UInt128(200), 300] {
      let answer = try scene.agent { $0.maximum = nil }.fetch(try scene.request("/page"))
      try answer.drain()
      #expect(answer.payment?.kind == .session)
      #expect(try scene.channel().signed == total)
      #expect(try scene.books().last.cumulativeAmount == total)
      #expect(try scene.books().spent == total)
    }
    #expect(scene.actions == ["open", "voucher", "voucher"])
    #expect(try scene.keeper.spentToday().map(\.number) == ["0.0016"])
  }

  @Test func isNotDepositedIntoWhatNobodyTrusts() throws {
    let scene = try Scene()
    guard case .noPayableOffer(let offers) = failure({ try scene.agent { $0.escrows = [] }.fetch(try scene.request("/page")).drain() }) else {
      Issue.record("paid")
      return
    }
    #expect(offers.map(\.reason) == [RefusedOffer.Reason.unknownEscrow(ChannelBooth.escrow)])
    #expect(scene.actions.isEmpty)
    #expect(try scene.keeper.channels().isEmpty)
  }

  @Test func keepsLimitsOfAllCalls() throws {
    let scene = try Scene()
    _ = try scene.keeper.changeLimits { $0.setRecipients(["0x0000000000000000000000000000000000000001"]) }
    #expect(throws: AgentError.overLimit(.recipient(ChannelBooth.merchant.lowercase))) { try scene.agent().fetch(try scene.request("/page")) }
    _ = try scene.keeper.changeLimits {
      $0.setRecipients([])
      $0.set(SpendingLimit("0.001 USDC")!, for: .session)
    }
    let usdc = Currency(code: "usdc", decimals: 6)!
    #expect(throws: AgentError.overLimit(.session(1600, usdc))) { try scene.agent().fetch(try scene.request("/page")) }
    #expect(throws: AgentError.overMaximum(price: 100, maximum: nil, currency: usdc)) {
      try scene.agent { $0.maximum = nil }.fetch(try scene.request("/page"))
    }
    #expect(scene.actions.isEmpty)
    // Within the limit of a session it pays by less.
    try scene.agent { $0.deposit = SpendingLimit("0.0005 USDC") }.fetch(try scene.request("/page")).drain()
    #expect(try scene.channel().deposit == 500)
  }

  @Test func signsForStreamsAsTheyCome() throws {
    let scene = try Scene()
    let answer = try scene.agent().fetch(try scene.request("/stream"))
    var highest: UInt128 = 0
    while let octets = try answer.next() {
      let (signed, served) = (try scene.channel().signed, try scene.books().spent)
      // Never more than what was sent, and the widest window beyond it.
      #expect(signed <= served + 1600)
      highest = max(highest, signed)
      _ = octets
    }
    #expect(answer.payment?.fault == nil)
    #expect(try scene.books().spent == 400)
    let channel = try scene.channel()
    #expect((channel.spent, channel.counted) == (400, 400))
    #expect(highest == channel.signed)
    #expect(channel.signed >= 400)
    #expect(channel.signed <= 1600)
    #expect(scene.actions.first == "open")
    #expect(scene.actions.dropFirst().allSatisfy { $0 == "voucher" })
    // What is signed ahead pays for the next request: not a new voucher, but the same one.
    try scene.agent().fetch(try scene.request("/page")).drain()
    #expect(try scene.channel().signed == max(channel.signed, 500))
  }

  @Test func signsNoMoreThanTheBudget() throws {
    let scene = try Scene()
    let usdc = Currency(code: "usdc", decimals: 6)!
    let answer = try scene.agent { $0.budget = SpendingLimit("0.00025 USDC") }.fetch(try scene.request("/stream"))
    #expect(failure { try answer.drain() } == .overMaximum(price: 10, maximum: 0, currency: usdc))
    #expect(try scene.channel().signed == 250)
    #expect(try scene.books().spent == 250)
  }

  @Test func believesNoGreed() throws {
    let scene = try Scene {
      $0.lie = .asks(100_000)
      $0.suggestedDeposit = 160
    }
    let answer = try scene.agent { $0.maximum = SpendingLimit("1 USDC") }.fetch(try scene.request("/stream"))
    guard case .overCount(let required, let counted, _) = failure({ try answer.drain() }) else {
      Issue.record("believed")
      return
    }
    #expect(required == 100_000)
    #expect(counted <= 160 + 160)
    #expect(try scene.channel().signed <= 160)
    #expect(scene.booth.books.withLock { $0.deposits.count } == 1)
  }

  @Test func addsToTheDepositInAStream() throws {
    let scene = try Scene { $0.suggestedDeposit = 160 }
    try scene.agent().fetch(try scene.request("/stream")).drain()
    #expect(try scene.books().spent == 400)
    let channel = try scene.channel()
    #expect((channel.deposit, channel.spent) == (480, 400))
    #expect(channel.signed <= 480)
    // No more is deposited than may leave.
    let answer = try scene.agent { $0.maximum = SpendingLimit("0.0001 USDC") }.fetch(try scene.request("/stream"))
    guard case .overMaximum = failure({ try answer.drain() }) else {
      Issue.record("deposited")
      return
    }
    #expect(try scene.channel().deposit == 580)
  }

  @Test func countsForItself() throws {
    let scene = try Scene { $0.lie = .overcharges }
    let first = try scene.agent().fetch(try scene.request("/page"))
    try first.drain()
    // The receipt says more than was signed, or more than a page costs.
    #expect(first.payment?.fault == .amount)
    #expect(try scene.channel().spent <= 100)
    let fault = failure { try scene.agent().fetch(try scene.request("/page")).drain() }
    #expect(fault == .overCount(required: 300, counted: 200, currency: Currency(code: "usdc", decimals: 6)!))
    #expect(try scene.channel().signed == 200)
  }

  @Test func addsToTheDeposit() throws {
    let scene = try Scene()
    let agent = scene.agent {
      $0.deposit = SpendingLimit("0.00015 USDC")
      $0.step = SpendingLimit("0.0002 USDC")
    }
    try agent.fetch(try scene.request("/page")).drain()
    let journal = Journal<UInt128>()
    try agent.fetch(try scene.request("/page")) { event in
      if case .toppedUp(let amount, let deposit, _) = event {
        journal.add(amount.units)
        journal.add(deposit.units)
      }
    }.drain()
    #expect(journal.all == [200, 350])
    #expect(try scene.channel().deposit == 350)
    #expect(try scene.books().standing.deposit == 350)
    #expect(scene.actions == ["open", "topUp", "voucher"])
    #expect(try scene.keeper.spentToday().map(\.number) == ["0.00035"])
    // A call that may not let more leave does not deposit.
    try agent.fetch(try scene.request("/page")).drain()
    #expect(throws: AgentError.self) { try scene.agent { $0.maximum = SpendingLimit("0.00001 USDC") }.fetch(try scene.request("/page")) }
    #expect(try scene.channel().signed == 300)
    #expect(scene.booth.books.withLock { $0.deposits.count } == 2)
  }

  @Test func showsALostDepositAgain() throws {
    let scene = try Scene { $0.lie = .silentDeposits }
    guard case .paymentPending = failure({ try scene.agent { $0.limits.whole = .milliseconds(600) }.fetch(try scene.request("/page")).drain() })
    else {
      Issue.record("answered")
      return
    }
    let left = try scene.channel()
    #expect(left.state == .opening)
    #expect(left.underWay != nil)
    #expect(scene.booth.books.withLock { $0.deposits.count } == 1)
    scene.booth.books.withLock { $0.lie = .none }
    let answer = try scene.agent().fetch(try scene.request("/page"))
    try answer.drain()
    #expect(scene.booth.books.withLock { $0.deposits.count } == 1)
    let channel = try scene.channel()
    #expect(channel.channelID == left.channelID)
    #expect(channel.state == .open)
    #expect(try scene.books().spent == 100)
    #expect(channel.signed <= 200)
  }

  @Test func closesForWhatWasSpent() throws {
    let scene = try Scene()
    try scene.agent().fetch(try scene.request("/stream")).drain()
    let channel = try scene.channel()
    let closed = try scene.agent().close(channel)
    #expect(closed.receipt?.transaction == ChannelBooth.transaction)
    #expect(closed.receipt?.spent == 400)
    #expect(closed.refunded == 1200)
    #expect(scene.booth.books.withLock { $0.closed[channel.channelID] } == 400)
    #expect(try scene.keeper.channels().isEmpty)
    // Of a channel that the server does not know nothing is left.
    try scene.keeper.save(channel)
    scene.booth.books.withLock { $0.channels = [:] }
    try scene.agent().fetch(try scene.request("/stream")).drain()
    let states = Dictionary(uniqueKeysWithValues: try scene.keeper.channels().map { ($0.channelID, $0.state) })
    #expect(states.count == 2)
    #expect(states[channel.channelID] == .gone)
  }

  /// Whoever says that he has refused a deposit can submit it all the same, as long as it holds: until then it counts as made.
  @Test func aRefusedDepositCountsUntilItHasRunOut() throws {
    let scene = try Scene { $0.lie = .refusedDeposits }
    func buy() -> AgentError? {
      failure {
        try scene.agent {
          $0.deposit = SpendingLimit("0.0006 USDC")
          $0.maximum = SpendingLimit("0.001 USDC")
        }.fetch(try scene.request("/page")).drain()
      }
    }
    #expect(buy() != nil)
    let kept = try scene.channel()
    #expect(kept.state == .gone && kept.underWay == nil && kept.refused.map(\.amount) == [600])
    let ends = try #require(kept.refused.first).expires
    #expect(kept.doubtful(at: ends) == 600 && kept.doubtful(at: ends + .seconds(121)) == 0)
    #expect(KeptChannel(json: kept.json)?.json == kept.json)
    scene.booth.books.withLock { $0.lie = .none }
    guard case .overMaximum(price: 600, maximum: 400, _)? = buy() else {
      Issue.record("deposited twice")
      return
    }
    #expect(scene.booth.books.withLock { $0.deposits.count } == 1)
    // Once nobody can submit it any more, another one may be made; the first one's channel is remembered all the same.
    _ = try scene.keeper.change(kept.channelID) { $0.refused = [KeptChannel.Refused(amount: 600, expires: Timestamp.now() - .seconds(121))] }
    #expect(buy() == nil)
    #expect(try scene.keeper.channels().map(\.state.rawValue).sorted() == ["gone", "open"])
    _ = try scene.keeper.change(kept.channelID) { $0.until = Timestamp.now() - .seconds(1) }
    #expect(try scene.agent().channels().map(\.state) == [.open])
  }

  @Test func aRefusedTopUpCountsToo() throws {
    let scene = try Scene()
    let agent = scene.agent {
      $0.deposit = SpendingLimit("0.00015 USDC")
      $0.step = SpendingLimit("0.0002 USDC")
      $0.maximum = SpendingLimit("0.0003 USDC")
    }
    try agent.fetch(try scene.request("/page")).drain()
    scene.booth.books.withLock { $0.lie = .refusedDeposits }
    #expect(failure { try agent.fetch(try scene.request("/page")).drain() } != nil)
    #expect(try scene.channel().refused.map(\.amount) == [200] && scene.channel().state == .open)
    scene.booth.books.withLock { $0.lie = .none }
    // A hundred are left to the call: what lacks are 50.
    try agent.fetch(try scene.request("/page")).drain()
    #expect(try scene.channel().deposit == 250)
  }

  @Test func aCloseOfWhichNothingIsToldIsRemembered() throws {
    let scene = try Scene()
    try scene.agent().fetch(try scene.request("/page")).drain()
    scene.booth.books.withLock { $0.lie = .bareClose }
    let closed = try scene.agent().close(try scene.channel())
    #expect(closed.receipt == nil && closed.transaction == nil)
    #expect(try scene.channel().state == .gone)
  }

  @Test func aCloseByWhatIsSettledTakesAUnitMore() throws {
    let scene = try Scene { $0.lie = .settledClose }
    try scene.agent().fetch(try scene.request("/page")).drain()
    let closed = try scene.agent().close(try scene.channel())
    #expect(closed.receipt?.transaction == ChannelBooth.transaction)
    #expect(scene.actions == ["open", "close", "close"])
    #expect(try scene.keeper.channels().isEmpty)
  }

  @Test func neverLowersWhatIsSigned() throws {
    let scene = try Scene()
    try scene.agent().fetch(try scene.request("/page")).drain()
    let channel = try scene.channel()
    let changed = try scene.keeper.change(channel.channelID) { $0.signed = 0 }
    #expect(changed?.signed == 100)
    #expect(KeptChannel(json: channel.json)?.json == channel.json)
    // A file whose members are not the channel's is not used.
    var object = try #require(channel.json.objectValue)
    object.set("payee", .string(ChannelBooth.escrow.address.checksummed))
    #expect(KeptChannel(json: .object(object)) == nil)
  }

  @Test func windowsGrowWithWhatCame() throws {
    let usdc = Currency(code: "usdc", decimals: 6)!
    var details = ChannelDetails(chainID: 84532, escrow: ChannelBooth.escrow.address)
    details.minimumDelta = 50
    let session = ChannelSession(
      rules: .evm, amount: 10, unitType: "event", suggestedDeposit: 16_000, currency: ChannelBooth.merchant, recipient: ChannelBooth.merchant,
      details: details)
    let terms = VoucherTerms(session, price: try #require(session.price(in: usdc)))
    #expect((0...5).map { terms.window(after: $0, step: nil) } == [1000, 2000, 4000, 8000, 16_000, 16_000])
    #expect(terms.window(after: 3, step: 20) == 50)
    #expect(terms.window(after: 3, step: 70) == 70)
    #expect(terms.need(requestOctets: 0, step: nil) == (1, 1000))
    #expect(terms.cost(of: Quantities(requestOctets: 0, events: 7), isEstimate: false) == 70)
  }
}
