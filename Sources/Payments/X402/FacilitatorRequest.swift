import Bytes
import Encoding

/// Writes the bodies of `/verify` and `/settle` (x402 v2 section 7): the payment as it was sent, and our own requirements, never the
/// client's copy.
public enum FacilitatorRequest {
  /// Appends the body for a client's payment.
  ///
  /// - Parameters:
  ///   - amount: what is settled, where that is less than the requirements' (upto); nil for the requirements' own.
  ///   - resource: the URL and description that version 1 has in its requirements; unused in version 2.
  /// - Returns: false, and nothing appended, where version 1 has no words for the requirements.
  public static func append(
    _ payload: PaymentPayload, _ requirements: PaymentRequirements, amount: UInt128? = nil, resource: ResourceInfo,
    to out: inout ByteBuffer
  ) -> Bool {
    switch payload.version {
    case .v2:
      begin("{\"x402Version\":2,\"paymentPayload\":", payload.json, to: &out)
      requirements.append(amount: amount, to: &out)
    case .v1:
      guard let prepared = PreparedRequirementsV1(requirements, info: resource) else { return false }
      begin("{\"x402Version\":1,\"paymentPayload\":", payload.json, to: &out)
      var url = resource.url
      url.withUTF8 { prepared.append(url: UnsafeRawBufferPointer($0), to: &out) }
    }
    out.append(byte: 0x7D)
    return true
  }

  /// Appends the body for what a server does with its channels.
  public static func append(_ action: ChannelAction, _ requirements: PaymentRequirements, to out: inout ByteBuffer) {
    out.append("{\"x402Version\":2,\"paymentPayload\":{\"x402Version\":2,\"accepted\":" as StaticString)
    requirements.append(to: &out)
    out.append(",\"payload\":" as StaticString)
    JSON.append(.object(action.json), to: &out)
    out.append("},\"paymentRequirements\":" as StaticString)
    requirements.append(to: &out)
    out.append(byte: 0x7D)
  }

  private static func begin(_ start: StaticString, _ json: [UInt8], to out: inout ByteBuffer) {
    out.append(start)
    out.append(json)
    out.append(",\"paymentRequirements\":" as StaticString)
  }
}
