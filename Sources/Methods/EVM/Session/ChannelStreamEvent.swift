import Bytes
import Encoding
import Ethereum

/// The events that the proxy puts between those of an upstream's event stream, where a channel pays (drafts, "Insufficient Balance
/// During Streaming" and "Receipt Generation").
///
/// There is none for a stream that waited too long: clients hand events that they do not know to their application.
public enum ChannelStreamEvent: Sendable, Hashable {
  /// What was signed does not pay for what comes next; the stream waits.
  case needVoucher(channelID: Digest32, requiredCumulative: UInt128, acceptedCumulative: UInt128, deposit: UInt128)
  /// The final receipt: JCS of its object, not encoded any further.
  case receipt(text: [UInt8])

  /// The event's name on the wire.
  public var name: String {
    switch self {
    case .needVoucher: "payment-need-voucher"
    case .receipt: "payment-receipt"
    }
  }

  /// The event's octets, with the blank line that ends it; a space follows each colon, as the reference client wants.
  public var octets: [UInt8] {
    var out = ByteBuffer()
    switch self {
    case .needVoucher(let channelID, let required, let accepted, let deposit):
      out.append("event: payment-need-voucher\ndata: {\"acceptedCumulative\":\"" as StaticString)
      out.append(decimal: accepted)
      out.append("\",\"channelId\":\"0x" as StaticString)
      out.append(hex: channelID)
      out.append("\",\"deposit\":\"" as StaticString)
      out.append(decimal: deposit)
      out.append("\",\"requiredCumulative\":\"" as StaticString)
      out.append(decimal: required)
      out.append("\"}" as StaticString)
    case .receipt(let text):
      out.append("event: payment-receipt\ndata: " as StaticString)
      out.append(text)
    }
    out.append("\n\n" as StaticString)
    return out.array()
  }

  /// Reads the data of an event of the first name, on the payer's side.
  ///
  /// - Throws: `missing`, `malformed`, `overflow`.
  public init(needVoucher data: [UInt8]) throws(ChainChargeError) {
    let json: JSONValue
    do { json = try JSON.parse(data) } catch { throw .malformed(.channelId) }
    guard let object = json.objectValue else { throw .malformed(.channelId) }
    let members = ChainMembers(object)
    self = .needVoucher(
      channelID: try members.word(.channelId), requiredCumulative: try members.units(.requiredCumulative),
      acceptedCumulative: try members.units(.acceptedCumulative), deposit: try members.units(.deposit))
  }
}
