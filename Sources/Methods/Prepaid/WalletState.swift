import Bytes
import Crypto
import Encoding

/// The answer to a wallet query: what the wallet has, what its policy still allows today, and which sessions are open.
///
/// Amounts are base units; a limit that is not set is absent.
public struct WalletState: Sendable, Hashable {
  /// One currency's balance.
  public struct Balance: Sendable, Hashable {
    public let currency: String
    public let decimals: UInt8
    public let available: UInt128

    public init(currency: String, decimals: UInt8, available: UInt128) {
      self.currency = currency
      self.decimals = decimals
      self.available = available
    }
  }

  /// One open or closing session.
  public struct Session: Sendable, Hashable {
    public let id: Digest32
    public let currency: String
    public let recipient: String
    public let state: SessionStatus

    public init(id: Digest32, currency: String, recipient: String, state: SessionStatus) {
      self.id = id
      self.currency = currency
      self.recipient = recipient
      self.state = state
    }
  }

  public let wallet: Ed25519.PublicKey
  public let ledger: String
  public let time: Timestamp
  public let balances: [Balance]
  /// The spending policy's limits by their names.
  public let policy: JSONObject
  /// What is left of each limit now, by the limits' names.
  public let left: JSONObject
  public let sessions: [Session]

  public init(
    wallet: Ed25519.PublicKey, ledger: String, time: Timestamp, balances: [Balance], policy: JSONObject, left: JSONObject,
    sessions: [Session]
  ) {
    self.wallet = wallet
    self.ledger = ledger
    self.time = time
    self.balances = balances
    self.policy = policy
    self.left = left
    self.sessions = sessions
  }

  /// The answer's object.
  public var object: JSONObject {
    [
      "wallet": .string(DIDKey.encode(wallet)), "ledger": .string(ledger), "time": .string(time.rfc3339),
      "balances": .array(
        balances.map {
          ["currency": .string($0.currency), "decimals": .integer(Int64($0.decimals)), "available": .string(String($0.available))]
        }),
      "policy": .object(policy), "left": .object(left),
      "sessions": .array(
        sessions.map { session in
          var object = session.state.object
          object.set("sessionId", .string(session.id.hex))
          object.set("currency", .string(session.currency))
          object.set("recipient", .string(session.recipient))
          return .object(object)
        }),
    ]
  }
}
