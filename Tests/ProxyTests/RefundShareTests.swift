import Testing

@testable import Proxy

@Suite struct RefundShareTests {
  @Test(arguments: [
    (UInt128(1000), UInt64(0), UInt64(1000), UInt128(0)), (1000, 1, 1000, 1), (1000, 333, 1000, 333), (1000, 1, 3000, 1), (1000, 2999, 3000, 1000),
    (1000, 3000, 3000, 1000), (1, 1, .max, 1), (.max, .max - 1, .max, .max - (.max / UInt128(UInt64.max))), (0, 5, 10, 0),
  ])
  func isRoundedUp(_ amount: UInt128, _ part: UInt64, _ whole: UInt64, _ share: UInt128) {
    #expect(Cashier.share(of: amount, part, of: whole) == share)
  }
}
