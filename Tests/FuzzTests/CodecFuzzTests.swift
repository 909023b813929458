import Bytes
import Encoding
import HTTP
import Metering
import Payments
import Testing

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

private func randomCuts(_ count: Int, _ generator: inout SeededGenerator) -> [Int] {
  guard count > 0 else { return [] }
  return (0..<Int.random(in: 0...5, using: &generator)).map { _ in Int.random(in: 0..<count, using: &generator) }.sorted()
}

/// An unfinished line may be refused at once or only when its end has come, so where the two differ in that the end is supplied.
private func expectSame(_ octets: [UInt8], _ cuts: [Int], _ decode: ([UInt8], [Int]) -> Outcome) {
  let (whole, pieces) = (decode(octets, []), decode(octets, cuts))
  guard whole != pieces else { return }
  let ended = octets + Array("\r\n\r\n".utf8)
  #expect((whole == .incomplete || pieces == .incomplete) && decode(ended, []) == decode(ended, cuts), "\(octets) cut at \(cuts)")
}

@Suite struct CodecFuzzTests {
  @Test func requestHeadsDecodeTheSameHoweverTheyArrive() {
    let tried = Fuzzing.run("request heads", requests) { octets, generator in
      let cuts = randomCuts(octets.count, &generator)
      expectSame(octets, cuts, decodeRequest)
    }
    #expect(tried > 0)
  }

  @Test func responseHeadsDecodeTheSameHoweverTheyArrive() {
    let tried = Fuzzing.run("response heads", responses) { octets, generator in
      let cuts = randomCuts(octets.count, &generator)
      expectSame(octets, cuts, decodeResponse)
    }
    #expect(tried > 0)
  }

  @Test func chunkedContentIsTheSameHoweverItArrives() {
    let tried = Fuzzing.run("chunked content", chunked) { octets, generator in
      let cuts = randomCuts(octets.count, &generator)
      #expect(dechunk(octets, cuts: cuts) == dechunk(octets, cuts: []), "\(octets) cut at \(cuts)")
    }
    #expect(tried > 0)
  }

  @Test func aCanonicalTargetIsItsOwnCanonicalForm() {
    let tried = Fuzzing.run("targets", targets) { octets, _ in
      var buffer = ByteBuffer()
      let range = withOctets(octets) { raw -> Range<Int>? in
        guard let target = try? CanonicalTarget.canonicalise(raw, into: &buffer) else { return nil }
        if target.isUnchanged { buffer.append(raw) }
        return target.range
      }
      guard let range else { return }
      let canonical = buffer.withUnsafeBytes { Array($0[range]) }
      var second = ByteBuffer()
      let again = withOctets(canonical) { raw -> Range<Int>? in
        guard let target = try? CanonicalTarget.canonicalise(raw, into: &second) else { return nil }
        if target.isUnchanged { second.append(raw) }
        return target.range
      }
      let repeated = again.map { range in second.withUnsafeBytes { Array($0[range]) } }
      #expect(repeated == canonical, "\(octets) became \(canonical)")
      let text = String(decoding: canonical, as: UTF8.self).lowercased()
      let path = text.split(separator: "?", omittingEmptySubsequences: false)[0]
      #expect(!path.contains("%2f") && !path.contains("//") && !path.contains("/../") && !path.hasSuffix("/..") && !path.contains("\\"), "\(octets)")
    }
    #expect(tried > 0)
  }

  @Test func canonicalJSONIsItsOwnCanonicalForm() {
    let tried = Fuzzing.run("JSON", documents) { octets, _ in
      guard let value = try? JSON.parse(octets) else { return }
      let canonical = JCS.serialize(value)
      let again = try? JSON.parse(canonical)
      #expect(again.map { JCS.serialize($0) } == canonical, "\(octets)")
    }
    #expect(tried > 0)
  }

  @Test func eventStreamsScanTheSameHoweverTheyArrive() {
    let tried = Fuzzing.run("event streams", events) { octets, generator in
      func scanned(_ cuts: [Int]) -> [UInt8] {
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
      let whole = scanned([])
      #expect(whole == scanned(randomCuts(octets.count, &generator)), "\(octets)")
      #expect(whole.count == octets.count)
    }
    #expect(tried > 0)
  }

  @Test func credentialsAndChallengesNeverTrap() {
    let credential = #"{"challenge":{"expires":"2030-01-01T00:00:00Z","id":"X6v1eo7fJ76gAxqY0xN9Jd__4lUyDDYmriryOM-5FO4","intent":"charge","method":"prepaid","opaque":"eyJuIjoiQSJ9","realm":"a","request":"eyJhbW91bnQiOiIxIn0"},"payload":{"type":"transfer"}}"#
    let fields = [#"Payment id="a", realm="b", method="prepaid", intent="charge", request="e30", expires="2030-01-01T00:00:00Z""#, #"Basic realm="x", Payment id="\"", realm=b , Bearer abc"#]
    let tried = Fuzzing.run("credentials", [credential]) { octets, _ in
      let token = Base64URL.encodeOctets(octets)
      token.withUnsafeBytes { _ = try? Credential.parse($0, field: .authorization) }
      octets.withUnsafeBytes { _ = try? Credential.parse($0, field: .authorization) }
    }
    #expect(tried > 0)
    let lists = Fuzzing.run("challenge lists", fields) { octets, _ in
      let text = String(decoding: octets, as: UTF8.self)
      _ = ChallengeList.parse(text)
      _ = try? Receipt.parse(text)
      withOctets(octets) { _ = AcceptPayment($0) }
    }
    #expect(lists > 0)
  }

  @Test func paymentsOfX402NeverTrap() {
    let word = String(repeating: "5e", count: 32)
    let account = String(repeating: "20", count: 20)
    let accepted = #"{"scheme":"batch-settlement","network":"eip155:8453","amount":"1","asset":"0x\#(account)","payTo":"0x\#(account)","maxTimeoutSeconds":60,"extra":{"withdrawDelay":900}}"#
    let config = #"{"payer":"0x\#(account)","payerAuthorizer":"0x\#(account)","receiver":"0x\#(account)","receiverAuthorizer":"0x\#(account)","token":"0x\#(account)","withdrawDelay":900,"salt":"0x\#(word)"}"#
    let voucher = #"{"x402Version":2,"accepted":\#(accepted),"payload":{"type":"voucher","channelConfig":\#(config),"voucher":{"channelId":"0x\#(word)","maxClaimableAmount":"7","signature":"0x\#(word)"}}}"#
    let exact = #"{"x402Version":1,"scheme":"exact","network":"base","payload":{"signature":"0x\#(word)","authorization":{"from":"0x\#(account)","to":"0x\#(account)","value":"1","validAfter":"0","validBefore":"9","nonce":"0x\#(word)"}}}"#
    let tried = Fuzzing.run("payments of x402", [voucher, exact]) { octets, _ in
      _ = try? PaymentPayload(json: octets)
      octets.withUnsafeBytes { _ = try? PaymentPayload.parse($0, field: .xPayment) }
    }
    #expect(tried > 0)
    let settled = #"{"success":true,"transaction":"0x\#(word)","network":"base","amount":"1","extra":{"chargedAmount":"1","channelState":{"channelId":"0x\#(word)","balance":"1","totalClaimed":"0"}}}"#
    let supported = #"{"kinds":[{"x402Version":2,"scheme":"upto","network":"eip155:1","extra":{}}],"extensions":["a"],"signers":{"eip155:*":["0x"]}}"#
    let required = #"{"x402Version":2,"resource":{"url":"u"},"accepts":[\#(accepted)],"extensions":{}}"#
    let answers = Fuzzing.run("answers of x402", [settled, supported, required]) { octets, _ in
      octets.withUnsafeBytes { octets in
        _ = try? SettlementResponse(json: octets, network: X402Network(chainID: 8453))
        _ = try? SupportedResponse(json: octets)
        _ = try? VerifyResponse(json: octets)
        _ = try? PaymentRequired(json: octets)
        _ = try? SignInProof(fieldValue: octets)
      }
    }
    #expect(answers > 0)
  }
}
