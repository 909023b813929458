import Bytes
import HTTP

extension Worker {
  /// Sends a client that came without TLS to the origin (RFC 9110, section 15.4.9): method and content stay.
  mutating func redirect(_ index: Int, _ target: UnsafeRawBufferPointer) {
    var fields = ByteBuffer(capacity: target.count + 128)
    fields.append("Location: ")
    fields.append(plan.origin)
    // The asterisk of OPTIONS asks about the whole server.
    if target.first == UInt8(ascii: "/") { fields.append(target) } else { fields.append("/") }
    fields.append("\r\n")
    answer(index, Answer(status: 308, fields: fields.array(), body: []))
  }
}
