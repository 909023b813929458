import Bytes
import Crypto

/// The memo by which Tempo's clients attribute a transfer to a challenge where none was asked for: a tag, a version, and the beginnings
/// of hashes of the realm, of the client's name and of the challenge's id (mppx and pympp; no draft has it).
public struct Attribution: Sendable, Hashable {
  /// Where the parts lie in the 32 octets.
  private enum Part {
    static let head = 0..<5
    static let server = 5..<15
    static let challenge = 25..<32
  }

  /// The first octets of Keccak-256 of `mpp`, and the version.
  private static let head = [UInt8](Keccak256.hash("mpp").bytes.prefix(4)) + [1]

  private let server: [UInt8]
  private let challenge: [UInt8]

  /// Attributes to a challenge.
  public init(_ challenge: ChallengeTerms) {
    server = [UInt8](Keccak256.hash(challenge.realm).bytes.prefix(Part.server.count))
    self.challenge = [UInt8](Keccak256.hash(challenge.id).bytes.prefix(Part.challenge.count))
  }

  /// Attributes to the challenge that a memo of this kind names.
  public init(_ memo: Digest32) {
    let octets = memo.bytes
    server = [UInt8](octets[Part.server])
    challenge = [UInt8](octets[Part.challenge])
  }

  /// Whether a memo attributes to whatever challenge.
  static func isPresent(in memo: Digest32) -> Bool { memo.bytes[Part.head].elementsEqual(head) }

  /// Whether a memo attributes to this challenge, whoever the client says that he is.
  public func isMade(in memo: Digest32) -> Bool {
    let octets = memo.bytes
    return Self.isPresent(in: memo) && octets[Part.server].elementsEqual(server) && octets[Part.challenge].elementsEqual(challenge)
  }

  /// The memo of a client without a name.
  public var memo: Digest32 {
    var memo = Digest32()
    memo.withUnsafeMutableBytes { octets in
      for (part, value) in [(Part.head, Self.head), (Part.server, server), (Part.challenge, challenge)] {
        UnsafeMutableRawBufferPointer(rebasing: octets[part]).copyBytes(from: value)
      }
    }
    return memo
  }
}
