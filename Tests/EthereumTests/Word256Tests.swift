import Bytes
import Ethereum
import Testing

private let greatest = "115792089237316195423570985008687907853269984665640564039457584007913129639935"

@Suite struct Word256Tests {
  @Test(arguments: [
    ("0", "0x0"), ("1", "0x1"), ("15", "0xf"), ("255", "0xff"), ("18446744073709551615", "0xffffffffffffffff"),
    ("18446744073709551616", "0x10000000000000000"), ("10000000000000000000", "0x8ac7230489e80000"),
    ("99999999999999999999999999999999999999", "0x4b3b4ca85a86c47a098a223fffffffff"),
    ("340282366920938463463374607431768211455", "0xffffffffffffffffffffffffffffffff"),
    ("340282366920938463463374607431768211456", "0x100000000000000000000000000000000"),
    ("100000000000000000000000000000000000000000000000000000000000000000000000000", "0x3899162693736ac531a5a58f1fbb4b746504382ca7e4000000000000000000"),
    (greatest, "0x" + String(repeating: "f", count: 64)),
  ])
  func bothSpellings(decimal: String, quantity: String) throws {
    let word = try #require(Word256(decimal: decimal))
    #expect(word.decimal == decimal)
    #expect(word.description == decimal)
    #expect(word.quantity == quantity)
    #expect(Word256(quantity: quantity) == word)
    #expect(Word256(quantity: "0x" + quantity.dropFirst(2).uppercased()) == word)
    #expect(Word256(word.octets) == word)
    #expect(Word256(bigEndian: word.trimmed) == word)
    #expect(word.trimmed.first != 0)
  }

  @Test func otherSpellingsAreRefused() {
    let past = String(greatest.dropLast()) + "6"
    for text in ["", "00", "01", "-1", "+1", " 1", "1 ", "1.0", "1e3", "0x1", "١", past, greatest + "0", "9" + greatest.dropFirst()] {
      #expect(Word256(decimal: text) == nil, "\(text)")
    }
    for text in ["", "0x", "0x00", "0x01", "1", "0X1", "0xg", "-0x1", "0x1" + String(repeating: "0", count: 64)] {
      #expect(Word256(quantity: text) == nil, "\(text)")
    }
  }

  @Test func smallerNumbers() {
    #expect(Word256(high: 0, low: .max).uint128 == .max)
    #expect(Word256(high: 1, low: 0).uint128 == nil)
    #expect(Word256(UInt64.max).uint64 == .max)
    #expect(Word256(UInt128(UInt64.max) + 1).uint64 == nil)
    #expect(Word256(high: 1, low: 0).uint64 == nil)
    #expect(Word256(bigEndian: [UInt8](repeating: 0, count: 33)) == nil)
    #expect(Word256(bigEndian: []) == 0)
  }

  @Test func arithmeticIsChecked() {
    let top = Word256.maximum
    #expect(top.adding(1) == nil)
    #expect(top.adding(0) == top)
    #expect(Word256(high: 0, low: .max).adding(1) == Word256(high: 1, low: 0))
    #expect(Word256(high: .max, low: 1).adding(Word256(high: 0, low: .max)) == nil)
    #expect(Word256(high: 1, low: 0).subtracting(1) == Word256(high: 0, low: .max))
    #expect(Word256.zero.subtracting(1) == nil)
    #expect(Word256(high: 1, low: 0).subtracting(Word256(high: 1, low: 1)) == nil)
    #expect(top.subtracting(top) == 0)
    #expect(top.multiplied(by: 1) == top)
    #expect(top.multiplied(by: 2) == nil)
    #expect(top.multiplied(by: 0) == 0)
    #expect(Word256(high: 0, low: .max).multiplied(by: 2) == Word256(high: 1, low: .max - 1))
    #expect(Word256(high: .max, low: .max).multiplied(by: .max) == nil)
  }

  @Test func orderIsThatOfNumbers() {
    let ordered: [Word256] = [0, 1, Word256(UInt128.max), Word256(high: 1, low: 0), Word256(high: 1, low: 1), .maximum]
    for (index, left) in ordered.enumerated() {
      for (place, right) in ordered.enumerated() { #expect((left < right) == (index < place)) }
    }
  }

  @Test func addressesArePadded() throws {
    let address = try #require(Address("0xffffffffffffffffffffffffffffffffffffffff"))
    #expect(Word256(address).quantity == address.lowercase)
    #expect(Word256(address).address == address)
    #expect(Word256(address).adding(1)?.address == nil)
  }
}
