import Bytes
import Encoding

/// Spells the SHA-256 content digest of a body (RFC 9530).
public enum ContentDigest {
  /// Returns `sha-256=:…:`, the form of RFC 9530, which challenges carry.
  public static func text(_ digest: Digest32) -> String {
    "sha-256=:\(Base64.encode(digest)):"
  }

  /// Reads both that form and the SDKs' `sha-256=…`, with or without padding; nil otherwise.
  public static func parse(_ text: some StringProtocol) -> Digest32? {
    let prefix = "sha-256="
    guard text.utf8.count <= 64, text.hasPrefix(prefix) else { return nil }
    var value = text.dropFirst(prefix.count)
    if value.hasPrefix(":") {
      guard value.utf8.count >= 2, value.hasSuffix(":") else { return nil }
      value = value.dropFirst().dropLast()
    }
    // 32 octets are 43 characters and one of padding.
    var padded = String(value)
    if padded.utf8.count == 43 { padded += "=" }
    guard padded.utf8.count == 44, let octets = Base64.decode(padded) else { return nil }
    return Digest32(bytes: octets)
  }
}
