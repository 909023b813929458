import Bytes

/// The one form of a path and query that is matched, priced and forwarded (RFC 3986 section 6.2.2).
///
/// Canonical means: escapes of unreserved characters are decoded, the digits of the others are upper case. What could be
/// read in two ways is refused, never repaired: escaped slashes, backslashes and controls, `.` and `..` segments (also
/// escaped, also before a `;`), empty segments, backslashes, fragments, broken escapes, and path escapes that are not
/// UTF-8. In the query an escaped slash, backslash or line break is data, and only NUL is refused.
public struct CanonicalTarget: Equatable, Sendable {
  /// Tells whether the raw octets are canonical already: the ranges then count in them, otherwise in the buffer.
  public let isUnchanged: Bool
  /// Where the path stands.
  public let path: Range<Int>
  /// The query without its question mark; nothing where there is none.
  public let query: Range<Int>?

  /// Path and query as one range, with the question mark between them.
  @inlinable public var range: Range<Int> { path.lowerBound..<(query?.upperBound ?? path.upperBound) }

  /// Brings a target into its canonical form; nothing is copied where it has that form.
  ///
  /// `raw` is what `RequestHead.pathRange` tells. What has to change is appended to `buffer` whole.
  public static func canonicalise(
    _ raw: UnsafeRawBufferPointer, into buffer: inout ByteBuffer
  ) throws(HTTPError) -> CanonicalTarget {
    let octets = raw.bytes
    if let target = unchanged(octets) { return target }
    let base = buffer.count
    var rewriting = TargetRewriting(raw: raw, index: 0)
    let first = octets.octet(at: 0, before: octets.byteCount)
    // An absolute-form target may have no path; it means the root (RFC 9110 section 4.2.3).
    if octets.byteCount == 0 || first == UInt8(ascii: "?") {
      buffer.append(byte: UInt8(ascii: "/"))
    } else if first != UInt8(ascii: "/") {
      throw .targetInvalid(at: 0)
    }
    try rewriting.rewritePath(into: &buffer)
    let path = base..<buffer.count
    guard rewriting.index < octets.byteCount else {
      return CanonicalTarget(isUnchanged: false, path: path, query: nil)
    }
    try rewriting.rewriteQuery(into: &buffer)
    return CanonicalTarget(isUnchanged: false, path: path, query: path.upperBound + 1..<buffer.count)
  }

  /// Tells whether a path is canonical, as the paths of routes have to be.
  public static func isCanonical(path: String) -> Bool {
    var path = path
    return path.withUTF8 { utf8 in
      guard let target = unchanged(UnsafeRawBufferPointer(utf8).bytes) else {
        var buffer = ByteBuffer()
        guard let target = try? canonicalise(UnsafeRawBufferPointer(utf8), into: &buffer), target.query == nil else {
          return false
        }
        return buffer.withUnsafeBytes { $0.elementsEqual(utf8) }
      }
      return target.query == nil
    }
  }

  /// Recognises the usual target: no escape in the path, and in the query only canonical ones.
  @inline(__always)
  private static func unchanged(_ octets: RawSpan) -> CanonicalTarget? {
    let count = octets.byteCount
    guard count > 0, octets.octet(0) == UInt8(ascii: "/") else { return nil }
    var previous = UInt8(ascii: "/")
    var index = 1
    while index < count {
      let octet = octets.octet(index)
      guard OctetClass.path.contains(octet) else {
        guard octet == UInt8(ascii: "?") else { return nil }
        return isCanonicalQuery(octets, from: index &+ 1)
          ? CanonicalTarget(isUnchanged: true, path: 0..<index, query: index &+ 1..<count) : nil
      }
      if previous == UInt8(ascii: "/"), octet == UInt8(ascii: "/") || octet == UInt8(ascii: ".") { return nil }
      previous = octet
      index &+= 1
    }
    return CanonicalTarget(isUnchanged: true, path: 0..<count, query: nil)
  }

  @inline(__always)
  private static func isCanonicalQuery(_ octets: RawSpan, from start: Int) -> Bool {
    var index = start
    while index < octets.byteCount {
      let octet = octets.octet(index)
      if OctetClass.query.contains(octet) {
        index &+= 1
      } else if octet == UInt8(ascii: "%"), let escape = Escape(octets, at: index), escape.isUpperCase,
        escape.value != 0, !OctetClass.unreserved.contains(escape.value)
      {
        index &+= 3
      } else {
        return false
      }
    }
    return true
  }
}

/// A percent sign and two hexadecimal digits.
struct Escape {
  let value: UInt8
  let isUpperCase: Bool

  @inline(__always)
  init?(_ octets: RawSpan, at index: Int) {
    guard index &+ 2 < octets.byteCount, octets.octet(index) == UInt8(ascii: "%"),
      let high = octets.octet(index &+ 1).hexadecimalValue, let low = octets.octet(index &+ 2).hexadecimalValue
    else { return nil }
    value = high << 4 | low
    isUpperCase = octets.octet(index &+ 1) < 0x61 && octets.octet(index &+ 2) < 0x61
  }

  /// Appends the escape with digits in upper case.
  func append(to buffer: inout ByteBuffer) {
    buffer.append(byte: UInt8(ascii: "%"))
    buffer.append(byte: Self.digit(value >> 4))
    buffer.append(byte: Self.digit(value & 0xF))
  }

  private static func digit(_ value: UInt8) -> UInt8 { value < 10 ? value + 0x30 : value + 0x37 }
}

/// The slow way to the canonical form: checks each octet, and copies runs between the ones that change.
private struct TargetRewriting: ~Escapable {
  let octets: RawSpan
  let raw: UnsafeRawBufferPointer
  var index: Int
  private var runStart: Int
  /// Dots of a segment that has had nothing else; -1 once it has.
  private var dots = 0

  @_lifetime(borrow raw)
  init(raw: UnsafeRawBufferPointer, index: Int) {
    octets = raw.bytes
    self.raw = raw
    self.index = index
    runStart = index
  }

  @_lifetime(self: copy self)
  mutating func rewritePath(into buffer: inout ByteBuffer) throws(HTTPError) {
    var isAtSlash = false
    while index < octets.byteCount, octets.octet(index) != UInt8(ascii: "?") {
      let octet = octets.octet(index)
      switch octet {
      case UInt8(ascii: "/"):
        guard !isAtSlash else { throw .targetEmptySegment(at: index) }
        try endSegment()
        dots = 0
        index += 1
      case UInt8(ascii: "%"):
        try rewritePathEscape(into: &buffer)
      case UInt8(ascii: ";"):
        // Some servers cut parameters off before they resolve dots.
        try endSegment()
        dots = -1
        index += 1
      default:
        guard OctetClass.path.contains(octet) else { throw refusal(of: octet) }
        count(octet)
        index += 1
      }
      isAtSlash = octet == UInt8(ascii: "/")
    }
    try endSegment()
    flush(into: &buffer)
  }

  @_lifetime(self: copy self)
  mutating func rewriteQuery(into buffer: inout ByteBuffer) throws(HTTPError) {
    index += 1
    while index < octets.byteCount {
      let octet = octets.octet(index)
      if octet == UInt8(ascii: "%") {
        guard let escape = Escape(octets, at: index) else { throw .targetEscapeInvalid(at: index) }
        guard escape.value != 0 else { throw .targetEscapeForbidden(at: index) }
        rewrite(escape, into: &buffer)
      } else {
        guard OctetClass.query.contains(octet) else { throw refusal(of: octet) }
        index += 1
      }
    }
    flush(into: &buffer)
  }

  @_lifetime(self: copy self)
  private mutating func rewritePathEscape(into buffer: inout ByteBuffer) throws(HTTPError) {
    guard let escape = Escape(octets, at: index) else { throw .targetEscapeInvalid(at: index) }
    switch escape.value {
    case 0x00...0x1F, 0x7F, UInt8(ascii: "/"), UInt8(ascii: "\\"): throw .targetEscapeForbidden(at: index)
    case UInt8(ascii: ";"):
      try endSegment()
      dots = -1
      rewrite(escape, into: &buffer)
    case 0x80...:
      dots = -1
      for _ in 0..<(try scalarCount()) {
        guard let escape = Escape(octets, at: index) else { throw .targetEscapeInvalid(at: index) }
        rewrite(escape, into: &buffer)
      }
    default:
      count(escape.value)
      rewrite(escape, into: &buffer)
    }
  }

  /// Counts the escapes of the UTF-8 sequence that begins here; a sequence that is not well formed is refused
  /// (Unicode table 3-7), since an overlong one can hide a slash.
  private func scalarCount() throws(HTTPError) -> Int {
    func octet(_ offset: Int) -> UInt8 { Escape(octets, at: index + 3 * offset)?.value ?? 0 }
    let second: ClosedRange<UInt8>
    let count: Int
    switch octet(0) {
    case 0xC2...0xDF: (count, second) = (2, 0x80...0xBF)
    case 0xE0: (count, second) = (3, 0xA0...0xBF)
    case 0xED: (count, second) = (3, 0x80...0x9F)
    case 0xE1...0xEF: (count, second) = (3, 0x80...0xBF)
    case 0xF0: (count, second) = (4, 0x90...0xBF)
    case 0xF1...0xF3: (count, second) = (4, 0x80...0xBF)
    case 0xF4: (count, second) = (4, 0x80...0x8F)
    default: throw .targetNotUTF8(at: index)
    }
    guard second.contains(octet(1)), count < 3 || octet(2) >> 6 == 2, count < 4 || octet(3) >> 6 == 2 else {
      throw .targetNotUTF8(at: index)
    }
    return count
  }

  /// Decodes an escape of an unreserved character, or writes its digits in upper case.
  @_lifetime(self: copy self)
  private mutating func rewrite(_ escape: Escape, into buffer: inout ByteBuffer) {
    if OctetClass.unreserved.contains(escape.value) {
      flush(into: &buffer)
      buffer.append(byte: escape.value)
      runStart = index + 3
    } else if !escape.isUpperCase {
      flush(into: &buffer)
      escape.append(to: &buffer)
      runStart = index + 3
    }
    index += 3
  }

  @_lifetime(self: copy self)
  private mutating func flush(into buffer: inout ByteBuffer) {
    buffer.append(UnsafeRawBufferPointer(rebasing: raw[runStart..<index]))
    runStart = index
  }

  @_lifetime(self: copy self)
  private mutating func count(_ octet: UInt8) {
    dots = dots >= 0 && octet == UInt8(ascii: ".") ? dots + 1 : -1
  }

  private func endSegment() throws(HTTPError) {
    guard dots != 1, dots != 2 else { throw .targetDotSegment(at: index) }
  }

  private func refusal(of octet: UInt8) -> HTTPError {
    switch octet {
    case UInt8(ascii: "#"): .targetFragment(at: index)
    case UInt8(ascii: "\\"): .targetBackslash(at: index)
    default: .targetInvalid(at: index)
    }
  }
}
