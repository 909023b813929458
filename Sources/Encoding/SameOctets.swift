extension String {
  /// Whether two texts are the same octet by octet.
  ///
  /// Swift's `==` also equates what Unicode calls canonically equivalent, such as K and the Kelvin sign; names and values that are
  /// signed, matched or paid for must be compared by this instead.
  public func hasSameOctets(as other: String) -> Bool {
    let (left, right) = (utf8, other.utf8)
    guard left.count == right.count else { return false }
    let isSame = left.withContiguousStorageIfAvailable { left in
      right.withContiguousStorageIfAvailable { right in Self.isSame(UnsafeRawBufferPointer(left), UnsafeRawBufferPointer(right)) }
    }
    // Strings that another runtime lends are read octet by octet.
    return (isSame ?? nil) ?? left.elementsEqual(right)
  }

  /// Compares as many octets as both have, eight at a time: names are looked up by this many times a request.
  private static func isSame(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
    var index = 0
    while left.count &- index >= 8 {
      // Safe because: eight octets are left in both, whose counts are equal, and the loads ask for no alignment.
      guard left.loadUnaligned(fromByteOffset: index, as: UInt64.self) == right.loadUnaligned(fromByteOffset: index, as: UInt64.self)
      else { return false }
      index &+= 8
    }
    while index < left.count {
      guard left[index] == right[index] else { return false }
      index &+= 1
    }
    return true
  }
}
