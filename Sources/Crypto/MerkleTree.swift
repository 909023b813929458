import Bytes

/// Grows the hash tree of RFC 6962, section 2.1, leaf by leaf, and keeps no more of it than its root needs.
public struct MerkleTree: Hashable, Sendable {
  /// The number of leaves.
  public private(set) var size: UInt64
  /// The roots of the complete subtrees, the largest first: one for each bit that is set in `size`.
  public private(set) var peaks: [Digest32]

  /// Makes a tree without leaves.
  public init() {
    size = 0
    peaks = []
  }

  /// Goes on from a stored state; nil when a tree of that size has another number of peaks.
  public init?(size: UInt64, peaks: [Digest32]) {
    guard size.nonzeroBitCount == peaks.count else { return nil }
    self.size = size
    self.peaks = peaks
  }

  /// Hashes the octets of a leaf.
  public static func leafHash(_ octets: UnsafeRawBufferPointer) -> Digest32 {
    var hash = SHA256()
    hash.update(byte: 0)
    hash.update(octets)
    return hash.finalize()
  }

  /// Hashes the octets of a leaf.
  public static func leafHash(_ octets: [UInt8]) -> Digest32 {
    octets.withUnsafeBytes { leafHash($0) }
  }

  /// Appends a leaf by its hash.
  public mutating func append(leafHash: Digest32) {
    var node = leafHash
    // Each bit set at the end of the size is a subtree as large as the one that grows to its right.
    for _ in 0..<(~size).trailingZeroBitCount {
      guard let left = peaks.popLast() else { break }
      node = Self.nodeHash(left, node)
    }
    peaks.append(node)
    size &+= 1
  }

  /// Appends a leaf by its octets.
  public mutating func append(leaf octets: UnsafeRawBufferPointer) {
    append(leafHash: Self.leafHash(octets))
  }

  /// Appends a leaf by its octets.
  public mutating func append(leaf octets: [UInt8]) {
    append(leafHash: Self.leafHash(octets))
  }

  /// The tree's root; that of no leaves is the hash of no octets.
  public var root: Digest32 {
    guard var node = peaks.last else { return SHA256.hash([]) }
    for left in peaks.dropLast().reversed() { node = Self.nodeHash(left, node) }
    return node
  }

  private static func nodeHash(_ left: Digest32, _ right: Digest32) -> Digest32 {
    var hash = SHA256()
    hash.update(byte: 1)
    hash.update(left)
    hash.update(right)
    return hash.finalize()
  }
}
