import Bytes
import Encoding

/// The pieces of x402's MCP transport (`transports-v2/mcp.md`), as JSON text that the messages around them take up.
public enum X402Transport {
  /// The member of `params._meta` that holds a payment: its JSON goes to ``payment(meta:)``.
  public static let paymentMember = "x402/payment"
  /// The member of `result._meta` that holds a `SettlementResponse`.
  public static let responseMember = "x402/payment-response"
  /// The capability of clients that take the result type `payment_required`.
  public static let capability = "org.x402/payment"

  /// Reads the value of `params._meta["x402/payment"]`: the object, or a string that holds it, as older clients send.
  ///
  /// - Throws: as `PaymentPayload.init(json:)`.
  public static func payment(meta value: UnsafeRawBufferPointer) throws(X402Error) -> PaymentPayload {
    guard value.first == 0x22 else { return try PaymentPayload(json: [UInt8](value)) }
    guard value.count <= PaymentPayload.fieldLimit else { throw .tooLarge(limit: PaymentPayload.fieldLimit) }
    guard let text = (try? JSON.parse(value))?.stringValue else { throw .malformedJSON }
    return try PaymentPayload(json: Array(text.utf8))
  }

  /// Appends the members of a tool's result that asks for payment, without braces: `"resultType":"complete","isError":true,
  /// "structuredContent":{…},"content":[…]`, the object in both.
  public static func appendToolResult(_ paymentRequired: borrowing ByteBuffer, to out: inout ByteBuffer) {
    out.append("\"resultType\":\"complete\",\"isError\":true,\"structuredContent\":" as StaticString)
    out.append(paymentRequired)
    out.append(",\"content\":[{\"type\":\"text\",\"text\":" as StaticString)
    paymentRequired.withUnsafeBytes { JCS.append(utf8: $0, to: &out) }
    out.append("}]" as StaticString)
  }

  /// Appends the members of a result of the type `payment_required`, without braces, for clients that have the capability.
  public static func appendResult(_ paymentRequired: borrowing ByteBuffer, to out: inout ByteBuffer) {
    out.append("\"resultType\":\"payment_required\",\"paymentRequired\":" as StaticString)
    out.append(paymentRequired)
  }

  /// Appends the member of `result._meta` that holds how a settlement ended.
  public static func appendMeta(_ response: SettlementResponse, to out: inout ByteBuffer) {
    out.append("\"x402/payment-response\":" as StaticString)
    response.append(json: .v2, to: &out)
  }
}
