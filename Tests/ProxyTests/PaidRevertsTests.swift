import Encoding
import Ethereum
import Testing

@testable import Proxy

@Suite struct PaidRevertsTests {
  let payer = Address("0x1111111111111111111111111111111111111111") ?? .zero
  let other = Address("0x2222222222222222222222222222222222222222") ?? .zero
  let start = Instant.now()

  @Test func aContractIsBarredAfterOneAndAKeyAfterThree() {
    let reverts = PaidReverts()
    reverts.note(payer, at: start)
    #expect(reverts.isBarred(payer, isContract: true, at: start))
    #expect(!reverts.isBarred(payer, isContract: false, at: start))
    #expect(!reverts.isBarred(other, isContract: true, at: start))
    reverts.note(payer, at: start)
    reverts.note(payer, at: start)
    #expect(reverts.isBarred(payer, isContract: false, at: start))
    #expect(!reverts.isBarred(payer, isContract: true, at: start + PaidReverts.span))
  }

  @Test func feesOfOthersArePaidUpToABudget() {
    let reverts = PaidReverts()
    for _ in 0..<PaidReverts.sponsoredLimit {
      #expect(!reverts.isSponsoringOver(at: start))
      reverts.note(payer, isSponsored: true, at: start)
    }
    #expect(reverts.isSponsoringOver(at: start))
    #expect(!reverts.isSponsoringOver(at: start + PaidReverts.span))
  }

  @Test func noMoreAccountsAreRememberedThanTheLimitAllows() {
    let reverts = PaidReverts()
    for number in 0...PaidReverts.accountLimit {
      let address = Address(bytes: (0..<20).map { $0 < 18 ? 0 : UInt8(truncatingIfNeeded: number >> ($0 == 18 ? 8 : 0)) }) ?? .zero
      reverts.note(address, at: start + .milliseconds(number))
    }
    #expect(!reverts.isBarred(.zero, isContract: true, at: start))
    let last = Address(bytes: [UInt8](repeating: 0, count: 18) + [UInt8(PaidReverts.accountLimit >> 8), 0]) ?? .zero
    #expect(reverts.isBarred(last, isContract: true, at: start + .seconds(5)))
  }
}
