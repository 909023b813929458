internal import CLibSSL
internal import Bytes
internal import Encoding

/// One X.509 certificate of libcrypto's.
final class Certificate: @unchecked Sendable {
  // Safe because: the certificate is changed by nobody after it was read, and libcrypto counts its owners atomically.
  let pointer: OpaquePointer

  /// Takes over an owner's share.
  init(taking pointer: OpaquePointer) {
    self.pointer = pointer
  }

  deinit { X509_free(pointer) }

  /// Most certificates of one file.
  static let limit = 1024

  /// Reads all certificates of a PEM text, other blocks left out; an error names the position of the broken one, from 1.
  static func read(pem: UnsafeRawBufferPointer) -> Result<[Certificate], Unreadable> {
    guard let source = PEMSource(pem) else { return .success([]) }
    var certificates: [Certificate] = []
    while certificates.count < limit {
      guard let pointer = libssl_read_certificate(source.pointer) else { break }
      certificates.append(Certificate(taking: pointer))
    }
    return LibraryErrors.isEndOfPEM() ? .success(certificates) : .failure(Unreadable(position: certificates.count + 1))
  }

  /// Carries the position of a certificate that cannot be read, from 1.
  struct Unreadable: Error {
    let position: Int
  }

  /// The names of servers that it is for, in lower case (RFC 6125: only subject alternative names count).
  var dnsNames: [String] {
    var names: [String] = []
    withUnsafeMutablePointer(to: &names) { names in
      // Safe because: the callback is called during this call only, with the array's address that it was given.
      libssl_each_dns_name(pointer, names) { context, octets, count in
        guard let context, let octets, count > 0 else { return }
        let text = String(decoding: UnsafeBufferPointer(start: octets, count: Int(count)), as: UTF8.self)
        context.assumingMemoryBound(to: [String].self).pointee.append(text.lowercased())
      }
    }
    return names
  }

  /// The subject as RFC 2253 writes it: one line of ASCII, everything else escaped.
  var subject: String {
    guard let memory = BIO_new(BIO_s_mem()) else { return "" }
    defer { BIO_free(memory) }
    guard X509_NAME_print_ex(memory, X509_get_subject_name(pointer), 0, libssl_rfc2253) >= 0 else { return "" }
    var octets = [UInt8](repeating: 0, count: libssl_bio_pending(memory))
    let count = octets.withUnsafeMutableBytes { BIO_read(memory, $0.baseAddress, Int32(clamping: $0.count)) }
    return String(decoding: octets.prefix(max(0, Int(count))), as: UTF8.self)
  }

  /// The SHA-256 of the whole certificate's DER.
  var fingerprint: Digest32 {
    var digest = Digest32()
    digest.withUnsafeMutableBytes { out in
      var count: UInt32 = 0
      // Safe because: SHA-256 writes 32 octets, and there are as many.
      _ = X509_digest(pointer, EVP_sha256(), out.baseAddress?.assumingMemoryBound(to: UInt8.self), &count)
    }
    return digest
  }

  /// When it begins to be valid; nil where that cannot be read.
  var validFrom: Timestamp? { Self.time(X509_get0_notBefore(pointer)) }
  /// When it ceases to be valid; nil where that cannot be read.
  var expires: Timestamp? { Self.time(X509_get0_notAfter(pointer)) }

  private static func time(_ time: UnsafePointer<ASN1_TIME>?) -> Timestamp? {
    var seconds: Int64 = 0
    guard libssl_seconds(time, &seconds) == 1 else { return nil }
    return Timestamp(seconds: seconds)
  }

  /// Whether `other` says of itself that it was issued by this one, and may have been.
  func issued(_ other: Certificate) -> Bool {
    X509_check_issued(pointer, other.pointer) == X509_V_OK
  }
}

/// Lets libcrypto read PEM text out of memory, without a copy.
struct PEMSource: ~Copyable {
  let pointer: OpaquePointer

  /// Takes octets that outlive this value; nil where there are none.
  init?(_ octets: UnsafeRawBufferPointer) {
    LibraryErrors.clear()
    guard octets.count > 0, let source = BIO_new_mem_buf(octets.baseAddress, Int32(clamping: octets.count)) else { return nil }
    pointer = source
  }

  deinit { BIO_free(pointer) }
}
