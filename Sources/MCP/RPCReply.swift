import Bytes
import Encoding
import Payments

/// The error codes of JSON-RPC 2.0 and of draft-payment-transport-mcp-00 ("Error Code Mapping").
public enum RPCCode: Int, Sendable {
  case parseError = -32700
  case invalidRequest = -32600
  case invalidParams = -32602
  case internalError = -32603
  /// Payment is required: challenges stand in `error.data`.
  case paymentRequired = -32042
  /// A credential does not hold: a fresh challenge and the reason stand in `error.data`.
  case verificationFailed = -32043
  /// A header field says something else than the message.
  case headerMismatch = -32020
  /// Nothing that paying again would help: `error.data` says why.
  case refused = -32000

  /// The error's `message`.
  public var message: StaticString {
    switch self {
    case .parseError: "Parse error"
    case .invalidRequest: "Invalid Request"
    case .invalidParams: "Invalid params"
    case .internalError: "Internal error"
    case .paymentRequired: "Payment Required"
    case .verificationFailed: "Payment Verification Failed"
    case .headerMismatch: "Header mismatch"
    case .refused: "Refused"
    }
  }
}

/// Prints responses of our own.
public enum RPCReply {
  /// Prints an error.
  public static func error(_ id: RPCIdentifier, _ code: RPCCode, data: JSONObject? = nil) -> [UInt8] {
    var out = begun(id)
    out.append(",\"error\":{\"code\":" as StaticString)
    out.append(String(code.rawValue))
    out.append(",\"message\":\"" as StaticString)
    out.append(code.message)
    out.append(byte: 0x22)
    if let data {
      out.append(",\"data\":" as StaticString)
      JSON.append(.object(data), to: &out)
    }
    out.append("}}" as StaticString)
    return out.array()
  }

  /// Prints the result of a tool that asks for payment by x402: `paymentRequired` is its object, as JSON text.
  public static func paymentRequired(_ id: RPCIdentifier, _ paymentRequired: [UInt8]) -> [UInt8] {
    var out = begun(id)
    var object = ByteBuffer(capacity: paymentRequired.count)
    object.append(paymentRequired)
    out.append(",\"result\":{" as StaticString)
    X402Transport.appendToolResult(object, to: &out)
    out.append("}}" as StaticString)
    return out.array()
  }

  /// Prints a result.
  public static func result(_ id: RPCIdentifier, _ result: JSONObject) -> [UInt8] {
    var out = begun(id)
    out.append(",\"result\":" as StaticString)
    JSON.append(.object(result), to: &out)
    out.append(byte: 0x7D)
    return out.array()
  }

  /// Prints the result of a request that manages a session, in the shape that its method's results have: clients read nothing else.
  public static func management(_ id: RPCIdentifier, _ kind: CallKind, text: String, receipt: JSONObject?) -> [UInt8] {
    // Since 2026-07-28 every result says that it is complete; older readers pass over it.
    var result: JSONObject = ["resultType": "complete"]
    let block: JSONObject = ["type": "text", "text": .string(text)]
    switch kind {
    case .tool:
      result.set("content", .array([.object(block)]))
      // The tool was not run: without this, clients would hold the text against the schema of the tool's output.
      result.set("isError", .bool(true))
    case .resource:
      let content: JSONObject = ["uri": "about:blank", "mimeType": "application/json", "text": .string(text)]
      result.set("contents", .array([.object(content)]))
      result.set("cacheScope", "private")
      result.set("ttlMs", 0)
    case .prompt:
      let message: JSONObject = ["role": "assistant", "content": .object(block)]
      result.set("messages", .array([.object(message)]))
    }
    if let receipt { result.set("_meta", .object(["org.paymentauth/receipt": .object(receipt)])) }
    return self.result(id, result)
  }

  /// Joins the responses to a batch.
  public static func batch(_ responses: [[UInt8]]) -> [UInt8] {
    var out: [UInt8] = [0x5B]
    for (index, response) in responses.enumerated() {
      if index > 0 { out.append(0x2C) }
      out += response
    }
    return out + [0x5D]
  }

  private static func begun(_ id: RPCIdentifier) -> ByteBuffer {
    var out = ByteBuffer()
    out.append("{\"jsonrpc\":\"2.0\",\"id\":" as StaticString)
    out.append(id.octets)
    return out
  }
}
