/// Names the fields that the proxy knows; all others are `.other`. Names are compared without regard to case.
public enum FieldName: UInt8, Sendable, CaseIterable {
  case other = 0
  /// A name that a CGI-style server reads as one of this table, as `Content_Length`: never forwarded.
  case disguised
  case host, connection, contentLength, transferEncoding, te, trailer, upgrade, keepAlive, proxyConnection
  case proxyAuthorization, proxyAuthenticate, proxyAuthenticationInfo, http2Settings, expect
  case authorization, paymentAuthorization, prepaidSession, paymentSession, acceptPayment, paymentSignature, xPayment, signInWithX
  case paymentReceipt, paymentInvoice, paymentRequired, paymentResponse, xPaymentResponse, paymentSessionSnapshot
  case forwarded, xForwardedFor, xForwardedProto, xForwardedHost, xForwardedPort, xRealIP
  /// Any other name that starts with `X-Forwarded-`.
  case xForwardedOther
  case xOriginalURL, xRewriteURL, xHTTPMethod, xHTTPMethodOverride, xMethodOverride
  case via, date, server, cacheControl, wwwAuthenticate, contentType, contentEncoding, contentDigest, idempotencyKey
  case origin, accessControlRequestMethod, accessControlRequestHeaders, accessControlAllowOrigin
  case accessControlExposeHeaders, accept, acceptEncoding, maxForwards, location, userAgent, vary

  /// The name in lower case; empty for the names that stand for many.
  public var spelling: StaticString {
    switch self {
    case .other, .disguised, .xForwardedOther: ""
    case .host: "host"
    case .connection: "connection"
    case .contentLength: "content-length"
    case .transferEncoding: "transfer-encoding"
    case .te: "te"
    case .trailer: "trailer"
    case .upgrade: "upgrade"
    case .keepAlive: "keep-alive"
    case .proxyConnection: "proxy-connection"
    case .proxyAuthorization: "proxy-authorization"
    case .proxyAuthenticate: "proxy-authenticate"
    case .proxyAuthenticationInfo: "proxy-authentication-info"
    case .http2Settings: "http2-settings"
    case .expect: "expect"
    case .authorization: "authorization"
    case .paymentAuthorization: "payment-authorization"
    case .prepaidSession: "prepaid-session"
    case .paymentSession: "payment-session"
    case .acceptPayment: "accept-payment"
    case .paymentSignature: "payment-signature"
    case .xPayment: "x-payment"
    case .signInWithX: "sign-in-with-x"
    case .paymentReceipt: "payment-receipt"
    case .paymentInvoice: "payment-invoice"
    case .paymentRequired: "payment-required"
    case .paymentResponse: "payment-response"
    case .xPaymentResponse: "x-payment-response"
    case .paymentSessionSnapshot: "payment-session-snapshot"
    case .forwarded: "forwarded"
    case .xForwardedFor: "x-forwarded-for"
    case .xForwardedProto: "x-forwarded-proto"
    case .xForwardedHost: "x-forwarded-host"
    case .xForwardedPort: "x-forwarded-port"
    case .xRealIP: "x-real-ip"
    case .xOriginalURL: "x-original-url"
    case .xRewriteURL: "x-rewrite-url"
    case .xHTTPMethod: "x-http-method"
    case .xHTTPMethodOverride: "x-http-method-override"
    case .xMethodOverride: "x-method-override"
    case .via: "via"
    case .date: "date"
    case .server: "server"
    case .cacheControl: "cache-control"
    case .wwwAuthenticate: "www-authenticate"
    case .contentType: "content-type"
    case .contentEncoding: "content-encoding"
    case .contentDigest: "content-digest"
    case .idempotencyKey: "idempotency-key"
    case .origin: "origin"
    case .accessControlRequestMethod: "access-control-request-method"
    case .accessControlRequestHeaders: "access-control-request-headers"
    case .accessControlAllowOrigin: "access-control-allow-origin"
    case .accessControlExposeHeaders: "access-control-expose-headers"
    case .accept: "accept"
    case .acceptEncoding: "accept-encoding"
    case .maxForwards: "max-forwards"
    case .location: "location"
    case .userAgent: "user-agent"
    case .vary: "vary"
    }
  }

  /// Reads a field name; nothing when the octets are no token.
  public init?(bytes: UnsafeRawBufferPointer) {
    self.init(bytes.bytes, 0..<bytes.count)
  }

  @inline(__always)
  init?(_ octets: RawSpan, _ range: Range<Int>) {
    let candidate = Self.candidate(octets, range)
    if candidate != .other, octets.equalsIgnoringCase(candidate.spelling, at: range.lowerBound, count: range.count) {
      self = candidate
      return
    }
    guard let name = Self.unlisted(octets, range) else { return nil }
    self = name
  }

  /// Longest name that can be a disguised one of the table, octets.
  private static let longestSpelling = 30

  /// What names begin with that are told apart from others by their beginning.
  private static let forwardedPrefix: StaticString = "x-forwarded-"

  /// Classifies a name that the table does not list.
  private static func unlisted(_ octets: RawSpan, _ range: Range<Int>) -> FieldName? {
    guard Scan.isPlainName(octets, range) else { return unusual(octets, range) }
    return hasForwardedPrefix(octets, range) ? .xForwardedOther : .other
  }

  /// Classifies a name with octets besides letters, digits and hyphens.
  private static func unusual(_ octets: RawSpan, _ range: Range<Int>) -> FieldName? {
    guard !range.isEmpty else { return nil }
    var hasUnderscore = false
    for index in range {
      let octet = octets.octet(index)
      guard OctetClass.token.contains(octet) else { return nil }
      if octet == UInt8(ascii: "_") { hasUnderscore = true }
    }
    if hasUnderscore { return undisguised(octets, range) == .other ? .other : .disguised }
    return hasForwardedPrefix(octets, range) ? .xForwardedOther : .other
  }

  @inline(__always)
  private static func hasForwardedPrefix(_ octets: RawSpan, _ range: Range<Int>) -> Bool {
    let count = forwardedPrefix.utf8CodeUnitCount
    return range.count > count && octets.equalsIgnoringCase(forwardedPrefix, at: range.lowerBound, count: count)
  }

  /// Looks up the name that a server sees which turns underscores into hyphens.
  private static func undisguised(_ octets: RawSpan, _ range: Range<Int>) -> FieldName {
    var plain = InlineArray<30, UInt8>(repeating: 0)
    let count = min(range.count, longestSpelling)
    for offset in 0..<count {
      let octet = octets.octet(range.lowerBound + offset)
      plain[offset] = octet == UInt8(ascii: "_") ? UInt8(ascii: "-") : octet
    }
    let span = plain.span.bytes
    if hasForwardedPrefix(span, 0..<count) { return .xForwardedOther }
    guard range.count <= longestSpelling else { return .other }
    let candidate = candidate(span, 0..<count)
    return candidate != .other && span.equalsIgnoringCase(candidate.spelling, at: 0, count: count) ? candidate : .other
  }

  /// Finds the only name that the octets can be, by the length and one or two octets.
  @inline(__always)
  private static func candidate(_ octets: RawSpan, _ range: Range<Int>) -> FieldName {
    let start = range.lowerBound
    @inline(__always) func letter(_ index: Int) -> UInt8 { octets.octet(start &+ index) | 0x20 }
    switch range.count {
    case 2: return .te
    case 3: return .via
    case 4:
      switch letter(0) {
      case UInt8(ascii: "h"): return .host
      case UInt8(ascii: "d"): return .date
      default: return .vary
      }
    case 6:
      switch letter(0) {
      case UInt8(ascii: "a"): return .accept
      case UInt8(ascii: "e"): return .expect
      case UInt8(ascii: "o"): return .origin
      default: return .server
      }
    case 7: return letter(0) == UInt8(ascii: "u") ? .upgrade : .trailer
    case 8: return .location
    case 9:
      switch letter(3) {
      case UInt8(ascii: "w"): return .forwarded
      case UInt8(ascii: "a"): return .xPayment
      default: return .xRealIP
      }
    case 10:
      switch letter(0) {
      case UInt8(ascii: "c"): return .connection
      case UInt8(ascii: "k"): return .keepAlive
      default: return .userAgent
      }
    case 12: return letter(0) == UInt8(ascii: "c") ? .contentType : .maxForwards
    case 13:
      switch letter(2) {
      case UInt8(ascii: "t"): return .authorization
      case UInt8(ascii: "c"): return .cacheControl
      case UInt8(ascii: "h"): return .xHTTPMethod
      default: return .xRewriteURL
      }
    case 14:
      switch letter(9) {
      case UInt8(ascii: "e"): return .contentLength
      case UInt8(ascii: "y"): return .acceptPayment
      case UInt8(ascii: "i"): return letter(0) == UInt8(ascii: "s") ? .signInWithX : .contentDigest
      case UInt8(ascii: "l"): return .xOriginalURL
      default: return .http2Settings
      }
    case 15:
      switch (letter(1), letter(8)) {
      case (UInt8(ascii: "c"), _): return .acceptEncoding
      case (UInt8(ascii: "r"), _): return .prepaidSession
      case (UInt8(ascii: "d"), _): return .idempotencyKey
      case (UInt8(ascii: "a"), UInt8(ascii: "s")): return .paymentSession
      case (UInt8(ascii: "a"), UInt8(ascii: "r")): return .paymentReceipt
      case (UInt8(ascii: "a"), _): return .paymentInvoice
      default: return .xForwardedFor
      }
    case 16:
      switch letter(10) {
      case UInt8(ascii: "c"): return .contentEncoding
      case UInt8(ascii: "q"): return .paymentRequired
      case UInt8(ascii: "s"): return .paymentResponse
      case UInt8(ascii: "e"): return .proxyConnection
      case UInt8(ascii: "t"): return .wwwAuthenticate
      default: return letter(12) == UInt8(ascii: "h") ? .xForwardedHost : .xForwardedPort
      }
    case 17:
      switch letter(2) {
      case UInt8(ascii: "a"): return .transferEncoding
      case UInt8(ascii: "y"): return .paymentSignature
      case UInt8(ascii: "f"): return .xForwardedProto
      default: return .xMethodOverride
      }
    case 18: return letter(0) == UInt8(ascii: "x") ? .xPaymentResponse : .proxyAuthenticate
    case 19: return .proxyAuthorization
    case 21: return .paymentAuthorization
    case 22: return .xHTTPMethodOverride
    case 24: return .paymentSessionSnapshot
    case 25: return .proxyAuthenticationInfo
    case 27: return .accessControlAllowOrigin
    case 29: return letter(15) == UInt8(ascii: "r") ? .accessControlRequestMethod : .accessControlExposeHeaders
    case 30: return .accessControlRequestHeaders
    default: return .other
    }
  }
}
