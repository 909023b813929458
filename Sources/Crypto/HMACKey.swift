import Bytes

/// Authenticates octets by HMAC-SHA256 (RFC 2104) with one secret, whose two pads are hashed once.
///
/// The secret should have 32 octets or more; whoever makes the key enforces that.
public struct HMACKey: Sendable {
  private static let blockCount = 64
  private let inner: SHA256
  private let outer: SHA256

  /// Prepares a key.
  public init(secret: SecretBytes) {
    var (inner, outer) = (SHA256(), SHA256())
    let block = SecretBytes(count: Self.blockCount) { block in
      secret.withUnsafeBytes { octets in
        if octets.count <= block.count {
          block.copyMemory(from: octets)
        } else {
          SHA256.hash(octets).withUnsafeBytes { block.copyMemory(from: $0) }
        }
      }
    }
    for (pad, isInner) in [(UInt8(0x36), true), (0x5C, false)] {
      let padded = SecretBytes(count: Self.blockCount) { out in
        block.withUnsafeBytes { octets in
          for index in octets.indices { out[index] = octets[index] ^ pad }
        }
      }
      padded.withUnsafeBytes { octets in
        if isInner { inner.update(octets) } else { outer.update(octets) }
      }
    }
    self.inner = inner
    self.outer = outer
  }

  /// Computes the tag of octets.
  public func authenticate(_ octets: UnsafeRawBufferPointer) -> Digest32 {
    var first = inner
    first.update(octets)
    return finish(first)
  }

  /// Computes the tag of octets.
  public func authenticate(_ octets: [UInt8]) -> Digest32 {
    octets.withUnsafeBytes { authenticate($0) }
  }

  /// Computes the tag of a string's UTF-8.
  public func authenticate(_ text: String) -> Digest32 {
    var first = inner
    first.update(text)
    return finish(first)
  }

  /// Whether the tag is that of the octets, found out in constant time.
  public func isValid(_ tag: Digest32, for octets: UnsafeRawBufferPointer) -> Bool {
    constantTimeEqual(authenticate(octets), tag)
  }

  /// Whether the tag is that of the octets, found out in constant time.
  public func isValid(_ tag: Digest32, for octets: [UInt8]) -> Bool {
    constantTimeEqual(authenticate(octets), tag)
  }

  private func finish(_ first: SHA256) -> Digest32 {
    var second = outer
    second.update(first.finalize())
    return second.finalize()
  }
}

extension HMACKey: CustomStringConvertible, CustomReflectable {
  /// A fixed word in the place of the key.
  public var description: String { "<secret>" }
  /// A mirror without children.
  public var customMirror: Mirror { Mirror(self, children: [:]) }
}
