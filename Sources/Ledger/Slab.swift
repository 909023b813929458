/// Slots of trivial values in one piece of memory: reached without reference counts and checks for uniqueness, so that a debit costs
/// nanoseconds.
struct Slab<Element: BitwiseCopyable & Sendable>: ~Copyable, @unchecked Sendable {
  private(set) var count = 0
  private var capacity = 0
  // Safe because: the memory belongs to this value alone, so it may move between threads with it; it holds `count` initialised elements,
  // and every index is checked.
  private var base: UnsafeMutablePointer<Element>?

  init() {}

  deinit { base?.deallocate() }

  var indices: Range<Int> { 0..<count }

  @inline(__always)
  private func slot(_ index: Int) -> UnsafeMutablePointer<Element> {
    guard let base, UInt(bitPattern: index) < UInt(bitPattern: count) else { preconditionFailure("a slot that does not exist") }
    return base + index
  }

  subscript(index: Int) -> Element {
    @inline(__always) _read { yield slot(index).pointee }
    @inline(__always) _modify { yield &slot(index).pointee }
  }

  mutating func append(_ element: Element) {
    if count == capacity { grow() }
    (base.unsafelyUnwrapped + count).initialize(to: element)
    count += 1
  }

  private mutating func grow() {
    let next = UnsafeMutablePointer<Element>.allocate(capacity: max(capacity * 2, 64))
    if let base {
      next.moveInitialize(from: base, count: count)
      base.deallocate()
    }
    base = next
    capacity = max(capacity * 2, 64)
  }
}
