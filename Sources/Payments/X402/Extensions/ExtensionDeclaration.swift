import Bytes
import Encoding

/// What a 402 declares of one extension: `extensions[key] = {info, schema}` (x402 v2 section 5.1.2).
public struct ExtensionDeclaration: Sendable, Hashable {
  /// The dialect of all schemas.
  static let dialect = "https://json-schema.org/draft/2020-12/schema"

  public let key: String
  public let info: JSONObject
  public let schema: JSONObject
  /// Members beside the two, as `routeTemplate`.
  public let further: JSONObject

  public init(key: String, info: JSONObject, schema: JSONObject, further: JSONObject = JSONObject()) {
    self.key = key
    self.info = info
    self.schema = schema
    self.further = further
  }

  /// Appends `"key":{…}`.
  func append(withSchema: Bool, to out: inout ByteBuffer) {
    JCS.append(string: key, to: &out)
    out.append(":{\"info\":" as StaticString)
    JSON.append(.object(info), to: &out)
    if withSchema {
      out.append(",\"schema\":" as StaticString)
      JSON.append(.object(schema), to: &out)
    }
    for member in further.members {
      out.append(byte: 0x2C)
      JCS.append(string: member.name, to: &out)
      out.append(byte: 0x3A)
      JSON.append(member.value, to: &out)
    }
    out.append(byte: 0x7D)
  }

  /// Whether a payment that echoes the extension echoes all of what was said; one that leaves it out does so as well.
  public func isEchoed(by extensions: JSONObject) -> Bool {
    guard let echo = extensions[key], !echo.isNull else { return true }
    guard let info = echo["info"] else { return false }
    return ExtensionEcho.contains(.object(self.info), in: info)
  }
}
