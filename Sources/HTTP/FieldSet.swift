/// A set of field names, one bit each.
public struct FieldSet: OptionSet, Sendable, Hashable {
  /// The bit of each name, by its raw value.
  public let rawValue: UInt64

  /// Makes the set of the bits.
  @inlinable @inline(__always) public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// Makes the set of one name.
  @inlinable @inline(__always) public init(_ name: FieldName) { rawValue = 1 << UInt64(name.rawValue) }

  /// Makes the set of several names.
  public init(_ names: [FieldName]) {
    var bits: UInt64 = 0
    for name in names { bits |= 1 << UInt64(name.rawValue) }
    rawValue = bits
  }

  /// Tells whether the name is in the set.
  @inlinable @inline(__always) public func has(_ name: FieldName) -> Bool { rawValue & (1 << UInt64(name.rawValue)) != 0 }
}

extension FieldSet {
  /// Fields that speak of one connection and never pass a proxy (RFC 9110 section 7.6.1), besides those that
  /// `Connection` nominates.
  public static let hopByHop = FieldSet([
    .connection, .keepAlive, .proxyConnection, .te, .trailer, .transferEncoding, .upgrade, .http2Settings,
    .proxyAuthorization, .proxyAuthenticate, .proxyAuthenticationInfo,
  ])

  /// Fields that delimit a message or name its receiver: the proxy writes its own.
  public static let framing = FieldSet([.host, .contentLength, .transferEncoding])

  /// Fields of payment, of every dialect and in both directions: neither side may see the other's.
  ///
  /// `Authorization` and `WWW-Authenticate` belong here only with a payment scheme (`PaymentScheme`).
  public static let payment = FieldSet([
    .paymentAuthorization, .prepaidSession, .paymentSession, .acceptPayment, .paymentSignature, .xPayment, .signInWithX,
    .paymentReceipt, .paymentInvoice, .paymentRequired, .paymentResponse, .xPaymentResponse, .paymentSessionSnapshot,
  ])

  /// Fields with which a client could name another client, host or scheme.
  public static let forwarding = FieldSet([
    .forwarded, .xForwardedFor, .xForwardedProto, .xForwardedHost, .xForwardedPort, .xForwardedOther, .xRealIP,
  ])

  /// Fields that make some servers run another path or method than the one that was priced.
  public static let overriding = FieldSet([
    .xOriginalURL, .xRewriteURL, .xHTTPMethod, .xHTTPMethodOverride, .xMethodOverride,
  ])

  /// Fields of a request that never go upstream as they came.
  public static let withheldFromUpstream: FieldSet = [
    hopByHop, framing, payment, forwarding, overriding, FieldSet([.disguised, .expect]),
  ]

  /// Fields of a response that never go downstream as they came.
  public static let withheldFromDownstream: FieldSet = [hopByHop, payment, FieldSet([.contentLength])]

  /// Fields that may not stand in a trailer section (RFC 9110 section 6.5.1): framing, routing, authentication and
  /// request control.
  public static let forbiddenInTrailers: FieldSet = [
    hopByHop, framing, forwarding, overriding,
    FieldSet([
      .disguised, .expect, .authorization, .paymentAuthorization, .prepaidSession, .paymentSession, .acceptPayment,
      .paymentSignature, .xPayment, .signInWithX, .cacheControl, .contentType, .contentEncoding, .maxForwards, .wwwAuthenticate,
      .idempotencyKey, .vary, .location, .date,
    ]),
  ]
}
