import Bytes

/// How a response leaves, decided by the relay.
public struct ResponseDelivery: Sendable, Equatable {
  /// How content is delimited for the client.
  public var framing: BodyFraming
  /// Tells whether the client's connection stays open.
  public var keepAlive: Bool
  /// The client's minor version: HTTP/1.0 has to be told that the connection stays.
  public var clientMinorVersion: UInt8
  /// Tells whether the upstream's `Trailer` line is kept, because its trailers will be.
  public var keepsTrailers: Bool
  /// Tells whether the upstream's `Access-Control-*` lines are kept, because the additional lines have none.
  public var keepsSharing: Bool
  /// Tells whether what the upstream says of exactly these octets is kept (`ETag`, `Content-Digest`, `Repr-Digest` and their older forms),
  /// because the client gets the same ones.
  public var keepsDigests: Bool
  /// Tells whether the response is one client's own: what the upstream grants to shared caches is left out (RFC 9111 section 5.2.2, RFC 9213).
  public var isPrivate: Bool

  /// Makes a decision.
  public init(framing: BodyFraming, keepAlive: Bool, clientMinorVersion: UInt8 = 1, keepsTrailers: Bool = false, keepsSharing: Bool = true,
    keepsDigests: Bool = true, isPrivate: Bool = false
  ) {
    self.framing = framing
    self.keepAlive = keepAlive
    self.clientMinorVersion = clientMinorVersion
    self.keepsTrailers = keepsTrailers
    self.keepsSharing = keepsSharing
    self.keepsDigests = keepsDigests
    self.isPrivate = isPrivate
  }

  func appendLines(besides kept: BodyFraming, to output: inout ByteBuffer) {
    Framing.append(framing, besides: kept, to: &output)
    if !keepAlive {
      output.append("Connection: close\r\n")
    } else if clientMinorVersion == 0 {
      output.append("Connection: keep-alive\r\n")
    }
  }
}

/// Writes the head that goes to the client.
public enum ResponseRewriter {
  /// Appends the client's head, its empty line included, from an upstream's.
  ///
  /// - `additional`: complete lines of the proxy's own (receipt, cache-control, CORS).
  /// - `fields`: what the route takes from the upstream's lines, and adds.
  /// - `date`: a complete Date line, used where the upstream sent none (RFC 9110 section 6.6.1).
  ///
  /// Left out are `FieldSet.withheldFromDownstream`, what `Connection` nominates, the CORS protocol's and digests unless they are kept, and
  /// `WWW-Authenticate` with a payment scheme. Interim heads go out with nothing added.
  public static func append(
    _ head: borrowing ResponseHead, octets: UnsafeRawBufferPointer, delivery: ResponseDelivery,
    fields: ResponseFields = .none, additional: UnsafeRawBufferPointer, date: UnsafeRawBufferPointer, to output: inout ByteBuffer
  ) {
    var withheld: FieldSet = [.withheldFromDownstream, head.nominated, fields.dropped.known]
    if keepsLength(head, delivery.framing) { withheld.remove(FieldSet(.contentLength)) }
    if delivery.keepsTrailers { withheld.remove(FieldSet(.trailer)) }
    var examined = FieldSet(.wwwAuthenticate)
    if head.nominatesOthers || !fields.dropped.others.isEmpty { examined.formUnion(FieldSet(.other)) }
    if !delivery.keepsSharing { examined.formUnion(sharing) }
    if !delivery.keepsDigests { examined.formUnion(digests) }
    if delivery.isPrivate { examined.formUnion(SharedCaching.names) }
    let span = octets.bytes
    let lines = head.section.fields
    let runStart = appendStatusLine(head, to: &output)
    FieldRuns.append(head.section, octets, from: runStart, end: head.byteCount - 2, to: &output) { index in
      let field = lines[index]
      if withheld.has(field.name) { return false }
      guard examined.has(field.name) else { return true }
      if field.name == .wwwAuthenticate { return !PaymentScheme.occurs(in: field.value(in: octets)) }
      if !delivery.keepsSharing, isSharing(span, field.nameRange) { return false }
      if !delivery.keepsDigests, isDigest(field.name, span, field.nameRange) { return false }
      if delivery.isPrivate, SharedCaching.grants(field.name, span, field.nameRange, field.value(in: octets)) { return false }
      if field.name == .other, fields.dropped.hasOther(span, field.nameRange) { return false }
      return !head.nominatesOthers || field.name != .other || !ConnectionOptions.nominate(span, lines, field.nameRange)
    }
    if !head.isInterim {
      output.append(fields.lines)
      output.append(additional)
      if delivery.isPrivate, !withheld.has(.cacheControl) {
        for field in lines where field.name == .cacheControl { SharedCaching.append(withoutGrants: field.value(in: octets), to: &output) }
      }
      if !head.has(.date) { output.append(date) }
      delivery.appendLines(besides: head.framing, to: &output)
    }
    output.append("\r\n")
  }

  /// The names among which those of the CORS protocol are.
  private static let sharing = FieldSet([
    .other, .accessControlAllowOrigin, .accessControlExposeHeaders, .accessControlRequestMethod, .accessControlRequestHeaders,
  ])

  private static func isSharing(_ octets: RawSpan, _ name: Range<Int>) -> Bool {
    let prefix: StaticString = "access-control-"
    let count = prefix.utf8CodeUnitCount
    return name.count > count && octets.equalsIgnoringCase(prefix, at: name.lowerBound, count: count)
  }

  /// The names among which those are that hold for exactly the octets that the upstream sent.
  private static let digests = FieldSet([.other, .contentDigest])
  private static let digestNames: [StaticString] = ["etag", "repr-digest", "digest", "content-md5"]

  private static func isDigest(_ name: FieldName, _ octets: RawSpan, _ range: Range<Int>) -> Bool {
    guard name == .other else { return name == .contentDigest }
    return digestNames.contains { $0.utf8CodeUnitCount == range.count && octets.equalsIgnoringCase($0, at: range.lowerBound, count: range.count) }
  }

  /// The upstream's Content-Length line is kept where it is the client's too, and where it tells what GET would send.
  private static func keepsLength(_ head: borrowing ResponseHead, _ framing: BodyFraming) -> Bool {
    switch framing {
    case .length: framing == head.framing
    case .none: head.status >= 200 && head.status != 204
    case .chunked, .untilClose: false
    }
  }

  /// Appends the part of the status line that is ours, and tells where the run of kept octets begins.
  private static func appendStatusLine(_ head: borrowing ResponseHead, to output: inout ByteBuffer) -> Int? {
    // Without the space before its reason the upstream's line is not repeated.
    guard head.reasonRange.lowerBound > Version.count + 4 else {
      Status.appendLine(head.status, to: &output)
      return nil
    }
    output.append("HTTP/1.1 ")
    return Version.count + 1
  }

  /// Appends the head of an answer of the proxy's own, its empty line included.
  ///
  /// `fields` are complete lines without framing, date and connection. A Content-Length stands for `.length`.
  public static func appendOwn(
    status: UInt16, fields: UnsafeRawBufferPointer, delivery: ResponseDelivery, date: UnsafeRawBufferPointer,
    to output: inout ByteBuffer
  ) {
    Status.appendLine(status, to: &output)
    output.append(fields)
    output.append(date)
    delivery.appendLines(besides: .none, to: &output)
    output.append("\r\n")
  }

  /// Appends the trailer lines of a response that go on to the client: none that the route takes from responses, and no digest of content
  /// that was changed.
  public static func appendTrailers(_ lines: UnsafeRawBufferPointer, fields: ResponseFields, keepsDigests: Bool, to output: inout ByteBuffer) {
    let span = lines.bytes
    var start = 0
    while start < lines.count {
      var end = start
      while end < lines.count, lines[end] != UInt8(ascii: "\n") { end += 1 }
      end = min(end + 1, lines.count)
      var colon = start
      while colon < end, lines[colon] != UInt8(ascii: ":") { colon += 1 }
      if let name = FieldName(span, start..<colon), !fields.dropped.known.has(name), !fields.dropped.hasOther(span, start..<colon),
        keepsDigests || !isDigest(name, span, start..<colon)
      {
        output.append(UnsafeRawBufferPointer(rebasing: lines[start..<end]))
      }
      start = end
    }
  }

  /// Appends the trailer lines that may go on, without the empty line: no payment field of the upstream's.
  public static func appendTrailers(_ decoder: borrowing ChunkedDecoder, to output: inout ByteBuffer) {
    let section = decoder.trailerSection
    let end = decoder.trailers.count
    decoder.trailers.withUnsafeBytes { octets in
      FieldRuns.append(section, octets, end: end, to: &output) { index in
        !FieldSet.payment.has(section.fields[index].name)
      }
    }
  }
}
