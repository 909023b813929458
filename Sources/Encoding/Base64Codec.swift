import Bytes

/// Converts octets to and from the digits of RFC 4648, for one of its two alphabets.
struct Base64Codec: Sendable {
  let alphabet: [UInt8]
  /// The value of each digit; 255 for octets that are none.
  let values: [UInt8]

  init(_ digits: StaticString) {
    let alphabet = digits.withUTF8Buffer { [UInt8]($0) }
    var values = [UInt8](repeating: 255, count: 256)
    for (value, digit) in alphabet.enumerated() { values[Int(digit)] = UInt8(value) }
    self.alphabet = alphabet
    self.values = values
  }

  /// The digits for `count` octets, without padding.
  static func digitCount(_ count: Int) -> Int {
    count / 3 * 4 + (count % 3 == 0 ? 0 : count % 3 + 1)
  }

  /// Writes the digits of all octets; `out` has room for `digitCount` of them.
  func encode(_ octets: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer) {
    alphabet.withUnsafeBufferPointer { digits in
      var read = 0
      var write = 0
      let whole = octets.count - octets.count % 3
      while read < whole {
        let group = UInt32(octets[read]) << 16 | UInt32(octets[read &+ 1]) << 8 | UInt32(octets[read &+ 2])
        out[write] = digits[Int(group >> 18)]
        out[write &+ 1] = digits[Int(group >> 12 & 63)]
        out[write &+ 2] = digits[Int(group >> 6 & 63)]
        out[write &+ 3] = digits[Int(group & 63)]
        read &+= 3
        write &+= 4
      }
      switch octets.count &- whole {
      case 1:
        out[write] = digits[Int(octets[read] >> 2)]
        out[write &+ 1] = digits[Int(octets[read] & 3) << 4]
      case 2:
        let group = UInt32(octets[read]) << 8 | UInt32(octets[read &+ 1])
        out[write] = digits[Int(group >> 10)]
        out[write &+ 1] = digits[Int(group >> 4 & 63)]
        out[write &+ 2] = digits[Int(group & 15) << 2]
      default: break
      }
    }
  }

  /// The octets that `count` digits stand for; nil when no number of octets has as many digits.
  static func octetCount(_ count: Int) -> Int? {
    count % 4 == 1 ? nil : count / 4 * 3 + (count % 4 == 0 ? 0 : count % 4 - 1)
  }

  /// Writes the octets of unpadded digits; false for a foreign octet or for bits that are left over and not zero.
  ///
  /// `out` has room for `octetCount` of them.
  func decode(_ text: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer) -> Bool {
    values.withUnsafeBufferPointer { values in
      var read = 0
      var write = 0
      // A foreign octet has the value 255, so its upper bits stay visible in the disjunction of all values.
      var seen: UInt8 = 0
      let whole = text.count - text.count % 4
      while read < whole {
        let (a, b) = (values[Int(text[read])], values[Int(text[read &+ 1])])
        let (c, d) = (values[Int(text[read &+ 2])], values[Int(text[read &+ 3])])
        seen |= a | b | c | d
        out[write] = a << 2 | b >> 4
        out[write &+ 1] = b << 4 | c >> 2
        out[write &+ 2] = c << 6 | d
        read &+= 4
        write &+= 3
      }
      guard text.count > whole else { return seen < 64 }
      guard text.count &- whole > 1 else { return false }
      let (a, b) = (values[Int(text[read])], values[Int(text[read &+ 1])])
      seen |= a | b
      out[write] = a << 2 | b >> 4
      if text.count &- whole == 2 { return seen < 64 && b & 15 == 0 }
      let c = values[Int(text[read &+ 2])]
      out[write &+ 1] = b << 4 | c >> 2
      return seen | c < 64 && c & 3 == 0
    }
  }

  func digits(_ octets: UnsafeRawBufferPointer, padded: Bool) -> [UInt8] {
    let count = Self.digitCount(octets.count)
    let padding = padded ? (4 - count % 4) % 4 : 0
    return [UInt8](unsafeUninitializedCapacity: count + padding) { out, written in
      encode(octets, into: UnsafeMutableRawBufferPointer(out))
      for index in count..<count + padding { out[index] = 0x3D }
      written = count + padding
    }
  }

  func string(_ octets: UnsafeRawBufferPointer, padded: Bool) -> String {
    let count = Self.digitCount(octets.count)
    let padding = padded ? (4 - count % 4) % 4 : 0
    return String(unsafeUninitializedCapacity: count + padding) { out in
      encode(octets, into: UnsafeMutableRawBufferPointer(out))
      for index in count..<count + padding { out[index] = 0x3D }
      return count + padding
    }
  }

  func append(_ octets: UnsafeRawBufferPointer, padded: Bool, to buffer: inout ByteBuffer) {
    let count = Self.digitCount(octets.count)
    let padding = padded ? (4 - count % 4) % 4 : 0
    buffer.withUnsafeWritable(minimumCapacity: count + padding) { out in
      encode(octets, into: out)
      for index in count..<count + padding { out[index] = 0x3D }
      return count + padding
    }
  }

  func octets(_ text: UnsafeRawBufferPointer) -> [UInt8]? {
    guard let count = Self.octetCount(text.count) else { return nil }
    var isDecoded = false
    let octets = [UInt8](unsafeUninitializedCapacity: count) { out, written in
      isDecoded = decode(text, into: UnsafeMutableRawBufferPointer(out))
      written = isDecoded ? count : 0
    }
    return isDecoded ? octets : nil
  }

  func append(decoding text: UnsafeRawBufferPointer, to buffer: inout ByteBuffer) -> Bool {
    guard let count = Self.octetCount(text.count) else { return false }
    var isDecoded = false
    buffer.withUnsafeWritable(minimumCapacity: count) { out in
      isDecoded = decode(text, into: out)
      return isDecoded ? count : 0
    }
    return isDecoded
  }
}
