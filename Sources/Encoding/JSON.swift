import Bytes

/// Reads and writes JSON texts (RFC 8259), strictly: UTF-8, no duplicate names, no lone surrogates (RFC 7493).
public enum JSON {
  /// Reads one value and nothing after it but white space.
  ///
  /// - Throws: the rule that the text breaks.
  public static func parse(
    _ text: UnsafeRawBufferPointer, limits: JSONLimits = .standard
  ) throws(JSONError) -> JSONValue {
    guard text.count <= limits.octets else { throw .tooLarge }
    var parser = JSONParser(text: text, depth: limits.depth)
    return try parser.parse()
  }

  /// Reads one value, as above.
  public static func parse(_ text: [UInt8], limits: JSONLimits = .standard) throws(JSONError) -> JSONValue {
    try text.withUnsafeBufferPointer { (octets) throws(JSONError) in
      try parse(UnsafeRawBufferPointer(octets), limits: limits)
    }
  }

  /// Reads one value, as above.
  public static func parse(_ text: String, limits: JSONLimits = .standard) throws(JSONError) -> JSONValue {
    try parse([UInt8](text.utf8), limits: limits)
  }

  /// Writes a value for people: members keep their order; `pretty` puts each on a line of its own, indented by two spaces.
  public static func serialize(_ value: JSONValue, pretty: Bool = false) -> [UInt8] {
    var buffer = ByteBuffer()
    append(value, pretty: pretty, to: &buffer)
    return buffer.array()
  }

  /// Writes a value for people, as above, to the end of a buffer.
  public static func append(_ value: JSONValue, pretty: Bool = false, to buffer: inout ByteBuffer) {
    append(value, pretty: pretty, level: 0, to: &buffer)
  }

  private static func append(_ value: JSONValue, pretty: Bool, level: Int, to buffer: inout ByteBuffer) {
    switch value {
    case .null, .bool, .number, .string: JCS.append(value, to: &buffer)
    case .array(let elements):
      buffer.append(byte: 0x5B)
      for (index, element) in elements.enumerated() {
        if index > 0 { buffer.append(byte: 0x2C) }
        if pretty { breakLine(level + 1, in: &buffer) }
        append(element, pretty: pretty, level: level + 1, to: &buffer)
      }
      if pretty, !elements.isEmpty { breakLine(level, in: &buffer) }
      buffer.append(byte: 0x5D)
    case .object(let object):
      buffer.append(byte: 0x7B)
      for (index, member) in object.members.enumerated() {
        if index > 0 { buffer.append(byte: 0x2C) }
        if pretty { breakLine(level + 1, in: &buffer) }
        JCS.append(string: member.name, to: &buffer)
        buffer.append(byte: 0x3A)
        if pretty { buffer.append(byte: 0x20) }
        append(member.value, pretty: pretty, level: level + 1, to: &buffer)
      }
      if pretty, !object.isEmpty { breakLine(level, in: &buffer) }
      buffer.append(byte: 0x7D)
    }
  }

  private static func breakLine(_ level: Int, in buffer: inout ByteBuffer) {
    buffer.append(byte: 0x0A)
    buffer.append(repeating: 0x20, count: level * 2)
  }
}
