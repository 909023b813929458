import Bytes
import Encoding

/// What a facilitator says of a payment before it is settled (x402 v2 section 5.4).
public struct VerifyResponse: Sendable, Hashable {
  /// The most octets of the JSON.
  public static let limit = 64 * 1024

  public let isValid: Bool
  /// Nil where the payment is valid.
  public let reason: X402Reason?
  /// The facilitator's sentence, for the log; never for a client.
  public let message: String?
  /// As the answer spells it.
  public let payer: String?
  /// The channel as the chain has it, of batch-settlement.
  public let channelState: ChannelState?

  /// Reads the answer's body.
  ///
  /// - Throws: `tooLarge`, `malformedJSON`, `notAnObject`, `missing`, `malformed`, `overflow`.
  public init(json: UnsafeRawBufferPointer) throws(X402Error) {
    let members = try X402Text.parse(json, limit: Self.limit)
    isValid = try members.bool(.isValid)
    reason = try members.optionalString(.invalidReason).map { X402Reason(wire: $0) }
    message = try members.optionalString(.invalidMessage)
    payer = try members.optionalString(.payer)
    let extra = X402Members(try members.optionalObject(.extra))
    channelState = extra[.channelId] == nil ? nil : try ChannelState(extra)
  }
}
