import Bytes
import Ethereum
import Methods
import Testing

@testable import Proxy

struct StoredChannelTests {
  private static func address(_ octet: UInt8) -> Address { Address(bytes: [UInt8](repeating: octet, count: 20)) ?? .zero }
  private static func word(_ octet: UInt8) -> Digest32 { Digest32(bytes: [UInt8](repeating: octet, count: 32)) ?? Digest32() }

  private static func stored(_ rules: ChannelProtocol) -> StoredChannel {
    StoredChannel(
      escrow: SessionEscrow(rules: rules, chain: 0x0102_0304_0506_0708, address: address(1)),
      channel: ChannelDescriptor(
        payer: address(2), payee: address(3), operator: address(4), token: address(5), salt: word(6), authorizedSigner: address(7),
        expiringNonceHash: word(8), withdrawDelay: rules == .batch ? 900 : 0))
  }

  @Test(arguments: ChannelProtocol.allCases)
  func isReadAsItWasWritten(rules: ChannelProtocol) {
    let stored = Self.stored(rules)
    #expect(StoredChannel(stored.octets) == stored)
    #expect(stored.octets.count <= 2_048)
  }

  @Test func whatNobodyWroteIsNoChannel() {
    let octets = Self.stored(.evm).octets
    #expect(StoredChannel(Array(octets.dropLast())) == nil)
    #expect(StoredChannel(octets + [0]) == nil)
    #expect(StoredChannel([]) == nil)
    for place in 0..<2 {
      var other = octets
      other[place] = 9
      #expect(StoredChannel(other) == nil)
    }
  }
}
