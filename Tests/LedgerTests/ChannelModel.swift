import Bytes
import Encoding
import Metering
import Testing

@testable import Ledger

/// What a test knows of channels, and random calls that it makes for them: with S what was settled and P what was spent, the merchants have
/// min(S, P) of each, the sessions the rest of S, and all of S was issued.
struct ChannelModel {
  struct State {
    var budget: UInt128
    var deposit: UInt128
    /// What the lines say of what was spent, and what streams have debited ahead of that.
    var spent = ExactCost.zero
    var ahead = ExactCost.zero
    var settled: UInt128 = 0
    var isClosing = false
    var isSuspended = false
    var isEnding = false
    var captured: UInt128?
    var inFlight = 0
  }

  private struct Flight {
    var channel: Int
    var handle: SessionHandle
    var debited: ExactCost
    var isStream: Bool
  }

  private(set) var channels: [Int: State] = [:]
  private var flights: [Flight] = []
  private var next = 0
  private static let rate = Rate(amount: 7, unitSize: 3, unit: .responseByte)!

  private func any(_ generator: inout SeededGenerator, _ matches: (State) -> Bool = { _ in true }) -> Int? {
    channels.keys.sorted().filter { channels[$0].map { $0.captured == nil && matches($0) } ?? false }.randomElement(using: &generator)
  }

  /// Makes one random call.
  mutating func step(_ fixture: LedgerFixture, using generator: inout SeededGenerator) throws {
    let ledger = fixture.ledger
    switch Int.random(in: 0..<100, using: &generator) {
    case 0..<6:
      next += 1
      let amount = UInt128.random(in: 0...200, using: &generator)
      let order = fixture.opening(next, voucher: amount)
      _ = try ledger.claim(order, at: noon)
      // Half of them are left claimed: a restart frees these.
      guard Bool.random(using: &generator) else { return }
      _ = try ledger.deposited(order.id, fixture.account(1_000), transaction: nil, at: noon)
      channels[next] = State(budget: amount, deposit: 1_000)
    case 6..<30: try begin(fixture, using: &generator)
    case 30..<45: try extend(fixture, using: &generator)
    case 45..<68: finish(fixture, using: &generator)
    case 68..<72:
      guard let number = any(&generator), let state = channels[number] else { return }
      let amount = state.budget + UInt128.random(in: 0...100, using: &generator)
      guard let handle = ledger.session(fixture.channelID(number)) else { return }
      if (try? ledger.accept(handle, fixture.voucher(amount), at: noon)) != nil {
        #expect(amount <= max(state.deposit, state.budget) && !state.isClosing && !state.isSuspended && !state.isEnding)
        channels[number]?.budget = amount
      }
    case 72..<82: try settle(fixture, using: &generator)
    case 82..<86:
      guard let number = any(&generator, { !$0.isClosing }), let state = channels[number] else { return }
      _ = try ledger.suspend(fixture.channelID(number), !state.isSuspended, at: noon)
      channels[number]?.isSuspended = !state.isSuspended
    case 86..<90:
      guard let number = any(&generator), let state = channels[number] else { return }
      var account = fixture.account(state.deposit + 50, settled: state.settled, requested: Bool.random(using: &generator) ? 5 : 0)
      account.block = UInt64(next)
      _ = try ledger.observed(fixture.channelID(number), account, at: noon)
      channels[number]?.deposit = account.deposit
      channels[number]?.isEnding = account.isEnding
    case 90..<94:
      guard let number = any(&generator), let handle = ledger.session(fixture.channelID(number)) else { return }
      _ = try ledger.beginClose(handle, cause: .payer, voucher: nil, at: noon)
      channels[number]?.isClosing = true
      channels[number]?.isSuspended = false
    case 94..<98: try close(fixture, using: &generator)
    default:
      let earned = fixture.chainEarned
      guard earned > 0 else { return }
      next += 1
      let amount = UInt128.random(in: 1...UInt128(earned), using: &generator)
      _ = try ledger.payout(merchant: "shop", currency: base, amount: amount, reference: "c\(next)", at: noon)
    }
  }

  private mutating func begin(_ fixture: LedgerFixture, using generator: inout SeededGenerator) throws {
    guard let number = any(&generator), let state = channels[number], let handle = fixture.ledger.session(fixture.channelID(number)) else {
      return
    }
    let isStream = Bool.random(using: &generator)
    let cost = isStream ? ExactCost.zero : ExactCost(units: UInt64.random(in: 0...30, using: &generator), rate: Self.rate)!
    let context = isStream ? fixture.stream : fixture.line
    let amount = state.budget + UInt128.random(in: 0...60, using: &generator)
    let accepts = Bool.random(using: &generator)
    do throws(Refusal) {
      if accepts {
        _ = try fixture.ledger.begin(handle, accepting: fixture.voucher(amount), cost: cost, context: context, at: noon)
      } else {
        _ = try fixture.ledger.begin(handle, cost: cost, context: context, at: noon)
      }
    } catch {
      return
    }
    #expect(!state.isClosing && !state.isSuspended && !state.isEnding)
    if accepts { channels[number]?.budget = amount }
    if !isStream { channels[number]?.spent = state.spent.adding(cost)! }
    channels[number]?.inFlight += 1
    flights.append(Flight(channel: number, handle: handle, debited: cost, isStream: isStream))
  }

  private mutating func extend(_ fixture: LedgerFixture, using generator: inout SeededGenerator) throws {
    guard let index = flights.indices.filter({ flights[$0].isStream }).randomElement(using: &generator) else { return }
    let wanted = UInt64.random(in: 1...200, using: &generator)
    guard let got = try? fixture.ledger.extend(flights[index].handle, rate: Self.rate, wanted: wanted, atLeast: 1, at: noon) else { return }
    let cost = ExactCost(units: got.units, rate: Self.rate)!
    flights[index].debited = flights[index].debited.adding(cost)!
    let number = flights[index].channel
    let ahead = channels[number]!.ahead.adding(cost)!
    channels[number]?.ahead = ahead
  }

  private mutating func finish(_ fixture: LedgerFixture, using generator: inout SeededGenerator) {
    guard let index = flights.indices.randomElement(using: &generator) else { return }
    let flight = flights.remove(at: index)
    let used =
      switch Int.random(in: 0..<3, using: &generator) {
      case 0: ExactCost.zero
      case 1: flight.debited
      default: ExactCost(whole: flight.debited.whole / 2)
      }
    fixture.ledger.finish(
      flight.handle, debited: flight.debited, used: used, units: 1, context: flight.isStream ? fixture.stream : fixture.line, at: noon)
    var state = channels[flight.channel]!
    state.inFlight -= 1
    if flight.isStream {
      state.ahead = state.ahead.subtracting(flight.debited)!
      state.spent = state.spent.adding(used)!
    } else {
      state.spent = state.spent.subtracting(flight.debited.subtracting(used)!)!
    }
    channels[flight.channel] = state
  }

  private mutating func settle(_ fixture: LedgerFixture, using generator: inout SeededGenerator) throws {
    guard let number = any(&generator), let state = channels[number] else { return }
    let amount = UInt128.random(in: 0...state.budget, using: &generator)
    let account = fixture.account(state.deposit, settled: amount, requested: state.isEnding ? 5 : 0)
    _ = try fixture.ledger.settled(channel: fixture.channelID(number), account, transaction: id(1), at: noon)
    channels[number]?.settled = max(state.settled, amount)
  }

  private mutating func close(_ fixture: LedgerFixture, using generator: inout SeededGenerator) throws {
    guard let number = any(&generator, { $0.isClosing }), let state = channels[number] else { return }
    // The last voucher's amount, or nothing more than what was settled: withdrawn by force.
    let captured = Bool.random(using: &generator) ? state.budget : state.settled
    let channel = fixture.channelID(number)
    guard state.inFlight == 0 else {
      #expect(throws: Refusal.channelBusy) {
        try fixture.ledger.closed(channel: channel, captured: captured, refunded: 0, transaction: nil, at: noon)
      }
      return
    }
    _ = try fixture.ledger.closed(
      channel: channel, captured: captured, refunded: state.deposit - min(captured, state.deposit), transaction: nil, at: noon)
    channels[number]?.captured = max(captured, state.settled)
    guard case .closed(let record)? = fixture.ledger.closeResult(channel), let kept = record.channel else {
      Issue.record("channel \(number) is not closed")
      return
    }
    #expect(record.spent == state.spent.ceiling && kept.captured == max(captured, state.settled))
    #expect(kept.captured + kept.lost == record.spent + kept.overpaid)
  }

  /// What a restart does: what streams had debited ahead is spent, and nothing is in flight.
  mutating func restart() {
    flights = []
    for number in channels.keys {
      var state = channels[number]!
      state.spent = state.spent.adding(state.ahead)!
      state.ahead = .zero
      state.inFlight = 0
      channels[number] = state
    }
  }

  /// What a kill does before everything was durable: the ledger alone knows how far it came.
  mutating func reload(_ fixture: LedgerFixture) {
    restart()
    for number in 1...max(next, 1) {
      if let view = fixture.ledger.channel(fixture.channelID(number)) {
        let spent = fixture.ledger.state.withLock { $0.balances[Int($0.sessionIndex[view.id]!)].settled }
        #expect(spent.ceiling == view.spent && view.spent <= view.budget && view.inFlight == 0)
        channels[number] = State(
          budget: view.budget, deposit: view.account.deposit, spent: spent, settled: view.booked, isClosing: view.phase == .closing,
          isSuspended: view.phase == .suspended, isEnding: view.account.isEnding)
      } else if case .closed(let record)? = fixture.ledger.closeResult(fixture.channelID(number)), let kept = record.channel {
        channels[number] = State(budget: record.deposit, deposit: 0, spent: ExactCost(whole: record.spent), captured: kept.captured)
      } else {
        channels[number] = nil
      }
    }
  }

  /// Compares the ledger with the model.
  func check(_ fixture: LedgerFixture) {
    let accounts = fixture.chainAccounts
    var (issued, sessions, merchants): (UInt128, UInt128, UInt128) = (0, 0, 0)
    for (number, state) in channels {
      if let captured = state.captured {
        issued += captured
        merchants += captured
        continue
      }
      let earned = min(state.settled, state.spent.ceiling)
      issued += state.settled
      merchants += earned
      sessions += state.settled - earned
      let view = fixture.ledger.channel(fixture.channelID(number))
      #expect(view?.budget == state.budget && view?.booked == state.settled && view?.voucher.amount == state.budget)
      #expect(view?.spent == state.spent.adding(state.ahead)!.ceiling && view?.inFlight == UInt32(state.inFlight))
    }
    #expect(accounts.sum == 0 && accounts.wallets == 0 && accounts.held == 0)
    #expect(accounts.issued == issued && accounts.sessions == sessions)
    #expect(Int128(accounts.paidOut) + accounts.merchants == Int128(merchants))
    #expect(fixture.ledger.state.withLock { $0.currencies.allSatisfy { $0.expected == 0 } })
  }
}
