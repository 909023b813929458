import HTTP

/// Holds the head of a final answer, copied out of the connection's buffer.
public struct ReceivedHead: Sendable {
  /// The status, 200 to 999.
  public let status: UInt16
  /// The reason phrase, which may be empty.
  public let reason: String
  /// The fields in the order of the wire, names in the server's spelling.
  public let fields: [AgentRequest.Field]
  let framing: BodyFraming

  init(_ head: borrowing ResponseHead, _ octets: UnsafeRawBufferPointer) {
    status = head.status
    reason = Self.text(octets, head.reasonRange)
    fields = head.fields.map { field in
      AgentRequest.Field(name: Self.text(octets, field.nameRange), value: Self.text(octets, field.valueRange))
    }
    framing = head.framing
  }

  private static func text(_ octets: UnsafeRawBufferPointer, _ range: Range<Int>) -> String {
    String(decoding: octets[range.clamped(to: 0..<octets.count)], as: UTF8.self)
  }

  /// The first value of a field, by its name in lower case.
  public func first(_ name: String) -> String? { fields.first { $0.name.lowercased() == name }?.value }

  /// Every value of a field, by its name in lower case.
  public func all(_ name: String) -> [String] { fields.filter { $0.name.lowercased() == name }.map(\.value) }

  /// The media type without its parameters, in lower case.
  public var mediaType: String? {
    first("content-type").map { value in
      String(value.prefix { $0 != ";" && $0 != " " && $0 != "\t" }).lowercased()
    }
  }

  /// The octets that the body will have, where the head says so.
  public var contentLength: UInt64? {
    switch framing {
    case .length(let count): count
    case .none: 0
    case .chunked, .untilClose: nil
    }
  }
}
