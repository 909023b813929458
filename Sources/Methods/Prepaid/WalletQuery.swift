import Bytes
import Crypto
import Encoding

/// A signed question of a wallet's holder about its own balance, policy and sessions.
///
/// `{"wallet","time","nonce","signature"}`; the signature covers `prepaid-query-v1`, a line feed, and the canonical form of the rest.
public struct WalletQuery: Sendable {
  /// The most octets of a query's body.
  public static let byteLimit = 4096
  /// How far a query's time may be from the proxy's clock, in either direction.
  public static let tolerance: Duration = .seconds(60)
  /// How many octets a nonce may have: enough to be unique, few enough to be kept.
  public static let nonceLengths = 8...64

  /// The wallet that asks about itself.
  public let wallet: Ed25519.PublicKey
  /// When it asks.
  public let time: Timestamp
  /// What makes the query usable once.
  public let nonce: String
  private let signature: [UInt8]
  private let signed: [UInt8]

  /// Reads a query's body; its signature is not yet checked.
  public init(parsing body: UnsafeRawBufferPointer) throws(PrepaidError) {
    guard body.count <= Self.byteLimit else { throw .malformed }
    let value: JSONValue
    do { value = try JSON.parse(body) } catch { throw .malformed }
    guard var object = value.objectValue else { throw .malformed }
    var members = PrepaidMembers(object)
    wallet = try members.wallet()
    guard let time = Timestamp(rfc3339: try members.string(.time)) else { throw .invalid(.time) }
    self.time = time
    nonce = try members.string(.nonce)
    guard Self.nonceLengths.contains(nonce.utf8.count), nonce.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
      throw .invalid(.nonce)
    }
    signature = try members.signature()
    try members.end()
    object.remove("signature")
    signed = Self.octets(of: object)
  }

  /// Tells whether the query's time is within the tolerance of `now`.
  public func isTimely(at now: Timestamp) -> Bool {
    let difference = now - time
    return difference <= Self.tolerance && difference >= .zero - Self.tolerance
  }

  /// Tells whether the wallet's key signed the query.
  public var isAuthentic: Bool {
    signed.withUnsafeBytes { octets in
      signature.withUnsafeBytes { wallet.isValidSignature($0, of: octets) }
    }
  }

  /// What a used nonce is kept under: wallet and nonce together, for nonces are a wallet's own.
  public var claim: Digest32 { SHA256.hash("\(Prepaid.queryContext)\(DIDKey.encode(wallet))\n\(nonce)") }

  /// Makes a query's body.
  public static func sign(time: Timestamp, nonce: String, key: Ed25519.SigningKey) -> [UInt8] {
    var object: JSONObject = [
      "wallet": .string(DIDKey.encode(key.publicKey)), "time": .string(time.rfc3339), "nonce": .string(nonce),
    ]
    let signature = octets(of: object).withUnsafeBytes { key.sign($0) }
    object.set("signature", .string(Base64URL.encode(signature)))
    return JCS.serialize(object)
  }

  private static func octets(of object: JSONObject) -> [UInt8] {
    Array(Prepaid.queryContext.utf8) + JCS.serialize(object)
  }
}
