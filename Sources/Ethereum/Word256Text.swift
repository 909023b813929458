import Bytes

// The two spellings of a number: decimal in the payment drafts, hexadecimal quantities in JSON-RPC.
extension Word256 {
  /// The digits of the greatest number.
  public static let maximumDigits = 78

  /// Reads decimal digits only: no sign, no space, no leading zero except in `0`; nil for anything else, and past 256 bits.
  public init?(decimal text: UnsafeRawBufferPointer) {
    guard !text.isEmpty, text.count <= Self.maximumDigits, text.count == 1 || text[0] != 0x30 else { return nil }
    var value = Word256.zero
    var (chunk, scale): (UInt64, UInt64) = (0, 1)
    for octet in text {
      guard octet >= 0x30, octet <= 0x39 else { return nil }
      (chunk, scale) = (chunk &* 10 &+ UInt64(octet & 15), scale &* 10)
      // Nineteen digits fit into 64 bits.
      guard scale == Self.chunkScale else { continue }
      guard let next = value.multiplied(by: scale)?.adding(Word256(chunk)) else { return nil }
      (value, chunk, scale) = (next, 0, 1)
    }
    guard let last = value.multiplied(by: scale)?.adding(Word256(chunk)) else { return nil }
    self = last
  }

  /// Reads decimal digits only, as above.
  public init?(decimal text: String) {
    var text = text
    guard let value = text.withUTF8({ Word256(decimal: UnsafeRawBufferPointer($0)) }) else { return nil }
    self = value
  }

  /// Reads a quantity of JSON-RPC: `0x` and digits without leading zero except in `0x0`; nil for anything else, and past 256 bits.
  public init?(quantity text: UnsafeRawBufferPointer) {
    guard let digits = HexData.digits(of: text), !digits.isEmpty, digits.count <= 64 else { return nil }
    guard digits.count == 1 || digits[0] != 0x30 else { return nil }
    var (high, low): (UInt128, UInt128) = (0, 0)
    for octet in digits {
      let value = HexData.value(octet)
      guard value < 16 else { return nil }
      high = high << 4 | low >> 124
      low = low << 4 | UInt128(value)
    }
    self.init(high: high, low: low)
  }

  /// Reads a quantity of JSON-RPC, as above.
  public init?(quantity text: String) {
    var text = text
    guard let value = text.withUTF8({ Word256(quantity: UnsafeRawBufferPointer($0)) }) else { return nil }
    self = value
  }

  /// The number in decimal digits.
  public var decimal: String {
    var chunks: [UInt64] = []
    var limbs: [UInt64] = [high >> 64, high, low >> 64, low].map { UInt64(truncatingIfNeeded: $0) }
    repeat {
      var remainder: UInt64 = 0
      for index in limbs.indices {
        (limbs[index], remainder) = Self.chunkScale.dividingFullWidth((remainder, limbs[index]))
      }
      chunks.append(remainder)
    } while limbs.contains { $0 != 0 }
    var text = String(chunks.removeLast())
    for chunk in chunks.reversed() {
      let digits = String(chunk)
      text += String(repeating: "0", count: 19 - digits.count) + digits
    }
    return text
  }

  /// The number as a quantity of JSON-RPC.
  public var quantity: String {
    high == 0 ? "0x" + String(low, radix: 16) : "0x" + String(high, radix: 16) + padded(String(low, radix: 16))
  }

  private func padded(_ digits: String) -> String {
    String(repeating: "0", count: 32 - digits.count) + digits
  }

  /// The greatest power of ten that fits into 64 bits.
  private static let chunkScale: UInt64 = 10_000_000_000_000_000_000
}

extension Word256: CustomStringConvertible {
  /// The same as `decimal`.
  public var description: String { decimal }
}
