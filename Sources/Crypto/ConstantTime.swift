import Bytes
internal import CSodium

/// Compares octets in a time that depends on their number only; false at once where the numbers differ.
public func constantTimeEqual(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
  guard left.count == right.count else { return false }
  // No base address: no octets.
  guard let leftBase = left.baseAddress, let rightBase = right.baseAddress else { return true }
  // Safe because: both have as many octets as are compared.
  return sodium_memcmp(leftBase, rightBase, left.count) == 0
}

/// Compares digests in constant time.
public func constantTimeEqual(_ left: Digest32, _ right: Digest32) -> Bool {
  left.withUnsafeBytes { left in right.withUnsafeBytes { constantTimeEqual(left, $0) } }
}

/// Compares octets in a time that depends on their number only; false at once where the numbers differ.
public func constantTimeEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
  left.withUnsafeBytes { left in right.withUnsafeBytes { constantTimeEqual(left, $0) } }
}
