import Bytes
import Testing

@testable import HTTP

@Suite struct RewriterTests {
  static let plain = Forwarding(
    peer: ClientAddress(ipv4: 0xC000_0201), client: ClientAddress(ipv4: 0xC000_0201), isTrusted: false, isSecure: false)

  static let own = """
    X-Forwarded-For: 192.0.2.1\r
    X-Forwarded-Proto: http\r
    X-Forwarded-Host: example.com\r
    Forwarded: for=192.0.2.1;proto=http;host="example.com"\r

    """

  private func upstream(
    _ octets: [UInt8], target: String = "/x", framing: BodyFraming? = nil, host: String? = "up.local:81",
    injected: [(name: String, value: [UInt8])] = [], codings: AcceptedCodings = .asAsked, forwarding: Forwarding = plain
  ) throws -> String {
    let head = try #require(decodeRequest(octets).head)
    let fields = try UpstreamFields(host: host, injected: injected, codings: codings)
    var output = ByteBuffer()
    octets.withUnsafeBytes { bytes in
      Array(target.utf8).withUnsafeBytes { target in
        RequestRewriter.append(
          head, octets: bytes, target: target, framing: framing ?? head.framing, fields: fields, forwarding: forwarding,
          to: &output)
      }
    }
    let written = output.withUnsafeBytes { Array($0) }
    let again = try #require(decodeRequest(written).head, "what is written must be a request")
    #expect(again.byteCount == written.count)
    return String(decoding: written, as: UTF8.self)
  }

  @Test func keepsWhatIsTheUpstreams() throws {
    let octets = request("POST /y HTTP/1.1", "Accept: */*", "Content-Length: 5", "X-Own: 1", "Authorization: Bearer abc")
    #expect(
      try upstream(octets) == """
        POST /x HTTP/1.1\r
        Host: up.local:81\r
        Via: 1.1 farebox\r
        Accept: */*\r
        Content-Length: 5\r
        X-Own: 1\r
        Authorization: Bearer abc\r
        \(Self.own)\r

        """)
  }

  @Test(arguments: [
    "Connection: close", "Keep-Alive: 5", "Proxy-Connection: x", "Upgrade: websocket", "HTTP2-Settings: x", "TE: gzip",
    "Trailer: X", "Proxy-Authorization: Basic x", "Expect: 100-continue", "Payment-Authorization: Payment x",
    "Prepaid-Session: a; key=b", "Payment-Session: x", "Payment-Session-Snapshot: x", "Accept-Payment: x", "PAYMENT-SIGNATURE: x", "X-PAYMENT: x", "SIGN-IN-WITH-X: x",
    "Payment-Receipt: x", "Payment-Invoice: x", "PAYMENT-REQUIRED: x", "PAYMENT-RESPONSE: x", "X-PAYMENT-RESPONSE: x",
    "Forwarded: for=6.6.6.6", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil",
    "X-Forwarded-Port: 1", "X-Forwarded-Prefix: /a", "X-Real-IP: 6.6.6.6", "X-Original-URL: /admin", "X-Rewrite-URL: /admin",
    "X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE", "Content_Length: 9",
    "Transfer_Encoding: chunked", "X_Forwarded_For: 6.6.6.6", "X_Forwarded_Prefix: /a", "Prepaid_Session: x",
    "Authorization: Payment x", "authorization: PAYMENT x", "Authorization: Prepaid-Session x", "Authorization: L402 a:b",
    "Authorization: LSAT a:b", "Authorization: Basic eA==, Payment x", "Authorization: Payment",
    "Authorization: Digest a=\"b\\\"\", Payment x", "Authorization: Digest a=\"b, Payment x",
  ])
  func withholds(field: String) throws {
    let written = try upstream(request("POST /y HTTP/1.1", "A: 1", field, "B: 2", "Content-Length: 5"))
    #expect(
      written
        == "POST /x HTTP/1.1\r\nHost: up.local:81\r\nVia: 1.1 farebox\r\nA: 1\r\nB: 2\r\nContent-Length: 5\r\n\(Self.own)\r\n")
  }

  @Test func withholdsWhatConnectionNominates() throws {
    let octets = request(
      "GET / HTTP/1.1", "X-A: 1", "Connection: x-b, Cache-Control", "X-B: 2", "Cache-Control: no-store", "X-C: 3",
      "Connection: X-C")
    let written = try upstream(octets)
    #expect(written.contains("X-A: 1\r\n"))
    for name in ["X-B", "Cache-Control", "X-C", "Connection"] { #expect(!written.contains(name)) }
  }

  @Test func replacesWhatIsInjected() throws {
    let octets = request(
      "GET / HTTP/1.1", "Authorization: Bearer mine", "X-Api-Key: mine", "X_Api_Key: mine", "X-Api-Keys: 1", "Server: s")
    let written = try upstream(
      octets,
      injected: [("Authorization", Array("Bearer theirs".utf8)), ("x-api-key", Array("theirs".utf8)), ("Server", [])])
    #expect(!written.contains("mine") && written.contains("X-Api-Keys: 1\r\n") && !written.contains("Server: s"))
    #expect(written.contains("Authorization: Bearer theirs\r\nx-api-key: theirs\r\nServer: \r\n"))
  }

  @Test func refusesToInjectWhatWouldBreakTheMessage() {
    let value = Array("v".utf8)
    for (name, value) in [
      ("", value), ("a b", value), ("Host", value), ("Content-Length", value), ("Connection", value), ("Forwarded", value),
      ("Via", value), ("Content_Length", value), ("X", Array("a\r\nb".utf8)), ("X", [0]),
    ] {
      #expect(throws: HTTPError.self) { try UpstreamFields(host: nil, injected: [(name, value)]) }
    }
    for host in ["", "a b", "a\r\nX: y", "a/b", "u@a"] { #expect(throws: HTTPError.hostInvalid(at: 0)) { try UpstreamFields(host: host) } }
  }

  @Test func writesOneFraming() throws {
    let counted = request("POST / HTTP/1.1", "Content-Length: 5")
    #expect(try upstream(counted, framing: .length(5)).contains("Content-Length: 5\r\nX-Forwarded-For"))
    #expect(try upstream(counted, framing: .length(7)).hasSuffix("Content-Length: 7\r\n\r\n"))
    #expect(try !upstream(counted, framing: .length(7)).contains("Content-Length: 5"))
    #expect(try upstream(counted, framing: .chunked).hasSuffix("Transfer-Encoding: chunked\r\n\r\n"))
    #expect(try !upstream(counted, framing: .chunked).contains("Content-Length"))
    let chunked = request("POST / HTTP/1.1", "Transfer-Encoding: chunked", "TE: trailers")
    #expect(
      try upstream(chunked).hasSuffix("TE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\r\n"))
    #expect(try upstream(chunked, framing: .length(3)).hasSuffix("Content-Length: 3\r\n\r\n"))
  }

  @Test func keepsTheClientsHostWhereNoneIsConfigured() throws {
    let written = try upstream(request("GET / HTTP/1.0", host: "host:  example.com"), host: nil)
    #expect(written.hasPrefix("GET /x HTTP/1.1\r\nHost: example.com\r\nVia: 1.0 farebox\r\nX-Forwarded-For"))
  }

  @Test func viaTellsHowTheRequestCame() throws {
    let peer = ClientAddress(ipv4: 0xC000_0201)
    let stream = Forwarding(peer: peer, client: peer, isTrusted: false, isSecure: true, isHTTP2: true)
    #expect(try upstream(request("GET /y HTTP/1.1"), forwarding: stream).contains("\r\nVia: 2 farebox\r\n"))
    #expect(try upstream(request("GET /y HTTP/1.1")).contains("\r\nVia: 1.1 farebox\r\n"))
  }

  @Test func carriesOnWhatATrustedProxySaid() throws {
    let peer = ClientAddress(ipv4: 0x7F00_0001)
    let client = try #require(ClientAddress("2001:db8::7"))
    let forwarding = Forwarding(peer: peer, client: client, isTrusted: true, isSecure: false)
    let octets = request(
      "GET / HTTP/1.1", "X-Forwarded-For: 2001:db8::7", "X-Forwarded-Proto: https", "X-Real-IP: 6.6.6.6", "X-Forwarded-For: 10.0.0.1")
    let written = try upstream(octets, forwarding: forwarding)
    #expect(written.contains("X-Forwarded-For: 2001:db8::7, 10.0.0.1, 127.0.0.1\r\nX-Forwarded-Proto: https\r\n"))
    #expect(written.contains("X-Forwarded-Host: example.com\r\n"))
    #expect(written.contains("Forwarded: for=\"[2001:db8::7]\", for=127.0.0.1;proto=http;host=\"example.com\"\r\n"))
    #expect(!written.contains("6.6.6.6"))
    let silent = try upstream(
      request("GET / HTTP/1.1"), forwarding: Forwarding(peer: peer, client: peer, isTrusted: true, isSecure: true))
    #expect(silent.contains("X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n"))
    let local = try upstream(
      request("GET / HTTP/1.1"), forwarding: Forwarding(peer: .none, client: .none, isTrusted: false, isSecure: false))
    #expect(local.contains("X-Forwarded-For: unknown\r\n") && local.contains("Forwarded: for=unknown;proto=http"))
  }

  // MARK: Responses

  private func downstream(
    _ response: String, _ delivery: ResponseDelivery, method: HTTP.Method = .get, additional: String = "",
    date: String = "Date: now\r\n"
  ) throws -> String {
    let octets = Array((response + "\r\n\r\n").utf8)
    let head = try #require(decodeResponse(octets, method: method).head)
    var output = ByteBuffer()
    octets.withUnsafeBytes { bytes in
      Array(additional.utf8).withUnsafeBytes { additional in
        Array(date.utf8).withUnsafeBytes { date in
          ResponseRewriter.append(
            head, octets: bytes, delivery: delivery, additional: additional, date: date, to: &output)
        }
      }
    }
    let written = output.withUnsafeBytes { Array($0) }
    #expect(decodeResponse(written, method: method).head?.byteCount == written.count)
    return String(decoding: written, as: UTF8.self)
  }

  @Test func passesAResponse() throws {
    let counted = ResponseDelivery(framing: .length(5), keepAlive: true)
    #expect(
      try downstream("HTTP/1.0 201 Made\r\nA: 1\r\nContent-Length: 5\r\nServer: s", counted, additional: "R: 1\r\n")
        == "HTTP/1.1 201 Made\r\nA: 1\r\nContent-Length: 5\r\nServer: s\r\nR: 1\r\nDate: now\r\n\r\n")
    #expect(
      try downstream("HTTP/1.1 200\r\nDate: then\r\nContent-Length: 5", counted)
        == "HTTP/1.1 200 OK\r\nDate: then\r\nContent-Length: 5\r\n\r\n")
    #expect(
      try downstream("HTTP/1.1 200 OK\r\nContent-Length: 5", ResponseDelivery(framing: .chunked, keepAlive: true), date: "")
        == "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    #expect(
      try downstream(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
        ResponseDelivery(framing: .untilClose, keepAlive: false, clientMinorVersion: 0), date: "")
        == "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    #expect(
      try downstream(
        "HTTP/1.1 200 OK\r\nContent-Length: 5", ResponseDelivery(framing: .length(5), keepAlive: true, clientMinorVersion: 0),
        date: "") == "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n")
  }

  @Test func keepsLengthsThatDescribeWhatGETWouldSend() throws {
    let none = ResponseDelivery(framing: .none, keepAlive: true)
    #expect(try downstream("HTTP/1.1 200 OK\r\nContent-Length: 5", none, method: .head, date: "").contains("Content-Length: 5"))
    #expect(try downstream("HTTP/1.1 304 Not Modified\r\nContent-Length: 5", none, date: "").contains("Content-Length: 5"))
    #expect(try !downstream("HTTP/1.1 204 No Content\r\nContent-Length: 0", none, date: "").contains("Content-Length"))
    #expect(
      try downstream("HTTP/1.1 103 Early Hints\r\nLink: x\r\nConnection: close", none, additional: "R: 1\r\n")
        == "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
  }

  @Test(arguments: [
    "Connection: close", "Keep-Alive: 5", "Proxy-Authenticate: Basic", "Upgrade: h2c", "Trailer: X", "Payment-Receipt: forged",
    "Payment-Invoice: x", "PAYMENT-REQUIRED: x", "PAYMENT-RESPONSE: x", "X-Payment-Response: x", "Payment-Session: x", "Payment-Session-Snapshot: x",
    "Prepaid-Session: x", "Payment-Authorization: x", "WWW-Authenticate: Payment id=\"x\"", "WWW-Authenticate: L402 macaroon=\"x\"",
    "WWW-Authenticate: Basic realm=\"a\", Payment id=\"x\"", "WWW-Authenticate: payment id=\"x\"",
  ])
  func scrubs(field: String) throws {
    #expect(
      try downstream(
        "HTTP/1.1 200 OK\r\nA: 1\r\n\(field)\r\nB: 2\r\nContent-Length: 5",
        ResponseDelivery(framing: .length(5), keepAlive: true), date: "")
        == "HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nContent-Length: 5\r\n\r\n")
  }

  @Test func keepsOtherChallengesAndWantedTrailers() throws {
    let chunked = ResponseDelivery(framing: .chunked, keepAlive: true, keepsTrailers: true)
    for field in ["WWW-Authenticate: Basic realm=\"Payment\"", "WWW-Authenticate: Digest payment=1, realm=\"a, Payment x\"", "Trailer: X-Sum"] {
      #expect(try downstream("HTTP/1.1 200 OK\r\n\(field)\r\nTransfer-Encoding: chunked", chunked, date: "").contains(field))
    }
    let written = try downstream("HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-Kept: 1", ResponseDelivery(framing: .untilClose, keepAlive: false))
    #expect(!written.contains("X-Hop") && written.contains("X-Kept: 1\r\n"))
  }

  @Test(arguments: [
    ("Cache-Control: public, max-age=60, s-maxage=9", "Cache-Control: max-age=60\r\n"), ("Cache-Control: PUBLIC", ""), ("cdn-cache-control: max-age=9", ""),
    ("Surrogate-Control: x", ""), ("Akamai-Cache-Control: x", ""), ("Cache-Control: no-store", "Cache-Control: no-store\r\n"),
    ("Cache-Control: no-cache=\"a, public\", s-maxage = 1", "Cache-Control: no-cache=\"a, public\"\r\n"), ("X-Public: public", "X-Public: public\r\n"),
    ("Cache-Control: publicly, x=\"\\\", public\"", "Cache-Control: publicly, x=\"\\\", public\"\r\n"),
  ])
  func takesGrantsToSharedCachesOut(line: String, left: String) throws {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\(line)"
    let own = try downstream(head, ResponseDelivery(framing: .length(5), keepAlive: true, isPrivate: true), date: "")
    #expect(own == "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\(left)\r\n")
    #expect(try downstream(head, ResponseDelivery(framing: .length(5), keepAlive: true), date: "").contains(line))
  }

  @Test func dropsTheUpstreamsSharingWhereOursIsAdded() throws {
    let response = "HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nAccess-Control-Allow-Origin: *\r\naccess-control-max-age: 1\r\n"
      + "ACCESS-CONTROL-EXPOSE-HEADERS: A\r\nAccess-Control-Request-Method: B\r\nAccess-Control: 2\r\nContent-Length: 5"
    let ours = ResponseDelivery(framing: .length(5), keepAlive: true, keepsSharing: false)
    #expect(
      try downstream(response, ours, additional: "Access-Control-Allow-Origin: x\r\n", date: "")
        == "HTTP/1.1 200 OK\r\nAccess-Control: 2\r\nContent-Length: 5\r\nAccess-Control-Allow-Origin: x\r\n\r\n")
    let theirs = try downstream(response, ResponseDelivery(framing: .length(5), keepAlive: true), date: "")
    #expect(theirs.contains("Access-Control-Allow-Origin: *\r\naccess-control-max-age: 1\r\n"))
  }

  @Test func writesAnswersOfItsOwn() {
    var output = ByteBuffer()
    Array("Cache-Control: no-store\r\n".utf8).withUnsafeBytes { fields in
      Array("Date: now\r\n".utf8).withUnsafeBytes { date in
        ResponseRewriter.appendOwn(
          status: 402, fields: fields, delivery: ResponseDelivery(framing: .length(2), keepAlive: false), date: date, to: &output)
      }
    }
    #expect(
      output.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
        == "HTTP/1.1 402 Payment Required\r\nCache-Control: no-store\r\nDate: now\r\nContent-Length: 2\r\nConnection: close\r\n\r\n")
  }

  /// Whatever a random head holds, what goes upstream is one request without a field that must not pass.
  @Test func neverLetsAWithheldFieldPass() throws {
    var generator = SeededGenerator(state: 0x5EED)
    let names = FieldName.allCases.map { "\($0.spelling)" }.filter { !$0.isEmpty && $0 != "host" } + ["x-other", "X_Api_Key", "content_length"]
    let framings: [BodyFraming] = [.none, .length(3), .length(5), .chunked]
    for _ in 0..<3_000 {
      var fields = ["Host: example.com"]
      for _ in 0..<Int.random(in: 0..<8, using: &generator) {
        let name = names.randomElement(using: &generator) ?? "x"
        let value = ["5", "a, b", "Payment x", "Bearer x", "chunked", "trailers", "100-continue"].randomElement(using: &generator) ?? ""
        fields.append("\(Bool.random(using: &generator) ? name.uppercased() : name): \(value)")
      }
      let octets = Array((["POST / HTTP/1.1"] + fields + ["", ""]).joined(separator: "\r\n").utf8)
      guard decodeRequest(octets).head != nil else { continue }
      let framing = framings.randomElement(using: &generator) ?? .none
      let written = Array(try upstream(octets, framing: framing, injected: [("X-Api-Key", [0x6B])]).utf8)
      let head = try #require(decodeRequest(written).head)
      #expect(head.framing == framing)
      let forbidden: FieldSet = [.payment, .overriding, FieldSet([.disguised, .expect, .xRealIP, .upgrade, .trailer, .xForwardedOther])]
      #expect(head.present.isDisjoint(with: forbidden))
      #expect(head.count(of: .host) == 1 && head.count(of: .xForwardedFor) == 1 && head.count(of: .forwarded) == 1)
      for field in head.fields where field.name == .authorization { #expect(text(written, field.valueRange) != "Payment x") }
    }
  }

  @Test(arguments: [
    ([], "identity"), (["Accept-Encoding: gzip, deflate, br, zstd"], "gzip, deflate, br, zstd"),
    (["Accept-Encoding: GZIP;q=0.5 ,\tcompress, br ; q=1.0"], "GZIP;q=0.5, br ; q=1.0"), (["Accept-Encoding: *"], "identity"),
    (["Accept-Encoding: dcb", "Accept-Encoding: x-gzip,, identity;q=0"], "x-gzip, identity;q=0"), (["Accept-Encoding:"], "identity"),
    (["Accept-Encoding: gzi, gzipp, brr"], "identity"),
  ])
  func asksForCodingsThatCanBeRead(_ lines: [String], _ expected: String) throws {
    let octets = Array((["GET /y HTTP/1.1", "Host: example.com"] + lines + ["X-Own: 1", "", ""]).joined(separator: "\r\n").utf8)
    let readable = try upstream(octets, codings: .readable).split(separator: "\r\n").map(String.init).filter { $0.hasPrefix("Accept-Encoding") }
    #expect(readable == ["Accept-Encoding: \(expected)"])
    let none = try upstream(octets, codings: .identity).split(separator: "\r\n").map(String.init).filter { $0.lowercased().hasPrefix("accept-encoding") }
    #expect(none == ["Accept-Encoding: identity"])
    #expect(try upstream(octets).split(separator: "\r\n").map(String.init).filter { $0.hasPrefix("Accept-Encoding") } == lines)
    let injected = try upstream(octets, injected: [("accept-encoding", Array("br".utf8))], codings: .identity)
    #expect(injected.split(separator: "\r\n").map(String.init).filter { $0.lowercased().hasPrefix("accept-encoding") } == ["accept-encoding: br"])
  }
}
