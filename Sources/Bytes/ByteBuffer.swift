/// Holds octets in one contiguous piece of memory that grows at its end and is consumed from its start.
///
/// It has one owner and is moved, never copied. An empty buffer owns no memory until something is appended.
@frozen
public struct ByteBuffer: ~Copyable {
  /// The least storage that is allocated, in octets.
  @inlinable
  public static var minimumStorage: Int { 64 }

  @usableFromInline var storage: UnsafeMutableRawPointer?
  @usableFromInline var start: Int
  @usableFromInline var end: Int
  @usableFromInline var storageCount: Int

  /// Makes an empty buffer without storage.
  @inlinable
  public init() {
    storage = nil
    start = 0
    end = 0
    storageCount = 0
  }

  /// Makes an empty buffer that takes `capacity` octets without allocating again.
  @inlinable
  public init(capacity: Int) {
    self.init()
    reserve(capacity)
  }

  @inlinable
  deinit {
    // Safe because: the storage was allocated here, and the buffer is its only owner.
    storage?.deallocate()
  }

  /// The number of octets that were appended and not yet consumed.
  @inlinable
  public var count: Int { end &- start }

  /// Whether nothing is left to consume.
  @inlinable
  public var isEmpty: Bool { start == end }

  /// The octets of storage, the consumed ones included.
  @inlinable
  public var capacity: Int { storageCount }

  /// Makes room for `additional` more octets, so that appending them does not allocate.
  @inlinable
  public mutating func reserve(_ additional: Int) {
    precondition(additional >= 0)
    if storageCount &- end < additional { makeRoom(for: additional) }
  }

  /// Moves what is left to the storage's start, or to a larger storage.
  @usableFromInline
  mutating func makeRoom(for additional: Int) {
    let left = count
    let needed = left + additional
    // Moving in place is paid for by the octets consumed before: at least as many as are moved.
    if let storage, needed <= storageCount, start >= left {
      storage.copyMemory(from: storage + start, byteCount: left)
    } else {
      let size = max(needed, storageCount <= Int.max / 2 ? storageCount * 2 : needed, Self.minimumStorage)
      let larger = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
      if let storage {
        larger.copyMemory(from: storage + start, byteCount: left)
        storage.deallocate()
      }
      storage = larger
      storageCount = size
    }
    start = 0
    end = left
  }

  /// Consumes the first `n` octets.
  ///
  /// - Precondition: `0 ≤ n ≤ count`.
  @inlinable
  public mutating func removeFirst(_ n: Int) {
    precondition(n >= 0 && n <= count)
    start &+= n
    if start == end {
      start = 0
      end = 0
    }
  }

  /// Drops the last octets, so that `count` of them are left.
  ///
  /// - Precondition: `0 ≤ count ≤ self.count`.
  @inlinable
  public mutating func truncate(to count: Int) {
    precondition(count >= 0 && count <= self.count)
    end = start &+ count
  }

  /// Drops all octets and keeps the storage.
  @inlinable
  public mutating func removeAll() {
    start = 0
    end = 0
  }

  /// Drops all octets and gives the storage back.
  @inlinable
  public mutating func release() {
    // Safe because: nobody else holds the storage, and it is forgotten at once.
    storage?.deallocate()
    storage = nil
    start = 0
    end = 0
    storageCount = 0
  }

  /// Calls `body` with the octets left; the pointer ends with the call.
  @inlinable
  public borrowing func withUnsafeBytes<R: ~Copyable, E: Error>(
    _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    // Safe because: start ≤ end ≤ storageCount, and the borrow keeps the storage alive during the call.
    guard let storage else { return try body(UnsafeRawBufferPointer(start: nil, count: 0)) }
    return try body(UnsafeRawBufferPointer(start: UnsafeRawPointer(storage + start), count: count))
  }

  /// Calls `body` with the octets left, to change them in place; the pointer ends with the call.
  @inlinable
  public mutating func withUnsafeMutableBytes<R: ~Copyable, E: Error>(
    _ body: (UnsafeMutableRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    // Safe because: as above, and the exclusive access keeps everybody else out.
    guard let storage else { return try body(UnsafeMutableRawBufferPointer(start: nil, count: 0)) }
    return try body(UnsafeMutableRawBufferPointer(start: storage + start, count: count))
  }

  /// Calls `body` with at least `minimumCapacity` octets of free, uninitialised storage, and appends as many as it says it wrote.
  ///
  /// - Returns: the number that `body` returned.
  /// - Precondition: `body` returns a number from zero to the count of its argument.
  @inlinable
  @discardableResult
  public mutating func withUnsafeWritable<E: Error>(
    minimumCapacity: Int, _ body: (UnsafeMutableRawBufferPointer) throws(E) -> Int
  ) throws(E) -> Int {
    reserve(minimumCapacity)
    guard let storage else { return try body(UnsafeMutableRawBufferPointer(start: nil, count: 0)) }
    // Safe because: end ≤ storageCount, and the written count is checked before it counts.
    let free = UnsafeMutableRawBufferPointer(start: storage + end, count: storageCount &- end)
    let written = try body(free)
    precondition(written >= 0 && written <= free.count)
    end &+= written
    return written
  }

  /// The octets left, as a span that borrows the buffer.
  @inlinable
  public var bytes: RawSpan {
    @_lifetime(borrow self)
    borrowing get {
      guard let storage else { return RawSpan() }
      // Safe because: start ≤ end ≤ storageCount, and the span cannot outlive the borrow.
      let octets = UnsafeRawBufferPointer(start: UnsafeRawPointer(storage + start), count: count)
      return _overrideLifetime(RawSpan(_unsafeBytes: octets), borrowing: self)
    }
  }
}

// Safe because: the buffer is the only owner of its storage, so sending it moves the storage with it.
extension ByteBuffer: @unchecked Sendable {}
