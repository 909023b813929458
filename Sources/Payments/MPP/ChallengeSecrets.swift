import Bytes
import Crypto

/// Holds the secrets that bind challenges: one that issues, and those that it replaced.
///
/// A previous secret verifies until the challenges issued under it have expired
/// (draft-httpauth-payment-02, "Challenge-Binding Secret Management"); sessions outlive that, for their
/// terms are recorded.
public struct ChallengeSecrets: Sendable {
  /// The fewest octets of a secret.
  public static let minimumByteCount = 32
  /// The most secrets that verification tries, the current one included.
  public static let limit = 8

  public let current: HMACKey
  public let previous: [HMACKey]

  /// Prepares the keys; of `previous`, newest first, those beyond the limit are left out.
  ///
  /// - Throws: `weakSecret` where one has fewer than 32 octets.
  public init(current: SecretBytes, previous: [SecretBytes] = []) throws(PaymentError) {
    self.current = try ChallengeSecrets.key(current)
    var keys: [HMACKey] = []
    for secret in previous.prefix(ChallengeSecrets.limit - 1) { keys.append(try ChallengeSecrets.key(secret)) }
    self.previous = keys
  }

  /// Tells whether any of the secrets authenticates `octets` with `tag`; in constant time per secret.
  public func isValid(_ tag: Digest32, _ octets: UnsafeRawBufferPointer) -> Bool {
    if current.isValid(tag, for: octets) { return true }
    return previous.contains { $0.isValid(tag, for: octets) }
  }

  private static func key(_ secret: SecretBytes) throws(PaymentError) -> HMACKey {
    guard secret.count >= minimumByteCount else { throw .weakSecret }
    return HMACKey(secret: secret)
  }
}
