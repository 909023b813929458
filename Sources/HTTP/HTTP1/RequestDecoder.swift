/// Decodes request heads of HTTP/1.1 and 1.0, by the letter of RFC 9112: what is ambiguous is refused.
///
/// Refused besides what the grammar excludes: bare CR and LF, folded lines, a blank before the colon, controls in
/// values, several Host fields, Content-Length as a list, with a sign or beside Transfer-Encoding, any
/// Transfer-Encoding but exactly one `chunked`, CONNECT, and TRACE, which would show a client the fields that the
/// proxy adds for the upstream.
public enum RequestDecoder {
  /// Reads a head from `octets`, which begin with its first octet; false when more octets are needed.
  ///
  /// Called again with the same octets and more, it goes on where it stopped. One empty line before the request line
  /// is skipped (RFC 9112 section 2.2).
  public static func decode(
    _ octets: UnsafeRawBufferPointer, limits: HeadLimits, into head: inout RequestHead
  ) throws(HTTPError) -> Bool {
    let span = octets.bytes
    switch head.stage {
    case .line:
      guard try readLine(span, limits, &head) else { return false }
      head.stage = .fields
      fallthrough
    case .fields:
      guard try head.section.read(span, limits) else { return false }
      head.byteCount = head.section.lineStart
      try check(span, &head)
      head.stage = .complete
      return true
    case .complete:
      return true
    }
  }

  // MARK: Request line

  private static func readLine(
    _ octets: RawSpan, _ limits: HeadLimits, _ head: inout RequestHead
  ) throws(HTTPError) -> Bool {
    let count = octets.byteCount
    if head.section.lineStart == 0, octets.octet(at: 0, before: count) == 0x0D {
      guard count > 1 else { return false }
      guard octets.octet(1) == 0x0A else { throw .bareCarriageReturn(at: 0) }
      head.section.lineStart = 2
    }
    guard head.section.hasCompleteLine(octets) else { return try wait(octets, limits, &head) }
    let start = head.section.lineStart
    guard start < count else { return try wait(octets, limits, &head) }

    let methodEnd = Scan.endOfVisible(octets, from: start)
    guard methodEnd < count else { return try wait(octets, limits, &head) }
    try readMethod(octets, start..<methodEnd, &head)
    let targetEnd = Scan.endOfVisible(octets, from: methodEnd &+ 1)
    guard targetEnd < count else { return try wait(octets, limits, &head) }
    guard octets.octet(targetEnd) == 0x20 else { throw lineError(octets, targetEnd, else: .targetInvalid(at: targetEnd)) }
    guard targetEnd > methodEnd &+ 1 else { throw .requestLineInvalid(at: targetEnd) }
    head.targetStart = UInt32(truncatingIfNeeded: methodEnd &+ 1)
    head.targetCount = UInt32(truncatingIfNeeded: targetEnd &- methodEnd &- 1)
    guard let minorVersion = try Version.read(octets, from: targetEnd &+ 1) else { return try wait(octets, limits, &head) }
    let lineEnd = targetEnd &+ 1 &+ Version.count
    guard lineEnd &+ 1 < count else {
      if lineEnd < count, octets.octet(lineEnd) != 0x0D {
        throw lineError(octets, lineEnd, else: .requestLineInvalid(at: lineEnd))
      }
      return try wait(octets, limits, &head)
    }
    guard octets.octet(lineEnd) == 0x0D, octets.octet(lineEnd &+ 1) == 0x0A else {
      throw lineError(octets, lineEnd, else: .requestLineInvalid(at: lineEnd))
    }
    guard lineEnd &+ 2 &- start <= limits.requestLine else { throw .requestLineTooLong(at: limits.requestLine) }
    head.minorVersion = minorVersion
    head.section.lineStart = lineEnd &+ 2
    head.section.scanned = lineEnd &+ 2
    return true
  }

  private static func wait(
    _ octets: RawSpan, _ limits: HeadLimits, _ head: inout RequestHead
  ) throws(HTTPError) -> Bool {
    head.section.scanned = octets.byteCount
    guard octets.byteCount &- head.section.lineStart < limits.requestLine else {
      throw .requestLineTooLong(at: limits.requestLine)
    }
    return false
  }

  @inline(__always)
  private static func readMethod(
    _ octets: RawSpan, _ range: Range<Int>, _ head: inout RequestHead
  ) throws(HTTPError) {
    guard octets.octet(range.upperBound) == 0x20 else {
      throw lineError(octets, range.upperBound, else: .methodInvalid(at: range.upperBound))
    }
    guard !range.isEmpty, range.count <= longestMethod else { throw .methodInvalid(at: range.lowerBound) }
    head.method = Method(octets, range)
    head.methodStart = UInt32(truncatingIfNeeded: range.lowerBound)
    head.methodCount = UInt32(truncatingIfNeeded: range.count)
    switch head.method {
    case .get, .head, .post, .put, .patch, .delete, .options, .query: break
    case .trace, .connect: throw .methodUnsupported(at: range.lowerBound)
    case .other:
      for index in range where !OctetClass.token.contains(octets.octet(index)) { throw .methodInvalid(at: index) }
    }
  }

  /// Octets of the longest method that is read.
  private static let longestMethod = 32

  /// Names the rule that an octet in the request line breaks.
  private static func lineError(_ octets: RawSpan, _ index: Int, else other: HTTPError) -> HTTPError {
    switch octets.octet(index) {
    case 0x0A: .bareLineFeed(at: index)
    case 0x0D where octets.octet(at: index &+ 1, before: octets.byteCount) == 0x0A: .requestLineInvalid(at: index)
    case 0x0D: .bareCarriageReturn(at: index)
    default: other
    }
  }

  // MARK: Semantic checks

  /// Checks what the fields mean for framing, routing and the connection.
  private static func check(_ octets: RawSpan, _ head: inout RequestHead) throws(HTTPError) {
    head.keepAlive = head.minorVersion == 1
    if head.section.present.has(.connection) {
      let options = try ConnectionOptions.read(octets, head.section)
      guard options.nominated.isDisjoint(with: .framing) else {
        throw .connectionNominatesFraming(at: Int(head.section.first(.connection)?.valueStart ?? 0))
      }
      head.nominated = options.nominated
      head.nominatesOthers = options.nominatesOthers
      head.keepAlive = options.keepsAlive(minorVersion: head.minorVersion)
    }
    try checkHost(octets, &head)
    head.framing = try Framing.ofRequest(octets, head.section, minorVersion: head.minorVersion)
    if head.section.present.has(.te) { head.acceptsTrailers = TransferCodings.acceptTrailers(octets, head.section) }
    if head.section.present.has(.expect) { try checkExpectation(octets, &head) }
  }

  private static func checkExpectation(_ octets: RawSpan, _ head: inout RequestHead) throws(HTTPError) {
    for field in head.section.fields where field.name == .expect {
      guard octets.equalsIgnoringCase("100-continue", at: Int(field.valueStart), count: Int(field.valueCount)) else {
        throw .expectationUnknown(at: Int(field.valueStart))
      }
    }
    head.expectsContinue = head.minorVersion == 1 && head.framing != .none
  }

  private static func checkHost(_ octets: RawSpan, _ head: inout RequestHead) throws(HTTPError) {
    if head.section.repeated.has(.host) { throw .hostRepeated(at: Int(head.section.second(.host)?.nameStart ?? 0)) }
    if let host = head.section.first(.host) {
      guard let nameCount = Authority.nameCount(octets, host.valueRange) else {
        throw .hostInvalid(at: Int(host.valueStart))
      }
      head.hostStart = host.valueStart
      head.hostCount = host.valueCount
      head.hostNameCount = UInt32(truncatingIfNeeded: nameCount)
    } else if head.minorVersion == 1 {
      throw .hostMissing(at: head.byteCount)
    }
    try splitTarget(octets, &head)
  }

  /// Finds path and query in the target, and holds an absolute-form's authority against Host.
  private static func splitTarget(_ octets: RawSpan, _ head: inout RequestHead) throws(HTTPError) {
    let target = head.targetRange
    head.pathStart = head.targetStart
    head.pathCount = head.targetCount
    if octets.octet(target.lowerBound) == UInt8(ascii: "/") {
      head.targetForm = .origin
      return
    }
    if target.count == 1, octets.octet(target.lowerBound) == UInt8(ascii: "*") {
      guard head.method == .options else { throw .targetInvalid(at: target.lowerBound) }
      head.targetForm = .asterisk
      return
    }
    guard let authority = Authority.range(inAbsoluteTarget: octets, target) else {
      throw .targetInvalid(at: target.lowerBound)
    }
    guard let nameCount = Authority.nameCount(octets, authority) else {
      throw .hostInvalid(at: authority.lowerBound)
    }
    if head.hostCount == 0 {
      head.hostStart = UInt32(truncatingIfNeeded: authority.lowerBound)
      head.hostCount = UInt32(truncatingIfNeeded: authority.count)
      head.hostNameCount = UInt32(truncatingIfNeeded: nameCount)
    }
    guard octets.equalsIgnoringCase(authority, octets, head.hostRange) else {
      throw .authorityMismatch(at: authority.lowerBound)
    }
    head.targetForm = .absolute
    head.pathStart = UInt32(truncatingIfNeeded: authority.upperBound)
    head.pathCount = UInt32(truncatingIfNeeded: target.upperBound &- authority.upperBound)
  }
}
