import Bytes
import Encoding

/// Decodes what x402's fields carry: base64 of one JSON object.
enum X402Text {
  /// Decodes base64 of either alphabet, padded or not: clients of all versions are met by one reader.
  static func decode(_ text: UnsafeRawBufferPointer, limit: Int) throws(X402Error) -> [UInt8] {
    guard text.count <= limit else { throw .tooLarge(limit: limit) }
    // What nearly all clients send needs no copy.
    if !text.isEmpty, let octets = Base64.decode(text) { return octets }
    var count = text.count
    while count > 0, text.count - count < 2, text[count - 1] == 0x3D { count -= 1 }
    let digits = [UInt8](unsafeUninitializedCapacity: count) { out, written in
      for index in 0..<count {
        switch text[index] {
        case 0x2B: out[index] = 0x2D
        case 0x2F: out[index] = 0x5F
        default: out[index] = text[index]
        }
      }
      written = count
    }
    guard count > 0, let octets = Base64URL.decode(digits) else { throw .notBase64 }
    return octets
  }

  /// Parses one JSON object, strictly and within bounds.
  static func parse(_ json: UnsafeRawBufferPointer, limit: Int, depth: Int = 24) throws(X402Error) -> X402Members {
    guard json.count <= limit else { throw .tooLarge(limit: limit) }
    let value: JSONValue
    do { value = try JSON.parse(json, limits: JSONLimits(octets: limit, depth: depth)) } catch { throw .malformedJSON }
    guard let object = value.objectValue else { throw .notAnObject }
    return X402Members(object)
  }

  /// Parses one JSON object, as above.
  static func parse(_ json: [UInt8], limit: Int) throws(X402Error) -> X402Members {
    try json.withUnsafeBufferPointer { (json) throws(X402Error) in try parse(UnsafeRawBufferPointer(json), limit: limit) }
  }
}
