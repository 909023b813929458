import Testing

@testable import HTTP

@Suite struct RequestDecoderTests {
  static let full = Array(
    """
    POST /v1/things?a=b&c=%20 HTTP/1.1\r
    Host: API.example.com:8080\r
    User-Agent:  probe/1.0 (x; y)  \r
    Accept: */*\r
    X-Empty:\r
    X-Tabs:\t a\tb \t\r
    X-Caf\u{e9}: 1\r
    Content-Length: 12\r
    TE: trailers, deflate\r
    Connection: keep-alive, TE, X-Hop\r
    Expect: 100-Continue\r
    \r
    hello, world
    """.replacing("X-Caf\u{e9}", with: "X-Cafe").utf8)

  @Test func readsAHeadInOnePiece() throws {
    let head = try #require(decodeRequest(Self.full).head)
    let octets = Self.full
    #expect(head.method == .post)
    #expect(text(octets, head.methodRange) == "POST")
    #expect(text(octets, head.targetRange) == "/v1/things?a=b&c=%20")
    #expect(head.pathRange == head.targetRange)
    #expect(head.targetForm == .origin)
    #expect(head.minorVersion == 1)
    #expect(text(octets, head.hostRange) == "API.example.com:8080")
    #expect(text(octets, head.hostNameRange) == "API.example.com")
    #expect(head.framing == .length(12))
    #expect(head.keepAlive)
    #expect(head.expectsContinue)
    #expect(head.acceptsTrailers)
    #expect(head.nominated == FieldSet(.te))
    #expect(head.nominatesOthers)
    #expect(text(octets, head.byteCount..<octets.count) == "hello, world")
    let values = head.fields.map { text(octets, $0.valueRange) }
    #expect(values[1...4] == ["probe/1.0 (x; y)", "*/*", "", "a\tb"])
    #expect(head.fields.map(\.name).prefix(3) == [.host, .userAgent, .accept])
    #expect(text(octets, head.fields[3].nameRange) == "X-Empty")
    #expect(head.has(.expect) && !head.has(.cacheControl))
    #expect(head.count(of: .other) == 3)
    #expect(head.first(.contentLength)?.valueRange.count == 2)
  }

  @Test func comesToTheSameAtEverySplit() throws {
    let whole = try #require(decodeRequest(Self.full).head)
    for split in 0...whole.byteCount {
      let head = try #require(decodeRequest(Self.full, arrivingAt: [split, Self.full.count]).head, "split at \(split)")
      #expect(Self.isSame(head, whole))
    }
    let head = try #require(decodeRequest(Self.full, arrivingAt: Array(0...Self.full.count)).head)
    #expect(Self.isSame(head, whole))
    for count in 0..<whole.byteCount { #expect(decodeRequest(Array(Self.full[..<count])).isIncomplete) }
  }

  private static func isSame(_ one: RequestHead, _ other: RequestHead) -> Bool {
    one.fields == other.fields && one.byteCount == other.byteCount && one.framing == other.framing
      && one.targetRange == other.targetRange && one.hostRange == other.hostRange && one.keepAlive == other.keepAlive
      && one.present == other.present && one.repeated == other.repeated && one.method == other.method
  }

  @Test func servesOneRequestAfterAnother() throws {
    let pipelined = request("GET /a HTTP/1.1") + request("GET /b HTTP/1.0", "Connection: close")
    var head = RequestHead()
    var start = 0
    var targets: [String] = []
    while start < pipelined.count {
      let rest = Array(pipelined[start...])
      let isComplete = try rest.withUnsafeBytes { try RequestDecoder.decode($0, limits: .standard, into: &head) }
      #expect(isComplete)
      targets.append(text(rest, head.targetRange) + (head.keepAlive ? "" : " close"))
      start += head.byteCount
      head.reset()
    }
    #expect(targets == ["/a", "/b close"])
  }

  @Test(arguments: [
    ("HTTP/1.1", "X: y", true), ("HTTP/1.1", "Connection: close", false), ("HTTP/1.1", "Connection: Keep-Alive", true),
    ("HTTP/1.1", "Connection: keep-alive, CLOSE", false), ("HTTP/1.0", "X: y", false),
    ("HTTP/1.0", "Connection: keep-alive", true), ("HTTP/1.0", "Connection: ,, keep-alive ,", true),
    ("HTTP/1.0", "Connection: keep-alive\r\nConnection: close", false),
  ])
  func decidesAboutKeepAlive(version: String, field: String, expected: Bool) throws {
    #expect(try #require(decodeRequest(request("GET / \(version)", field)).head).keepAlive == expected)
  }

  @Test func acceptsWhatIsUnusualButCertain() throws {
    #expect(decodeRequest(Array("\r\n".utf8) + request()).head?.method == .get)
    #expect(decodeRequest(request("OPTIONS * HTTP/1.1")).head?.targetForm == .asterisk)
    #expect(decodeRequest(request("PURGE /x HTTP/1.1")).head?.method == .other)
    #expect(decodeRequest(request("GET / HTTP/1.0", host: nil)).head?.hostRange.isEmpty == true)
    #expect(decodeRequest(request("GET / HTTP/1.1", "X: caf\u{e9}")).head != nil)
    #expect(decodeRequest(request(host: "Host: [2001:db8::1]:8080")).head?.hostNameRange.count == 13)
    #expect(decodeRequest(request(host: "host:127.0.0.1")).head?.hostRange.count == 9)
    let chunked = try #require(decodeRequest(request("POST / HTTP/1.1", "Transfer-Encoding: Chunked")).head)
    #expect(chunked.framing == .chunked)
    #expect(decodeRequest(request("POST / HTTP/1.1", "Content-Length: 0")).head?.framing == .length(0))
    #expect(decodeRequest(request("GET / HTTP/1.1", "Expect: 100-continue")).head?.expectsContinue == false)
    #expect(decodeRequest(request("POST / HTTP/1.0", "Content-Length: 3", "Expect: 100-continue")).head?.expectsContinue == false)
  }

  @Test func readsAbsoluteTargets() throws {
    let octets = request("GET HTTP://Example.com:80/a?b HTTP/1.1", host: "Host: example.COM:80")
    let head = try #require(decodeRequest(octets).head)
    #expect(head.targetForm == .absolute)
    #expect(text(octets, head.pathRange) == "/a?b")
    let bare = request("GET https://example.com HTTP/1.1")
    #expect(decodeRequest(bare).head?.pathRange.isEmpty == true)
    let query = request("GET http://example.com?x HTTP/1.1")
    #expect(text(query, try #require(decodeRequest(query).head).pathRange) == "?x")
    let old = request("GET http://example.com/ HTTP/1.0", host: nil)
    #expect(text(old, try #require(decodeRequest(old).head).hostRange) == "example.com")
    #expect(decodeRequest(request("GET http://evil.com/ HTTP/1.1")).error == .authorityMismatch(at: 11))
    #expect(decodeRequest(request("GET http://example.com:80/ HTTP/1.1")).error == .authorityMismatch(at: 11))
    #expect(decodeRequest(request("GET http://u@example.com/ HTTP/1.1")).error == .hostInvalid(at: 11))
    for target in ["ftp://example.com/", "example.com:443", "http:///x", "http://", "x", "*"] {
      #expect(decodeRequest(request("GET \(target) HTTP/1.1")).error == .targetInvalid(at: 4), "\(target)")
    }
  }

  @Test func holdsItsLimits() {
    let limits = HeadLimits(requestLine: 64, head: 256, fieldCount: 4)
    let longest = request("GET /" + String(repeating: "a", count: 64 - 16) + " HTTP/1.1")
    #expect(decodeRequest(longest, limits: limits).head != nil)
    let tooLong = request("GET /" + String(repeating: "a", count: 65 - 16) + " HTTP/1.1")
    #expect(decodeRequest(tooLong, limits: limits).error == .requestLineTooLong(at: 64))
    #expect(decodeRequest(Array(tooLong[..<64]), limits: limits).error == .requestLineTooLong(at: 64))
    #expect(decodeRequest(Array(tooLong[..<63]), limits: limits).isIncomplete)
    #expect(decodeRequest(request("GET / HTTP/1.1", "A: 1", "B: 2", "C: 3"), limits: limits).head != nil)
    #expect(decodeRequest(request("GET / HTTP/1.1", "A: 1", "B: 2", "C: 3", "D: 4"), limits: limits).error?.status == 431)
    let rest = 256 - request("GET / HTTP/1.1", "A: ").count
    let largest = request("GET / HTTP/1.1", "A: " + String(repeating: "x", count: rest))
    #expect(decodeRequest(largest, limits: limits).head?.byteCount == 256)
    let tooLarge = request("GET / HTTP/1.1", "A: " + String(repeating: "x", count: rest + 1))
    #expect(decodeRequest(tooLarge, limits: limits).error == .headTooLong(at: 256))
    for count in 256...tooLarge.count {
      #expect(decodeRequest(Array(tooLarge[..<count]), limits: limits).error == .headTooLong(at: 256))
    }
    let option = String(repeating: "o", count: 511)
    #expect(decodeRequest(request("GET / HTTP/1.1", "Connection: \(option)", "Connection: \(option),x")).head != nil)
    #expect(decodeRequest(request("GET / HTTP/1.1", "Connection: \(option)", "Connection: \(option),xyz")).error?.status == 400)
    let name = String(repeating: "n", count: 257)
    #expect(decodeRequest(request("GET / HTTP/1.1", "\(name): 1")).error?.status == 431)
    #expect(decodeRequest(request("GET / HTTP/1.1", "\(name.dropLast()): 1")).head != nil)
    #expect(decodeRequest(request(String(repeating: "M", count: 33) + " / HTTP/1.1")).error == .methodInvalid(at: 0))
  }

  @Test func warmHeadsKeepTheirStorage() throws {
    var head = RequestHead()
    let octets = request("GET / HTTP/1.1", "A: 1", "B: 2")
    _ = try octets.withUnsafeBytes { try RequestDecoder.decode($0, limits: .standard, into: &head) }
    let capacity = head.fields.capacity
    head.reset()
    #expect(head.fields.capacity == capacity && head.fields.isEmpty)
  }
}
