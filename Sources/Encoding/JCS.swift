import Bytes

/// Writes JSON values in their canonical form (RFC 8785).
public enum JCS {
  /// Writes a value.
  public static func serialize(_ value: JSONValue) -> [UInt8] {
    var buffer = ByteBuffer()
    append(value, to: &buffer)
    return buffer.array()
  }

  /// Writes an object.
  public static func serialize(_ object: JSONObject) -> [UInt8] {
    var buffer = ByteBuffer()
    append(object, to: &buffer)
    return buffer.array()
  }

  /// Writes a value to the end of a buffer.
  public static func append(_ value: JSONValue, to buffer: inout ByteBuffer) {
    switch value {
    case .null: buffer.append("null")
    case .bool(let value): value ? buffer.append("true") : buffer.append("false")
    case .number(let value): append(number: value, to: &buffer)
    case .string(let value): append(string: value, to: &buffer)
    case .array(let elements):
      buffer.append(byte: 0x5B)
      for (index, element) in elements.enumerated() {
        if index > 0 { buffer.append(byte: 0x2C) }
        append(element, to: &buffer)
      }
      buffer.append(byte: 0x5D)
    case .object(let object): append(object, to: &buffer)
    }
  }

  /// Writes an object to the end of a buffer.
  public static func append(_ object: JSONObject, to buffer: inout ByteBuffer) {
    buffer.append(byte: 0x7B)
    var isFirst = true
    for member in object.sorted {
      if !isFirst { buffer.append(byte: 0x2C) }
      isFirst = false
      append(string: member.name, to: &buffer)
      buffer.append(byte: 0x3A)
      append(member.value, to: &buffer)
    }
    buffer.append(byte: 0x7D)
  }

  /// Compares names by their UTF-16 code units (section 3.2.3).
  static func precedes(_ left: String, _ right: String) -> Bool {
    var others = right.utf8.makeIterator()
    for a in left.utf8 {
      guard let b = others.next() else { return false }
      if a == b { continue }
      // UTF-8 orders as UTF-16 does, but for characters above U+FFFF (leading octets from F0): in UTF-16 they come
      // before U+E000…U+FFFF (leading octets EE and EF).
      if a >= 0xEE, b >= 0xEE, (a >= 0xF0) != (b >= 0xF0) { return a > b }
      return a < b
    }
    return others.next() != nil
  }
}
