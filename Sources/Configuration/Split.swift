import Bytes
import Encoding
import Ethereum

extension Settings {
  /// A part of what is charged on chains that goes to somebody else than the merchant.
  public struct Split: Sendable, Hashable {
    /// Who gets it, by the names of chains.
    public var addresses: [String: Address] = [:]
    /// Base units of the price's currency.
    public var amount: UInt128
    /// A label for people by the method `evm`, the transfer's memo by `tempo`.
    public var memo: Memo?
  }

  /// A word that goes with a transfer: a text, or 32 octets as 0x and 64 hexadecimal digits.
  public struct Memo: Sendable, Hashable {
    public var text: String

    /// Reads a word that a transfer on Tempo can have: of text at most 32 octets.
    public init?(_ text: String) {
      self.text = text
      guard !text.isEmpty, text.hasPrefix("0x") ? HexData.digest(text) != nil : text.utf8.count <= 32, !text.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F })
      else { return nil }
    }

    /// The 32 octets: those of a text stand in front, followed by zeros.
    public var octets: Digest32 {
      if let digest = HexData.digest(text) { return digest }
      return (Array(text.utf8) + [UInt8](repeating: 0, count: 32)).withUnsafeBytes { Digest32(UnsafeRawBufferPointer(rebasing: $0[..<32])) }
    }
  }
}
