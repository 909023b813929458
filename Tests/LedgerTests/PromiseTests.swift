import Bytes
import Encoding
import HTTP
import Testing

@testable import Ledger

/// Signed maxima, of which what was used is settled afterwards: what every call does in each state, and what a restart makes of it.
@Suite struct PromiseTests {
  enum State: CaseIterable { case unknown, promised, serving, renewed, owed, nothing, kept, lost }
  enum Action: CaseIterable { case promise, serve, serveOther, renew, forget, owe, oweTooMuch, settled, refused, refusedLater, claim }

  /// After the promise has run out.
  private static let later = noon + .seconds(301)

  private func bring(_ fixture: LedgerFixture, to state: State) throws {
    let order = fixture.payment(1)
    let ledger = fixture.ledger
    if state == .unknown { return }
    _ = try ledger.promise(order, at: noon)
    if state == .promised { return }
    _ = try ledger.serve(promise: order.id, request: order.request, at: noon)
    switch state {
    case .unknown, .promised, .serving: return
    case .renewed: ledger.renew(promise: order.id, epoch: ledger.epoch, at: noon)
    case .nothing: _ = try ledger.owe(0, promise: order.id, epoch: ledger.epoch, proof: [], at: noon)
    case .owed, .kept, .lost: _ = try ledger.owe(40, promise: order.id, epoch: ledger.epoch, proof: [1], at: noon)
    }
    if state == .kept { _ = try ledger.settled(order.id, transaction: id(5), at: noon) }
    if state == .lost { _ = try ledger.refused(order.id, cause: "reverted", at: Self.later) }
  }

  /// The state that an action leads to; `unchanged` where it is refused.
  private func expected(_ state: State, _ action: Action) -> (state: ChainPromiseState?, isRefused: Bool) {
    let before: ChainPromiseState? =
      switch state {
      case .unknown: nil
      case .promised, .renewed: .promised
      case .serving: .serving
      case .owed: .owed
      case .nothing, .kept: .kept
      case .lost: .lost
      }
    switch (before, action) {
    case (nil, .promise): return (.promised, false)
    // An exact payment by the same nonce is none of the promise's.
    case (nil, .claim): return (nil, false)
    case (.promised?, .serve): return (.serving, false)
    case (.promised?, .forget): return (nil, false)
    case (.serving?, .renew): return (.promised, false)
    case (.serving?, .owe): return (.owed, false)
    case (.owed?, .settled): return (.kept, false)
    case (.owed?, .refusedLater): return (.lost, false)
    // What has settled settles once.
    case (.kept?, .settled) where state == .kept: return (.kept, false)
    default: return (before, true)
    }
  }

  @Test(arguments: State.allCases, Action.allCases) func follows(state: State, action: Action) throws {
    let fixture = try LedgerFixture(funds: 0)
    let ledger = fixture.ledger
    let order = fixture.payment(1)
    try bring(fixture, to: state)
    var isRefused = false
    let epoch = ledger.epoch
    do throws(Refusal) {
      switch action {
      case .promise: _ = try ledger.promise(order, at: noon)
      case .serve: _ = try ledger.serve(promise: order.id, request: order.request, at: noon)
      case .serveOther: _ = try ledger.serve(promise: order.id, request: id(4), at: noon)
      case .renew: isRefused = ledger.renew(promise: order.id, epoch: epoch, at: noon) == 0
      case .forget: isRefused = !ledger.forget(promise: order.id, at: noon)
      case .owe: _ = try ledger.owe(60, promise: order.id, epoch: epoch, proof: [1], at: noon)
      case .oweTooMuch: _ = try ledger.owe(101, promise: order.id, epoch: epoch, proof: [1], at: noon)
      case .settled: _ = try ledger.settled(order.id, transaction: id(5), at: noon)
      case .refused: _ = try ledger.refused(order.id, cause: "reverted", at: noon)
      case .refusedLater: _ = try ledger.refused(order.id, cause: "reverted", at: Self.later)
      case .claim: _ = try ledger.claim(order, at: noon)
      }
    } catch {
      isRefused = true
    }
    let wanted = expected(state, action)
    let after = ledger.promise(order.id)
    #expect(isRefused == wanted.isRefused)
    #expect(after?.state == wanted.state)
    let isOwed = wanted.state == .owed
    #expect(ledger.openPayments().count == (isOwed ? 1 : 0))
    #expect(ledger.unservedPayments().isEmpty)
    let earned: Int128 = wanted.state == .kept && state != .nothing ? 40 : 0
    #expect(fixture.chainEarned == earned && fixture.chainAccounts.issued == UInt128(earned) && fixture.chainAccounts.held == 0)
    #expect(ledger.verify().isBalanced)
    let promised: UInt128 =
      switch wanted.state {
      case .promised, .serving: 100
      case .owed: state == .owed ? 40 : 60
      case .kept, .lost, nil: 0
      }
    #expect(ledger.promised(by: order.payer, currency: order.currency, besides: id(0)) == promised)
    #expect(ledger.promised(by: order.payer, currency: order.currency, besides: order.id) == 0)
    // Who was served for nothing that a crash did not cut short still owes it.
    fixture.waitUntilDurable()
    ledger.abandon()
    let again = try LedgerFixture(in: fixture.folder)
    let restarted = wanted.state == .promised || wanted.state == .serving ? nil : wanted.state
    #expect(again.ledger.promise(order.id)?.state == restarted)
    #expect(again.ledger.openPayments().map(\.amount) == (isOwed ? [promised] : []))
    #expect(again.chainEarned == earned && again.ledger.verify().isBalanced)
    if isOwed {
      _ = try again.ledger.settled(order.id, transaction: id(6), at: noon)
      #expect(again.ledger.promise(order.id)?.state == .kept && again.chainEarned == Int128(promised))
    }
    again.ledger.close()
    #expect(verified(fixture.folder).isValid)
  }

  @Test func whatIsOwedIsNotGivenUpBeforeTheSignatureHasRunOut() throws {
    let fixture = try LedgerFixture(funds: 0)
    let order = fixture.payment(1)
    try bring(fixture, to: .owed)
    #expect(throws: Refusal.claimInFlight) { try fixture.ledger.refused(order.id, cause: "reverted", at: noon + .seconds(299)) }
    _ = try fixture.ledger.refused(order.id, cause: "reverted", at: Self.later)
    #expect(fixture.ledger.payment(order.id) == nil)
    #expect(fixture.ledger.promises([.lost]).map(\.amount) == [40])
  }

  @Test func whatIsOwedWasSentToNobodyAndARestartKeepsIt() throws {
    let fixture = try LedgerFixture(funds: 0)
    let order = fixture.payment(1)
    try bring(fixture, to: .owed)
    let ledger = fixture.ledger
    #expect(ledger.payment(order.id)?.state == .claimed && ledger.payment(order.id)?.presented == order.presented)
    #expect(throws: Refusal.claimInFlight) { try ledger.retracted(order.id, at: noon) }
    _ = try ledger.submitted(order.id, transaction: nil, at: noon)
    _ = try ledger.submitted(order.id, transaction: id(5), at: noon)
    #expect(ledger.payment(order.id)?.state == .submitted && ledger.payment(order.id)?.transaction == id(5))
    _ = try ledger.retracted(order.id, at: noon)
    #expect(ledger.payment(order.id)?.state == .claimed && ledger.payment(order.id)?.transaction == nil)
    fixture.waitUntilDurable()
    ledger.abandon()
    let again = try LedgerFixture(in: fixture.folder)
    #expect(again.ledger.payment(order.id)?.state == .claimed && again.ledger.openPayments().map(\.id) == [order.id])
    _ = try again.ledger.submitted(order.id, transaction: nil, at: noon)
    again.waitUntilDurable()
    again.ledger.abandon()
    let last = try LedgerFixture(in: fixture.folder)
    #expect(last.ledger.payment(order.id)?.state == .submitted && last.ledger.verify().isBalanced)
  }

  @Test func anExactPaymentIsNotRetracted() throws {
    let fixture = try LedgerFixture(funds: 0)
    _ = try fixture.ledger.claim(fixture.payment(1), at: noon)
    _ = try fixture.ledger.submitted(fixture.payment(1).id, transaction: nil, at: noon)
    #expect(throws: Refusal.claimInFlight) { try fixture.ledger.retracted(fixture.payment(1).id, at: noon) }
  }

  @Test func whatNothingWasServedForIsForgottenWhenItHasRunOut() throws {
    let fixture = try LedgerFixture(funds: 0)
    let ledger = fixture.ledger
    let (left, served, failed) = (fixture.payment(1), fixture.payment(2), fixture.payment(3))
    for order in [left, served, failed] { _ = try ledger.promise(order, at: noon) }
    for order in [served, failed] { _ = try ledger.serve(promise: order.id, request: order.request, at: noon) }
    let late = left.expires + .seconds(125)
    ledger.sweep(at: late)
    #expect(ledger.promise(left.id) == nil && ledger.promise(served.id)?.state == .serving)
    ledger.renew(promise: failed.id, epoch: ledger.epoch, at: late)
    #expect(ledger.promise(failed.id) == nil)
    _ = try ledger.owe(40, promise: served.id, epoch: ledger.epoch, proof: [1], at: late)
    ledger.sweep(at: late + .seconds(3600))
    #expect(ledger.promise(served.id)?.state == .owed)
  }

  @Test func onePayerAndOneClientHaveNotThePlacesOfAll() throws {
    let fixture = try LedgerFixture(funds: 0)
    let ledger = fixture.ledger
    func promise(_ number: Int, payer: Int, client: UInt32) throws {
      var order = fixture.payment(number, amount: 1)
      order.payer = "0xpayer\(payer)"
      order.client = ClientAddress(ipv4: client)
      _ = try ledger.promise(order, at: noon)
    }
    for number in 0..<256 { try promise(number, payer: 0, client: UInt32(number)) }
    #expect(throws: Refusal.tooMany(.promisesOfPayer)) { try promise(1_000, payer: 0, client: 9_999) }
    for number in 0..<1_024 { try promise(2_000 + number, payer: 1 + number, client: 7_777) }
    #expect(throws: Refusal.tooMany(.promisesOfPayer)) { try promise(9_000, payer: 9_000, client: 7_777) }
    try promise(9_001, payer: 9_000, client: 7_778)
    #expect(ledger.forget(promise: fixture.payment(0).id, at: noon) && ledger.forget(promise: fixture.payment(2_000).id, at: noon))
    try promise(9_002, payer: 0, client: 7_777)
  }

  @Test func anotherEpochsNameIsFoundAndTakenOnce() throws {
    let fixture = try LedgerFixture(funds: 0)
    func named(_ number: Int) -> ChainPaymentOrder {
      var order = fixture.payment(number)
      order.name = id(77)
      return order
    }
    _ = try fixture.ledger.promise(named(1), at: noon)
    #expect(throws: Refusal.claimInFlight) { try fixture.ledger.claim(named(2), at: noon) }
    fixture.ledger.forget(promise: named(1).id, at: noon)
    #expect(fixture.ledger.payment(named: id(77)) == nil)
    _ = try fixture.ledger.claim(named(2), at: noon)
    _ = try fixture.ledger.submitted(named(2).id, transaction: nil, at: noon)
    #expect(throws: Refusal.claimInFlight) { try fixture.ledger.promise(named(3), at: noon) }
    fixture.waitUntilDurable()
    fixture.ledger.abandon()
    let again = try LedgerFixture(in: fixture.folder)
    #expect(again.ledger.payment(named: id(77)) == named(2).id)
    let entry = try again.ledger.settled(named(2).id, transaction: nil, at: noon)
    #expect(entry > 0)
    #expect { try again.ledger.claim(named(4), at: noon) } throws: { error in
      if case .claimSettled? = error as? Refusal { true } else { false }
    }
  }

  @Test func whatRunsOutFirstIsGoneOnWithFirst() throws {
    let fixture = try LedgerFixture(funds: 0)
    for (number, seconds) in [(1, 900), (2, 60), (3, 300)] {
      _ = try fixture.ledger.claim(fixture.payment(number, expires: noon + .seconds(Int64(seconds))), at: noon)
      _ = try fixture.ledger.submitted(fixture.payment(number).id, transaction: nil, at: noon)
    }
    #expect(fixture.ledger.openPayments().map(\.id) == [2, 3, 1].map { fixture.payment($0).id })
  }

  @Test func whatIsUnderWayBesideAPromiseIsKnown() throws {
    let fixture = try LedgerFixture(funds: 0)
    let (ledger, order) = (fixture.ledger, fixture.payment(1))
    _ = try ledger.claim(fixture.payment(2, amount: 30), at: noon)
    try bring(fixture, to: .owed)
    let others = { ledger.underWay(by: order.payer, currency: order.currency, besides: $0) }
    #expect(others(id(0)) == 30 && others(fixture.payment(2).id) == 0)
    _ = try ledger.settled(fixture.payment(2).id, transaction: nil, at: noon)
    #expect(others(id(0)) == 0)
  }

  @Test func anExchangeOfAnotherEpochOwesNothing() throws {
    let fixture = try LedgerFixture(funds: 0)
    let order = fixture.payment(1)
    try bring(fixture, to: .serving)
    #expect(throws: Refusal.unknownPayment) { try fixture.ledger.owe(1, promise: order.id, epoch: fixture.ledger.epoch + 1, proof: [], at: noon) }
    #expect(fixture.ledger.promise(order.id)?.state == .serving)
  }
}
