import Bytes
import Encoding
import Testing

@testable import Payments

@Suite struct X402ValuesTests {
  @Test func networksHaveTwoNames() throws {
    for (name, id) in [
      ("base", 8453), ("base-sepolia", 84532), ("polygon", 137), ("polygon-amoy", 80002), ("avalanche", 43114), ("avalanche-fuji", 43113),
      ("iotex", 4689), ("sei", 1329), ("sei-testnet", 1328), ("peaq", 3338), ("abstract", 2741), ("abstract-testnet", 11124),
      ("skale-base-sepolia", 1_444_673_419), ("celo", 42220),
    ] as [(String, UInt64)] {
      let network = try #require(X402Network(name: name))
      #expect(network.chainID == id && network.name == name && network.caip2 == "eip155:\(id)")
      #expect(X402Network(caip2: network.caip2) == network)
    }
    #expect(X402Network(chainID: 4217).name == nil)
    for text in ["", "eip155", "eip155:", "eip155:x", "eip155:-1", "eip155:01", "EIP155:1", "solana:1", "eip155:1 "] {
      #expect(X402Network(caip2: text) == nil)
    }
    #expect(X402Network(name: "Base") == nil)
  }

  @Test func reasonsAreThoseOfTheWire() {
    #expect(X402Reason(wire: "insufficient_funds") == .insufficientFunds)
    #expect(X402Reason(wire: "invalid_batch_settlement_evm_cumulative_amount_mismatch") == .batchCumulativeAmountMismatch)
    #expect(X402Reason(wire: "<script>") == .unknown)
    #expect(X402Reason.settlementPending.isPending && X402Reason.settlementPending.isIndefinite)
    #expect(!X402Reason.exactPayloadSignature.isIndefinite && X402Reason.unknown.isIndefinite)
    for reason in X402Reason.allCases {
      #expect(X402Reason(wire: reason.rawValue) == reason)
      #expect(reason.rawValue.utf8.allSatisfy { $0 == 0x5F || (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) })
    }
    #expect(X402Error.unknownScheme.reason == .unsupportedScheme && X402Error.unknownNetwork.reason == .invalidNetwork)
    #expect(X402Error.missing(.payload).reason == .invalidPayload && X402Error.versionMismatch.reason == .invalidX402Version)
  }
}
