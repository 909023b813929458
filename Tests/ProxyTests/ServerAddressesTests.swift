import IO
import Testing

@testable import Proxy

private func four(_ last: UInt8) -> SocketAddress { SocketAddress(10, 0, 0, last, port: 80) }
private func six(_ last: UInt64) -> SocketAddress { SocketAddress(family: .inet6, high: 0x2001_0db8 << 32, low: last, port: 80) }
private let rest = ServerAddresses.rest

/// Which of a name's addresses connections are opened to.
@Suite struct ServerAddressesTests {
  private func taken(_ addresses: inout ServerAddresses, _ count: Int, at now: Int64 = 0) -> [SocketAddress] {
    (0..<count).compactMap { _ in addresses.next(at: now) }
  }

  @Test func allTakeTheirTurn() {
    var addresses = ServerAddresses([four(1), four(2), four(3)])
    #expect(taken(&addresses, 6) == [four(1), four(2), four(3), four(1), four(2), four(3)])
    var other = ServerAddresses([four(1), four(2), four(3)], seed: 5)
    #expect(other.next(at: 0) == four(3), "workers begin at different ones")
    var none = ServerAddresses([], seed: 3)
    #expect(none.next(at: 0) == nil)
  }

  @Test func whatFailedRestsForAWhile() {
    var addresses = ServerAddresses([four(1), four(2), four(3)])
    addresses.failed(four(2), at: 100)
    #expect(taken(&addresses, 4, at: 101) == [four(1), four(3), four(1), four(3)])
    #expect(taken(&addresses, 3, at: 100 + rest).contains(four(2)))
    // Where all have failed they are tried all the same.
    for last in 1...3 as ClosedRange<UInt8> { addresses.failed(four(last), at: 200) }
    #expect(Set(taken(&addresses, 3, at: 201)).count == 3)
    addresses.failed(four(9), at: 0)
  }

  @Test func theOtherFamilyIsForNeed() {
    var addresses = ServerAddresses([six(1), four(1), four(2)])
    #expect(taken(&addresses, 3) == [six(1), six(1), six(1)])
    addresses.failed(six(1), at: 0)
    // From then on: the first family is not tried again and again.
    #expect(taken(&addresses, 3, at: 1) == [four(1), four(2), four(1)])
    #expect(taken(&addresses, 2, at: 2 * rest) == [four(2), four(1)])
  }

  @Test func lookUpsKeepWhatIsKnown() {
    var addresses = ServerAddresses([four(1), four(2)])
    addresses.failed(four(2), at: 0)
    addresses.adopt([four(3), four(2)])
    #expect(taken(&addresses, 3, at: 1) == [four(3), four(3), four(3)])
    var late = ServerAddresses([])
    late.adopt([six(1), four(1)])
    #expect(taken(&late, 2) == [six(1), six(1)])
  }
}
