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
  /// How many of the previous ones, the newest, still authenticate challenges that are paid with. The others are from before the ledger was
  /// restored from a backup, which does not know what was paid with theirs; sessions go on with them.
  public let payingCount: Int

  /// Prepares the keys; of `previous`, newest first, those beyond the limit are left out.
  ///
  /// - Parameter payingCount: how many of `previous` may still be paid with.
  /// - Throws: `weakSecret` where one has fewer than 32 octets.
  public init(current: SecretBytes, previous: [SecretBytes] = [], payingCount: Int = .max) throws(PaymentError) {
    self.current = try ChallengeSecrets.key(current)
    var keys: [HMACKey] = []
    for secret in previous.prefix(ChallengeSecrets.limit - 1) { keys.append(try ChallengeSecrets.key(secret)) }
    self.previous = keys
    self.payingCount = min(payingCount, keys.count)
  }

  /// Tells whether any of the secrets authenticates `octets` with `tag`; in constant time per secret.
  public func isValid(_ tag: Digest32, _ octets: UnsafeRawBufferPointer) -> Bool {
    if current.isValid(tag, for: octets) { return true }
    return previous.contains { $0.isValid(tag, for: octets) }
  }

  private init(current: HMACKey, previous: [HMACKey]) {
    self.current = current
    self.previous = previous
    payingCount = previous.count
  }

  /// Those with which challenges are paid; nil where all of them are.
  public var paying: ChallengeSecrets? {
    payingCount < previous.count ? ChallengeSecrets(current: current, previous: Array(previous.prefix(payingCount))) : nil
  }

  private static func key(_ secret: SecretBytes) throws(PaymentError) -> HMACKey {
    guard secret.count >= minimumByteCount else { throw .weakSecret }
    return HMACKey(secret: secret)
  }
}
