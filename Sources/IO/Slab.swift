/// Keeps values at addresses that never move, found by a small index; freed places are used again.
///
/// Values are handed out as pointers: a connection is a struct of hundreds of octets that many methods of a
/// worker change, and neither copying it nor a class's exclusivity checks are affordable on the data path.
@frozen public struct Slab<Element: ~Copyable>: ~Copyable {
  /// Places that are allocated together.
  @inlinable public static var chunkSize: Int { 128 }

  // Safe because: chunks are allocated here and only here, never moved nor freed before deinit; a place is
  // initialised exactly while its index is in use, which `generations` (odd: in use) records.
  @usableFromInline var chunks: UnsafeMutablePointer<UnsafeMutablePointer<Element>>
  @usableFromInline var chunkCount = 0
  @usableFromInline let chunkLimit: Int
  @usableFromInline var generations: [UInt32] = []
  @usableFromInline var free: [Int32] = []
  @usableFromInline var inUseCount = 0

  /// How many places are in use.
  @inlinable public var count: Int { inUseCount }

  /// Makes a slab for at most `limit` values.
  @inlinable public init(limit: Int) {
    chunkLimit = (limit + Self.chunkSize - 1) / Self.chunkSize
    chunks = .allocate(capacity: max(1, chunkLimit))
  }

  @inlinable deinit {
    for index in generations.indices where generations[index] & 1 == 1 {
      (chunks[index / Self.chunkSize] + index % Self.chunkSize).deinitialize(count: 1)
    }
    for index in 0..<chunkCount { chunks[index].deallocate() }
    chunks.deallocate()
  }

  /// Says whether no place is left.
  @inlinable public var isFull: Bool { free.isEmpty && generations.count >= chunkLimit * Self.chunkSize }

  /// Puts a value in and returns its index, or nil when the slab is full.
  @inlinable public mutating func insert(_ value: consuming Element) -> Int? {
    let index: Int
    if let place = free.popLast() {
      index = Int(place)
    } else {
      index = generations.count
      guard index < chunkLimit * Self.chunkSize else { return nil }
      if index / Self.chunkSize == chunkCount {
        chunks[chunkCount] = .allocate(capacity: Self.chunkSize)
        chunkCount += 1
      }
      generations.append(0)
    }
    generations[index] &+= 1
    (chunks[index / Self.chunkSize] + index % Self.chunkSize).initialize(to: value)
    inUseCount += 1
    return index
  }

  /// Destroys the value at `index`.
  @inlinable public mutating func remove(_ index: Int) {
    precondition(generations[index] & 1 == 1)
    generations[index] &+= 1
    (chunks[index / Self.chunkSize] + index % Self.chunkSize).deinitialize(count: 1)
    free.append(Int32(index))
    inUseCount -= 1
  }

  /// Gives the value's address; valid until it is removed.
  @inline(__always)
  @inlinable public func pointer(_ index: Int) -> UnsafeMutablePointer<Element> {
    precondition(generations[index] & 1 == 1)
    return chunks[index / Self.chunkSize] + index % Self.chunkSize
  }

  /// Gives the generation of a place: it changes whenever the place changes hands.
  @inline(__always)
  @inlinable public func generation(_ index: Int) -> UInt32 { generations[index] }

  /// Says whether the place is in use by the value that had this generation.
  @inline(__always)
  @inlinable public func isCurrent(_ index: Int, generation: UInt32) -> Bool {
    index < generations.count && generations[index] == generation && generation & 1 == 1
  }

  /// How many places there are or were; indices are below it.
  @inlinable public var placeCount: Int { generations.count }

  /// Says whether a place is in use.
  @inlinable public func isInUse(_ index: Int) -> Bool { index < generations.count && generations[index] & 1 == 1 }
}
