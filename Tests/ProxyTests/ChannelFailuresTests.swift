import Bytes
import HTTP
import Testing

@testable import Proxy

@Suite struct ChannelFailuresTests {
  private let channel = Digest32(bytes: [UInt8](repeating: 1, count: 32)) ?? Digest32()
  private let other = Digest32(bytes: [UInt8](repeating: 2, count: 32)) ?? Digest32()
  private let payer = ClientAddress(ipv4: 0x0A00_0001)
  private let second: Int64 = 1_000_000_000

  @Test func strangersDoNotSlowAPayer() {
    var failures = ChannelFailures()
    for number in 0..<50 {
      for _ in 0..<ChannelFailures.limit { failures.count(channel, ClientAddress(ipv4: 0xC000_0200 + UInt32(number)), at: 5) }
    }
    #expect(failures.isFull(channel, ClientAddress(ipv4: 0xC000_0200), at: 5))
    #expect(!failures.isFull(channel, payer, at: 5))
    for _ in 0..<ChannelFailures.limit { failures.count(channel, payer, at: 5) }
    #expect(failures.isFull(channel, payer, at: 5) && !failures.isFull(other, payer, at: 5))
    #expect(!failures.isFull(channel, payer, at: 5 + second))
  }

  @Test func allTogetherCostNoMoreThanTheLimit() {
    var failures = ChannelFailures()
    for number in 0..<ChannelFailures.totalLimit { failures.count(channel, ClientAddress(ipv4: UInt32(number) << 8), at: 5) }
    #expect(failures.isFull(other, payer, at: 5))
    #expect(!failures.isFull(other, payer, at: 5 + second))
  }
}
