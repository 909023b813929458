import Bytes
import Encoding
import Synchronization
import Testing

@testable import Proxy

@Suite struct ChainNoticeTests {
  /// What was passed on.
  private final class Log: Sendable {
    private let notices = Mutex<[ChainNotice]>([])
    func add(_ notice: ChainNotice) { notices.withLock { $0.append(notice) } }
    func take() -> [ChainNotice] {
      notices.withLock { notices in
        defer { notices = [] }
        return notices
      }
    }
  }

  private let start = Instant.now()
  private func at(_ seconds: Int) -> Instant { start + .seconds(seconds) }

  @Test func eachKindIsToldOnceAMinute() {
    let log = Log()
    let notices = ChainNotices { log.add($0) }
    let low = ChainNotice.gasMoneyLow(signer: "0x", payments: 5)
    for second in stride(from: 0, to: 120, by: 5) { notices.tell(low, at: at(second)) }
    #expect(log.take() == [low, low])
    notices.tell(.facilitatorFails, at: at(121))
    notices.tell(.nonceTaken(nonce: 1, transaction: "0x"), at: at(121))
    #expect(log.take() == [.facilitatorFails, .nonceTaken(nonce: 1, transaction: "0x")])
    #expect(!notices.isDue(.facilitatorFails, at: at(180)) && notices.isDue(.facilitatorFails, at: at(181)))
  }

  @Test func aChainThatIsWellFromTheStartIsNoNews() {
    let log = Log()
    let notices = ChainNotices { log.add($0) }
    for second in 0..<100 { notices.looked(nil, at: at(second)) }
    #expect(log.take() == [])
  }

  @Test func goingAndComingAreToldAndTheLastWordIsNeverMissing() {
    let log = Log()
    let notices = ChainNotices { log.add($0) }
    notices.looked("a", at: at(0))
    notices.looked("a", at: at(61))
    #expect(log.take() == [.unusable(cause: "a")])
    notices.looked(nil, at: at(62))
    notices.looked("b", at: at(63))
    notices.looked(nil, at: at(64))
    // Within the minute nothing more of a kind is said, and what holds at its end is told then.
    notices.looked("c", at: at(70))
    #expect(log.take() == [.usable, .unusable(cause: "b")])
    for second in 71..<130 { notices.looked("c", at: at(second)) }
    #expect(log.take() == [.unusable(cause: "c")])
    notices.looked(nil, at: at(131))
    #expect(log.take() == [.usable])
  }

  @Test func moneyForGasLastsForSoManyPayments() {
    var condition = ChainCondition()
    #expect(condition.paymentsLeft == nil)
    condition.balance = 10 * 200_000 * 7
    #expect(condition.paymentsLeft == nil)
    condition.gasPrice = 7
    #expect(condition.paymentsLeft == 10)
    condition.gasPrice = 8
    #expect(condition.paymentsLeft == 8)
    condition.gasPrice = 0
    #expect(condition.paymentsLeft == nil)
    condition.balance = .max
    condition.gasPrice = 1
    #expect(condition.paymentsLeft == .max)
  }
}
