import Bytes
import Encoding
import Metering
import Testing

@testable import Ledger

/// The phases of a channel, and what every call does in each, before and after a kill.
@Suite struct ChannelPhaseTests {
  enum State: Sendable, CaseIterable { case unknown, opening, open, ending, suspended, settling, closing, closingBusy, closeUnderWay, closed }
  enum Action: Sendable, CaseIterable {
    case claimOpen, claimTopUp, accept, begin, take, request, clear, suspend, resume, submitSettle, submitClose, abandon, settled, beginClose, closed
  }
  enum Effect: Sendable, Equatable { case to(String), refuses(Refusal) }

  struct Row: Sendable {
    var state: State
    /// What `name` says of it.
    var name: String
    /// What actions lead to, where it is not the state itself.
    var results: [Action: Effect]
  }

  private static func all(_ refusal: Refusal, but others: [Action: Effect]) -> [Action: Effect] {
    Dictionary(uniqueKeysWithValues: Action.allCases.map { ($0, others[$0] ?? .refuses(refusal)) })
  }

  private static let unknownResults = all(
    .unknownSession,
    but: [
      .claimOpen: .to("opening"), .accept: .refuses(.sessionClosed), .begin: .refuses(.sessionClosed), .take: .refuses(.sessionClosed),
      .beginClose: .refuses(.sessionClosed),
    ])
  private static let openResults: [Action: Effect] = [
    .claimOpen: .refuses(.sessionExists), .request: .to("open!"), .suspend: .to("suspended"), .submitSettle: .to("open+settle"),
    .submitClose: .refuses(.channelBusy), .beginClose: .to("closing"), .closed: .to("closed"),
  ]
  private static let stopped: [Action: Effect] = [
    .accept: .refuses(.sessionClosing), .begin: .refuses(.sessionClosing), .take: .refuses(.sessionClosing),
  ]
  private static let closingResults = stopped.merging(
    [
      .claimOpen: .refuses(.sessionExists), .claimTopUp: .refuses(.sessionClosing), .request: .to("closing!"),
      .submitSettle: .to("closing+settle"), .submitClose: .to("closing+close"), .closed: .to("closed"),
    ], uniquingKeysWith: { $1 })

  static let table: [Row] = [
    Row(state: .unknown, name: "unknown", results: unknownResults),
    Row(
      state: .opening, name: "opening",
      results: unknownResults.merging([.claimOpen: .refuses(.claimInFlight)], uniquingKeysWith: { $1 })),
    Row(state: .open, name: "open", results: openResults),
    Row(
      state: .ending, name: "open!",
      results: openResults.merging(stopped, uniquingKeysWith: { $1 }).merging(
        [
          .clear: .to("open"), .request: .to("open!"), .suspend: .to("suspended!"), .submitSettle: .to("open!+settle"), .settled: .to("open"),
          .beginClose: .to("closing!"),
        ], uniquingKeysWith: { $1 })),
    Row(
      state: .suspended, name: "suspended",
      results: openResults.merging(
        [
          .accept: .refuses(.channelSuspended), .begin: .refuses(.channelSuspended), .take: .refuses(.channelSuspended),
          .request: .to("suspended!"), .suspend: .to("suspended"), .resume: .to("open"), .submitSettle: .to("suspended+settle"),
        ], uniquingKeysWith: { $1 })),
    Row(
      state: .settling, name: "open+settle",
      results: openResults.merging(
        [
          .request: .to("open!+settle"), .suspend: .to("suspended+settle"), .submitSettle: .refuses(.channelBusy), .abandon: .to("open"),
          .settled: .to("open"), .beginClose: .to("closing+settle"),
        ], uniquingKeysWith: { $1 })),
    Row(state: .closing, name: "closing", results: closingResults),
    Row(
      state: .closingBusy, name: "closing",
      results: closingResults.merging(
        [.submitClose: .refuses(.channelBusy), .closed: .refuses(.channelBusy)], uniquingKeysWith: { $1 })),
    Row(
      state: .closeUnderWay, name: "closing+close",
      results: closingResults.merging(
        [
          .request: .to("closing!+close"), .submitSettle: .refuses(.channelBusy), .submitClose: .refuses(.channelBusy), .abandon: .to("closing"),
        ], uniquingKeysWith: { $1 })),
    Row(
      state: .closed, name: "closed",
      results: all(.sessionClosed, but: [.claimOpen: .refuses(.sessionExists), .closed: .to("closed")])),
  ]

  /// What the ledger says of channel 1.
  private func name(_ fixture: LedgerFixture) -> String {
    let id = fixture.channelID(1)
    guard let view = fixture.ledger.channel(id) else {
      if case .closed? = fixture.ledger.closeResult(id) { return "closed" }
      return fixture.ledger.payments(.open).isEmpty ? "unknown" : "opening"
    }
    let ending = view.account.isEnding ? "!" : ""
    return "\(view.phase)\(ending)\(view.underWay == nil ? "" : view.isCloseUnderWay ? "+close" : "+settle")"
  }

  /// Brings channel 1 into a state; its handle.
  private func bring(_ fixture: LedgerFixture, to state: State) throws -> SessionHandle {
    let ledger = fixture.ledger
    let id = fixture.channelID(1)
    _ = try ledger.adoptNonce(chain: 8453, sender: fixture.sender, nonce: 0, at: noon)
    let none = SessionHandle(index: 77, generation: 1, epoch: 1)
    if state == .unknown { return none }
    if state == .opening {
      _ = try ledger.claim(fixture.opening(1), at: noon)
      return none
    }
    let handle = try fixture.openChannel(1)
    try fixture.use(handle, 60)
    switch state {
    case .unknown, .opening, .open: break
    case .ending: _ = try ledger.observed(id, fixture.account(requested: 5), at: noon)
    case .suspended: _ = try ledger.suspend(id, true, at: noon)
    case .settling: _ = try ledger.submitted(channel: id, outgoing: fixture.transaction(0, channel: 1), isClose: false, at: noon)
    case .closing, .closed, .closeUnderWay: _ = try ledger.beginClose(handle, cause: .payer, voucher: nil, at: noon)
    case .closingBusy:
      _ = try ledger.begin(handle, cost: .of(5), context: fixture.line, at: noon)
      _ = try ledger.beginClose(handle, cause: .payer, voucher: nil, at: noon)
    }
    if state == .closeUnderWay {
      _ = try ledger.submitted(channel: id, outgoing: fixture.transaction(0, channel: 1), isClose: true, at: noon)
    }
    if state == .closed { _ = try ledger.closed(channel: id, captured: 60, refunded: 4_940, transaction: nil, at: noon) }
    return handle
  }

  private func act(_ action: Action, _ fixture: LedgerFixture, _ handle: SessionHandle) throws(Refusal) {
    let ledger = fixture.ledger
    let id = fixture.channelID(1)
    switch action {
    case .claimOpen: _ = try ledger.claim(fixture.opening(1, payment: 9), at: noon)
    case .claimTopUp: _ = try ledger.claim(fixture.topUpOrder(1, payment: 1), at: noon)
    case .accept: _ = try ledger.accept(handle, fixture.voucher(150), at: noon)
    case .begin: _ = try ledger.begin(handle, cost: .of(10), context: fixture.line, at: noon)
    case .take: _ = try ledger.begin(handle, accepting: fixture.voucher(150), cost: .of(50), context: fixture.line, at: noon)
    case .request: _ = try ledger.observed(id, fixture.account(requested: 5), at: noon)
    case .clear: _ = try ledger.observed(id, fixture.account(), at: noon)
    case .suspend: _ = try ledger.suspend(id, true, at: noon)
    case .resume: _ = try ledger.suspend(id, false, at: noon)
    case .submitSettle: _ = try ledger.submitted(channel: id, outgoing: fixture.transaction(1, channel: 1, after: 0), isClose: false, at: noon)
    case .submitClose: _ = try ledger.submitted(channel: id, outgoing: fixture.transaction(1, channel: 1, after: 0), isClose: true, at: noon)
    case .abandon: _ = try ledger.abandoned(channel: id, at: noon)
    case .settled: _ = try ledger.settled(channel: id, fixture.account(settled: 80), transaction: fixture.testTransaction, at: noon)
    case .beginClose: _ = try ledger.beginClose(handle, cause: .idle, voucher: nil, at: noon)
    case .closed: _ = try ledger.closed(channel: id, captured: 80, refunded: 4_920, transaction: nil, at: noon)
    }
  }

  @Test(arguments: table, Action.allCases) func follows(row: Row, action: Action) throws {
    let fixture = try LedgerFixture(funds: 0)
    let handle = try bring(fixture, to: row.state)
    #expect(name(fixture) == row.name)
    var refusal: Refusal?
    do throws(Refusal) { try act(action, fixture, handle) } catch { refusal = error }
    let after = name(fixture)
    switch row.results[action] ?? .to(row.name) {
    case .to(let expected):
      #expect(refusal == nil)
      #expect(after == expected)
    case .refuses(let expected):
      #expect(refusal == expected)
      #expect(after == row.name)
    }
    #expect(fixture.ledger.verify().isBalanced)
    let accounts = fixture.chainAccounts
    let view = fixture.ledger.channel(fixture.channelID(1))
    fixture.waitUntilDurable()
    fixture.ledger.abandon()

    let again = try LedgerFixture(in: fixture.folder)
    #expect(name(again) == (after == "opening" ? "unknown" : after))
    let kept = again.ledger.channel(fixture.channelID(1))
    #expect(kept?.voucher == view?.voucher && kept?.previous == view?.previous && kept?.account == view?.account)
    #expect(kept?.spent == view?.spent && kept?.booked == view?.booked && kept?.inFlight ?? 0 == 0 && kept?.underWay == view?.underWay)
    #expect(kept?.unsettledSince == view?.unsettledSince && kept?.terms == view?.terms && kept?.descriptor == view?.descriptor)
    #expect(again.chainAccounts == accounts && again.ledger.verify().isBalanced)
    #expect(again.ledger.closingChannels().count == (kept?.phase == .closing ? 1 : 0))
    // What was claimed for a top-up is freed, as every payment that was only claimed.
    #expect(again.ledger.payments(.open).isEmpty)
    let balances = again.ledger.balances()
    again.ledger.close()
    let report = verified(fixture.folder)
    #expect(report.isValid, "\(String(describing: report.defect))")
    checkAccounts(report, balances)
  }
}

extension LedgerFixture {
  /// The transaction with the next nonce, whichever that is, unlike the one that may be under way.
  func transaction(_ hash: Int, channel number: Int, after: UInt64) -> OutgoingTransaction {
    var transaction = transaction(ledger.nextNonce(chain: 8453, sender: sender) ?? after, channel: number)
    transaction.hash = id(16_000_000 + hash)
    return transaction
  }

  var testTransaction: Digest32 { id(17_000_000) }
}
