import Bytes
import Encoding

/// Prints the unsigned receipts of one session's requests: what stays the same is serialised once.
///
/// A request that a session pays costs a few microseconds in all, so neither strings nor objects are built for it.
public struct SessionReceipt: Sendable {
  /// In JCS order: what stands between amount and remaining, and before the resource; then what follows from the session's id on. One
  /// array, so that a session that has not been seen for long costs one way to memory.
  private let members: [UInt8]
  private let headCount: Int

  /// Prepares the receipts of a session, given as its id in hex.
  public init(method: String, sessionID: String, challengeID: String, currency: String, recipient: String) {
    var out = ByteBuffer()
    out.append("\",\"challengeId\":" as StaticString)
    JCS.append(string: challengeID, to: &out)
    out.append(",\"currency\":" as StaticString)
    JCS.append(string: currency, to: &out)
    out.append(",\"intent\":\"session\",\"method\":" as StaticString)
    JCS.append(string: method, to: &out)
    out.append(",\"recipient\":" as StaticString)
    JCS.append(string: recipient, to: &out)
    out.append(",\"reference\":" as StaticString)
    JCS.append(string: sessionID, to: &out)
    out.append(",\"remaining\":\"" as StaticString)
    headCount = out.count
    out.append("},\"sessionId\":" as StaticString)
    JCS.append(string: sessionID, to: &out)
    out.append(",\"spent\":\"" as StaticString)
    members = out.array()
  }

  /// Appends b64u(JCS(receipt)) to `out`; `scratch` is overwritten.
  ///
  /// - Parameters:
  ///   - amount: of this request, in base units.
  ///   - requestMethod: the HTTP method's octets.
  ///   - origin: scheme and authority of the URL.
  public func append(
    amount: UInt128, spent: UInt128, remaining: UInt128, units: UInt64, timestamp: Timestamp,
    requestMethod: UnsafeRawBufferPointer, origin: UnsafeRawBufferPointer, path: UnsafeRawBufferPointer,
    query: UnsafeRawBufferPointer?, scratch: inout ByteBuffer, to out: inout ByteBuffer
  ) {
    members.withUnsafeBytes { members in
      scratch.removeAll()
      scratch.append("{\"amount\":\"" as StaticString)
      scratch.append(decimal: amount)
      scratch.append(UnsafeRawBufferPointer(rebasing: members[..<headCount]))
      scratch.append(decimal: remaining)
      scratch.append("\",\"resource\":{\"method\":\"" as StaticString)
      scratch.append(requestMethod)
      scratch.append("\",\"url\":\"" as StaticString)
      scratch.appendURL(origin: origin, path: path, query: query)
      scratch.append(byte: 0x22)
      scratch.append(UnsafeRawBufferPointer(rebasing: members[headCount...]))
      scratch.append(decimal: spent)
      scratch.append("\",\"status\":\"success\",\"timestamp\":\"" as StaticString)
      timestamp.append(rfc3339: &scratch)
      scratch.append("\",\"units\":\"" as StaticString)
      scratch.append(decimal: units)
      scratch.append("\"}" as StaticString)
    }
    Base64URL.append(scratch, to: &out)
  }
}
