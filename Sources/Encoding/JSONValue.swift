/// Holds one JSON value (RFC 8259).
///
/// Strings are compared by their octets, not by Swift's canonical equivalence: two spellings of a letter are two texts here.
public enum JSONValue: Sendable {
  /// Stands for the literal `null`.
  case null
  /// Stands for one of the literals `true` and `false`.
  case bool(Bool)
  /// Holds a number.
  case number(JSONNumber)
  /// Holds a string without its quotes and escapes.
  case string(String)
  /// Holds elements in their order.
  case array([JSONValue])
  /// Holds members.
  case object(JSONObject)

  /// Makes a number; past 2⁵³ it is rounded to the nearest double.
  public static func integer(_ value: some BinaryInteger) -> JSONValue { .number(JSONNumber(value)) }

  /// Whether this is `null`.
  public var isNull: Bool {
    if case .null = self { true } else { false }
  }

  /// The number, nil for other kinds.
  public var numberValue: JSONNumber? {
    if case .number(let value) = self { value } else { nil }
  }

  /// The number where it is a whole one up to 2⁵³ in size, nil otherwise.
  public var intValue: Int? { numberValue?.integer.map { Int($0) } }

  /// The string, nil for other kinds.
  public var stringValue: String? {
    if case .string(let value) = self { value } else { nil }
  }

  /// The elements, nil for other kinds.
  public var arrayValue: [JSONValue]? {
    if case .array(let value) = self { value } else { nil }
  }

  /// The object, nil for other kinds.
  public var objectValue: JSONObject? {
    if case .object(let value) = self { value } else { nil }
  }

  /// The value of an object's member; nil when there is none or this is no object.
  public subscript(name: String) -> JSONValue? { objectValue?[name] }
}

extension JSONValue: Hashable {
  /// Compares strings octet by octet, and objects without regard to the order of members.
  public static func == (left: JSONValue, right: JSONValue) -> Bool {
    switch (left, right) {
    case (.null, .null): true
    case (.bool(let left), .bool(let right)): left == right
    case (.number(let left), .number(let right)): left == right
    case (.string(let left), .string(let right)): left.hasSameOctets(as: right)
    case (.array(let left), .array(let right)): left == right
    case (.object(let left), .object(let right)): left == right
    case (.null, _), (.bool, _), (.number, _), (.string, _), (.array, _), (.object, _): false
    }
  }

  /// Feeds the value to the hasher.
  public func hash(into hasher: inout Hasher) {
    switch self {
    case .null: hasher.combine(0)
    case .bool(let value): hasher.combine(value)
    case .number(let value): hasher.combine(value)
    // Texts with the same octets are equal to Swift too, so its hash serves.
    case .string(let value): hasher.combine(value)
    case .array(let value): hasher.combine(value)
    case .object(let value): hasher.combine(value)
    }
  }
}

extension JSONValue: ExpressibleByStringInterpolation, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral, ExpressibleByNilLiteral
{
  /// Makes a string of a literal.
  public init(stringLiteral value: String) { self = .string(value) }
  /// Makes a truth value of a literal.
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  /// Makes a number of a literal, rounded past 2⁵³.
  public init(integerLiteral value: Int64) { self = .number(JSONNumber(value)) }
  /// Makes an array of a literal.
  public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
  /// Makes an object of a literal; a later member replaces an earlier one of the same name.
  public init(dictionaryLiteral elements: (String, JSONValue)...) { self = .object(JSONObject(elements)) }
  /// Makes `null` of the literal `nil`.
  public init(nilLiteral: ()) { self = .null }
}
