/// Converts octets to and from base58 with Bitcoin's alphabet, as multibase `z` names it.
///
/// The work grows with the square of the length, so both directions are bounded.
public enum Base58 {
  /// The most octets that are encoded or decoded.
  public static let maximumCount = 256
  /// The most digits that are decoded: what `maximumCount` octets take.
  public static let maximumDigits = 350

  private static let alphabet = [UInt8]("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz".utf8)
  private static let values: [UInt8] = {
    var values = [UInt8](repeating: 255, count: 256)
    for (value, digit) in alphabet.enumerated() { values[Int(digit)] = UInt8(value) }
    return values
  }()
  /// Five digits are taken at a time: 58⁵ fits into 32 bits.
  private static let groupDigits = 5
  private static let groupBase: UInt64 = 656_356_768

  /// Encodes octets; nil when there are more than `maximumCount`.
  public static func encode(_ octets: [UInt8]) -> String? {
    guard octets.count <= maximumCount else { return nil }
    let zeros = octets.prefix { $0 == 0 }.count
    var words = bigEndianWords(octets.dropFirst(zeros))
    var reversed: [UInt8] = []
    reversed.reserveCapacity(maximumDigits)
    var first = 0
    while first < words.count {
      if words[first] == 0 {
        first += 1
        continue
      }
      var remainder: UInt64 = 0
      for index in first..<words.count {
        let value = remainder << 32 | UInt64(words[index])
        words[index] = UInt32(truncatingIfNeeded: value / groupBase)
        remainder = value % groupBase
      }
      for _ in 0..<groupDigits {
        reversed.append(alphabet[Int(remainder % 58)])
        remainder /= 58
      }
    }
    while reversed.last == alphabet[0] { reversed.removeLast() }
    reversed.append(contentsOf: repeatElement(alphabet[0], count: zeros))
    return String(decoding: reversed.reversed(), as: UTF8.self)
  }

  /// Decodes digits; nil for a foreign one, or when they stand for more than `maximumCount` octets.
  public static func decode(_ text: String) -> [UInt8]? {
    let digits = text.utf8
    guard digits.count <= maximumDigits else { return nil }
    let zeros = digits.prefix { $0 == alphabet[0] }.count
    // Words of the number, the least first.
    var words: [UInt32] = []
    var group: UInt64 = 0
    var left = digits.count - zeros
    for digit in digits.dropFirst(zeros) {
      let value = UInt64(values[Int(digit)])
      guard value < 58 else { return nil }
      group = group * 58 + value
      left -= 1
      if left % groupDigits == 0 {
        multiply(&words, adding: group)
        group = 0
      }
    }
    var octets = [UInt8](repeating: 0, count: zeros)
    var isLeading = true
    for word in words.reversed() {
      for shift in [24, 16, 8, 0] {
        let octet = UInt8(truncatingIfNeeded: word >> UInt32(shift))
        if isLeading, octet == 0 { continue }
        isLeading = false
        octets.append(octet)
      }
    }
    return octets.count <= maximumCount ? octets : nil
  }

  /// Multiplies a number by 58⁵ and adds the next group of digits.
  private static func multiply(_ words: inout [UInt32], adding group: UInt64) {
    var carry = group
    for index in words.indices {
      let value = UInt64(words[index]) * groupBase + carry
      words[index] = UInt32(truncatingIfNeeded: value)
      carry = value >> 32
    }
    if carry > 0 { words.append(UInt32(carry)) }
  }

  private static func bigEndianWords(_ octets: ArraySlice<UInt8>) -> [UInt32] {
    var words: [UInt32] = []
    var word: UInt32 = 0
    var left = octets.count
    for octet in octets {
      word = word << 8 | UInt32(octet)
      left -= 1
      if left % 4 == 0 {
        words.append(word)
        word = 0
      }
    }
    return words
  }
}
