public import Bytes
internal import CLibSSL
public import Encoding

/// What a server or client proves to be: a chain of certificates and the private key of the first one, both checked.
///
/// The key lives in libcrypto's memory alone, and is erased there with the last copy.
public struct TLSIdentity: Sendable {
  let chain: [Certificate]
  let key: PrivateKey

  /// The DNS names of the first certificate in lower case, wildcards as they stand.
  public let names: [String]
  /// When the first certificate of the chain that ceases to be valid does so.
  public let expires: Timestamp

  /// Reads PEM text and checks it: every certificate is valid now, each one issued the one before it, keys and
  /// signatures are not weak, and the key is the first one's.
  ///
  /// - Parameters:
  ///   - chain: one or more certificates, the identity's own first.
  ///   - key: one private key in PKCS #8 or its older forms, without a password.
  ///   - now: the instant at which certificates must be valid.
  public init(chain pem: [UInt8], key secret: SecretBytes, now: Timestamp) throws(TLSError) {
    let certificates: [Certificate]
    switch pem.withUnsafeBytes({ Certificate.read(pem: $0) }) {
    case .success(let read): certificates = read
    case .failure(let broken): throw .certificateUnreadable(position: broken.position)
    }
    guard let own = certificates.first else { throw .certificateMissing }
    let key = try PrivateKey(pem: secret)
    guard X509_check_private_key(own.pointer, key.pointer) == 1 else {
      LibraryErrors.clear()
      throw .keyMismatch
    }
    chain = certificates
    self.key = key
    names = own.dnsNames
    expires = try Self.check(certificates, now)
    // A context that nobody uses says whether libssl would take it, weak keys and signatures above all.
    try ContextHandle(isServer: true, minimum: .tls12).use(self)
  }

  /// Checks times and order; gives the earliest end.
  private static func check(_ chain: [Certificate], _ now: Timestamp) throws(TLSError) -> Timestamp {
    var earliest = Timestamp.latest
    for (index, certificate) in chain.enumerated() {
      guard let from = certificate.validFrom, let end = certificate.expires else { throw .certificateUnreadable(position: index + 1) }
      guard now >= from else { throw .certificateNotYetValid(position: index + 1, from: from) }
      guard now <= end else { throw .certificateExpired(position: index + 1, at: end) }
      if index > 0 && !certificate.issued(chain[index - 1]) { throw .certificateOutOfOrder(position: index + 1) }
      earliest = min(earliest, end)
    }
    return earliest
  }

  /// The subject of the first certificate as RFC 2253 writes it.
  public var subject: String { chain[0].subject }

  /// The SHA-256 of the first certificate's DER.
  public var fingerprint: Digest32 { chain[0].fingerprint }

  /// Whether both prove the same names by different kinds of keys, so that one context can offer either.
  func complements(_ other: TLSIdentity) -> Bool {
    Set(names) == Set(other.names) && key.kind != other.key.kind
  }
}

extension TLSIdentity: CustomStringConvertible, CustomReflectable {
  /// The subject; never anything of the key.
  public var description: String { subject }
  /// A mirror without children.
  public var customMirror: Mirror { Mirror(self, children: [:]) }
}

/// One private key of libcrypto's.
final class PrivateKey: @unchecked Sendable {
  // Safe because: the key is only read after it was made, and libcrypto counts its owners atomically.
  let pointer: OpaquePointer

  init(pem: SecretBytes) throws(TLSError) {
    let found = pem.withUnsafeBytes { octets -> Result<OpaquePointer, TLSError> in
      guard let source = PEMSource(octets) else { return .failure(.keyMissing) }
      defer { LibraryErrors.clear() }
      if let key = libssl_read_key(source.pointer) { return .success(key) }
      guard Self.contains(octets, "PRIVATE KEY-----") else { return .failure(.keyMissing) }
      return .failure(Self.contains(octets, "ENCRYPTED") ? .keyEncrypted : .keyUnreadable)
    }
    pointer = try found.get()
  }

  deinit { EVP_PKEY_free(pointer) }

  /// libcrypto's number for RSA, EC, Ed25519 …
  var kind: Int32 { EVP_PKEY_get_base_id(pointer) }

  private static func contains(_ octets: UnsafeRawBufferPointer, _ word: StaticString) -> Bool {
    word.withUTF8Buffer { word in
      guard octets.count >= word.count else { return false }
      return (0...(octets.count - word.count)).contains { octets[$0..<($0 + word.count)].elementsEqual(word) }
    }
  }
}
