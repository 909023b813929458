/// The field lines of a head while they are read, and what the semantic checks ask of them.
///
/// Reading stops where octets end, and goes on at the first line that was not complete.
public struct FieldSection: Sendable {
  /// The lines read so far, in their order.
  public private(set) var fields: [Field] = []
  /// Names that occur.
  public private(set) var present: FieldSet = []
  /// Names that occur more than once.
  public private(set) var repeated: FieldSet = []

  /// Where the first line stands that is not read yet.
  var lineStart = 0
  /// No line feed stands between `lineStart` and here.
  var scanned = 0

  init() {}

  mutating func reset() {
    fields.removeAll(keepingCapacity: true)
    present = []
    repeated = []
    lineStart = 0
    scanned = 0
  }

  /// Looks for the end of the line that was left incomplete; false when more octets are needed.
  ///
  /// A line is read from its start again only when it is complete, so a head that comes octet by octet costs no more
  /// than twice its length.
  @inline(__always)
  mutating func hasCompleteLine(_ octets: RawSpan) -> Bool {
    guard scanned > lineStart else { return true }
    scanned = Scan.lineFeed(octets, from: scanned)
    return scanned < octets.byteCount
  }

  /// Notes that the line at `lineStart` is incomplete.
  @inline(__always)
  mutating func wait(_ octets: RawSpan, limit: Int) throws(HTTPError) -> Bool {
    scanned = octets.byteCount
    guard scanned < limit else { throw .headTooLong(at: limit) }
    return false
  }

  /// Reads field lines up to the empty one; false when more octets are needed. `lineStart` is then behind the section.
  @inline(__always)
  mutating func read(_ octets: RawSpan, _ limits: HeadLimits) throws(HTTPError) -> Bool {
    guard hasCompleteLine(octets) else { return try wait(octets, limit: limits.head) }
    let count = octets.byteCount
    while true {
      let start = lineStart
      guard start < count else { return try wait(octets, limit: limits.head) }
      let nameEnd = Scan.endOfName(octets, from: start)
      guard nameEnd < count else {
        guard nameEnd &- start <= HeadLimits.fieldName else { throw .fieldNameTooLong(at: start) }
        return try wait(octets, limit: limits.head)
      }
      guard octets.octet(nameEnd) == UInt8(ascii: ":"), nameEnd > start else {
        return try endSection(octets, limits, nameEnd: nameEnd)
      }
      guard nameEnd &- start <= HeadLimits.fieldName else { throw .fieldNameTooLong(at: start) }
      guard let name = FieldName(octets, start..<nameEnd) else { throw .fieldNameInvalid(at: start) }
      let valueEnd = Scan.endOfValue(octets, from: nameEnd &+ 1)
      guard valueEnd &+ 1 < count else {
        if valueEnd < count { try Self.checkLineEnd(octets, valueEnd) }
        return try wait(octets, limit: limits.head)
      }
      guard octets.octet(valueEnd) == 0x0D, octets.octet(valueEnd &+ 1) == 0x0A else {
        throw Self.lineError(octets, valueEnd)
      }
      guard valueEnd &+ 2 <= limits.head else { throw .headTooLong(at: limits.head) }
      guard fields.count < limits.fieldCount else { throw .tooManyFields(at: start) }
      let bit = FieldSet(name)
      repeated.formUnion(present.intersection(bit))
      present.formUnion(bit)
      fields.append(
        Field(name: name, nameRange: start..<nameEnd, valueRange: octets.trimmed(nameEnd &+ 1..<valueEnd)))
      lineStart = valueEnd &+ 2
    }
  }

  /// Reads what is no field line: the empty line that ends the section, or a broken rule.
  private mutating func endSection(
    _ octets: RawSpan, _ limits: HeadLimits, nameEnd: Int
  ) throws(HTTPError) -> Bool {
    let start = lineStart
    switch octets.octet(nameEnd) {
    case UInt8(ascii: ":"): throw .fieldNameEmpty(at: start)
    case 0x20 where nameEnd == start, 0x09 where nameEnd == start: throw .lineFolded(at: start)
    case 0x20, 0x09:
      for index in start..<nameEnd where !OctetClass.token.contains(octets.octet(index)) {
        throw .fieldNameInvalid(at: index)
      }
      throw .spaceBeforeColon(at: nameEnd)
    case 0x0A: throw .bareLineFeed(at: nameEnd)
    case 0x0D where nameEnd &+ 1 == octets.byteCount:
      guard nameEnd == start else { throw .fieldNameInvalid(at: nameEnd) }
      return try wait(octets, limit: limits.head)
    case 0x0D where octets.octet(nameEnd &+ 1) != 0x0A: throw .bareCarriageReturn(at: nameEnd)
    case 0x0D where nameEnd == start:
      guard start &+ 2 <= limits.head else { throw .headTooLong(at: limits.head) }
      lineStart = start &+ 2
      scanned = lineStart
      return true
    default: throw .fieldNameInvalid(at: nameEnd)
    }
  }

  /// Refuses an octet that cannot end a value, while the octet behind it is not here yet.
  private static func checkLineEnd(_ octets: RawSpan, _ index: Int) throws(HTTPError) {
    guard octets.octet(index) == 0x0D else { throw lineError(octets, index) }
  }

  /// Names the rule that a line end breaks which is not CR LF.
  static func lineError(_ octets: RawSpan, _ index: Int) -> HTTPError {
    switch octets.octet(index) {
    case 0x0A: .bareLineFeed(at: index)
    case 0x0D: .bareCarriageReturn(at: index)
    default: .fieldValueInvalid(at: index)
    }
  }

  /// Finds the first field of a name.
  @inlinable public func first(_ name: FieldName) -> Field? {
    guard present.has(name) else { return nil }
    for index in fields.indices where fields[index].name == name { return fields[index] }
    return nil
  }

  /// Finds the second field of a name, for the position of an error.
  func second(_ name: FieldName) -> Field? {
    fields.lazy.filter { $0.name == name }.dropFirst().first
  }

  /// Counts the lines of a name.
  @inlinable public func count(of name: FieldName) -> Int {
    guard repeated.has(name) else { return present.has(name) ? 1 : 0 }
    var count = 0
    for index in fields.indices where fields[index].name == name { count += 1 }
    return count
  }
}
