/// What the chunked decoder found.
public enum ChunkEvent: Equatable, Sendable {
  /// All octets are consumed and the content goes on.
  case needMore
  /// Content, as a range of the octets given.
  case data(Range<Int>)
  /// The content is complete, trailers included.
  case end
}

/// Decodes the chunked transfer coding (RFC 9112 section 7.1), incrementally and without copying content.
///
/// Extensions are checked and dropped. Refused: blanks around sizes, sizes of more than sixteen digits or beyond
/// 2^63 − 1, bare CR and LF anywhere outside content, extensions outside the grammar, trailers that name framing,
/// routing or credentials.
public struct ChunkedDecoder: Sendable {
  /// Octets of one chunk's extensions.
  public static let extensionLimit = 1024
  /// Octets of all extensions of a message: an endless one-octet-per-kilobyte body is an attack.
  public static let extensionsLimit = 16384
  /// Octets of the trailer section.
  public static let trailersLimit = 8192
  /// Lines of the trailer section.
  public static let trailerCountLimit = 32

  private enum State: Equatable {
    case size(digits: UInt8)
    case extensions(ExtensionState)
    case sizeLineFeed
    case data
    case dataCarriageReturn, dataLineFeed
    case trailers
    case ended
  }

  /// Where in `*( ";" token [ "=" ( token / quoted-string ) ] )` the decoder stands.
  private enum ExtensionState: Equatable {
    case nameStart, name, valueStart, value, quoted, escaped, quotedEnd
  }

  private var state = State.size(digits: 0)
  /// The size being read, then the content octets left of the chunk.
  private var left: UInt64 = 0
  private var extensionCount = 0
  private var extensionTotal = 0
  /// The trailer section's lines, complete and valid once `.end` was returned, the empty line excluded.
  public private(set) var trailers: [UInt8] = []
  /// The lines of `trailers`, as offsets into it.
  public private(set) var trailerSection = FieldSection()

  /// Makes a decoder for one message.
  public init() {}

  /// Starts over for another message.
  public mutating func reset() {
    state = .size(digits: 0)
    left = 0
    extensionCount = 0
    extensionTotal = 0
    trailers.removeAll(keepingCapacity: true)
    trailerSection.reset()
  }

  /// Tells whether the last chunk and the trailers are behind.
  public var isComplete: Bool { state == .ended }

  /// Goes on at `octets[consumed]` and advances `consumed` over what it used.
  ///
  /// Content that is handed out counts as consumed. After `.end`, `consumed` is the first octet of what follows.
  public mutating func decode(
    _ octets: UnsafeRawBufferPointer, consumed: inout Int
  ) throws(HTTPError) -> ChunkEvent {
    let span = octets.bytes
    while consumed < span.byteCount {
      switch state {
      case .size(let digits):
        try readSize(span.octet(consumed), digits, at: consumed)
        consumed += 1
      case .extensions(let part):
        try readExtension(span.octet(consumed), part, at: consumed)
        consumed += 1
      case .sizeLineFeed:
        try Self.expectLineFeed(span.octet(consumed), at: consumed)
        state = left == 0 ? .trailers : .data
        extensionCount = 0
        consumed += 1
      case .data:
        let count = Int(min(left, UInt64(span.byteCount - consumed)))
        let range = consumed..<consumed + count
        left -= UInt64(count)
        if left == 0 { state = .dataCarriageReturn }
        consumed = range.upperBound
        return .data(range)
      case .dataCarriageReturn:
        guard span.octet(consumed) == 0x0D else { throw .chunkNotTerminated(at: consumed) }
        state = .dataLineFeed
        consumed += 1
      case .dataLineFeed:
        guard span.octet(consumed) == 0x0A else { throw .chunkNotTerminated(at: consumed) }
        state = .size(digits: 0)
        consumed += 1
      case .trailers:
        if try readTrailers(octets, &consumed) {
          state = .ended
          return .end
        }
      case .ended:
        return .end
      }
    }
    return state == .ended ? .end : .needMore
  }

  private static func expectLineFeed(_ octet: UInt8, at index: Int) throws(HTTPError) {
    guard octet == 0x0A else { throw .bareCarriageReturn(at: index) }
  }

  @inline(__always)
  private mutating func readSize(_ octet: UInt8, _ digits: UInt8, at index: Int) throws(HTTPError) {
    if let value = octet.hexadecimalValue {
      guard digits < 16, left < 1 << 59 else { throw .chunkSizeTooLarge(at: index) }
      left = left << 4 | UInt64(value)
      state = .size(digits: digits + 1)
      return
    }
    guard digits > 0 else { throw .chunkSizeInvalid(at: index) }
    switch octet {
    case 0x0D: state = .sizeLineFeed
    case UInt8(ascii: ";"): state = .extensions(.nameStart)
    case 0x0A: throw .bareLineFeed(at: index)
    default: throw .chunkSizeInvalid(at: index)
    }
  }

  private mutating func readExtension(_ octet: UInt8, _ part: ExtensionState, at index: Int) throws(HTTPError) {
    extensionCount += 1
    extensionTotal += 1
    guard extensionCount <= Self.extensionLimit, extensionTotal <= Self.extensionsLimit else {
      throw .chunkExtensionTooLong(at: index)
    }
    let isToken = OctetClass.token.contains(octet)
    switch (part, octet) {
    case (.nameStart, _) where isToken, (.name, _) where isToken: state = .extensions(.name)
    case (.valueStart, _) where isToken, (.value, _) where isToken: state = .extensions(.value)
    case (.name, UInt8(ascii: "=")): state = .extensions(.valueStart)
    case (.valueStart, UInt8(ascii: "\"")): state = .extensions(.quoted)
    case (.quoted, UInt8(ascii: "\"")): state = .extensions(.quotedEnd)
    case (.quoted, UInt8(ascii: "\\")): state = .extensions(.escaped)
    case (.quoted, 0x09), (.quoted, 0x20...0x7E), (.quoted, 0x80...): break
    case (.escaped, 0x09), (.escaped, 0x20...0x7E), (.escaped, 0x80...): state = .extensions(.quoted)
    case (.name, UInt8(ascii: ";")), (.value, UInt8(ascii: ";")), (.quotedEnd, UInt8(ascii: ";")):
      state = .extensions(.nameStart)
    case (.name, 0x0D), (.value, 0x0D), (.quotedEnd, 0x0D): state = .sizeLineFeed
    case (_, 0x0A): throw .bareLineFeed(at: index)
    case (_, _): throw .chunkExtensionInvalid(at: index)
    }
  }

  /// Collects the trailer section up to its empty line, then checks it; false when more octets are needed.
  private mutating func readTrailers(
    _ octets: UnsafeRawBufferPointer, _ consumed: inout Int
  ) throws(HTTPError) -> Bool {
    let span = octets.bytes
    while consumed < span.byteCount {
      let found = Scan.lineFeed(span, from: consumed)
      let end = min(found + 1, span.byteCount)
      guard trailers.count + end - consumed <= Self.trailersLimit else { throw .trailersTooLong(at: consumed) }
      trailers.append(contentsOf: octets[consumed..<end])
      consumed = end
      guard found < span.byteCount else { return false }
      guard trailers.count > 1, trailers[trailers.count - 2] == 0x0D else { throw .bareLineFeed(at: found) }
      let isEmptyLine = trailers.count == 2 || trailers[trailers.count - 3] == 0x0A
      guard isEmptyLine else { continue }
      try checkTrailers(endingAt: end)
      return true
    }
    return false
  }

  /// Reads the collected lines as fields; positions are those of the section's end.
  private mutating func checkTrailers(endingAt end: Int) throws(HTTPError) {
    let limits = HeadLimits(head: Self.trailersLimit, fieldCount: Self.trailerCountLimit)
    let octets = trailers
    guard try trailerSection.read(octets.span.bytes, limits) else { throw .bareCarriageReturn(at: end) }
    guard trailerSection.present.isDisjoint(with: .forbiddenInTrailers) else { throw .trailerForbidden(at: end) }
    trailers.removeLast(2)
  }
}
