internal import COpenSSL

/// Computes SHA-1 (FIPS 180-4), which the WebSocket handshake proves by (RFC 6455 section 4.2.2). Nothing secret or
/// signed rests on it.
public enum SHA1 {
  /// Hashes octets at once; 20 octets.
  public static func hash(_ octets: [UInt8]) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: 20) { out, written in
      // Safe because: libcrypto reads what the array counts and writes 20 octets.
      octets.withUnsafeBufferPointer { _ = COpenSSL.SHA1($0.baseAddress, $0.count, out.baseAddress) }
      written = 20
    }
  }
}
