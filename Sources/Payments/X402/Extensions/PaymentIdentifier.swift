import Encoding

/// The extension `payment-identifier`: a client's own key for a payment, by which a repeat is known.
public enum PaymentIdentifier {
  /// The extension's key.
  public static let key = "payment-identifier"
  /// The octets of an identifier.
  public static let lengths = 16...128

  /// Says what the 402 declares.
  public static func declaration(isRequired: Bool) -> ExtensionDeclaration {
    ExtensionDeclaration(
      key: key, info: ["required": .bool(isRequired)],
      schema: [
        "$schema": .string(ExtensionDeclaration.dialect), "type": "object",
        "properties": [
          "required": ["type": "boolean"],
          "id": ["type": "string", "minLength": 16, "maxLength": 128, "pattern": "^[a-zA-Z0-9_-]+$"],
        ],
        "required": ["required"],
      ])
  }

  /// Reads the identifier of a payment; nil where there is none.
  ///
  /// - Throws: `malformed(.id)` for one that is not 16 to 128 of `[A-Za-z0-9_-]`, `malformed(.info)` for an envelope that is none.
  public static func read(_ payload: PaymentPayload) throws(X402Error) -> String? {
    guard let value = payload.extensions[key], !value.isNull else { return nil }
    guard let envelope = value.objectValue, let info = envelope["info"]?.objectValue else { throw .malformed(.info) }
    guard let value = info["id"], !value.isNull else { return nil }
    guard let id = value.stringValue, isValid(id) else { throw .malformed(.id) }
    return id
  }

  /// Whether a text is an identifier.
  public static func isValid(_ text: String) -> Bool {
    lengths.contains(text.utf8.count)
      && text.utf8.allSatisfy { octet in
        switch octet {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x5F: true
        default: false
        }
      }
  }
}
