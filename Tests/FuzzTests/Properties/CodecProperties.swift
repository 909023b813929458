import Bytes
import Encoding
import HTTP
import Metering
import Payments

private let requests = [
  "GET /v1/quotes/eur.json?x=1 HTTP/1.1\r\nHost: api.example.com\r\nAccept: */*\r\n\r\n",
  "POST / HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\nConnection: close, X-A\r\nX-A: b\r\n\r\nhello",
  "POST http://a/b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\nTE: trailers\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
  "OPTIONS * HTTP/1.0\r\n\r\n", "\r\nHEAD /%41?%zz HTTP/1.1\r\nHost: [::1]:1\r\n\r\n",
]
private let responses = [
  "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello", "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n",
  "HTTP/1.0 404 \r\n\r\n", "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n",
]
private let chunked = [
  "5\r\nhello\r\n0\r\n\r\n", "a;x=y;z=\"q\\\"\"\r\n0123456789\r\n0\r\nX-T: 1\r\nY: 2\r\n\r\n", "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n00\r\n\r\n", "FFFFFFFFFFFFFFFF\r\n",
]
private let documents = [
  #"{"amount":"1000","methodDetails":{"decimals":6,"x":[1,2.5e-3,-0,1e21,null,true,"é\u20ac\ud83d\ude00"]},"z":""}"#, "[]", "-1.5E+2", #""\b\f\n\r\t\"\\\/""#, #"{"b":1,"a":{"b":[[[[{}]]]]}}"#,
]
private let events = ["event: tick\nid: 1\ndata: x\n\n", "data: a\r\n\r\ndata: b\r\r: comment\n\n", "\u{FEFF}event: payment-receipt\ndata: forged\n\n", "EVENT:  Session-Timeout\n\n"]
private let frameSamples: [[UInt8]] = [
  [0x81, 0x85, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0x88, 0x80, 0, 0, 0, 0], [0x01, 0x01, 65, 0x80, 0x01, 66, 0x89, 0], [0x82, 126, 0, 126] + [UInt8](repeating: 7, count: 126), [0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4],
]
private let proxyHeaders: [[UInt8]] = [
  Array("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\nGET".utf8), Array("PROXY TCP6 2001:db8::1 ::ffff:1.2.3.4 1 65535\r\n".utf8), Array("PROXY UNKNOWN x\r\n".utf8),
  [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A, 0x21, 0x11, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 0, 80, 1, 187],
  [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A, 0x20, 0, 0, 4, 4, 0, 1, 9],
]
private let targets = ["/a/b/c", "/%41/b?x=%2F&y", "/a%7Eb", "/", "/a/./b", "/a//b", "/%e2%82%ac"]

private func withOctets<R>(_ octets: [UInt8], _ body: (UnsafeRawBufferPointer) -> R) -> R { octets.withUnsafeBytes(body) }

/// What a decoder said: the same for the whole input as for any way of cutting it up.
private enum Outcome: Equatable {
  case complete(byteCount: Int, framing: BodyFraming, fieldCount: Int)
  case incomplete
  case refused(status: UInt16)
}

private func decodeRequest(_ octets: [UInt8], _ cuts: [Int]) -> Outcome {
  var head = RequestHead()
  for end in cuts + [octets.count] {
    do throws(HTTPError) {
      let isComplete = try octets.withUnsafeBufferPointer { (all) throws(HTTPError) -> Bool in
        try RequestDecoder.decode(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(all)[..<end]), limits: HeadLimits(), into: &head)
      }
      if isComplete { return .complete(byteCount: head.byteCount, framing: head.framing, fieldCount: head.section.fields.count) }
    } catch { return .refused(status: error.status) }
  }
  return .incomplete
}

private func decodeResponse(_ octets: [UInt8], _ cuts: [Int]) -> Outcome {
  var head = ResponseHead()
  for end in cuts + [octets.count] {
    do throws(HTTPError) {
      let isComplete = try octets.withUnsafeBufferPointer { (all) throws(HTTPError) -> Bool in
        try ResponseDecoder.decode(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(all)[..<end]), limits: HeadLimits(), requestMethod: .get, into: &head)
      }
      if isComplete { return .complete(byteCount: head.byteCount, framing: head.framing, fieldCount: head.section.fields.count) }
    } catch { return .refused(status: error.status) }
  }
  return .incomplete
}

private func dechunk(_ octets: [UInt8], cuts: [Int]) -> (content: [UInt8], outcome: String) {
  var decoder = ChunkedDecoder()
  var content: [UInt8] = []
  var consumed = 0
  for end in cuts + [octets.count] {
    while true {
      do throws(HTTPError) {
        let event = try octets.withUnsafeBufferPointer { (all) throws(HTTPError) -> ChunkEvent in
          try decoder.decode(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(all)[..<end]), consumed: &consumed)
        }
        switch event {
        case .data(let range): content += octets[range]; continue
        case .end: return (content, "end at \(consumed)")
        case .needMore: break
        }
      } catch { return (content, "refused") }
      break
    }
  }
  return (content, "incomplete")
}

/// An unfinished line may be refused at once or only when its end has come, so where the two differ in that the end is supplied.
private func requireSame(_ octets: [UInt8], _ decode: ([UInt8], [Int]) -> Outcome) throws {
  let cuts = cuts(of: octets)
  let (whole, pieces) = (decode(octets, []), decode(octets, cuts))
  guard whole != pieces else { return }
  // What breaks two rules may be refused for either.
  if case .refused = whole, case .refused = pieces { return }
  let ended = octets + Array("\r\n\r\n".utf8)
  try require(
    (whole == .incomplete || pieces == .incomplete) && decode(ended, []) == decode(ended, cuts), "\(whole) in one, \(pieces) cut at \(cuts)")
}

private func canonical(_ octets: [UInt8]) -> [UInt8]? {
  var buffer = ByteBuffer()
  let range = withOctets(octets) { raw -> Range<Int>? in
    guard let target = try? CanonicalTarget.canonicalise(raw, into: &buffer) else { return nil }
    if target.isUnchanged { buffer.append(raw) }
    return target.range
  }
  return range.map { range in buffer.withUnsafeBytes { Array($0[range]) } }
}

private func scanned(_ octets: [UInt8], _ cuts: [Int]) -> [UInt8] {
  var scanner = EventStreamScanner()
  var output = ByteBuffer()
  var start = 0
  for end in cuts + [octets.count] {
    withOctets(octets) { scanner.scan(UnsafeRawBufferPointer(rebasing: $0[start..<end]), into: &output) }
    start = end
  }
  scanner.finish(into: &output)
  return output.withUnsafeBytes { Array($0) }
}

/// The frames of one direction as a scanner saw them, and how it ended.
private func frames(_ octets: [UInt8], _ cuts: [Int], _ sender: WebSocketScanner.Sender, _ extensions: WebSocketExtensions) -> [String] {
  var scanner = WebSocketScanner(sender: sender, extensions: extensions)
  var seen: [String] = []
  var position = 0
  for end in cuts + [octets.count] {
    while position < end {
      if scanner.isBetweenFrames {
        do {
          let frame = try withOctets(Array(octets[position..<end])) { octets in Result { try scanner.begin(octets) } }.get()
          guard let frame else { break }
          seen.append("\(frame)")
          position += frame.headerCount
        } catch { return seen + ["\(error)"] }
      }
      let count = Int(min(UInt64(end - position), scanner.payloadLeft))
      scanner.pass(count)
      position += count
    }
  }
  return seen + ["\(scanner.isInMessage) \(scanner.isClosed) \(scanner.payloadLeft) \(octets.count - position)"]
}

extension Property {
  /// HTTP/1, and what travels in it.
  static let codecs: [Property] = [
    Property("request-heads", requests) { try requireSame($0, decodeRequest) },
    Property("response-heads", responses) { try requireSame($0, decodeResponse) },
    Property("chunked", chunked) { octets in
      let cuts = cuts(of: octets)
      let (whole, pieces) = (dechunk(octets, cuts: []), dechunk(octets, cuts: cuts))
      try require(whole == pieces, "\(whole) in one, \(pieces) cut at \(cuts)")
      try require(whole.content.count <= octets.count, "more came out than was sent")
    },
    Property("targets", targets) { octets in
      guard let first = canonical(octets) else { return }
      try require(canonical(first) == first, "the canonical form \(first) is not its own")
      let text = String(decoding: first, as: UTF8.self).lowercased()
      let path = text.split(separator: "?", omittingEmptySubsequences: false)[0]
      try require(!path.contains("%2f") && !path.contains("//") && !path.contains("/../") && !path.hasSuffix("/..") && !path.contains("\\"), text)
    },
    Property("json", documents) { octets in
      guard let value = try? JSON.parse(octets) else { return }
      let canonical = JCS.serialize(value)
      try require((try? JSON.parse(canonical)).map { JCS.serialize($0) } == canonical, "the canonical form is not its own")
      let plain = Array(JSON.serialize(value))
      try require((try? JSON.parse(plain)).map { JCS.serialize($0) } == canonical, "what is written means something else")
    },
    Property("event-streams", events) { octets in
      let whole = scanned(octets, [])
      try require(whole == scanned(octets, cuts(of: octets)), "cut at \(cuts(of: octets))")
      try require(whole.count == octets.count, "octets come or go")
    },
    Property("websocket", frameSamples) { octets in
      for extensions in [WebSocketExtensions.none, .compression, .unknown] {
        for sender in [WebSocketScanner.Sender.client, .server] {
          let (whole, pieces) = (frames(octets, [], sender, extensions), frames(octets, cuts(of: octets), sender, extensions))
          try require(whole == pieces, "\(whole) in one, \(pieces) cut at \(cuts(of: octets))")
        }
      }
    },
    Property("proxy-protocol", proxyHeaders) { octets in
      func read(_ octets: [UInt8]) -> (header: ProxyProtocol.Header?, count: Int, isRefused: Bool) {
        var count = 0
        let result = withOctets(octets) { octets in Result { try ProxyProtocol.decode(octets, count: &count) } }
        return ((try? result.get()) ?? nil, count, (try? result.get()) == nil)
      }
      let (header, count, _) = read(octets)
      guard let header else { return }
      try require(count <= octets.count && count <= ProxyProtocol.longestHeader, "\(count) octets")
      for end in 0..<count { try require(read(Array(octets[..<end])).header == nil, "whole with \(end) of \(count) octets") }
      for version in [ProxyProtocol.Version.v1, .v2] {
        var written = ByteBuffer()
        ProxyProtocol.append(header, version, to: &written)
        let again = read(written.array())
        try require(again.count == written.count, "written as \(written.array())")
        if version == .v2 { try require(again.header == header, "\(header) became \(String(describing: again.header))") }
      }
    },
    Property("base64", ["Zm9vYmE=", "Zm9vYg==", "-_-_", "QUJD", "0xdeadBEEF", "Z", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"]) { octets in
      if let plain = Base64URL.decode(octets) {
        // Padding may be there or not; there is no other freedom.
        let written = Base64URL.encodeOctets(plain)
        try require(written == octets || octets.starts(with: written) && octets.dropFirst(written.count).allSatisfy { $0 == 0x3D }, "\(plain) is spelled \(written)")
      }
      if let plain = Base64.decode(octets) {
        try require(Base64.decode(Base64.encode(plain)) == plain, "\(plain)")
      }
      if let plain = Hex.decode(octets) { try require(Hex.decode(Hex.encode(plain)) == plain && plain.count * 2 == octets.count, "\(plain)") }
      let text = String(decoding: octets, as: UTF8.self)
      if text.utf8.count <= 128, let plain = Base58.decode(text) { try require(Base58.encode(plain) == text, "\(plain)") }
      try require(Base64URL.decode(Base64URL.encodeOctets(octets)) == octets, "base64url")
      try require(Base64.decode(Base64.encode(octets)) == octets, "base64")
      try require(Hex.decode(Hex.encode(octets)) == octets, "hex")
    },
  ]
}
