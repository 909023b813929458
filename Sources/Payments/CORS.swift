import Bytes

/// Lets pages of other origins pay: which origins, and the field lists of the payment dialects (Fetch standard, CORS protocol).
public struct CORS: Sendable, Hashable {
  /// What pages may read of a response.
  public static let exposedFields: StaticString =
    "WWW-Authenticate, Payment-Receipt, Payment-Invoice, PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-RESPONSE, Payment-Session, Payment-Session-Snapshot, Retry-After"
  /// What pages may send, besides what the preflight itself asks for.
  public static let allowedFields: StaticString =
    "Authorization, Payment-Authorization, Accept-Payment, PAYMENT-SIGNATURE, X-PAYMENT, SIGN-IN-WITH-X, Payment-Session, Prepaid-Session, Idempotency-Key"
  /// How long a preflight's answer may be kept, in seconds.
  public static let maximumAge = 600
  /// The most octets of `Access-Control-Request-Headers` that are granted; a longer list is answered by the fixed one.
  public static let requestedFieldsLimit = 1024

  /// The origins that may pay; `*` stands for all. Empty: none.
  public let origins: [String]
  /// What pages may read besides, as it is appended to the list: each name behind a comma.
  private let furtherFields: [UInt8]

  /// Lets pages of `origins` pay, and read the fields `exposed` of the upstream's as well.
  public init(origins: [String], exposed: [String] = []) {
    self.origins = origins
    furtherFields = exposed.flatMap { Array(", \($0)".utf8) }
  }

  /// Tells whether a page of this origin may read responses.
  public func allows(_ origin: UnsafeRawBufferPointer) -> Bool {
    origins.contains { $0 == "*" || $0.utf8.elementsEqual(origin) }
  }

  /// Appends the field lines of a response to a page of `origin`; nothing where the origin is not allowed.
  public func appendFields(origin: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
    appendOrigin(origin, to: &out)
    guard allows(origin) else { return }
    out.append("Access-Control-Expose-Headers: " as StaticString)
    out.append(CORS.exposedFields)
    out.append(furtherFields)
    out.append("\r\n" as StaticString)
  }

  /// Appends the field lines of a preflight's 204; nothing is granted where the origin is not allowed.
  ///
  /// - Parameters:
  ///   - method: the value of `Access-Control-Request-Method`.
  ///   - fields: the value of `Access-Control-Request-Headers`, granted where it is a list of tokens.
  public func appendPreflight(
    origin: UnsafeRawBufferPointer, method: UnsafeRawBufferPointer, fields: UnsafeRawBufferPointer?, to out: inout ByteBuffer
  ) {
    appendOrigin(origin, to: &out)
    guard allows(origin), !method.isEmpty, CORS.isTokenList(method), !method.contains(0x2C) else { return }
    out.append("Access-Control-Allow-Methods: " as StaticString)
    out.append(method)
    out.append("\r\nAccess-Control-Allow-Headers: " as StaticString)
    out.append(CORS.allowedFields)
    if let fields, !fields.isEmpty, fields.count <= CORS.requestedFieldsLimit, CORS.isTokenList(fields) {
      out.append(", " as StaticString)
      out.append(fields)
    }
    out.append("\r\nAccess-Control-Max-Age: " as StaticString)
    out.append(decimal: UInt64(CORS.maximumAge))
    out.append("\r\n" as StaticString)
  }

  /// `Vary: Origin` goes with every answer, since an answer without grants depends on the origin too.
  private func appendOrigin(_ origin: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
    guard !origins.isEmpty else { return }
    if allows(origin) {
      out.append("Access-Control-Allow-Origin: " as StaticString)
      if origins.contains("*") { out.append(byte: 0x2A) } else { out.append(origin) }
      out.append("\r\n" as StaticString)
    }
    out.append("Vary: Origin\r\n" as StaticString)
  }

  private static func isTokenList(_ text: UnsafeRawBufferPointer) -> Bool {
    text.allSatisfy {
      switch $0 {
      case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2C, 0x20, 0x2D, 0x5F, 0x2E, 0x21, 0x23...0x27, 0x2A, 0x2B, 0x5E, 0x60, 0x7C, 0x7E: true
      default: false
      }
    }
  }
}
