import Encoding

/// Decodes b64u(JSON object), the form of `request`, `opaque`, credentials and receipts.
enum EncodedObject {
  static func decode(_ text: String, limit: Int) throws(PaymentError) -> JSONObject {
    guard text.utf8.count <= limit else { throw .tooLarge(limit: limit) }
    guard !text.isEmpty, let octets = Base64URL.decode(text) else { throw .notBase64URL }
    return try parse(octets)
  }

  static func parse(_ octets: [UInt8]) throws(PaymentError) -> JSONObject {
    let value: JSONValue
    do { value = try JSON.parse(octets) } catch { throw .malformedJSON }
    guard let object = value.objectValue else { throw .notAnObject }
    return object
  }
}
