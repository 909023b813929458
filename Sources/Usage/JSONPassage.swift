/// Looks on at one JSON text (RFC 8259) as its octets pass, cut anywhere, and reports the values at chosen paths.
///
/// It builds no tree and keeps no more than a short text, a number and a bit for every level of depth, however large the text is.
/// What is not JSON it reports once, and then takes no more notice until `restart`. It is laxer than `JSON` in two things: it does not
/// check that strings are UTF-8, and a member may come twice (both are reported; who must not be fooled by that looks at the second).
public struct JSONPassage: Sendable {
  /// What the passage has come to.
  public enum Event: Hashable, Sendable {
    /// All octets given are looked at.
    case needsMore
    /// A number ended.
    case number(UInt8, Number)
    /// A string ended; the passage's `text` holds it until the next call.
    case text(UInt8)
    case boolean(UInt8, Bool)
    case null(UInt8)
    /// An object or array opened; the index stands behind its bracket.
    case opened(UInt8)
    /// An object or array closed; the index stands behind its bracket.
    case closed(UInt8)
    /// The text is not JSON, or too deep; reported once, the index behind the octet that shows it.
    case wrong(Fault)
  }

  /// Why a text is not looked at any further.
  public enum Fault: Hashable, Sendable {
    /// An octet stands where the grammar has no place for it.
    case unexpectedOctet
    /// Arrays and objects are nested deeper than `depthLimit`.
    case tooDeep
  }

  /// A number, as exactly as counts need it.
  public enum Number: Hashable, Sendable {
    /// A whole number, however it is spelled: 12, 12.0 and 1.2e1 are the same.
    case whole(UInt64)
    /// A number below zero.
    case negative
    /// A positive number that is not whole.
    case fraction
    /// A positive number past `UInt64.max`, or with more digits than can be kept.
    case tooLarge
  }

  /// The most arrays and objects inside one another.
  public static let depthLimit = 256
  /// The most octets of a reported text or a name that are kept.
  public static let textLimit = 128
  /// How many kinds of content are counted apart.
  public static let kinds = 4
  /// The deepest level on which paths are followed; further down they lead nowhere.
  static let pathLimit = 16

  enum State: UInt8, Sendable {
    case start, value, firstElement, firstName, name, colon, after, end
    case string, escape, hexadecimal
    case minus, zero, integer, point, fraction, exponentMark, exponentSign, exponent
    case literal
    case wrong
  }

  let paths: JSONPaths
  var state = State.start
  var depth = 0
  /// One bit for each level: whether it is an object.
  var objects = InlineArray<4, UInt64>(repeating: 0)
  /// Whether the innermost level is an object.
  var isInObject = false
  /// The node of the innermost level, or -1.
  var container: Int16 = -1
  /// The nodes of the open levels, -1 where no path leads.
  var levels = InlineArray<16, Int16>(repeating: -1)
  /// The node of the value that comes, in an object by its name.
  var node: Int16 = 0
  /// The level whose array or object counts whole as content, or -1.
  var contentLevel = -1
  var contentKind = 0

  // The string or scalar under way.
  var isName = false
  /// Whether the string is kept in `captured`.
  var captures = false
  /// The kind under which octets count, or -1.
  var kind = -1
  /// Whether no octet of the string has been kept or unescaped yet.
  var isFresh = false
  var captured = InlineArray<128, UInt8>(repeating: 0)
  var capturedCount = 0
  var isWhole = true
  /// The digits of an escape that have come, and their value.
  var digits = 0
  var unit: UInt32 = 0
  /// The high surrogate that stood just before, or zero.
  var highSurrogate: UInt32 = 0
  var number = NumberParts()
  var literal = Literal.null
  var literalCount = 0

  /// The octets of content by kind, since the passage was made: strings with escapes resolved, as UTF-8; arrays and objects as if
  /// written without white space.
  public private(set) var contentOctets = InlineArray<4, UInt64>(repeating: 0)
  /// How many strings came to which a content path leads itself, by kind.
  public private(set) var contentStrings = InlineArray<4, UInt64>(repeating: 0)
  /// How many arrays and objects came to which a content path leads itself, by kind.
  public private(set) var contentContainers = InlineArray<4, UInt64>(repeating: 0)

  /// How many names outside of content were found only because the case of letters did not matter.
  public private(set) var inexactNames: UInt64 = 0

  /// Starts before a text's first octet.
  public init(_ paths: JSONPaths) {
    self.paths = paths
  }

  /// Goes on with the first octet of another text; the counts stay.
  public mutating func restart() {
    state = .start
    depth = 0
    isInObject = false
    container = -1
    node = 0
    contentLevel = -1
    kind = -1
    capturedCount = 0
  }

  /// Whether nothing but white space has come.
  public var isAtStart: Bool { state == .start }

  /// Whether a whole JSON text has come.
  public var isComplete: Bool {
    switch state {
    case .end: true
    case .zero, .integer, .fraction, .exponent: depth == 0
    case .start, .value, .firstElement, .firstName, .name, .colon, .after, .string, .escape, .hexadecimal, .minus, .point, .exponentMark,
      .exponentSign, .literal, .wrong: false
    }
  }

  /// Whether the text was found not to be JSON.
  public var isWrong: Bool { state == .wrong }

  /// Whether the last text reported was kept whole; false where it is longer than `textLimit` or has half of a surrogate pair.
  public var isTextWhole: Bool { isWhole }

  /// The last text reported, unescaped, or its first part.
  public var text: [UInt8] {
    var octets: [UInt8] = []
    octets.reserveCapacity(capturedCount)
    for index in 0..<capturedCount { octets.append(captured[index]) }
    return octets
  }

  /// Tells whether the last text reported has exactly these octets.
  public func textEquals(_ spelling: StaticString) -> Bool {
    guard isWhole, spelling.utf8CodeUnitCount == capturedCount else { return false }
    return spelling.withUTF8Buffer { octets in
      for index in 0..<capturedCount where octets[index] != captured[index] { return false }
      return true
    }
  }

  /// Looks at octets from `index` on until something is to be reported, and moves `index` behind what it looked at.
  ///
  /// - Precondition: `0 ≤ index ≤ end ≤ octets.byteCount`.
  public mutating func next(in octets: RawSpan, at index: inout Int, before end: Int) -> Event {
    while index < end {
      switch state {
      case .string:
        if let event = string(octets, &index, end) { return event }
      case .escape, .hexadecimal:
        let octet = octets.octet(index)
        index &+= 1
        if !unescape(octet) { return fail(.unexpectedOctet) }
      case .minus, .zero, .integer, .point, .fraction, .exponentMark, .exponentSign, .exponent:
        let first = index
        let hasEnded = number.scan(octets, &index, end, &state)
        count(index &- first)
        if state == .wrong {
          index &+= 1
          return fail(.unexpectedOctet)
        }
        if hasEnded, let event = endNumber() { return event }
      case .literal:
        if let event = literal(octets.octet(index), &index) { return event }
      case .name, .firstName:
        if octets.octet(index) == UInt8(ascii: "\"") {
          index &+= 1
          beginName()
        } else if let event = between(octets, &index) {
          return event
        }
      case .colon:
        if octets.octet(index) == UInt8(ascii: ":") {
          index &+= 1
          countStructure(1)
          state = .value
        } else if let event = between(octets, &index) {
          return event
        }
      case .after:
        if octets.octet(index) == UInt8(ascii: ",") {
          index &+= 1
          countStructure(1)
          state = isInObject ? .name : .value
        } else if let event = between(octets, &index) {
          return event
        }
      case .start, .value, .firstElement, .end:
        if let event = between(octets, &index) { return event }
      case .wrong:
        index = end
      }
    }
    return .needsMore
  }

  mutating func noteInexactName() {
    if contentLevel < 0 { inexactNames &+= 1 }
  }

  mutating func fail(_ fault: Fault) -> Event {
    state = .wrong
    return .wrong(fault)
  }

  /// Counts octets under the kind of the string or scalar under way.
  @inline(__always)
  mutating func count(_ octets: Int) {
    if kind >= 0 { contentOctets[kind] &+= UInt64(truncatingIfNeeded: octets) }
  }

  /// Counts the octets of brackets, commas, colons and quotation marks inside an array or object that counts whole.
  @inline(__always)
  mutating func countStructure(_ octets: UInt64) {
    if contentLevel >= 0 { contentOctets[contentKind] &+= octets }
  }

  /// Steps over an octet between strings and scalars. What comes most often is looked for before in `next`.
  private mutating func between(_ octets: RawSpan, _ index: inout Int) -> Event? {
    let octet = octets.octet(index)
    index &+= 1
    if octet <= 0x20 {
      if octet == 0x20 || octet == 0x0A || octet == 0x0D || octet == 0x09 { return nil }
      return fail(.unexpectedOctet)
    }
    switch state {
    case .start, .value:
      return begin(octet)
    case .firstElement:
      return octet == UInt8(ascii: "]") ? close(isObject: false) : begin(octet)
    case .firstName:
      return octet == UInt8(ascii: "}") ? close(isObject: true) : fail(.unexpectedOctet)
    case .after:
      if octet == UInt8(ascii: "}") { return close(isObject: true) }
      if octet == UInt8(ascii: "]") { return close(isObject: false) }
      return fail(.unexpectedOctet)
    case .name, .colon, .end, .string, .escape, .hexadecimal, .minus, .zero, .integer, .point, .fraction, .exponentMark, .exponentSign, .exponent,
      .literal, .wrong:
      return fail(.unexpectedOctet)
    }
  }

  /// Begins the value whose first octet this is.
  private mutating func begin(_ octet: UInt8) -> Event? {
    if depth > 0, !isInObject { node = paths.element(of: container) }
    let role = paths.role(of: node)
    switch octet {
    case UInt8(ascii: "{"): return open(isObject: true, role)
    case UInt8(ascii: "["): return open(isObject: false, role)
    default: break
    }
    var isReported = false
    kind = contentLevel >= 0 ? contentKind : -1
    switch role {
    case .none: break
    case .value: isReported = true
    case .content(let own): kind = Int(own)
    }
    switch octet {
    case UInt8(ascii: "\""):
      if case .content(let own) = role { contentStrings[Int(own)] &+= 1 }
      beginString(isName: false, captures: isReported, kind: kind)
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"):
      captures = isReported
      number = NumberParts(first: octet, isKept: isReported)
      count(1)
      state = octet == UInt8(ascii: "-") ? .minus : octet == UInt8(ascii: "0") ? .zero : .integer
    case UInt8(ascii: "t"): beginLiteral(.true, isReported)
    case UInt8(ascii: "f"): beginLiteral(.false, isReported)
    case UInt8(ascii: "n"):
      // Null stands for content that is not there; inside of arguments it is content.
      if contentLevel < 0 { kind = -1 }
      beginLiteral(.null, isReported)
    default: return fail(.unexpectedOctet)
    }
    return nil
  }

  @inline(__always)
  private mutating func beginName() {
    beginString(isName: true, captures: paths.hasMembers(container), kind: contentLevel >= 0 ? contentKind : -1)
  }

  @inline(__always)
  private mutating func beginString(isName: Bool, captures: Bool, kind: Int) {
    countStructure(2)
    self.isName = isName
    self.captures = captures
    self.kind = kind
    isFresh = true
    if captures {
      capturedCount = 0
      isWhole = true
    }
    highSurrogate = 0
    state = .string
  }

  private mutating func beginLiteral(_ literal: Literal, _ isReported: Bool) {
    captures = isReported
    self.literal = literal
    literalCount = 1
    count(1)
    state = .literal
  }

  private mutating func open(isObject: Bool, _ role: JSONPaths.Role) -> Event? {
    guard depth < Self.depthLimit else { return fail(.tooDeep) }
    if case .content(let own) = role {
      contentContainers[Int(own)] &+= 1
      if contentLevel < 0 {
        contentLevel = depth
        contentKind = Int(own)
      }
    }
    countStructure(1)
    let bit: UInt64 = 1 << UInt64(depth & 63)
    if isObject { objects[depth >> 6] |= bit } else { objects[depth >> 6] &= ~bit }
    if depth < Self.pathLimit {
      levels[depth] = node
      container = node
    } else {
      container = -1
    }
    depth &+= 1
    isInObject = isObject
    state = isObject ? .firstName : .firstElement
    if case .value(let field) = role { return .opened(field) }
    return nil
  }

  private mutating func close(isObject: Bool) -> Event? {
    guard depth > 0, isInObject == isObject else { return fail(.unexpectedOctet) }
    countStructure(1)
    let closing = container
    depth &-= 1
    if depth > 0 {
      self.isInObject = objects[(depth &- 1) >> 6] >> UInt64((depth &- 1) & 63) & 1 != 0
      container = depth <= Self.pathLimit ? levels[depth &- 1] : -1
    }
    if contentLevel == depth { contentLevel = -1 }
    endValue()
    if case .value(let field) = paths.role(of: closing) { return .closed(field) }
    return nil
  }

  @inline(__always)
  mutating func endValue() {
    state = depth == 0 ? .end : .after
  }

  /// The field under which the scalar that ended is reported, or nil.
  var reportedField: UInt8? {
    guard captures, case .value(let field) = paths.role(of: node) else { return nil }
    return field
  }

  private mutating func endNumber() -> Event? {
    endValue()
    guard let field = reportedField else { return nil }
    return .number(field, number.value)
  }
}
