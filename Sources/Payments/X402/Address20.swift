import Bytes

/// Holds the 20 octets of an EVM address in place.
public struct Address20: Hashable, Sendable {
  private var high: UInt64
  private var middle: UInt64
  private var low: UInt32

  /// Copies octets; nil unless there are exactly 20.
  public init?(bytes: some Collection<UInt8>) {
    guard bytes.count == 20 else { return nil }
    (high, middle, low) = (0, 0, 0)
    for octet in bytes { push(octet) }
  }

  /// Reads `0x` and 40 hexadecimal digits of either case; what their case says (EIP-55) is not checked.
  public init?(hex text: String) {
    var text = text
    guard let address = text.withUTF8({ Address20(hexOctets: UnsafeRawBufferPointer($0)) }) else { return nil }
    self = address
  }

  /// Reads `0x` and 40 hexadecimal digits, as above.
  public init?(hexOctets text: UnsafeRawBufferPointer) {
    guard text.count == 42, text[0] == 0x30, text[1] == 0x78 else { return nil }
    (high, middle, low) = (0, 0, 0)
    for index in stride(from: 2, to: 42, by: 2) {
      guard let upper = HexWord.value(text[index]), let lower = HexWord.value(text[index + 1]) else { return nil }
      push(upper << 4 | lower)
    }
  }

  /// Shifts one octet in from the right.
  private mutating func push(_ octet: UInt8) {
    high = high << 8 | middle >> 56
    middle = middle << 8 | UInt64(low >> 24)
    low = low << 8 | UInt32(octet)
  }

  /// The octets as an array.
  public var bytes: [UInt8] {
    (0..<8).map { UInt8(truncatingIfNeeded: high >> (56 - 8 * $0)) } + (0..<8).map { UInt8(truncatingIfNeeded: middle >> (56 - 8 * $0)) }
      + (0..<4).map { UInt8(truncatingIfNeeded: low >> (24 - 8 * $0)) }
  }

  /// The address as `0x` and 40 lower-case digits.
  public var hex: String { HexWord.text(bytes) }

  /// Whether all octets are zero.
  public var isZero: Bool { high == 0 && middle == 0 && low == 0 }
}

extension Address20: CustomStringConvertible {
  /// The same as `hex`.
  public var description: String { hex }
}
