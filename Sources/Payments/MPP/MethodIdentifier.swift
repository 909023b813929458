/// Recognises the identifiers of payment methods and intents.
public enum MethodIdentifier {
  /// The longest identifier, in octets.
  public static let limit = 64

  /// Tells whether `text` is `[a-z][a-z0-9:_-]*`, what the deployed SDKs accept; the draft's letters are part of it.
  public static func isMethod(_ text: String) -> Bool {
    guard let first = text.utf8.first, (0x61...0x7A).contains(first), text.utf8.count <= limit else { return false }
    return text.utf8.allSatisfy {
      (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x3A || $0 == 0x5F || $0 == 0x2D
    }
  }

  /// Tells whether `text` is `1*( ALPHA / DIGIT / "-" )`.
  public static func isIntent(_ text: String) -> Bool {
    guard (1...limit).contains(text.utf8.count) else { return false }
    return text.utf8.allSatisfy {
      (0x61...0x7A).contains($0) || (0x41...0x5A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D
    }
  }
}
