import Testing

@testable import HTTP

@Suite struct ResponseDecoderTests {
  private func octets(_ text: String) -> [UInt8] { Array(text.utf8) }

  @Test func readsAHeadAtEverySplit() throws {
    let octets = octets(
      "HTTP/1.1 200 All is well\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nConnection: X-Hop\r\n\r\nhello")
    let whole = try #require(decodeResponse(octets).head)
    #expect(whole.status == 200 && whole.minorVersion == 1 && whole.keepAlive && !whole.isInterim)
    #expect(text(octets, whole.reasonRange) == "All is well")
    #expect(whole.framing == .length(5))
    #expect(whole.nominatesOthers)
    #expect(text(octets, whole.byteCount..<octets.count) == "hello")
    for split in 0..<octets.count {
      let head = try #require(decodeResponse(octets, arrivingAt: [split, octets.count]).head)
      #expect(head.fields == whole.fields && head.byteCount == whole.byteCount && head.framing == whole.framing)
    }
    #expect(decodeResponse(octets, arrivingAt: Array(0...octets.count)).head?.fields == whole.fields)
    for count in 0..<whole.byteCount { #expect(decodeResponse(Array(octets[..<count])).isIncomplete) }
  }

  @Test(arguments: [
    ("HTTP/1.1 200 OK\r\nContent-Length: 5", Method.get, BodyFraming.length(5), true),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", .get, .chunked, true),
    ("HTTP/1.1 200 OK\r\nX: y", .get, .untilClose, false),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close", .get, .length(5), false),
    ("HTTP/1.0 200 OK\r\nContent-Length: 5", .get, .length(5), false),
    ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive", .get, .length(5), true),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5", .head, .none, true),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", .head, .none, true),
    ("HTTP/1.1 200 OK\r\nX: y", .head, .none, true),
    ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5", .get, .none, true),
    ("HTTP/1.1 204 No Content\r\nX: y", .get, .none, true),
    ("HTTP/1.1 204 No Content\r\nContent-Length: 0", .get, .none, true),
    ("HTTP/1.1 103 Early Hints\r\nLink: <x>", .get, .none, true),
    ("HTTP/1.1 100\r\nX: y", .get, .none, true),
    ("HTTP/1.1 999 \r\nContent-Length: 0", .get, .length(0), true),
    ("HTTP/1.1 200 OK\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked", .get, .chunked, true),
  ])
  func decidesAboutFraming(text: String, method: HTTP.Method, framing: BodyFraming, keepAlive: Bool) throws {
    let head = try #require(decodeResponse(octets(text + "\r\n\r\n"), method: method).head)
    #expect(head.framing == framing)
    #expect(head.keepAlive == keepAlive)
  }

  @Test(arguments: [
    ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "switchUnexpected"),
    ("HTTP/1.1 20 OK\r\n\r\n", "statusInvalid"), ("HTTP/1.1 2000 OK\r\n\r\n", "statusInvalid"),
    ("HTTP/1.1 099 OK\r\n\r\n", "statusInvalid"), ("HTTP/1.1 2x0 OK\r\n\r\n", "statusInvalid"),
    ("HTTP/1.1  200 OK\r\n\r\n", "statusInvalid"), ("HTTP/1.1\t200 OK\r\n\r\n", "statusLineInvalid"),
    ("HTTP/2.0 200 OK\r\n\r\n", "versionUnsupported"), ("ICY 200 OK\r\n\r\n", "versionInvalid"),
    ("HTTP/1.1 200 O\u{0}K\r\n\r\n", "statusLineInvalid"), ("HTTP/1.1 200 OK\nX: y\r\n\r\n", "bareLineFeed"),
    ("HTTP/1.1 200 OK\rX: y\r\n\r\n", "bareCarriageReturn"),
    ("HTTP/1.1 200 OK\r\nX: y\r\n folded\r\n\r\n", "lineFolded"),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "contentLengthRepeated"),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "lengthBesideTransferEncoding"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "transferEncodingUnsupported"),
    ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "transferEncodingTooNew"),
    ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "framingWithoutContent"),
    ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "framingWithoutContent"),
    ("HTTP/1.1 103 Hints\r\nContent-Length: 5\r\n\r\n", "framingWithoutContent"),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\n", "none"),
  ])
  func refusesWhatIsAmbiguous(text: String, rule: String) {
    let octets = octets(text)
    for split in 0..<octets.count {
      let outcome = decodeResponse(octets, arrivingAt: [split, octets.count])
      let name = outcome.error.map { String("\($0)".prefix { $0 != "(" }) } ?? "none"
      #expect(name == rule, "split at \(split)")
    }
  }

  @Test func holdsItsLimits() {
    let limits = HeadLimits(requestLine: 32, head: 128, fieldCount: 2)
    #expect(decodeResponse(octets("HTTP/1.1 200 " + String(repeating: "r", count: 32)), limits: limits).error?.status == 431)
    #expect(decodeResponse(octets("HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n"), limits: limits).error == .tooManyFields(at: 29))
    #expect(decodeResponse(octets("HTTP/1.1 200 OK\r\nA: " + String(repeating: "x", count: 128)), limits: limits).error?.status == 431)
  }
}
