import Bytes
import Encoding
import Metering
import Testing

@testable import Ledger

/// Random operations from a seed: whatever happens, what was deposited is what was spent, held, left or refunded.
@Suite struct ConservationTests {
  /// What the test knows of an exchange in flight.
  private struct Flight {
    var session: Int
    var handle: SessionHandle
    var debited: ExactCost
    var isStream: Bool
    var units: UInt64
  }

  @Test(arguments: [1, 2, 3, 4, 5, 6, 7, 8] as [UInt64]) func moneyIsConserved(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed &* 0x9E37_79B9)
    var fixture = try LedgerFixture(funds: 100_000)
    var deposits: [Int: UInt128] = [:]
    var flights: [Flight] = []
    var holds: [(hold: Hold, amount: UInt128)] = []
    var charged: UInt128 = 0
    var next = 0
    var chain = ChainModel()
    let rates = [Rate(amount: 7, unitSize: 3, unit: .responseByte)!, Rate(amount: 1, unitSize: 1_000, unit: .responseByte)!]
    for step in 0..<2_500 {
      next += 1
      switch Int.random(in: 0..<160, using: &generator) {
      case 0..<8:
        let deposit = UInt128.random(in: 1...500, using: &generator)
        if (try? fixture.ledger.open(fixture.order(next, deposit: deposit), at: noon) { _ in [] }) != nil { deposits[next] = deposit }
      case 8..<14:
        guard let session = deposits.keys.sorted().randomElement(using: &generator) else { break }
        let amount = UInt128.random(in: 1...200, using: &generator)
        if (try? fixture.ledger.topUp(fixture.topUp(next, session: session, amount: amount), at: noon) { _ in [] }) != nil {
          deposits[session]? += amount
        }
      case 14..<40:
        guard let session = deposits.keys.sorted().randomElement(using: &generator),
          let handle = fixture.ledger.session(id(3_000_000 + session))
        else { break }
        let isStream = Bool.random(using: &generator)
        let cost = isStream ? ExactCost.zero : ExactCost(units: UInt64.random(in: 0...30, using: &generator), rate: rates[0])!
        let context = isStream ? fixture.stream : fixture.line
        if (try? fixture.ledger.begin(handle, cost: cost, context: context, at: noon)) != nil {
          flights.append(Flight(session: session, handle: handle, debited: cost, isStream: isStream, units: 1))
        }
      case 40..<60:
        guard let index = flights.indices.filter({ flights[$0].isStream }).randomElement(using: &generator) else { break }
        let rate = rates.randomElement(using: &generator)!
        let wanted = UInt64.random(in: 1...2_000, using: &generator)
        if let got = try? fixture.ledger.extend(flights[index].handle, rate: rate, wanted: wanted, atLeast: 1, at: noon) {
          flights[index].debited = flights[index].debited.adding(ExactCost(units: got.units, rate: rate)!)!
          flights[index].units += got.units
        }
      case 60..<82:
        guard let index = flights.indices.randomElement(using: &generator) else { break }
        let flight = flights.remove(at: index)
        let used =
          switch Int.random(in: 0..<3, using: &generator) {
          case 0: ExactCost.zero
          case 1: flight.debited
          default: ExactCost(whole: flight.debited.whole / 2)
          }
        fixture.ledger.finish(
          flight.handle, debited: flight.debited, used: used, units: flight.units,
          context: flight.isStream ? fixture.stream : fixture.line, at: noon)
      case 82..<88:
        let amount = UInt128.random(in: 1...100, using: &generator)
        if let hold = try? fixture.ledger.hold(fixture.charge(next, amount: amount), at: noon) { holds.append((hold, amount)) }
      case 88..<93:
        guard let index = holds.indices.randomElement(using: &generator) else { break }
        let held = holds.remove(at: index)
        if Bool.random(using: &generator) {
          _ = try fixture.ledger.settle(held.hold, at: noon)
          charged += held.amount
        } else {
          fixture.ledger.void(held.hold, cause: .upstreamStatus, at: noon)
        }
      case 93..<97:
        guard let session = deposits.keys.sorted().randomElement(using: &generator),
          let handle = fixture.ledger.session(id(3_000_000 + session))
        else { break }
        _ = try? fixture.ledger.beginClose(handle, cause: .payer, at: noon) { _ in [1] }
      case 97..<99:
        let earned = fixture.earned
        if earned > 0 {
          let amount = UInt128.random(in: 1...UInt128(earned), using: &generator)
          _ = try fixture.ledger.payout(merchant: "shop", currency: "usdc", amount: amount, reference: "p\(next)", at: noon)
        }
        let received = fixture.chainEarned
        if received > 0 {
          let amount = UInt128.random(in: 1...UInt128(received), using: &generator)
          _ = try fixture.ledger.payout(merchant: "shop", currency: base, amount: amount, reference: "q\(next)", at: noon)
        }
      case 100..<160: try chain.step(fixture, using: &generator)
      default:
        if step % 4 == 0 {
          fixture.waitUntilDurable()
          fixture.ledger.abandon()
          fixture = try LedgerFixture(in: fixture.folder)
          flights = []
          holds = []
          chain.restart()
        }
      }
      try check(fixture, deposits: deposits, charged: charged, held: holds.reduce(0) { $0 + $1.amount })
      try chain.check(fixture)
    }
    fixture.ledger.close()
    let report = verified(fixture.folder)
    #expect(chain.payments.count > 20)
    #expect(report.isValid, "\(String(describing: report.defect))")
    try checkLines(fixture, deposits: deposits, charged: charged)
  }

  private func check(_ fixture: LedgerFixture, deposits: [Int: UInt128], charged: UInt128, held: UInt128) throws {
    let books = fixture.ledger.verify()
    #expect(books.isBalanced)
    var spent: UInt128 = 0
    for (session, deposit) in deposits {
      let key = id(3_000_000 + session)
      if let view = fixture.ledger.session(key).flatMap({ fixture.ledger.view($0) }) {
        #expect(view.deposit == deposit)
        #expect(view.spent + view.remaining == deposit)
        spent += view.spent - view.held
      } else if case .closed(let closed)? = fixture.ledger.closeResult(key) {
        #expect(closed.deposit == deposit)
        #expect(closed.spent + closed.refunded == deposit)
        spent += closed.spent
      } else {
        Issue.record("session \(session) is gone")
      }
    }
    let account = books.balances[0]
    #expect(account.held == held)
    #expect(Int128(account.paidOut) + account.merchants == Int128(spent + charged))
  }

  /// The lines tell the same story as the accounts.
  private func checkLines(_ fixture: LedgerFixture, deposits: [Int: UInt128], charged: UInt128) throws {
    // What streams debited ahead is settled by the restart, and has its lines then.
    let again = try LedgerFixture(in: fixture.folder)
    again.waitUntilDurable()
    let balances = again.ledger.verify().balances
    let account = balances[0]
    again.ledger.close()
    checkAccounts(verified(fixture.folder), balances)
    var sums: [String: UInt128] = [:]
    for line in try again.lines() {
      let object = try #require(line.objectValue)
      if object["currency"]?.stringValue == base { continue }
      let event = try #require(object["event"]?.stringValue)
      let amount = object[event == "session.closed" ? "refunded" : "amount"]?.stringValue
      if let amount { sums[event, default: 0] += try #require(UInt128(amount)) }
    }
    #expect(sums["charge.settled", default: 0] == charged)
    #expect(sums["session.opened", default: 0] + sums["session.toppedup", default: 0] == deposits.values.reduce(0, +))
    let spent = sums["session.debited", default: 0] - sums["session.returned", default: 0]
    #expect(Int128(account.paidOut) + account.merchants == Int128(spent + charged))
    #expect(account.wallets == 100_000 + sums["session.closed", default: 0] - charged - deposits.values.reduce(0, +))
  }
}
