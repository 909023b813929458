import Bytes
import Encoding
import Foundation
import Metering
import Testing

@testable import Ledger

/// What was used in a period: counted once, given back, kept over a restart, and forgotten.
@Suite struct VolumeTests {
  private func order(_ subject: Int = 1, _ period: Period = .day) -> VolumeOrder { VolumeOrder("free", scope: "chat", subject: id(subject), period: period) }

  @Test func countsUpToTheLimitAndGivesBack() throws {
    let fixture = try LedgerFixture()
    let ledger = fixture.ledger
    let first = try #require(try ledger.count(order(), below: 2, at: noon))
    let second = try #require(try ledger.count(order(), below: 2, at: noon))
    #expect((first.position, second.position) == (0, 1) && second.lsn > first.lsn)
    #expect(try ledger.count(order(), below: 2, at: noon) == nil)
    #expect(try ledger.count(order(2), below: 2, at: noon)?.position == 0)
    #expect(try ledger.count(VolumeOrder("volume", scope: "chat", subject: id(1), period: .day), below: 2, at: noon)?.position == 0)
    #expect(try ledger.count(VolumeOrder("free", scope: "chat2", subject: id(1), period: .day), below: 2, at: noon)?.position == 0)
    ledger.uncount(first, at: noon)
    #expect(ledger.volume(order(), at: noon) == 1)
    #expect(try ledger.count(order(), below: 2, at: noon)?.position == 1)
    #expect(try ledger.count(order(), below: 0, at: noon) == nil)
  }

  @Test func aPeriodBeginsWithNothingAndAClockThatIsSetBackReopensNothing() throws {
    let fixture = try LedgerFixture()
    let ledger = fixture.ledger
    let late = Timestamp(rfc3339: "2026-11-30T23:59:59Z")!
    let counted = try #require(try ledger.count(order(), below: 1, at: late))
    let month = try #require(try ledger.count(order(1, .month), below: 1, at: late))
    #expect(try ledger.count(order(), below: 1, at: late) == nil)
    let next = late + .seconds(1)
    #expect(try ledger.count(order(), below: 1, at: next) != nil)
    #expect(try ledger.count(order(1, .month), below: 1, at: next) != nil)
    // What belongs to the period before is not given back to this one.
    ledger.uncount(counted, at: next)
    ledger.uncount(month, at: next)
    #expect(ledger.volume(order(), at: next) == 1)
    #expect(try ledger.count(order(), below: 1, at: late) == nil)
    #expect(try ledger.count(order(1, .month), below: 1, at: noon) == nil)
  }

  @Test func aRestartKeepsWhatWasCounted() throws {
    let fixture = try LedgerFixture()
    for _ in 0..<3 { _ = try fixture.ledger.count(order(), below: 5, at: noon) }
    let last = try #require(try fixture.ledger.count(order(), below: 5, at: noon))
    fixture.ledger.uncount(last, at: noon)
    #expect(fixture.ledger.awaitDurable(fixture.ledger.applied))
    fixture.ledger.abandon()
    let again = try LedgerFixture(in: fixture.folder)
    #expect(again.ledger.volume(order(), at: noon) == 3)
    #expect(try again.ledger.count(order(), below: 4, at: noon)?.position == 3)
    #expect(try again.ledger.count(order(), below: 4, at: noon) == nil)
    #expect(again.ledger.verify().isBalanced)
  }

  @Test func aDebitIsNeverDurableBeforeItsCount() throws {
    let fixture = try LedgerFixture()
    let session = try fixture.open(1)
    let counted = try #require(try fixture.ledger.count(order(), below: 1, at: noon))
    let debit = try fixture.ledger.begin(session, cost: .zero, context: fixture.line, at: noon)
    #expect(debit > counted.lsn)
  }

  @Test func periodsThatAreOverAreForgotten() throws {
    let fixture = try LedgerFixture()
    for subject in 0..<50 { _ = try fixture.ledger.count(order(subject, .hour), below: 5, at: noon) }
    _ = try fixture.ledger.count(order(99, .month), below: 5, at: noon)
    func known() -> Int { fixture.ledger.state.withLock { $0.volumes.count } }
    fixture.ledger.sweep(at: noon + .seconds(1800))
    #expect(known() == 51)
    fixture.ledger.sweep(at: noon + .seconds(7300))
    #expect(known() == 1)
    // A month that goes on is looked at again later, and forgotten then.
    fixture.ledger.sweep(at: noon + .seconds(33 * 86_400))
    #expect(known() == 0)
    fixture.ledger.close()
    let again = try LedgerFixture(in: fixture.folder)
    #expect(again.ledger.state.withLock { $0.volumes.isEmpty })
  }

  @Test func ofManyAtOnceOnlyAsManyAsAreLeftAreFree() throws {
    let fixture = try LedgerFixture()
    let ledger = fixture.ledger
    let order = order()
    let positions = Positions()
    let threads = (0..<4).map { _ in
      Thread {
        for _ in 0..<500 {
          if let counted = (try? ledger.count(order, below: 700, at: noon)) ?? nil { positions.add(counted.position) }
        }
        positions.end()
      }
    }
    for thread in threads { thread.start() }
    positions.wait(threads.count)
    #expect(positions.sorted == Array(0..<700))
  }
}

/// What several threads have counted.
private final class Positions: @unchecked Sendable {
  // Safe because: everything is reached under the condition's lock.
  private let condition = NSCondition()
  private var values: [UInt64] = []
  private var ended = 0

  func add(_ value: UInt64) {
    condition.lock()
    values.append(value)
    condition.unlock()
  }

  func end() {
    condition.lock()
    ended += 1
    condition.signal()
    condition.unlock()
  }

  func wait(_ count: Int) {
    condition.lock()
    while ended < count { condition.wait() }
    condition.unlock()
  }

  var sorted: [UInt64] {
    condition.lock()
    defer { condition.unlock() }
    return values.sorted()
  }
}
