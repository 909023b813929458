import Testing

@testable import Agent

@Suite struct EventStreamPositionTests {
  private func text(_ octets: [UInt8]) -> String { String(decoding: octets, as: UTF8.self) }

  @Test(arguments: ["\n", "\r\n", "\r"]) func handsOnWholeEvents(end: String) {
    let whole = ["retry: 20", "", ": hello", "id: 1", "data: a", "", "data: b", "data", "id:2", "", "event: x", ""].map { $0 + end }.joined()
    let stream = Array((whole + "data: cut" + end + "id: 3" + end).utf8)
    for cut in 0...stream.count {
      var position = EventStreamPosition()
      let passed = position.take(Array(stream[..<cut])) + position.take(Array(stream[cut...]))
      #expect(text(passed) == whole, "cut at \(cut)")
      #expect(position.lastEventID == "2")
      #expect(position.retry == .milliseconds(20))
      #expect(position.eventCount == 2)
      #expect(text(position.finish()) == "data: cut" + end + "id: 3" + end)
    }
    var position = EventStreamPosition()
    #expect(text(stream.flatMap { position.take([$0]) }) == whole)
  }

  /// Streams, and the id that is known at their end.
  static let ids: [(stream: String, id: String?)] = [
    ("id: 7\ndata: x\n\n", "7"), ("id:7\n\n", "7"), ("id: 7\ndata: x\n\ndata: y\n\n", "7"), ("id: 7\n\nid\n\n", nil), ("id: 7\n\nid:\n\n", nil),
    ("id: 7\n\nid: 8\n", "7"), ("id: a\u{0}b\n\n", nil), ("id: 7\n\nid: a\u{0}b\n\n", "7"), ("id: \u{1}\n\n", nil), ("id:  7\n\n", nil),
    ("id: é😀\n\n", "é😀"), ("idx: 7\n\n", nil), (" id: 7\n\n", nil), ("id: 7\nid: 8\n\n", "8"), ("", nil),
    ("id: " + String(repeating: "x", count: 1025) + "\n\n", nil), ("id: " + String(repeating: "x", count: 5000) + "\n\n", nil),
    ("id: " + String(repeating: "x", count: 1024) + "\n\n", String(repeating: "x", count: 1024)),
    ]

  @Test(arguments: ids.indices)
  func knowsTheLastID(index: Int) {
    let (stream, id) = Self.ids[index]
    var position = EventStreamPosition()
    _ = position.take(Array(stream.utf8))
    #expect(position.lastEventID == id)
  }

  static let waits: [(stream: String, retry: Duration?)] = [
    ("retry: 1500\n\n", Duration.milliseconds(1500)), ("retry:0\n", .zero), ("retry: x\n\n", nil), ("retry: -1\n\n", nil), ("retry:\n\n", nil),
    ("retry: 1\n\nretry: y\n", .milliseconds(1)), ("retry: 9999999999\n\n", nil),
    ]

  @Test(arguments: waits.indices)
  func knowsTheWait(index: Int) {
    let (stream, retry) = Self.waits[index]
    var position = EventStreamPosition()
    _ = position.take(Array(stream.utf8))
    #expect(position.retry == retry)
  }

  @Test func forgetsWhatWasCut() {
    var position = EventStreamPosition()
    #expect(text(position.take(Array("id: 1\ndata: a\n\nid: 2\ndata: b".utf8))) == "id: 1\ndata: a\n\n")
    position.breakOff()
    #expect(text(position.take(Array("\ndata: c\n\n".utf8))) == "\ndata: c\n\n")
    #expect(position.lastEventID == "1")
    #expect(position.eventCount == 2)
  }

  @Test func hugeEventsPassAndEndContinuation() {
    var position = EventStreamPosition()
    let huge = [UInt8](repeating: UInt8(ascii: "x"), count: EventStreamPosition.heldByteLimit)
    #expect(position.take(Array("data: ".utf8)).isEmpty)
    #expect(position.take(huge).count == huge.count + 6)
    #expect(!position.isContinuable)
    #expect(text(position.take(Array("y".utf8))) == "y")
  }

  @Test func passesEverythingWhereNothingIsWithheld() {
    var position = EventStreamPosition(withholds: false)
    #expect(text(position.take(Array("id: 4\nda".utf8))) == "id: 4\nda")
    #expect(text(position.take(Array("ta: x\n\nd".utf8))) == "ta: x\n\nd")
    #expect(position.eventCount == 1)
    #expect(position.finish().isEmpty)
  }

  /// However a stream is cut, the same octets come, no event is cut in two, and the same is known at the end.
  @Test func randomStreamsCutAnywhere() {
    var seed: UInt64 = 0x5E77
    func next(_ bound: Int) -> Int {
      seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((seed >> 33) % UInt64(bound))
    }
    let words = ["id: 1", "id", "data: y", "data", ":", "x: y", "\n", "\r", "\r\n", "\n\n", "\r\r", "retry: 5", "é", " "]
    var events: UInt64 = 0
    for _ in 0..<3000 {
      var stream: [UInt8] = []
      for _ in 0..<next(30) { stream += Array(words[next(words.count)].utf8) }
      var whole = EventStreamPosition()
      let all = whole.take(stream)
      var pieces = EventStreamPosition()
      var passed: [UInt8] = []
      var rest = stream[...]
      while !rest.isEmpty {
        let piece = rest.prefix(1 + next(5))
        passed += pieces.take(Array(piece))
        rest = rest.dropFirst(piece.count)
      }
      #expect(passed == all)
      #expect(pieces.lastEventID == whole.lastEventID)
      #expect(pieces.retry == whole.retry)
      #expect(pieces.eventCount == whole.eventCount)
      #expect(all + whole.finish() == stream)
      events += whole.eventCount
    }
    #expect(events > 500)
  }
}
