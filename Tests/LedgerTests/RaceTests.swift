import Bytes
import Dispatch
import Encoding
import Metering
import Synchronization
import Testing

@testable import Ledger

@Suite struct RaceTests {
  @Test func ofSixtyFourUsesOfOneChallengeOneIsHeld() throws {
    let fixture = try LedgerFixture()
    let held = Atomic<Int>(0)
    let inFlight = Atomic<Int>(0)
    DispatchQueue.concurrentPerform(iterations: 64) { _ in
      do throws(Refusal) {
        _ = try fixture.ledger.hold(fixture.charge(1), at: noon)
        held.add(1, ordering: .relaxed)
      } catch {
        if error == .claimInFlight { inFlight.add(1, ordering: .relaxed) }
      }
    }
    #expect(held.load(ordering: .relaxed) == 1)
    #expect(inFlight.load(ordering: .relaxed) == 63)
    #expect(fixture.balance == 999_900)
  }

  @Test func ofTwoHundredDebitsTheBudgetPaysAHundred() throws {
    let fixture = try LedgerFixture()
    let session = try fixture.open(1, deposit: 1_000, inFlight: 4_096)
    let paid = Atomic<Int>(0)
    let refused = Atomic<Int>(0)
    DispatchQueue.concurrentPerform(iterations: 200) { _ in
      do throws(Refusal) {
        let lsn = try fixture.ledger.begin(session, cost: .of(10), context: fixture.line, at: noon)
        paid.add(1, ordering: .relaxed)
        #expect(fixture.ledger.awaitDurable(lsn))
        fixture.ledger.finish(session, debited: .of(10), used: .of(10), units: 1, context: fixture.line, at: noon)
      } catch {
        if error == .insufficientBudget(required: 10) { refused.add(1, ordering: .relaxed) }
      }
    }
    #expect(paid.load(ordering: .relaxed) == 100)
    #expect(refused.load(ordering: .relaxed) == 100)
    #expect(fixture.earned == 1_000)
    #expect(fixture.ledger.view(session)?.remaining == 0)
    #expect(fixture.ledger.verify().isBalanced)
    fixture.ledger.close()
    let debits = try fixture.lines().filter { $0.objectValue?["event"]?.stringValue == "session.debited" }
    #expect(debits.count == 100)
  }

  @Test func closesAndDebitsRaceWithoutLoss() throws {
    let fixture = try LedgerFixture()
    for round in 1...20 {
      let session = try fixture.open(round, deposit: 1_000, inFlight: 4_096)
      DispatchQueue.concurrentPerform(iterations: 16) { index in
        if index == 7 {
          _ = try? fixture.ledger.beginClose(session, cause: .payer, at: noon) { _ in [1] }
          return
        }
        guard (try? fixture.ledger.begin(session, cost: .of(10), context: fixture.line, at: noon)) != nil else { return }
        fixture.ledger.finish(
          session, debited: .of(10), used: index % 2 == 0 ? .of(10) : .zero, units: 1, context: fixture.line, at: noon)
      }
      guard case .closed(let closed)? = fixture.ledger.closeResult(id(3_000_000 + round)) else {
        Issue.record("round \(round) is not closed")
        return
      }
      #expect(closed.spent + closed.refunded == 1_000)
      #expect(closed.answer == [1])
    }
    #expect(fixture.ledger.verify().isBalanced)
    #expect(Int128(fixture.balance) + fixture.earned == 1_000_000)
  }
}
