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

  /// Who fails with many channels is held back himself, and nobody else.
  @Test func aClientIsBoundedOverAllChannels() {
    var failures = ChannelFailures()
    let stranger = ClientAddress(ipv4: 0xC000_0207)
    for number in 0..<ChannelFailures.clientLimit {
      failures.count(Digest32(bytes: [UInt8](repeating: UInt8(number + 3), count: 32)) ?? Digest32(), stranger, at: 5)
    }
    let isFull = [failures.isFull(other, stranger, at: 5), failures.isFull(other, payer, at: 5), failures.isFull(other, stranger, at: 1_000_000_005)]
    #expect(isFull == [true, false, false])
  }
}
