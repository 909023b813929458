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

  @Test func addressesHaveOneValue() throws {
    let text = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
    let address = try #require(Address20(hex: text))
    #expect(address.hex == text.lowercased() && address == Address20(hex: text.lowercased()) && address == Address20(bytes: address.bytes))
    #expect(address.bytes.count == 20 && !address.isZero)
    #expect(Address20(hex: "0x" + String(repeating: "0", count: 40))?.isZero == true)
    for wrong in ["", "0x", String(text.dropLast()), text + "0", "0X" + text.dropFirst(2), String(text.dropFirst(2)) + "00", text.dropLast() + "g"] {
      #expect(Address20(hex: wrong) == nil)
    }
    #expect(Address20(bytes: [UInt8](repeating: 0, count: 19)) == nil)
  }

  @Test func wordsHaveOneDecimalSpelling() throws {
    let greatest = "115792089237316195423570985008687907853269984665640564039457584007913129639935"
    for text in ["0", "9", "10", "18446744073709551616", "340282366920938463463374607431768211456", greatest] {
      #expect(DecimalWord.parse(text).map { DecimalWord.text($0) } == text)
    }
    #expect(DecimalWord.parse(greatest)?.hex == String(repeating: "f", count: 64))
    for wrong in ["", "00", "01", "-1", "1 ", "0x1", String(greatest.dropLast()) + "6", greatest + "0"] {
      #expect(DecimalWord.parse(wrong) == nil)
    }
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
