import Bytes

// Numbers, section 3.2.2.3: as ECMAScript's Number.prototype.toString writes them.
extension JCS {
  /// Writes one number to the end of a buffer.
  public static func append(number: JSONNumber, to buffer: inout ByteBuffer) {
    if let integer = number.integer {
      if integer < 0 { buffer.append(byte: 0x2D) }
      return buffer.append(decimal: integer.magnitude)
    }
    if number.double < 0 { buffer.append(byte: 0x2D) }
    let (digits, point) = shortestDigits(number.double.magnitude)
    append(digits, point: point, to: &buffer)
  }

  /// Finds the fewest digits that read back as the same double, the closest ones where several do, and the place of the point:
  /// the value is 0.d₁d₂… · 10^point.
  private static func shortestDigits(_ value: Double) -> (digits: [UInt8], point: Int) {
    // Swift's description has the same digits in another layout: 123.45, 1e-07 or 1.5e+300.
    var digits: [UInt8] = []
    var point: Int?
    var exponent = 0
    var exponentIsNegative = false
    var isExponent = false
    for octet in value.description.utf8 {
      switch octet {
      case 0x30...0x39 where isExponent: exponent = exponent * 10 + Int(octet & 15)
      case 0x30...0x39: digits.append(octet)
      case 0x2E: point = digits.count
      case 0x65: isExponent = true
      case 0x2D: exponentIsNegative = true
      default: break
      }
    }
    var place = (point ?? digits.count) + (exponentIsNegative ? -exponent : exponent)
    let zeros = digits.prefix { $0 == 0x30 }.count
    digits.removeFirst(zeros)
    place -= zeros
    while digits.last == 0x30 { digits.removeLast() }
    return (digits, place)
  }

  /// Lays digits out as ECMA-262 does: plainly from 10⁻⁶ to below 10²¹, else with an exponent.
  private static func append(_ digits: [UInt8], point: Int, to buffer: inout ByteBuffer) {
    switch point {
    case -5...0:
      buffer.append("0.")
      buffer.append(repeating: 0x30, count: -point)
      buffer.append(digits)
    case 1...21 where point >= digits.count:
      buffer.append(digits)
      buffer.append(repeating: 0x30, count: point - digits.count)
    case 1...21:
      buffer.append(digits[..<point])
      buffer.append(byte: 0x2E)
      buffer.append(digits[point...])
    default:
      buffer.append(digits[..<1])
      if digits.count > 1 {
        buffer.append(byte: 0x2E)
        buffer.append(digits[1...])
      }
      buffer.append(point > 0 ? "e+" as StaticString : "e-")
      buffer.append(decimal: UInt64((point - 1).magnitude))
    }
  }
}
