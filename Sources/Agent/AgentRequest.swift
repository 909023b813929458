import HTTP

/// Describes one request that may have to be paid for.
public struct AgentRequest: Sendable {
  /// One header field as the caller gives it.
  public struct Field: Equatable, Sendable {
    /// The field's name, in any case.
    public let name: String
    /// The field's value, without blanks around it.
    public let value: String

    /// Makes a field; it is checked where a request takes it.
    public init(name: String, value: String) {
      self.name = name
      self.value = value
    }
  }

  /// The method's name as it goes into the request line.
  public let method: String
  /// What is asked for.
  public let address: WebAddress
  /// The fields that the caller adds, in their order.
  public let fields: [Field]
  /// What the request carries.
  public let content: RequestContent

  /// Makes a request.
  ///
  /// - Parameters:
  ///   - method: A token of RFC 9110 section 9.1, in its own case; `GET` by default.
  ///   - fields: What the caller adds; framing, connection and host fields are the agent's own.
  /// - Throws: `.requestField` naming the field that is malformed or not the caller's to set, `method` for the method.
  public init(
    method: String = "GET", address: WebAddress, fields: [Field] = [], content: RequestContent = .none
  ) throws(AgentError) {
    guard !method.isEmpty, method.utf8.allSatisfy({ isTokenOctet($0) }) else { throw .requestField(name: "method") }
    for field in fields { try Self.check(field) }
    self.method = method
    self.address = address
    self.fields = fields
    self.content = content
  }

  /// The fields that frame the message or steer the connection: a caller's word there could only break it.
  static let ownFields: Set<String> = [
    "host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect",
    "proxy-connection", "payment-authorization", "prepaid-session", "payment-receipt", "payment-signature",
    "x-payment",
  ]

  private static func check(_ field: Field) throws(AgentError) {
    let name = field.name.lowercased()
    guard !name.isEmpty, name.utf8.allSatisfy({ isTokenOctet($0) }), !ownFields.contains(name) else {
      throw .requestField(name: field.name)
    }
    guard field.value.utf8.allSatisfy({ $0 == 9 || ($0 >= 0x20 && $0 != 0x7F) }) else {
      throw .requestField(name: field.name)
    }
  }

  /// Whether the caller set the field, in any case.
  func has(_ name: String) -> Bool { fields.contains { $0.name.lowercased() == name } }

  /// Whether asking twice is as good as asking once, by the method's definition (RFC 9110 section 9.2.1).
  var isSafe: Bool {
    switch method {
    case "GET", "HEAD", "OPTIONS", "QUERY": true
    default: false
    }
  }

  /// Whether the answer has no body whatever its fields say.
  var isHead: Bool { method == "HEAD" }
}

/// Whether an octet may stand in a token (RFC 9110 section 5.6.2).
func isTokenOctet(_ octet: UInt8) -> Bool {
  switch octet {
  case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
    UInt8(ascii: "0")...UInt8(ascii: "9"):
    true
  case UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "%"), UInt8(ascii: "&"),
    UInt8(ascii: "'"), UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."),
    UInt8(ascii: "^"), UInt8(ascii: "_"), UInt8(ascii: "`"), UInt8(ascii: "|"), UInt8(ascii: "~"):
    true
  default: false
  }
}
