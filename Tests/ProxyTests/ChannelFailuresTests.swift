import Bytes
import HTTP
import Testing

@testable import Proxy

@Suite struct ChannelFailuresTests {
  private let channel = Digest32(bytes: [UInt8](repeating: 1, count: 32)) ?? Digest32()
  private let other = Digest32(bytes: [UInt8](repeating: 2, count: 32)) ?? Digest32()
  private let payer = ClientAddress(ipv4: 0x0A00_0001)

  @Test func failuresAreCountedByChannelClientAndSecond() {
    var failures = ChannelFailures()
    let stranger = ClientAddress(ipv4: 0xC000_0207)
    var isFull: [Bool] = []
    for count in 0..<ChannelFailures.limit {
      isFull.append(failures.isFull(channel, stranger, at: Int64(count)))
      failures.count(channel, stranger, at: Int64(count))
    }
    #expect(isFull.allSatisfy { !$0 })
    // Its payer, who comes from elsewhere, is not held back by what strangers send.
    isFull = [
      failures.isFull(channel, stranger, at: 999_999_999), failures.isFull(channel, payer, at: 999_999_999),
      failures.isFull(other, stranger, at: 999_999_999), failures.isFull(channel, stranger, at: 1_000_000_000),
    ]
    #expect(isFull == [true, false, false, false])
  }

  @Test func allTogetherCostNoMoreThanTheLimit() {
    var failures = ChannelFailures()
    for number in 0..<ChannelFailures.totalLimit { failures.count(channel, ClientAddress(ipv4: UInt32(number) << 8), at: 5) }
    let isFull = [failures.isFull(other, payer, at: 5), failures.isFull(other, payer, at: 1_000_000_005)]
    #expect(isFull == [true, false])
  }
}
