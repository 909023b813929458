extension ByteBuffer {
  /// Appends a range of octets.
  @inlinable
  public mutating func append(_ octets: UnsafeRawBufferPointer) {
    guard let source = octets.baseAddress, octets.count > 0 else { return }
    reserve(octets.count)
    // Safe because: the storage has room for the octets, which are not part of it.
    unsafe storage.unsafelyUnwrapped.advanced(by: end).copyMemory(from: source, byteCount: octets.count)
    end &+= octets.count
  }

  /// Appends the octets of a span.
  @inlinable
  public mutating func append(_ octets: RawSpan) {
    octets.withUnsafeBytes { append($0) }
  }

  /// Appends the octets of an array.
  @inlinable
  public mutating func append(_ octets: [UInt8]) {
    octets.withUnsafeBytes { append($0) }
  }

  /// Appends the octets of an array's part.
  @inlinable
  public mutating func append(_ octets: ArraySlice<UInt8>) {
    octets.withUnsafeBytes { append($0) }
  }

  /// Appends the octets left in another buffer.
  @inlinable
  public mutating func append(_ other: borrowing ByteBuffer) {
    other.withUnsafeBytes { append($0) }
  }

  /// Appends the UTF-8 of a string; a literal takes the way of `StaticString`.
  @_disfavoredOverload
  @inlinable
  public mutating func append(_ text: String) {
    var text = text
    text.withUTF8 { append(UnsafeRawBufferPointer($0)) }
  }

  /// Appends the UTF-8 of a substring.
  @_disfavoredOverload
  @inlinable
  public mutating func append(_ text: Substring) {
    var text = text
    text.withUTF8 { append(UnsafeRawBufferPointer($0)) }
  }

  /// Appends the UTF-8 of a literal.
  @inlinable
  public mutating func append(_ text: StaticString) {
    // One scalar alone may be stored without a pointer; the closure form covers both.
    text.withUTF8Buffer { append(UnsafeRawBufferPointer($0)) }
  }

  /// Appends the octets of a digest.
  @inlinable
  public mutating func append(_ digest: Digest32) {
    digest.withUnsafeBytes { append($0) }
  }

  /// Appends one octet.
  @inlinable
  public mutating func append(byte: UInt8) {
    reserve(1)
    // Safe because: the storage has room for one octet.
    unsafe storage.unsafelyUnwrapped.storeBytes(of: byte, toByteOffset: end, as: UInt8.self)
    end &+= 1
  }

  /// Appends `count` times the same octet.
  @inlinable
  public mutating func append(repeating byte: UInt8, count: Int) {
    guard count > 0 else { return }
    withUnsafeWritable(minimumCapacity: count) { free in
      UnsafeMutableRawBufferPointer(rebasing: free[..<count]).initializeMemory(as: UInt8.self, repeating: byte)
      return count
    }
  }

  /// Replaces octets that were appended before, counted from the first one left.
  ///
  /// - Precondition: `0 ≤ offset` and `offset + octets.count ≤ count`.
  @inlinable
  public mutating func overwrite(at offset: Int, with octets: UnsafeRawBufferPointer) {
    precondition(offset >= 0 && offset <= count && octets.count <= count &- offset)
    guard let source = octets.baseAddress, octets.count > 0 else { return }
    // Safe because: the range lies inside the octets left, so the storage exists.
    unsafe storage.unsafelyUnwrapped.advanced(by: start &+ offset).copyMemory(from: source, byteCount: octets.count)
  }

  /// Replaces octets that were appended before, counted from the first one left.
  ///
  /// - Precondition: `0 ≤ offset` and `offset + octets.count ≤ count`.
  @inlinable
  public mutating func overwrite(at offset: Int, with octets: [UInt8]) {
    octets.withUnsafeBytes { overwrite(at: offset, with: $0) }
  }

  /// Copies the octets left into an array.
  public borrowing func array() -> [UInt8] {
    withUnsafeBytes { [UInt8]($0) }
  }

  /// Copies the octets left into a string; what is not UTF-8 is replaced by U+FFFD.
  public borrowing func string() -> String {
    withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
  }
}
