/// Decodes response heads of HTTP/1.1 and 1.0, as strictly as requests: an upstream that frames ambiguously could make
/// one client's response another's.
public enum ResponseDecoder {
  /// Reads a head from `octets`, which begin with its first octet; false when more octets are needed.
  ///
  /// Goes on where it stopped when it is called again with the same octets and more. Interim responses (1xx) come
  /// out as heads with framing `.none`; the caller resets and goes on.
  ///
  /// - Parameter maySwitch: `Upgrade` was sent; else 101 is refused.
  public static func decode(
    _ octets: UnsafeRawBufferPointer, limits: HeadLimits, requestMethod: Method, maySwitch: Bool = false,
    into head: inout ResponseHead
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
      try check(span, requestMethod, maySwitch, &head)
      head.stage = .complete
      return true
    case .complete:
      return true
    }
  }

  /// Octets of the version, a space and the status.
  private static let shortestLine = 12

  private static func readLine(
    _ octets: RawSpan, _ limits: HeadLimits, _ head: inout ResponseHead
  ) throws(HTTPError) -> Bool {
    let count = octets.byteCount
    guard head.section.hasCompleteLine(octets) else { return try wait(octets, limits, &head) }
    guard count > 0, let minorVersion = try Version.read(octets, from: 0) else { return try wait(octets, limits, &head) }
    guard let status = try readStatus(octets) else { return try wait(octets, limits, &head) }
    let reasonStart = shortestLine
    let lineEnd = Scan.endOfValue(octets, from: reasonStart)
    // A status line without the space before an empty reason is common, and means only one thing.
    guard lineEnd == reasonStart || octets.octet(reasonStart) == 0x20 else { throw .statusInvalid(at: reasonStart) }
    guard lineEnd &+ 1 < count else {
      if lineEnd < count, octets.octet(lineEnd) != 0x0D { throw lineError(octets, lineEnd) }
      return try wait(octets, limits, &head)
    }
    guard octets.octet(lineEnd) == 0x0D, octets.octet(lineEnd &+ 1) == 0x0A else { throw lineError(octets, lineEnd) }
    guard lineEnd &+ 2 <= limits.requestLine else { throw .headTooLong(at: limits.requestLine) }
    head.minorVersion = minorVersion
    head.status = status
    let reason = lineEnd == reasonStart ? reasonStart..<lineEnd : reasonStart &+ 1..<lineEnd
    head.reasonStart = UInt32(truncatingIfNeeded: reason.lowerBound)
    head.reasonCount = UInt32(truncatingIfNeeded: reason.count)
    head.section.lineStart = lineEnd &+ 2
    head.section.scanned = lineEnd &+ 2
    return true
  }

  /// Reads the space and three digits behind the version; nothing when more octets are needed.
  private static func readStatus(_ octets: RawSpan) throws(HTTPError) -> UInt16? {
    var status: UInt16 = 0
    for index in Version.count..<shortestLine {
      guard index < octets.byteCount else { return nil }
      let octet = octets.octet(index)
      if index == Version.count {
        guard octet == 0x20 else { throw .statusLineInvalid(at: index) }
      } else {
        guard octet.isDigit else { throw .statusInvalid(at: index) }
        status = status &* 10 &+ UInt16(octet &- 0x30)
      }
    }
    guard status >= 100 else { throw .statusInvalid(at: Version.count + 1) }
    return status
  }

  private static func wait(
    _ octets: RawSpan, _ limits: HeadLimits, _ head: inout ResponseHead
  ) throws(HTTPError) -> Bool {
    head.section.scanned = octets.byteCount
    guard octets.byteCount < limits.requestLine else { throw .headTooLong(at: limits.requestLine) }
    return false
  }

  private static func lineError(_ octets: RawSpan, _ index: Int) -> HTTPError {
    switch octets.octet(index) {
    case 0x0A: .bareLineFeed(at: index)
    case 0x0D: .bareCarriageReturn(at: index)
    default: .statusLineInvalid(at: index)
    }
  }

  /// Checks what the fields mean for framing and the connection.
  private static func check(
    _ octets: RawSpan, _ requestMethod: Method, _ maySwitch: Bool, _ head: inout ResponseHead
  ) throws(HTTPError) {
    guard head.status != 101 || maySwitch else { throw .switchUnexpected(at: Version.count + 1) }
    head.keepAlive = head.minorVersion == 1
    if head.section.present.has(.connection) {
      let options = try ConnectionOptions.read(octets, head.section)
      head.nominated = options.nominated
      head.nominatesOthers = options.nominatesOthers
      head.keepAlive = options.keepsAlive(minorVersion: head.minorVersion)
    }
    let declared = try Framing.ofResponse(octets, head.section, minorVersion: head.minorVersion)
    switch (head.status, requestMethod) {
    case (100..<200, _), (204, _):
      // RFC 9110 section 8.6 and RFC 9112 section 6.1 forbid both fields; a length of zero says the same.
      guard declared == .untilClose || declared == .length(0) else {
        throw .framingWithoutContent(at: Int(head.section.first(.transferEncoding)?.nameStart ?? 0))
      }
      head.framing = .none
    case (304, _), (_, .head): head.framing = .none
    case (_, _):
      head.framing = declared
      if declared == .untilClose { head.keepAlive = false }
    }
  }
}
