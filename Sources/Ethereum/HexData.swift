import Bytes

/// Reads and writes octets as JSON-RPC and the payment drafts spell them: `0x` and two digits an octet.
///
/// Letters of either case are read; lower-case ones are written.
public enum HexData {
  /// Reads octets; nil for anything that is not `0x` and an even number of digits.
  public static func parse(_ text: UnsafeRawBufferPointer) -> [UInt8]? {
    guard let digits = digits(of: text), digits.count % 2 == 0 else { return nil }
    var isRead = true
    let octets = [UInt8](unsafeUninitializedCapacity: digits.count / 2) { out, written in
      written = digits.count / 2
      isRead = read(digits, into: UnsafeMutableRawBufferPointer(out))
    }
    return isRead ? octets : nil
  }

  /// Reads octets, as above.
  public static func parse(_ text: String) -> [UInt8]? {
    var text = text
    return text.withUTF8 { parse(UnsafeRawBufferPointer($0)) }
  }

  /// Reads exactly 32 octets; nil for anything else.
  public static func digest(_ text: UnsafeRawBufferPointer) -> Digest32? {
    guard let digits = digits(of: text), digits.count == 64 else { return nil }
    var digest = Digest32()
    let isRead = digest.withUnsafeMutableBytes { read(digits, into: $0) }
    return isRead ? digest : nil
  }

  /// Reads exactly 32 octets, as above.
  public static func digest(_ text: String) -> Digest32? {
    var text = text
    return text.withUTF8 { digest(UnsafeRawBufferPointer($0)) }
  }

  /// Writes octets.
  public static func text(_ octets: UnsafeRawBufferPointer) -> String {
    String(unsafeUninitializedCapacity: 2 + octets.count * 2) { out in
      write(octets, into: UnsafeMutableRawBufferPointer(out))
      return 2 + octets.count * 2
    }
  }

  /// Writes octets.
  public static func text(_ octets: [UInt8]) -> String { octets.withUnsafeBytes { text($0) } }

  /// Writes octets.
  public static func text(_ digest: Digest32) -> String { digest.withUnsafeBytes { text($0) } }

  /// Writes octets to the end of a buffer.
  public static func append(_ octets: UnsafeRawBufferPointer, to buffer: inout ByteBuffer) {
    buffer.withUnsafeWritable(minimumCapacity: 2 + octets.count * 2) { out in
      write(octets, into: out)
      return 2 + octets.count * 2
    }
  }

  /// Writes octets to the end of a buffer.
  public static func append(_ octets: [UInt8], to buffer: inout ByteBuffer) {
    octets.withUnsafeBytes { append($0, to: &buffer) }
  }

  /// The digits after `0x`; nil where that is missing.
  static func digits(of text: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    guard text.count >= 2, text[0] == 0x30, text[1] == 0x78 else { return nil }
    return UnsafeRawBufferPointer(rebasing: text[2...])
  }

  /// Reads as many octets as there is room for; false for an octet that is no digit.
  static func read(_ digits: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer) -> Bool {
    precondition(digits.count == out.count * 2)
    // No branch depends on a digit, because keys are read by this as well.
    var isRead: UInt8 = 0
    for index in 0..<out.count {
      let (high, low) = (value(digits[index &* 2]), value(digits[index &* 2 &+ 1]))
      isRead |= high | low
      out[index] = high &<< 4 | (low & 15)
    }
    return isRead < 16
  }

  /// A digit's value; 16 or more for what is no digit.
  static func value(_ octet: UInt8) -> UInt8 {
    // Each of the three masks is 0xFF where the octet lies in its range: the difference then does not borrow.
    let decimal = mask(octet, 0x30, 10)
    let letter = mask(octet | 0x20, 0x61, 6)
    return (decimal & (octet &- 0x30)) | (letter & ((octet | 0x20) &- 0x57)) | (~(decimal | letter) & 0x80)
  }

  /// 0xFF where the octet is one of `count` from `first` on, else 0.
  private static func mask(_ octet: UInt8, _ first: UInt8, _ count: UInt8) -> UInt8 {
    let distance = UInt16(octet &- first)
    return UInt8(truncatingIfNeeded: (distance &- UInt16(count)) &>> 8)
  }

  private static func write(_ octets: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer) {
    out[0] = 0x30
    out[1] = 0x78
    for index in 0..<octets.count {
      out[2 &+ index &* 2] = digit(octets[index] &>> 4)
      out[3 &+ index &* 2] = digit(octets[index] & 15)
    }
  }

  static func digit(_ value: UInt8) -> UInt8 { value < 10 ? 0x30 | value : 0x57 &+ value }
}
