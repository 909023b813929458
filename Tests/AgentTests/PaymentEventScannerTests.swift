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
}
