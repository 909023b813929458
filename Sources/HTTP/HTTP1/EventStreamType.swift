extension ResponseHead {
  private static let eventStreamType: StaticString = "text/event-stream"

  /// Tells whether some reader may take the content for an event stream. It says yes in doubt: of several Content-Type lines or
  /// elements each counts, whatever follows the type's name, since readers differ in what they make of such lines.
  public func mayBeEventStream(_ octets: UnsafeRawBufferPointer) -> Bool {
    guard has(.contentType) else { return false }
    for field in section.fields where field.name == .contentType {
      let value = field.value(in: octets)
      var start = 0
      while start < value.count {
        if Self.beginsWithEventStream(value, at: start) { return true }
        guard let comma = value[start...].firstIndex(of: UInt8(ascii: ",")) else { break }
        start = comma + 1
        while start < value.count, value[start] == 0x20 || value[start] == 0x09 { start += 1 }
      }
    }
    return false
  }

  private static func beginsWithEventStream(_ value: UnsafeRawBufferPointer, at start: Int) -> Bool {
    let end = start + eventStreamType.utf8CodeUnitCount
    guard value.count >= end, value.bytes.equalsIgnoringCase(eventStreamType, at: start, count: end - start) else { return false }
    return value.count == end || !OctetClass.token.contains(value[end])
  }
}
