/// The last steps of a path, looked at without a copy; a query and slashes at the end are left out.
struct PathTail: ~Escapable {
  private let octets: RawSpan
  /// Where the last step stands.
  let step: Range<Int>

  @_lifetime(copy octets)
  init(_ octets: RawSpan) {
    self.octets = octets
    var end = 0
    while end < octets.byteCount, octets.octet(end) != UInt8(ascii: "?") { end += 1 }
    while end > 0, octets.octet(end - 1) == UInt8(ascii: "/") { end -= 1 }
    var start = end
    while start > 0, octets.octet(start - 1) != UInt8(ascii: "/") { start -= 1 }
    step = start..<end
  }

  /// Whether there is no step before the last one.
  var isOnlyStep: Bool { step.lowerBound <= 1 }

  /// Where the last colon of the last step stands.
  var colon: Int? {
    var index = step.upperBound
    while index > step.lowerBound {
      index -= 1
      if octets.octet(index) == UInt8(ascii: ":") { return index }
    }
    return nil
  }

  func lastStep(is spelling: StaticString) -> Bool {
    octets.equals(spelling, step)
  }

  /// Whether what follows the last step's colon is this.
  func method(is spelling: StaticString) -> Bool {
    guard let colon else { return false }
    return octets.equals(spelling, colon + 1..<step.upperBound)
  }

  /// Whether the step before the last one is this.
  func parent(is spelling: StaticString) -> Bool {
    let end = step.lowerBound - 1
    let start = end - spelling.utf8CodeUnitCount
    guard start >= 1, octets.octet(start - 1) == UInt8(ascii: "/") else { return false }
    return octets.equals(spelling, start..<end)
  }

  /// Whether the path up to the last step has this in it.
  func contains(_ spelling: StaticString) -> Bool {
    let count = spelling.utf8CodeUnitCount
    guard step.lowerBound >= count else { return false }
    for start in 0...step.lowerBound - count where octets.equals(spelling, start..<start + count) { return true }
    return false
  }
}
