import Bytes
import Ethereum
import Testing

private func octets(_ text: String) -> RLPItem { .octets(Array(text.utf8)) }

/// The examples of Ethereum's documentation and its rlptest.json.
private let examples: [(RLPItem, String)] = [
  (octets("dog"), "0x83646f67"),
  (.list([octets("cat"), octets("dog")]), "0xc88363617483646f67"),
  (octets(""), "0x80"),
  (.list([]), "0xc0"),
  (.number(0 as UInt64), "0x80"),
  (.octets([0]), "0x00"),
  (.number(15 as UInt64), "0x0f"),
  (.number(128 as UInt64), "0x8180"),
  (.number(1024 as UInt64), "0x820400"),
  (.number(100_000 as UInt64), "0x830186a0"),
  (.list([.list([]), .list([.list([])]), .list([.list([]), .list([.list([])])])]), "0xc7c0c1c0c3c0c1c0"),
  (
    octets("Lorem ipsum dolor sit amet, consectetur adipisicing elit"),
    "0xb8384c6f72656d20697073756d20646f6c6f722073697420616d65742c20636f6e7365637465747572206164697069736963696e6720656c6974"
  ),
  (
    octets("Lorem ipsum dolor sit amet, consectetur adipisicing eli"),
    "0xb74c6f72656d20697073756d20646f6c6f722073697420616d65742c20636f6e7365637465747572206164697069736963696e6720656c69"
  ),
]

private func refusal(_ hex: String, limits: RLP.Limits = .standard) -> EthereumError? {
  do {
    _ = try RLP.decode(HexData.parse(hex) ?? [], limits: limits)
    return nil
  } catch { return error }
}

@Suite struct RLPTests {
  @Test func theOfficialExamples() throws {
    for (item, hex) in examples {
      #expect(HexData.text(RLP.encode(item)) == hex)
      #expect(try RLP.decode(HexData.parse(hex) ?? []) == item)
    }
  }

  @Test func longItems() throws {
    for count in [54, 55, 56, 255, 256, 65_535, 65_536, 100_000] {
      for item in [RLPItem.octets([UInt8](repeating: 7, count: count)), .list([.octets([UInt8](repeating: 7, count: count))])] {
        let encoded = RLP.encode(item)
        #expect(try RLP.decode(encoded) == item)
        #expect(throws: EthereumError.self) { try RLP.decode(encoded + [0]) }
        #expect(throws: EthereumError.self) { try RLP.decode(Array(encoded.dropLast())) }
      }
    }
  }

  @Test func otherSpellingsAreRefused() {
    #expect(refusal("0x") == .rlp(.unexpectedEnd, offset: 0))
    #expect(refusal("0x8100") == .rlp(.notCanonical, offset: 0))
    #expect(refusal("0x817f") == .rlp(.notCanonical, offset: 0))
    #expect(refusal("0xc28101") == .rlp(.notCanonical, offset: 1))
    #expect(refusal("0xb801ff") == .rlp(.notCanonical, offset: 0))
    #expect(refusal("0xb800") == .rlp(.notCanonical, offset: 0))
    #expect(refusal("0xb90038" + String(repeating: "61", count: 56)) == .rlp(.notCanonical, offset: 0))
    #expect(refusal("0xf800") == .rlp(.notCanonical, offset: 0))
    #expect(refusal("0xf801c0") == .rlp(.notCanonical, offset: 0))
    #expect(refusal("0xbfffffffffffffffff") == .rlp(.unexpectedEnd, offset: 0))
    #expect(refusal("0xffffffffffffffffff") == .rlp(.unexpectedEnd, offset: 0))
    #expect(refusal("0xbf") == .rlp(.unexpectedEnd, offset: 0))
    #expect(refusal("0xc3836161") == .rlp(.unexpectedEnd, offset: 1))
    #expect(refusal("0xc183616161") == .rlp(.unexpectedEnd, offset: 1), "an item may not pass its list's end")
    #expect(refusal("0x0000") == .rlp(.trailingOctets, offset: 1))
  }

  @Test func limitsHold() {
    let deep = String(repeating: "00", count: 0)
    #expect(refusal("0x" + deep + "c2c1c0", limits: .init(octets: 100, items: 10, depth: 2)) == .rlp(.tooDeep, offset: 2))
    #expect(refusal("0xc2c1c0", limits: .init(octets: 100, items: 10, depth: 3)) == nil)
    #expect(refusal("0xc3010203", limits: .init(octets: 100, items: 3, depth: 3)) == .rlp(.tooLarge, offset: 3))
    #expect(refusal("0xc3010203", limits: .init(octets: 3, items: 9, depth: 3)) == .rlp(.tooLarge, offset: 3))
  }

  /// Whatever is decoded is what its items encode to.
  @Test func drawnOctetsNeverTrapAndKeepOneSpelling() {
    var random = SeededGenerator(seed: 7)
    for _ in 0..<20_000 {
      let octets = (0..<Int.random(in: 0...24, using: &random)).map { _ -> UInt8 in
        [0x80, 0x81, 0xB8, 0xC0, 0xC2, 0xF8, 0, UInt8.random(in: 0...255, using: &random)].randomElement(using: &random) ?? 0
      }
      if let item = try? RLP.decode(octets) { #expect(RLP.encode(item) == octets) }
    }
  }
}
