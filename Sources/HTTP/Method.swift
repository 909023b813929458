/// Names the request method (RFC 9110 section 9; QUERY is draft-ietf-httpbis-safe-method-w-body).
///
/// Methods are case-sensitive: `get` is `.other`. The octets of another method stay in the request head.
public enum Method: UInt8, Sendable, CaseIterable {
  case get, head, post, put, patch, delete, options, query, trace, connect, other

  /// Tells whether the method asks for no change of state, so that a request may be repeated or forwarded early.
  @inlinable public var isSafe: Bool {
    switch self {
    case .get, .head, .options, .query, .trace: true
    case .post, .put, .patch, .delete, .connect, .other: false
    }
  }

  /// Tells whether the same request sent twice has the effect of one (RFC 9110 section 9.2.2).
  @inlinable public var isIdempotent: Bool {
    switch self {
    case .get, .head, .options, .query, .trace, .put, .delete: true
    case .post, .patch, .connect, .other: false
    }
  }

  /// The method's spelling on the wire; empty for `.other`.
  public var name: StaticString {
    switch self {
    case .get: "GET"
    case .head: "HEAD"
    case .post: "POST"
    case .put: "PUT"
    case .patch: "PATCH"
    case .delete: "DELETE"
    case .options: "OPTIONS"
    case .query: "QUERY"
    case .trace: "TRACE"
    case .connect: "CONNECT"
    case .other: ""
    }
  }

  /// Reads a method's octets; what is no known method is `.other`.
  public init(bytes: UnsafeRawBufferPointer) {
    self.init(bytes.bytes, 0..<bytes.count)
  }

  /// Reads the method from its spelling, as configurations write it.
  public init(_ spelling: String) {
    var spelling = spelling
    self = spelling.withUTF8 { Method(bytes: UnsafeRawBufferPointer($0)) }
  }

  @inline(__always)
  init(_ octets: RawSpan, _ range: Range<Int>) {
    let candidate: Method
    switch (range.count, octets.octet(at: range.lowerBound, before: range.upperBound)) {
    case (3, UInt8(ascii: "G")): candidate = .get
    case (3, UInt8(ascii: "P")): candidate = .put
    case (4, UInt8(ascii: "P")): candidate = .post
    case (4, UInt8(ascii: "H")): candidate = .head
    case (5, UInt8(ascii: "P")): candidate = .patch
    case (5, UInt8(ascii: "Q")): candidate = .query
    case (5, UInt8(ascii: "T")): candidate = .trace
    case (6, UInt8(ascii: "D")): candidate = .delete
    case (7, UInt8(ascii: "O")): candidate = .options
    case (7, UInt8(ascii: "C")): candidate = .connect
    default:
      self = .other
      return
    }
    self = octets.equals(candidate.name, at: range.lowerBound) ? candidate : .other
  }
}

/// A set of methods, as routes list them and the `Allow` field names them.
public struct MethodSet: OptionSet, Sendable, Hashable {
  /// The bit of each method, by its raw value.
  public let rawValue: UInt16

  /// Makes the set of the bits.
  @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }

  /// Makes the set of one method.
  @inlinable public init(_ method: Method) { rawValue = 1 << UInt16(method.rawValue) }

  /// Makes the set of several methods.
  public init(_ methods: some Sequence<Method>) {
    var bits: UInt16 = 0
    for method in methods { bits |= 1 << UInt16(method.rawValue) }
    rawValue = bits
  }

  /// Every method, those without a name of their own included.
  public static let any = MethodSet(rawValue: 0x7FF)

  /// Tells whether the method is in the set.
  @inlinable public func allows(_ method: Method) -> Bool { rawValue & (1 << UInt16(method.rawValue)) != 0 }

  /// The set with HEAD wherever it has GET, as RFC 9110 section 9.1 demands of servers.
  public var withImpliedHead: MethodSet { allows(.get) ? union(MethodSet(.head)) : self }

  /// The methods that have a name, in the order of declaration.
  public var named: [Method] { Method.allCases.filter { $0 != .other && allows($0) } }
}
