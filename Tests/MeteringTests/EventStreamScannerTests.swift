import Bytes
import Metering
import Testing

private func text(_ buffer: borrowing ByteBuffer) -> String {
  buffer.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
}

/// Scans a stream in pieces, and returns what passed and every boundary seen after a piece.
private func scan(_ pieces: [ArraySlice<UInt8>]) -> (text: String, boundaries: [UInt64], end: EventStreamScanner) {
  var scanner = EventStreamScanner()
  var output = ByteBuffer()
  var boundaries: [UInt64] = []
  for piece in pieces {
    piece.withUnsafeBytes { scanner.scan($0, into: &output) }
    boundaries.append(scanner.boundary)
    #expect(scanner.passed == UInt64(output.count))
  }
  scanner.finish(into: &output)
  return (text(output), boundaries, scanner)
}

@Suite struct EventStreamScannerTests {
  @Test(arguments: [
    ("data: a\n\ndata: b\n\n", "data: a\n\ndata: b\n\n"),
    ("data: a\r\rdata: b\r\r", "data: a\r\rdata: b\r\r"),
    ("data: a\r\n\r\ndata: b\r\n\r\n", "data: a\r\n\r\ndata: b\r\n\r\n"),
    ("event: payment-receipt\ndata: x\n\n", "event: foreign-receipt\ndata: x\n\n"),
    ("event:payment-need-topup\r\ndata: x\r\n\r\n", "event:foreign-need-topup\r\ndata: x\r\n\r\n"),
    ("event: session-timeout\rdata: x\r\r", "event: foreign-timeout\rdata: x\r\r"),
    ("\u{FEFF}event: payment-receipt\n\n", "\u{FEFF}event: foreign-receipt\n\n"),
    ("EVENT: \t Payment-Receipt\n\n", "EVENT: \t foreign-Receipt\n\n"),
    ("id: 1\nevent: payment-x\nevent: payment-y\n\n", "id: 1\nevent: foreign-x\nevent: foreign-y\n\n"),
    ("event: pay\nevent: session-time\nevent: payments\n\n", "event: pay\nevent: session-time\nevent: payments\n\n"),
    ("data: event: payment-receipt\n\n", "data: event: payment-receipt\n\n"),
    ("events: payment-receipt\nevent\neven: p\n\n", "events: payment-receipt\nevent\neven: p\n\n"),
    (": payment-receipt\n\n", ": payment-receipt\n\n"),
    ("event: p", "event: p"),
    ("event: ppayment-receipt\n\n", "event: ppayment-receipt\n\n"),
    ("", ""),
  ])
  func renamesOnlyTheProxysNamesAtEverySplit(input: String, expected: String) {
    let octets = Array(input.utf8)
    for first in 0...octets.count {
      for second in first...octets.count {
        let result = scan([octets[..<first], octets[first..<second], octets[second...]])
        #expect(result.text == expected)
      }
    }
    let single = scan(octets.indices.map { octets[$0...$0] })
    #expect(single.text == expected)
  }

  @Test func theFirstBoundaryIsFoundWithoutLookingFurther() {
    func first(_ text: String, startsAtBoundary: Bool) -> Int? {
      Array(text.utf8).withUnsafeBytes { EventStreamScanner.firstBoundary(in: $0, startsAtBoundary: startsAtBoundary) }
    }
    #expect(first("data: a\n\ndata: b\n\n", startsAtBoundary: true) == 9)
    #expect(first("\ndata: b\n\n", startsAtBoundary: true) == 1)
    #expect(first("\ndata: b\n\n", startsAtBoundary: false) == 10)
    #expect(first("rest\r\n\r\nx", startsAtBoundary: false) == 8)
    #expect(first("rest\r\rx", startsAtBoundary: false) == 6)
    #expect(first("rest\r\r\nx", startsAtBoundary: false) == 7)
    #expect(first("event: payment-x\n\nevent: s\n\n", startsAtBoundary: true) == 18)
    #expect(first("no end\n", startsAtBoundary: false) == nil)
    #expect(first("", startsAtBoundary: true) == nil)
  }

  @Test(arguments: [
    ("data: a\n\ndata: b\n\nrest", [UInt64(9), 18]),
    ("data: a\r\n\r\ndata: b\r\n\r\nrest", [11, 22]),
    ("data: a\r\rdata: b\r\rrest", [9, 18]),
    ("data: a\n\r\ndata: b\r\n\nrest", [10, 20]),
    ("\n\nx", [1, 2]),
    ("event: payment-a\n\nevent: p", [18]),
    ("\u{FEFF}\nx", []),
  ])
  func knowsEveryBoundaryAtEverySplit(input: String, boundaries: [UInt64]) {
    let octets = Array(input.utf8)
    let result = scan(octets.indices.map { octets[$0...$0] })
    let expected = Set(boundaries)
    // Seen octet by octet, a lone return's boundary is known one octet later, never earlier and never elsewhere.
    #expect(Set(result.boundaries).subtracting([0]) == expected.union(input.hasPrefix("\u{FEFF}\n") ? [4] : []))
    for split in 0...octets.count {
      let halves = scan([octets[..<split], octets[split...]])
      #expect(halves.boundaries.last == result.boundaries.last)
    }
  }

  @Test func aReturnWaitsForItsLineFeed() {
    var scanner = EventStreamScanner()
    var output = ByteBuffer()
    Array("data: a\r\n\r".utf8).withUnsafeBytes { scanner.scan($0, into: &output) }
    #expect(!scanner.isAtBoundary)
    Array("\n".utf8).withUnsafeBytes { scanner.scan($0, into: &output) }
    #expect(scanner.isAtBoundary)
  }

  @Test(arguments: [
    ("", ""), ("data: a\n\n", ""), ("data: a\n", "\n"), ("data: a", "\n\n"), ("data: a\r\n", "\n"), ("data: a\r", "\n"),
    ("data: a\r\n\r", ""), ("event: payme", "\n\n"), ("event", "\n\n"),
  ])
  func separatorCompletesAnEvent(input: String, separator: String) {
    let octets = Array(input.utf8)
    let result = scan([octets[...]])
    #expect(result.end.separator.description == separator)
  }

  @Test func findsTheLastBoundaryWithinALimit() {
    let octets = Array("data: a\n\ndata: b\n\ndata: c".utf8)
    octets.withUnsafeBytes { raw in
      #expect(EventStreamScanner.lastBoundary(in: raw, limit: 8, startsAtBoundary: true) == 0)
      #expect(EventStreamScanner.lastBoundary(in: raw, limit: 8, startsAtBoundary: false) == nil)
      #expect(EventStreamScanner.lastBoundary(in: raw, limit: 9, startsAtBoundary: false) == 9)
      #expect(EventStreamScanner.lastBoundary(in: raw, limit: 17, startsAtBoundary: true) == 9)
      #expect(EventStreamScanner.lastBoundary(in: raw, limit: 99, startsAtBoundary: true) == 18)
    }
  }

  @Test func seededFuzzKeepsLengthAndNeverLetsANamePass() {
    let words = ["event", ":", " ", "payment-", "session-timeout", "pay", "\n", "\r", "\r\n", "data: x", "\u{FEFF}", "e", "s", "PAYMENT-", "0123456789abcdef"]
    var seed: UInt64 = 7
    func random(_ bound: Int) -> Int {
      seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((seed >> 33) % UInt64(bound))
    }
    for _ in 0..<2000 {
      let octets = Array((0..<random(24)).map { _ in words[random(words.count)] }.joined().utf8)
      let whole = scan([octets[...]])
      #expect(whole.text.utf8.count == octets.count)
      var pieces: [ArraySlice<UInt8>] = []
      var start = 0
      while start < octets.count {
        let end = min(octets.count, start + 1 + random(5))
        pieces.append(octets[start..<end])
        start = end
      }
      #expect(scan(pieces).text == whole.text)
      for line in whole.text.replacingReturns().split(separator: "\n", omittingEmptySubsequences: true) {
        let bare = line.first == "\u{FEFF}" ? line.dropFirst() : line
        #expect(!bare.lowercased().hasPrefix("event:payment-"))
        #expect(!bare.lowercased().hasPrefix("event: payment-"))
        #expect(!bare.lowercased().hasPrefix("event: session-timeout"))
      }
    }
  }
}

extension String {
  /// Replaces every line end by a line feed, as a client that reads lines would.
  fileprivate func replacingReturns() -> String {
    String(String.UnicodeScalarView(unicodeScalars.map { $0 == "\r" ? "\n" : $0 }))
  }
}
