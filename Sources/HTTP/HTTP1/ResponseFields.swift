/// Names of fields: those of the table as a set, others as octets.
struct FieldNameList: Sendable {
  private(set) var known: FieldSet = []
  /// In lower case, underscores as hyphens.
  private(set) var others: [[UInt8]] = []

  /// Adds a name; nil, and nothing added, where it is none.
  @discardableResult mutating func add(_ name: String) -> FieldName? {
    let octets = Array(name.utf8)
    guard octets.count <= HeadLimits.fieldName, let field = FieldName(octets.span.bytes, octets.indices) else { return nil }
    if field == .other { others.append(octets.map { Self.folded($0) }) } else { known.formUnion(FieldSet(field)) }
    return field
  }

  private static func folded(_ octet: UInt8) -> UInt8 {
    octet == UInt8(ascii: "_") ? UInt8(ascii: "-") : octet.lowercased
  }

  /// Tells whether a field outside the table has one of the names, also in a disguise of underscores.
  func hasOther(_ octets: RawSpan, _ name: Range<Int>) -> Bool {
    for other in others.indices where others[other].count == name.count {
      var offset = 0
      while offset < name.count, Self.folded(octets.octet(name.lowerBound + offset)) == others[other][offset] { offset += 1 }
      if offset == name.count { return true }
    }
    return false
  }
}

/// What a route takes from every response of its upstream's, and adds to it, prepared once.
public struct ResponseFields: Sendable {
  /// The lines that are appended.
  let lines: [UInt8]
  /// The upstream's lines of these names are left out: what is removed, and what is added in its place.
  let dropped: FieldNameList

  /// Adds and removes nothing.
  public static let none = ResponseFields()

  private init() {
    lines = []
    dropped = FieldNameList()
  }

  /// Prepares the lines. A name or value outside the grammar, or a name that the proxy writes itself (framing, connection,
  /// payment), is refused; the error's position is the field's index, removed ones counted after added ones.
  public init(added: [(name: String, value: [UInt8])], removed: [String]) throws(HTTPError) {
    var text: [UInt8] = []
    var names = FieldNameList()
    for (index, name) in (added.map(\.name) + removed).enumerated() {
      guard let known = names.add(name), Self.mayChange(known) else { throw .fieldNameInvalid(at: index) }
      guard index < added.count else { continue }
      let value = added[index].value
      guard Scan.endOfValue(value.span.bytes, from: 0) == value.count else { throw .fieldValueInvalid(at: index) }
      text += Array(name.utf8) + Array(": ".utf8) + value + Array("\r\n".utf8)
    }
    lines = text
    dropped = names
  }

  /// Whether a route may say what becomes of the field in a response.
  public static func mayChange(_ name: FieldName) -> Bool {
    !FieldSet([.hopByHop, .framing, .payment, FieldSet([.disguised, .wwwAuthenticate, .date])]).has(name)
  }

  var isEmpty: Bool { lines.isEmpty && dropped.known.isEmpty && dropped.others.isEmpty }
}
