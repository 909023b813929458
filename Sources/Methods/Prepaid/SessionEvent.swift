import Bytes
import Encoding

/// The events that the proxy puts between those of an upstream's event stream.
public enum SessionEvent: Sendable, Hashable {
  /// The budget cannot pay for what comes next; the stream waits.
  case needTopUp(session: Digest32, spent: UInt128, required: UInt128)
  /// The stream waited as long as the route allows, and ends.
  case timeout(session: Digest32, spent: UInt128, required: UInt128)
  /// The final receipt, as the `Payment-Receipt` field carries it.
  case receipt(encoded: [UInt8])

  /// The event's name on the wire.
  public var name: String {
    switch self {
    case .needTopUp: "payment-need-topup"
    case .timeout: "session-timeout"
    case .receipt: "payment-receipt"
    }
  }

  /// The event's octets, with the blank line that ends it.
  public var octets: [UInt8] {
    let data: [UInt8]
    switch self {
    case .needTopUp(let session, let spent, let required), .timeout(let session, let spent, let required):
      let object: JSONObject = [
        "sessionId": .string(session.hex), "balanceSpent": .string(String(spent)), "balanceRequired": .string(String(required)),
      ]
      data = JCS.serialize(object)
    case .receipt(let encoded):
      data = encoded
    }
    return Array("event: \(name)\ndata: ".utf8) + data + Array("\n\n".utf8)
  }
}
