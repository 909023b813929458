import Bytes
import Encoding

/// Reads and writes octets as x402's documents spell them: `0x` and hexadecimal digits, of either case when read.
enum HexWord {
  /// Decodes; nil without `0x`, for an odd number of digits, and for any other octet.
  static func octets(_ text: String) -> [UInt8]? {
    var text = text
    return text.withUTF8 { text -> [UInt8]? in
      guard text.count >= 2, text.count % 2 == 0, text[0] == 0x30, text[1] == 0x78 else { return nil }
      var octets: [UInt8] = []
      octets.reserveCapacity(text.count / 2 - 1)
      for index in stride(from: 2, to: text.count, by: 2) {
        guard let upper = value(text[index]), let lower = value(text[index + 1]) else { return nil }
        octets.append(upper << 4 | lower)
      }
      return octets
    }
  }

  /// Decodes exactly 32 octets.
  static func word(_ text: String) -> Digest32? {
    guard text.utf8.count == 66 else { return nil }
    return octets(text).flatMap { Digest32(bytes: $0) }
  }

  /// Writes `0x` and lower-case digits.
  static func text(_ octets: [UInt8]) -> String { "0x" + Hex.encode(octets) }

  /// Writes `0x` and 64 lower-case digits.
  static func text(_ word: Digest32) -> String { "0x" + word.hex }

  static func value(_ digit: UInt8) -> UInt8? {
    switch digit {
    case 0x30...0x39: digit & 15
    case 0x41...0x46, 0x61...0x66: (digit & 15) + 9
    default: nil
    }
  }
}

/// Reads and writes unsigned 256-bit numbers in their one decimal spelling.
enum DecimalWord {
  /// The digits of the greatest number.
  static let maximumDigits = 78

  /// Reads digits only, without leading zeros; nil for anything else, and past 256 bits.
  static func parse(_ text: String) -> Digest32? {
    let digits = text.utf8
    guard !digits.isEmpty, digits.count <= maximumDigits, digits.count == 1 || digits.first != 0x30 else { return nil }
    // Four words, least significant first.
    var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
    for digit in digits {
      guard digit >= 0x30, digit <= 0x39 else { return nil }
      var carry = UInt64(digit & 15)
      carry = multiply(&words.0, carry)
      carry = multiply(&words.1, carry)
      carry = multiply(&words.2, carry)
      carry = multiply(&words.3, carry)
      guard carry == 0 else { return nil }
    }
    var word = Digest32()
    word.withUnsafeMutableBytes { out in
      for (index, value) in [words.3, words.2, words.1, words.0].enumerated() {
        out.storeBytes(of: value.bigEndian, toByteOffset: index * 8, as: UInt64.self)
      }
    }
    return word
  }

  /// Makes `word * 10 + carry` of a word, and returns what passes it.
  private static func multiply(_ word: inout UInt64, _ carry: UInt64) -> UInt64 {
    let product = word.multipliedFullWidth(by: 10)
    let (sum, overflows) = product.low.addingReportingOverflow(carry)
    word = sum
    return product.high + (overflows ? 1 : 0)
  }

  /// Writes the digits.
  static func text(_ word: Digest32) -> String {
    var octets = word.bytes
    var digits: [UInt8] = []
    repeat {
      var remainder: UInt16 = 0
      for index in octets.indices {
        let value = remainder << 8 | UInt16(octets[index])
        octets[index] = UInt8(truncatingIfNeeded: value / 10)
        remainder = value % 10
      }
      digits.append(0x30 | UInt8(truncatingIfNeeded: remainder))
    } while octets.contains { $0 != 0 }
    return String(decoding: digits.reversed(), as: UTF8.self)
  }
}
