import Bytes
import Crypto
import Encoding

/// The 32 octets that a client made for one session: their SHA-256 is the session's id, and showing them authenticates a request.
///
/// Only the hash may be stored; the secret is wiped when it is released, and never printed.
public struct SessionSecret: Sendable {
  private let octets: SecretBytes
  /// The session id that this secret opens.
  public let id: Digest32

  private init(_ octets: SecretBytes) {
    self.octets = octets
    self.id = octets.withUnsafeBytes { SHA256.hash($0) }
  }

  /// Makes a secret from 32 random octets; nil when there are not 32.
  public init?(octets: [UInt8]) {
    guard octets.count == 32 else { return nil }
    self.init(SecretBytes(octets))
  }

  /// Reads 64 lower-case hexadecimal digits.
  public init?(hex: String) {
    guard let digest = Digest32(hex: hex) else { return nil }
    self.init(SecretBytes(digest.bytes))
  }

  /// Makes a new secret.
  public static func generate() -> SessionSecret {
    SessionSecret(SecretBytes(Random.bytes(32)))
  }

  /// The secret in hexadecimal digits, for the wire and a client's own keeping.
  public var hex: String { octets.withUnsafeBytes { Hex.encode(Array($0)) } }

  /// Tells in constant time whether this is the secret of a session.
  public func opens(_ session: Digest32) -> Bool {
    id.withUnsafeBytes { own in session.withUnsafeBytes { other in constantTimeEqual(own, other) } }
  }
}
