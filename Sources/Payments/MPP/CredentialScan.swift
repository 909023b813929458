/// Tells whether a field value of `Authorization` or `Payment-Authorization` holds a Payment credential.
public enum CredentialScan: Sendable, Hashable {
  /// No Payment credential: the value is somebody else's.
  case none
  /// One, whose token stands at these octets of the value (empty where it is missing).
  case one(Range<Int>)
  /// More than one, or one folded in behind another scheme: the request is refused with 400.
  case several

  /// Looks at a field value without its surrounding white space; the scheme has no case (RFC 9110 section 11.1).
  public init(_ value: UnsafeRawBufferPointer) {
    let isFirst = CredentialScan.isScheme(value, at: 0)
    if CredentialScan.isFolded(value) {
      self = .several
    } else if isFirst {
      var start = min(7, value.count)
      while start < value.count, value[start] == 0x20 { start += 1 }
      self = .one(start..<value.count)
    } else {
      self = .none
    }
  }

  /// Tells whether a further list element begins with the Payment scheme. Commas within quotes count too: no
  /// well-formed credential of another scheme holds `, Payment ` there, and doubt is refused.
  private static func isFolded(_ value: UnsafeRawBufferPointer) -> Bool {
    var position = 0
    while position < value.count {
      guard value[position] == 0x2C else {
        position += 1
        continue
      }
      position += 1
      while position < value.count, value[position] == 0x20 || value[position] == 0x09 { position += 1 }
      if isScheme(value, at: position) { return true }
    }
    return false
  }

  private static func isScheme(_ value: UnsafeRawBufferPointer, at start: Int) -> Bool {
    let scheme: StaticString = "payment"
    guard value.count - start >= 7 else { return false }
    for offset in 0..<7 where value[start + offset] | 0x20 != scheme.utf8Start[offset] { return false }
    guard start + 7 < value.count else { return true }
    let next = value[start + 7]
    return next == 0x20 || next == 0x09 || next == 0x2C
  }
}
