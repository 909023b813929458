import Testing

@testable import Agent

@Suite struct PaymentEventScannerTests {
  private typealias Found = PaymentEventScanner.PaymentEvent

  private func scan(_ pieces: [[UInt8]]) -> [Found] {
    var scanner = PaymentEventScanner()
    var found: [Found] = []
    for piece in pieces { scanner.scan(piece) { found.append($0) } }
    return found
  }

  @Test(arguments: ["\n", "\r\n", "\r"]) func findsEventsCutAnywhere(end: String) {
    let lines = [
      "data: hello", "", "event: payment-need-topup", "data: {\"a\":1}", "", ": comment", "event:payment-receipt", "data:abc", "data: def",
      "", "event: other", "data: x", "", "event: payment-receipt", "", "data: plain", "", "event: session-timeout", "data: {}", "",
    ]
    let octets = Array(lines.map { $0 + end }.joined().utf8)
    let expected = [
      Found(name: .needTopUp, data: "{\"a\":1}"), Found(name: .receipt, data: "abc\ndef"), Found(name: .timeout, data: "{}"),
    ]
    for cut in 0...octets.count {
      #expect(scan([Array(octets[..<cut]), Array(octets[cut...])]) == expected, "cut at \(cut)")
    }
    #expect(scan(octets.map { [$0] }) == expected)
  }

  @Test func skipsWhatIsTooLong() {
    let long = [UInt8](repeating: UInt8(ascii: "x"), count: PaymentEventScanner.lineByteLimit + 1)
    let stream = Array("event: payment-receipt\ndata: ".utf8) + long + Array("\ndata: y\n\n".utf8)
    #expect(scan([stream]) == [Found(name: .receipt, data: "y")])
    #expect(scan(stream.map { [$0] }) == [Found(name: .receipt, data: "y")])
  }

  @Test func unfinishedEventIsNone() {
    #expect(scan([Array("event: payment-receipt\ndata: y\n".utf8)]).isEmpty)
    #expect(scan([Array("eventx: payment-receipt\ndata: y\n\n".utf8)]).isEmpty)
    #expect(scan([Array(" event: payment-receipt\ndata: y\n\n".utf8)]).isEmpty)
  }

  /// However the octets are cut, the same events are found.
  @Test func randomStreamsCutAnywhere() {
    var seed: UInt64 = 0xFA2E
    func next(_ bound: Int) -> Int {
      seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((seed >> 33) % UInt64(bound))
    }
    let words = ["event:payment-receipt\n", "data: y\n", "event:", "data:", " ", "payment-receipt", "payment-need-topup", "\n", "\r", "\r\n", "x", "session-timeout", ":", "é"]
    var count = 0
    for _ in 0..<3000 {
      var stream: [UInt8] = []
      for _ in 0..<next(40) { stream += Array(words[next(words.count)].utf8) }
      let whole = scan([stream])
      count += whole.count
      var pieces: [[UInt8]] = []
      var rest = stream[...]
      while !rest.isEmpty {
        let piece = rest.prefix(1 + next(7))
        pieces.append(Array(piece))
        rest = rest.dropFirst(piece.count)
      }
      #expect(scan(pieces) == whole)
    }
    #expect(count > 20)
  }
}
