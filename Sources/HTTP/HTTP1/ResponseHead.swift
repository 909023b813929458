/// A response's head as offsets into the octets that it was decoded from; reused as `RequestHead` is.
public struct ResponseHead: Sendable {
  /// The status code, 100 to 999.
  public internal(set) var status: UInt16 = 0
  /// 1 for HTTP/1.1, 0 for HTTP/1.0.
  public internal(set) var minorVersion: UInt8 = 1
  /// Tells whether the connection may serve another request after this response.
  public internal(set) var keepAlive = true
  /// Where the reason phrase stands.
  public internal(set) var reasonStart: UInt32 = 0
  /// Octets of the reason phrase.
  public internal(set) var reasonCount: UInt32 = 0
  /// Octets of the whole head, the empty line included; 0 until it is complete.
  public internal(set) var byteCount = 0
  /// Where the content ends.
  public internal(set) var framing: BodyFraming = .none
  /// Names that `Connection` nominates, those of the table.
  public internal(set) var nominated: FieldSet = []
  /// Tells whether `Connection` nominates names outside the table.
  public internal(set) var nominatesOthers = false
  /// The field lines.
  public internal(set) var section = FieldSection()

  var stage: HeadStage = .line

  /// Makes an empty head.
  public init() {}

  /// Forgets the response and keeps the storage.
  public mutating func reset() {
    section.reset()
    stage = .line
    status = 0
    byteCount = 0
    framing = .none
    nominated = []
    nominatesOthers = false
    keepAlive = true
    isDeclaredEmpty = false
  }

  /// Says that no content follows though the head does not tell, as of an HTTP/2 stream that ended with it.
  public mutating func declareEmpty() {
    if framing == .untilClose { isDeclaredEmpty = true }
  }

  /// Tells whether content was declared to be empty: its length is then said anew.
  public private(set) var isDeclaredEmpty = false

  /// The field lines in their order.
  @inlinable public var fields: [Field] { section.fields }
  /// Names that occur.
  @inlinable public var present: FieldSet { section.present }
  /// Tells whether the response is an interim one (1xx), after which another head follows; 101 is none of them.
  @inlinable public var isInterim: Bool { status < 200 && status != 101 }
  /// Tells whether a field of the name occurs.
  @inlinable public func has(_ name: FieldName) -> Bool { section.present.has(name) }
  /// Finds the first field of a name.
  @inlinable public func first(_ name: FieldName) -> Field? { section.first(name) }
  /// Counts the lines of a name.
  @inlinable public func count(of name: FieldName) -> Int { section.count(of: name) }
  /// Where the reason phrase stands.
  @inlinable public var reasonRange: Range<Int> { Int(reasonStart)..<Int(reasonStart) + Int(reasonCount) }
}
