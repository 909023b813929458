import Bytes
import Crypto
import Encoding
import Payments

/// What a credential of the prepaid method asks for.
public enum PrepaidPayload: Sendable {
  /// Pays a charge from a wallet.
  case transfer(wallet: Ed25519.PublicKey, signature: [UInt8])
  /// Opens a session with a deposit (base units) and has its first request served.
  case open(wallet: Ed25519.PublicKey, deposit: UInt128, session: Digest32, signature: [UInt8])
  /// Authenticates a request of a session.
  case bearer(session: Digest32, secret: SessionSecret)
  /// Adds to a session's budget (base units).
  case topUp(session: Digest32, additionalDeposit: UInt128, signature: [UInt8])
  /// Asks for a session's state.
  case status(session: Digest32, secret: SessionSecret)
  /// Ends a session.
  case close(session: Digest32, proof: CloseProof)

  /// Who closes a session: the holder of its secret, or its wallet.
  public enum CloseProof: Sendable {
    case secret(SessionSecret)
    case wallet(Ed25519.PublicKey, signature: [UInt8])
  }

  /// Whether the payload manages a session, and is never forwarded when its request has no body.
  public var isManagement: Bool {
    switch self {
    case .topUp, .status, .close: true
    case .transfer, .open, .bearer: false
    }
  }

  /// The session that the payload names.
  public var session: Digest32? {
    switch self {
    case .transfer: nil
    case .open(_, _, let session, _), .bearer(let session, _), .topUp(let session, _, _), .status(let session, _), .close(let session, _):
      session
    }
  }

  /// Reads a payload; `intent` is the echoed challenge's, `source` the credential's.
  ///
  /// Members that the action does not know are refused, so that one credential has one meaning.
  public init(parsing object: JSONObject, intent: String, source: String?) throws(PrepaidError) {
    var members = PrepaidMembers(object)
    switch intent {
    case "charge":
      guard try members.string(.type) == "transfer" else { throw .unknownAction }
      let wallet = try members.wallet()
      try Self.compare(source, wallet)
      self = .transfer(wallet: wallet, signature: try members.signature())
    case "session":
      self = try Self.sessionAction(&members, source: source)
    default:
      throw .unknownAction
    }
    try members.end()
  }

  private static func sessionAction(_ members: inout PrepaidMembers, source: String?) throws(PrepaidError) -> PrepaidPayload {
    switch try members.string(.action) {
    case "open":
      let wallet = try members.wallet()
      try compare(source, wallet)
      let deposit = try members.amount(.deposit)
      guard deposit > 0 else { throw .invalid(.deposit) }
      return .open(wallet: wallet, deposit: deposit, session: try members.sessionID(), signature: try members.signature())
    case "bearer":
      return .bearer(session: try members.sessionID(), secret: try members.secret())
    case "topUp":
      let deposit = try members.amount(.additionalDeposit)
      guard deposit > 0 else { throw .invalid(.additionalDeposit) }
      return .topUp(session: try members.sessionID(), additionalDeposit: deposit, signature: try members.signature())
    case "status":
      return .status(session: try members.sessionID(), secret: try members.secret())
    case "close":
      let session = try members.sessionID()
      return .close(session: session, proof: try closeProof(&members, source: source))
    default:
      throw .unknownAction
    }
  }

  private static func closeProof(_ members: inout PrepaidMembers, source: String?) throws(PrepaidError) -> CloseProof {
    let hasSecret = members.has(.preimage)
    guard hasSecret != members.has(.wallet) else { throw .ambiguousProof }
    if hasSecret { return .secret(try members.secret()) }
    let wallet = try members.wallet()
    try compare(source, wallet)
    return .wallet(wallet, signature: try members.signature())
  }

  private static func compare(_ source: String?, _ wallet: Ed25519.PublicKey) throws(PrepaidError) {
    guard source == nil || source == DIDKey.encode(wallet) else { throw .sourceDiffers }
  }
}
