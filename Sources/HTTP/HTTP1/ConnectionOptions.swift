/// What the `Connection` fields of a head say (RFC 9110 section 7.6.1).
public struct ConnectionOptions: Sendable, Hashable {
  /// Names of the table that are nominated, hence fields of this connection only.
  public private(set) var nominated: FieldSet = []
  /// Tells whether names outside the table are nominated.
  public private(set) var nominatesOthers = false
  private var closes = false
  private var keepsAlive = false

  /// Octets of all `Connection` values of a head: other fields are looked for in them, line by line.
  public static let limit = 1024

  /// Reads all `Connection` fields; an element that is no token is refused, and more octets than `limit`.
  @inline(__always)
  static func read(_ octets: RawSpan, _ section: FieldSection) throws(HTTPError) -> ConnectionOptions {
    var options = ConnectionOptions()
    var count = 0
    for index in section.fields.indices where section.fields[index].name == .connection {
      let value = section.fields[index].valueRange
      count += value.count
      guard count <= limit else { throw .connectionInvalid(at: value.lowerBound) }
      try options.add(octets, value)
    }
    return options
  }

  private mutating func add(_ octets: RawSpan, _ value: Range<Int>) throws(HTTPError) {
    // Most fields say only this.
    if octets.equalsIgnoringCase("keep-alive", at: value.lowerBound, count: value.count) {
      keepsAlive = true
      return
    }
    var elements = ListElements(octets, value)
    while let element = elements.next() {
      if octets.equalsIgnoringCase("keep-alive", at: element.lowerBound, count: element.count) {
        keepsAlive = true
      } else if octets.equalsIgnoringCase("close", at: element.lowerBound, count: element.count) {
        closes = true
      } else if let name = FieldName(octets, element) {
        switch name {
        case .other, .disguised, .xForwardedOther: nominatesOthers = true
        default: nominated.formUnion(FieldSet(name))
        }
      } else {
        throw .connectionInvalid(at: element.lowerBound)
      }
    }
  }

  /// Tells whether the connection stays open after the message (RFC 9112 section 9.3).
  func keepsAlive(minorVersion: UInt8) -> Bool { !closes && (minorVersion == 1 || keepsAlive) }

  /// Tells whether a field outside the table is nominated by one of a head's `Connection` fields.
  static func nominate(_ octets: RawSpan, _ fields: [Field], _ name: Range<Int>) -> Bool {
    for field in fields where field.name == .connection {
      var elements = ListElements(octets, field.valueRange)
      while let element = elements.next() {
        if octets.equalsIgnoringCase(element, octets, name) { return true }
      }
    }
    return false
  }
}

/// Walks over the elements of a comma-separated list, trimmed; empty elements are skipped (RFC 9110 section 5.6.1).
struct ListElements: ~Escapable {
  private let octets: RawSpan
  private var index: Int
  private let end: Int

  @_lifetime(copy octets)
  init(_ octets: RawSpan, _ range: Range<Int>) {
    self.octets = octets
    index = range.lowerBound
    end = range.upperBound
  }

  /// Gives the next element that is not empty. Quotes are not looked at: only for lists of tokens.
  @_lifetime(self: copy self)
  mutating func next() -> Range<Int>? {
    while index < end {
      var stop = index
      while stop < end, octets.octet(stop) != UInt8(ascii: ",") { stop += 1 }
      let element = octets.trimmed(index..<stop)
      index = stop + 1
      if !element.isEmpty { return element }
    }
    return nil
  }
}
