/// Derives a message's framing from its fields (RFC 9112 section 6).
enum Framing {
  /// Decides how a request's content is delimited.
  @inline(__always)
  static func ofRequest(
    _ octets: RawSpan, _ section: FieldSection, minorVersion: UInt8
  ) throws(HTTPError) -> BodyFraming {
    guard section.present.has(.contentLength) || section.present.has(.transferEncoding) else { return .none }
    return try declared(octets, section, minorVersion: minorVersion)
  }

  /// Decides how a response's content is delimited, apart from the method and status that forbid content.
  static func ofResponse(
    _ octets: RawSpan, _ section: FieldSection, minorVersion: UInt8
  ) throws(HTTPError) -> BodyFraming {
    guard section.present.has(.contentLength) || section.present.has(.transferEncoding) else { return .untilClose }
    return try declared(octets, section, minorVersion: minorVersion)
  }

  private static func declared(
    _ octets: RawSpan, _ section: FieldSection, minorVersion: UInt8
  ) throws(HTTPError) -> BodyFraming {
    guard let coding = section.first(.transferEncoding) else { return .length(try length(octets, section)) }
    let position = Int(coding.valueStart)
    guard !section.present.has(.contentLength) else { throw .lengthBesideTransferEncoding(at: position) }
    guard !section.repeated.has(.transferEncoding) else {
      throw .transferEncodingRepeated(at: Int(section.second(.transferEncoding)?.nameStart ?? 0))
    }
    guard minorVersion == 1 else { throw .transferEncodingTooNew(at: position) }
    guard octets.equalsIgnoringCase("chunked", at: position, count: Int(coding.valueCount)) else {
      guard isToken(octets, coding.valueRange) else { throw .transferEncodingInvalid(at: position) }
      throw .transferEncodingUnsupported(at: position)
    }
    return .chunked
  }

  private static func isToken(_ octets: RawSpan, _ range: Range<Int>) -> Bool {
    for index in range where !OctetClass.token.contains(octets.octet(index)) { return false }
    return !range.isEmpty
  }

  /// Digits of the largest length that is read: all that an Int64 surely holds.
  private static let mostDigits = 18

  /// Reads the only Content-Length: digits and nothing else.
  static func length(_ octets: RawSpan, _ section: FieldSection) throws(HTTPError) -> UInt64 {
    guard let field = section.first(.contentLength), !section.repeated.has(.contentLength) else {
      throw .contentLengthRepeated(at: Int(section.second(.contentLength)?.nameStart ?? 0))
    }
    var length: UInt64 = 0
    guard field.valueCount > 0 else { throw .contentLengthInvalid(at: Int(field.valueStart)) }
    for index in field.valueRange where !octets.octet(index).isDigit { throw .contentLengthInvalid(at: index) }
    guard field.valueCount <= mostDigits else { throw .contentLengthTooLarge(at: Int(field.valueStart)) }
    // Eighteen digits stay below 2^60, so nothing overflows.
    for index in field.valueRange { length = length &* 10 &+ UInt64(octets.octet(index) &- 0x30) }
    return length
  }
}

/// Reads the `TE` field.
enum TransferCodings {
  /// Tells whether the sender takes trailers.
  static func acceptTrailers(_ octets: RawSpan, _ section: FieldSection) -> Bool {
    for field in section.fields where field.name == .te {
      var elements = ListElements(octets, field.valueRange)
      while let element = elements.next() {
        if octets.equalsIgnoringCase("trailers", at: element.lowerBound, count: element.count) { return true }
      }
    }
    return false
  }
}
