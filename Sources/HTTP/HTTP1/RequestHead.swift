/// Tells which of the forms of RFC 9112 section 3.2 a target has. CONNECT, hence authority-form, is refused.
public enum TargetForm: UInt8, Sendable { case origin, absolute, asterisk }

/// A request's head as offsets into the octets that it was decoded from.
///
/// One value serves all requests of a connection: `reset()` keeps the storage, so a warm head allocates nothing.
public struct RequestHead: Sendable {
  /// Where the method stands.
  public internal(set) var methodStart: UInt32 = 0
  /// Octets of the method.
  public internal(set) var methodCount: UInt32 = 0
  /// Where the request target stands, as it was sent.
  public internal(set) var targetStart: UInt32 = 0
  /// Octets of the target.
  public internal(set) var targetCount: UInt32 = 0
  /// Where path and query stand: the target, or its part behind the authority. Empty for absolute-form without a path.
  public internal(set) var pathStart: UInt32 = 0
  /// Octets of path and query.
  public internal(set) var pathCount: UInt32 = 0
  /// Where Host's value, port included, stands; empty for HTTP/1.0 without Host.
  public internal(set) var hostStart: UInt32 = 0
  /// Octets of Host's value.
  public internal(set) var hostCount: UInt32 = 0
  /// How many octets of Host stand before the port's colon.
  public internal(set) var hostNameCount: UInt32 = 0
  /// The method, `.other` where it is none of the known.
  public internal(set) var method: Method = .other
  /// The target's form.
  public internal(set) var targetForm: TargetForm = .origin
  /// 1 for HTTP/1.1, 0 for HTTP/1.0.
  public internal(set) var minorVersion: UInt8 = 1
  /// Tells whether the connection may serve another request after this one.
  public internal(set) var keepAlive = true
  /// Tells whether the client waits for 100 (Continue) before it sends content.
  public internal(set) var expectsContinue = false
  /// Tells whether the client takes trailer fields (`TE: trailers`).
  public internal(set) var acceptsTrailers = false
  /// Octets of the whole head, the empty line included; 0 until it is complete.
  public internal(set) var byteCount = 0
  /// Where the content ends.
  public internal(set) var framing: BodyFraming = .none
  /// Names that `Connection` nominates, those of the table.
  public internal(set) var nominated: FieldSet = []
  /// Tells whether `Connection` nominates names outside the table; `ConnectionOptions` finds them.
  public internal(set) var nominatesOthers = false

  /// The field lines.
  public internal(set) var section = FieldSection()
  var stage: HeadStage = .line

  /// Makes an empty head.
  public init() {}

  /// Forgets the request and keeps the storage.
  public mutating func reset() {
    section.reset()
    stage = .line
    byteCount = 0
    framing = .none
    nominated = []
    nominatesOthers = false
    expectsContinue = false
    acceptsTrailers = false
    keepAlive = true
    hostStart = 0
    hostCount = 0
    hostNameCount = 0
  }

  /// Says that content follows though the head does not tell, as of an HTTP/2 stream that is still open.
  public mutating func declareContent() {
    guard framing == .none else { return }
    framing = .chunked
    expectsContinue = section.present.has(.expect)
  }

  /// The field lines in their order.
  @inlinable public var fields: [Field] { section.fields }
  /// Names that occur.
  @inlinable public var present: FieldSet { section.present }
  /// Names that occur more than once.
  @inlinable public var repeated: FieldSet { section.repeated }
  /// Octets looked at so far, of a head that is incomplete.
  public var scanned: Int { max(section.scanned, section.lineStart) }

  /// Tells whether a field of the name occurs.
  @inlinable public func has(_ name: FieldName) -> Bool { section.present.has(name) }
  /// Finds the first field of a name.
  @inlinable public func first(_ name: FieldName) -> Field? { section.first(name) }
  /// Counts the lines of a name.
  @inlinable public func count(of name: FieldName) -> Int { section.count(of: name) }

  /// Where the method stands.
  @inlinable public var methodRange: Range<Int> { Int(methodStart)..<Int(methodStart) + Int(methodCount) }
  /// Where the target stands, as it was sent.
  @inlinable public var targetRange: Range<Int> { Int(targetStart)..<Int(targetStart) + Int(targetCount) }
  /// Where path and query stand.
  @inlinable public var pathRange: Range<Int> { Int(pathStart)..<Int(pathStart) + Int(pathCount) }
  /// Where Host's value stands, port included.
  @inlinable public var hostRange: Range<Int> { Int(hostStart)..<Int(hostStart) + Int(hostCount) }
  /// Where Host's name stands, without the port, brackets of an IPv6 literal included.
  @inlinable public var hostNameRange: Range<Int> { Int(hostStart)..<Int(hostStart) + Int(hostNameCount) }
}

/// How far a head is read.
enum HeadStage: UInt8, Sendable { case line, fields, complete }
