/// Names the rule of RFC 9110, RFC 9112 or RFC 3986 that a peer's octets break, and where.
///
/// The position counts octets from the first one of what was decoded: the head, the target, or the buffer given to
/// the chunked decoder.
public enum HTTPError: Error, Hashable, Sendable {
  // Lines.
  case bareLineFeed(at: Int)
  case bareCarriageReturn(at: Int)
  case requestLineTooLong(at: Int)
  case headTooLong(at: Int)

  // Request and status lines.
  case methodInvalid(at: Int)
  case methodUnsupported(at: Int)
  case requestLineInvalid(at: Int)
  case versionInvalid(at: Int)
  case versionUnsupported(at: Int)
  case statusLineInvalid(at: Int)
  case statusInvalid(at: Int)
  /// A 101 that nobody asked for.
  case switchUnexpected(at: Int)

  // Fields.
  case tooManyFields(at: Int)
  case fieldNameEmpty(at: Int)
  case fieldNameInvalid(at: Int)
  case fieldNameTooLong(at: Int)
  case spaceBeforeColon(at: Int)
  case fieldValueInvalid(at: Int)
  /// obs-fold: a line that starts with a space or tab.
  case lineFolded(at: Int)

  // Host.
  case hostMissing(at: Int)
  case hostRepeated(at: Int)
  case hostInvalid(at: Int)
  /// An absolute-form target names another authority than Host.
  case authorityMismatch(at: Int)

  // Framing.
  case contentLengthRepeated(at: Int)
  case contentLengthInvalid(at: Int)
  case contentLengthTooLarge(at: Int)
  case lengthBesideTransferEncoding(at: Int)
  case transferEncodingRepeated(at: Int)
  case transferEncodingInvalid(at: Int)
  case transferEncodingUnsupported(at: Int)
  /// Transfer-Encoding in an HTTP/1.0 message.
  case transferEncodingTooNew(at: Int)
  /// Framing fields in a response that cannot have content (1xx, 204).
  case framingWithoutContent(at: Int)
  case connectionInvalid(at: Int)
  /// `Connection` nominates Host or a framing field.
  case connectionNominatesFraming(at: Int)
  case expectationUnknown(at: Int)

  // Chunked coding.
  case chunkSizeInvalid(at: Int)
  case chunkSizeTooLarge(at: Int)
  case chunkExtensionInvalid(at: Int)
  case chunkExtensionTooLong(at: Int)
  case chunkNotTerminated(at: Int)
  case trailersTooLong(at: Int)
  case trailerForbidden(at: Int)

  // The PROXY protocol's header.
  case proxyHeaderInvalid(at: Int)
  case proxyHeaderTooLong(at: Int)

  // Target.
  case targetInvalid(at: Int)
  case targetFragment(at: Int)
  case targetBackslash(at: Int)
  case targetEscapeInvalid(at: Int)
  /// An escaped slash, backslash, NUL or control octet.
  case targetEscapeForbidden(at: Int)
  case targetDotSegment(at: Int)
  case targetEmptySegment(at: Int)
  case targetNotUTF8(at: Int)

  /// The status to answer a request with that breaks the rule; a response that breaks one is the upstream's fault, 502.
  public var status: UInt16 {
    switch self {
    case .requestLineTooLong: 414
    case .headTooLong, .tooManyFields, .fieldNameTooLong, .trailersTooLong: 431
    case .methodUnsupported, .transferEncodingUnsupported: 501
    case .versionUnsupported: 505
    case .contentLengthTooLarge, .chunkSizeTooLarge: 413
    case .expectationUnknown: 417
    case .bareLineFeed, .bareCarriageReturn, .methodInvalid, .requestLineInvalid, .versionInvalid, .statusLineInvalid,
      .statusInvalid, .switchUnexpected, .fieldNameEmpty, .fieldNameInvalid, .spaceBeforeColon, .fieldValueInvalid,
      .lineFolded, .hostMissing, .hostRepeated, .hostInvalid, .authorityMismatch, .contentLengthRepeated,
      .contentLengthInvalid, .lengthBesideTransferEncoding, .transferEncodingRepeated, .transferEncodingInvalid,
      .transferEncodingTooNew, .framingWithoutContent, .connectionInvalid, .connectionNominatesFraming,
      .chunkSizeInvalid, .chunkExtensionInvalid, .chunkExtensionTooLong, .chunkNotTerminated, .trailerForbidden,
      .proxyHeaderInvalid, .proxyHeaderTooLong, .targetInvalid, .targetFragment, .targetBackslash,
      .targetEscapeInvalid, .targetEscapeForbidden,
      .targetDotSegment, .targetEmptySegment, .targetNotUTF8:
      400
    }
  }

  /// The offset of the octet at which the rule was seen broken.
  public var position: Int {
    switch self {
    case .bareLineFeed(let at), .bareCarriageReturn(let at), .requestLineTooLong(let at), .headTooLong(let at),
      .methodInvalid(let at), .methodUnsupported(let at), .requestLineInvalid(let at), .versionInvalid(let at),
      .versionUnsupported(let at), .statusLineInvalid(let at), .statusInvalid(let at), .switchUnexpected(let at),
      .tooManyFields(let at), .fieldNameEmpty(let at), .fieldNameInvalid(let at), .fieldNameTooLong(let at),
      .spaceBeforeColon(let at), .fieldValueInvalid(let at), .lineFolded(let at), .hostMissing(let at),
      .hostRepeated(let at), .hostInvalid(let at), .authorityMismatch(let at), .contentLengthRepeated(let at),
      .contentLengthInvalid(let at), .contentLengthTooLarge(let at), .lengthBesideTransferEncoding(let at),
      .transferEncodingRepeated(let at), .transferEncodingInvalid(let at), .transferEncodingUnsupported(let at),
      .transferEncodingTooNew(let at), .framingWithoutContent(let at), .connectionInvalid(let at),
      .connectionNominatesFraming(let at), .expectationUnknown(let at), .chunkSizeInvalid(let at),
      .chunkSizeTooLarge(let at), .chunkExtensionInvalid(let at), .chunkExtensionTooLong(let at),
      .chunkNotTerminated(let at), .trailersTooLong(let at), .trailerForbidden(let at), .proxyHeaderInvalid(let at),
      .proxyHeaderTooLong(let at), .targetInvalid(let at),
      .targetFragment(let at), .targetBackslash(let at), .targetEscapeInvalid(let at),
      .targetEscapeForbidden(let at), .targetDotSegment(let at), .targetEmptySegment(let at), .targetNotUTF8(let at):
      at
    }
  }
}
