import Bytes
import Metering
import Usage

/// Passes an upstream's event stream on in whole events, so that events of our own fit between any two that a client
/// gets. Only an event larger than the buffer is passed on before its end has come.
struct EventPassage {
  /// Follows the stream; it also renames what looks like one of our events.
  private var scanner = EventStreamScanner()
  /// Octets passed on to the client's connection, by the scanner's count.
  private(set) var delivered: UInt64 = 0

  /// Takes what the upstream sent, and appends what may be passed on to `held`.
  mutating func take(_ octets: UnsafeRawBufferPointer, into held: inout ByteBuffer) {
    scanner.scan(octets, into: &held)
  }

  /// The upstream's stream ended whole: appends what the scanner kept.
  mutating func finish(into held: inout ByteBuffer) { scanner.finish(into: &held) }

  /// Counts how many of the `heldCount` octets make up whole events.
  func completeCount(heldCount: Int) -> Int {
    let complete = scanner.boundary > delivered ? scanner.boundary - delivered : 0
    return min(heldCount, Int(clamping: complete))
  }

  /// Whether what was delivered ends between two events.
  var isBetweenEvents: Bool { lastBoundary == delivered }

  private var lastBoundary: UInt64 = 0

  /// What must come before an event of ours where the upstream ended whole but inside an event: the missing line ends.
  var separator: StaticString { scanner.separator }

  /// Notes that the separator was added.
  mutating func complete() { lastBoundary = delivered }

  /// Finds where the first event ends in octets that begin between two.
  private static func firstEnd(in octets: UnsafeRawBufferPointer) -> Int {
    var lines = EventStreamLines()
    var index = 0
    while true {
      switch lines.next(in: octets.bytes, at: &index) {
      case .needsMore: return octets.count
      case .data, .dataLine, .name, .commentEnded: continue
      case .eventEnded(let end):
        // A line feed behind the return belongs to it.
        let isReturn = octets[end - 1] == UInt8(ascii: "\r") && end < octets.count && octets[end] == UInt8(ascii: "\n")
        return isReturn ? end + 1 : end
      }
    }
  }

  /// Notes that octets which end with an event have been passed on.
  mutating func deliverEvents(_ count: Int) {
    delivered += UInt64(count)
    lastBoundary = delivered
  }

  /// Notes that so many octets of `octets`, which begin at what was delivered so far, have been passed on.
  mutating func deliver(_ count: Int, of octets: UnsafeRawBufferPointer) {
    let start = isBetweenEvents
    if let boundary = EventStreamScanner.lastBoundary(in: octets, limit: count, startsAtBoundary: start) {
      lastBoundary = delivered + UInt64(boundary)
    }
    delivered += UInt64(count)
  }

  /// Finds how many of the first `limit` octets of `octets` may go without cutting an event; 0 where none ends there.
  func wholeEvents(in octets: UnsafeRawBufferPointer, limit: Int) -> Int {
    EventStreamScanner.lastBoundary(in: octets, limit: limit, startsAtBoundary: isBetweenEvents) ?? 0
  }

  /// Finds how long the first event is in octets that hold whole events only.
  func firstEvent(in octets: UnsafeRawBufferPointer) -> Int {
    guard !isBetweenEvents else { return Self.firstEnd(in: octets) }
    return EventStreamScanner.firstBoundary(in: octets, startsAtBoundary: false) ?? octets.count
  }
}
