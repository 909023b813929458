import Bytes
import Encoding

/// A problem document (RFC 9457), as refusals carry it.
public struct Problem: Sendable {
  /// The URI that names the kind of problem; `about:blank` says no more than the status.
  public var type: String
  /// What the kind of problem is, in a few words.
  public var title: String
  /// The response's status.
  public var status: UInt16
  /// What went wrong this time; never a secret or an octet of a credential.
  public var detail: String?
  /// Extension members, in their order.
  public var members: [(name: String, value: JSONValue)]

  /// The media type of the document.
  public static let mediaType: StaticString = "application/problem+json"
  /// The complete Content-Type line of the document.
  public static let contentTypeLine: StaticString = "Content-Type: application/problem+json\r\n"

  /// Makes a problem.
  public init(
    type: String = "about:blank", title: String, status: UInt16, detail: String? = nil,
    members: [(name: String, value: JSONValue)] = []
  ) {
    self.type = type
    self.title = title
    self.status = status
    self.detail = detail
    self.members = members
  }

  /// Makes a problem that says no more than its status.
  public init(status: UInt16, detail: String? = nil) {
    self.init(title: "\(Status.reason(status))", status: status, detail: detail)
  }

  /// The document as JSON.
  public var body: [UInt8] {
    var buffer = ByteBuffer()
    append(to: &buffer)
    return buffer.withUnsafeBytes { Array($0) }
  }

  /// Appends the document as JSON.
  public func append(to buffer: inout ByteBuffer) {
    buffer.append("{\"type\":")
    JCS.append(string: type, to: &buffer)
    buffer.append(",\"title\":")
    JCS.append(string: title, to: &buffer)
    buffer.append(",\"status\":")
    buffer.append(decimal: UInt64(status))
    if let detail {
      buffer.append(",\"detail\":")
      JCS.append(string: detail, to: &buffer)
    }
    for member in members {
      buffer.append(",")
      JCS.append(string: member.name, to: &buffer)
      buffer.append(":")
      JCS.append(member.value, to: &buffer)
    }
    buffer.append("}")
  }
}
