import Bytes
import Encoding

/// Holds a text and the signatures under it, as C2SP's signed-note lays them out.
public struct SignedNote: Hashable, Sendable {
  /// The most octets of a note that is read.
  public static let maximumCount = 65_536
  /// The most signatures of a note that is read.
  public static let maximumSignatures = 16

  /// One line of signature.
  public struct Signature: Hashable, Sendable {
    /// The name of the key.
    public let name: String
    /// The first four octets of the key's hash, read from the first to the last.
    public let keyID: UInt32
    /// The octets of the signature.
    public let octets: [UInt8]
  }

  /// The text that is signed; it ends with a line feed.
  public let text: String
  /// The signatures in their order.
  public private(set) var signatures: [Signature]

  /// Makes a note without signatures; nil unless the text ends with a line feed and has no other control characters.
  public init?(text: String) {
    guard Self.isText(text) else { return nil }
    self.text = text
    signatures = []
  }

  /// Reads a note with at least one signature; nil for anything else.
  public init?(parsing note: String) {
    let octets = [UInt8](note.utf8)
    guard octets.count <= Self.maximumCount, octets.last == 0x0A, let end = Self.textEnd(octets) else { return nil }
    self.init(text: String(decoding: octets[..<end], as: UTF8.self))
    let lines = octets[(end + 1)...].dropLast().split(separator: 0x0A, omittingEmptySubsequences: false)
    guard lines.count <= Self.maximumSignatures else { return nil }
    for line in lines {
      guard let signature = Signature(parsing: line) else { return nil }
      signatures.append(signature)
    }
  }

  /// The end of the text: behind the line feed that comes before the last empty line.
  private static func textEnd(_ octets: [UInt8]) -> Int? {
    var index = octets.count - 1
    while index > 0 {
      if octets[index] == 0x0A, octets[index - 1] == 0x0A { return index }
      index -= 1
    }
    return nil
  }

  private static func isText(_ text: String) -> Bool {
    text.utf8.last == 0x0A && text.utf8.allSatisfy { $0 >= 0x20 || $0 == 0x0A }
  }

  /// Whether a key may have the name: it is not empty, and has no white space, control characters or plus sign.
  public static func isName(_ name: String) -> Bool {
    !name.isEmpty && name.unicodeScalars.allSatisfy { $0.value >= 0x20 && !$0.properties.isWhitespace && $0 != "+" }
  }

  /// Computes the key identifier of an Ed25519 key under a name.
  public static func keyID(name: String, key: Ed25519.PublicKey) -> UInt32 {
    var hash = SHA256()
    hash.update(name)
    hash.update([0x0A, 0x01])
    hash.update(key.octets)
    return hash.finalize().withUnsafeBytes { Signature.keyID($0) }
  }

  /// Writes a key as verifiers take it: name, key identifier and key, with plus signs between them; nil where the name is none.
  public static func verifierKey(name: String, key: Ed25519.PublicKey) -> String? {
    guard isName(name) else { return nil }
    let identifier = Hex.encode(Signature.octets(of: keyID(name: name, key: key)))
    return "\(name)+\(identifier)+\(Base64.encode([0x01] + key.bytes))"
  }

  /// Adds a signature; false, and nothing added, where the name is none.
  public mutating func sign(name: String, key: Ed25519.SigningKey) -> Bool {
    guard Self.isName(name) else { return false }
    let octets = key.sign([UInt8](text.utf8))
    signatures.append(Signature(name: name, keyID: Self.keyID(name: name, key: key.publicKey), octets: octets))
    return true
  }

  /// Whether one of the signatures is the key's under that name, and none under that name and key identifier is false.
  public func isSigned(name: String, key: Ed25519.PublicKey) -> Bool {
    let keyID = Self.keyID(name: name, key: key)
    let own = signatures.filter { $0.name.utf8.elementsEqual(name.utf8) && $0.keyID == keyID }
    let message = [UInt8](text.utf8)
    return !own.isEmpty && own.allSatisfy { key.isValidSignature($0.octets, of: message) }
  }

  /// The note as it is written: the text, an empty line, and a line for each signature.
  public var serialized: String {
    text + "\n" + signatures.map(\.line).joined()
  }
}

extension SignedNote.Signature {
  private static let prefix = [UInt8]("\u{2014} ".utf8)

  init?(parsing line: ArraySlice<UInt8>) {
    guard line.starts(with: Self.prefix) else { return nil }
    let words = line.dropFirst(Self.prefix.count).split(separator: 0x20, omittingEmptySubsequences: false)
    guard words.count == 2, let octets = Base64.decode([UInt8](words[1])), octets.count > 4 else { return nil }
    let name = String(decoding: words[0], as: UTF8.self)
    guard SignedNote.isName(name) else { return nil }
    self.name = name
    keyID = Self.keyID(octets)
    self.octets = [UInt8](octets[4...])
  }

  // Shifts rather than a load and `bigEndian`: with link-time optimisation Swift 6.3 dropped one of the two swaps, and every
  // checkpoint of a release carried its identifier backwards.

  /// Reads a key identifier from the first four octets.
  static func keyID(_ octets: some Collection<UInt8>) -> UInt32 {
    octets.prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
  }

  /// Writes a key identifier, its first octet first.
  static func octets(of keyID: UInt32) -> [UInt8] {
    [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: keyID >> $0) }
  }

  var line: String {
    let identifier = Self.octets(of: keyID)
    return "\u{2014} \(name) \(Base64.encode(identifier + octets))\n"
  }
}
