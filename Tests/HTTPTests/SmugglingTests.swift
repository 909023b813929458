import Testing

@testable import HTTP

/// The forms in which one message can be read as two: each is refused with the rule that it breaks.
@Suite struct SmugglingTests {
  struct Form: CustomTestStringConvertible, Sendable {
    let octets: [UInt8]
    let rule: String
    let status: UInt16

    init(_ text: String, _ rule: String, _ status: UInt16 = 400) {
      octets = Array(text.utf8)
      self.rule = rule
      self.status = status
    }

    init(field: String, _ rule: String, _ status: UInt16 = 400) {
      self.init("POST / HTTP/1.1\r\nHost: a\r\n\(field)\r\n\r\n", rule, status)
    }

    var testDescription: String { "\(rule): \(String(decoding: octets, as: UTF8.self).debugDescription)" }
  }

  static let forms: [Form] = [
    // Line ends.
    Form("GET / HTTP/1.1\nHost: a\n\n", "bareLineFeed"),
    Form("GET / HTTP/1.1\r\nHost: a\n\r\n", "bareLineFeed"),
    Form("GET / HTTP/1.1\r\nHost: a\r\nX: y\n\r\n\r\n", "bareLineFeed"),
    Form("GET / HTTP/1.1\r\nHost: a\r\n\n", "bareLineFeed"),
    Form("GET / HTTP/1.1\r\nHost: a\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n", "bareCarriageReturn"),
    Form("GET / HTTP/1.1\rHost: a\r\n\r\n", "bareCarriageReturn"),
    Form("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\r\n\r\n", "bareCarriageReturn"),
    Form("GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n", "bareCarriageReturn"),
    Form("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "bareCarriageReturn"),
    Form("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "bareLineFeed"),
    Form("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "requestLineInvalid"),
    // The request line.
    Form("GET /\r\n\r\n", "requestLineInvalid"),
    Form("GET\r\n\r\n", "requestLineInvalid"),
    Form("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "requestLineInvalid"),
    Form("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", "versionInvalid"),
    Form(" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "methodInvalid"),
    Form("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "methodInvalid"),
    Form("GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", "targetInvalid"),
    Form("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "requestLineInvalid"),
    Form("GET / HTTP/1.1x\r\nHost: a\r\n\r\n", "requestLineInvalid"),
    Form("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "versionInvalid"),
    Form("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", "methodInvalid"),
    Form("GET /\u{0}x HTTP/1.1\r\nHost: a\r\n\r\n", "targetInvalid"),
    Form("GET /\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n", "targetInvalid"),
    Form("GET /caf\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", "targetInvalid"),
    Form("GET / http/1.1\r\nHost: a\r\n\r\n", "versionInvalid"),
    Form("GET / HTTP/1,1\r\nHost: a\r\n\r\n", "versionInvalid"),
    Form("GET / HTTP/11\r\nHost: a\r\n\r\n", "versionInvalid"),
    Form("GET / HTTP/1.\r\nHost: a\r\n\r\n", "versionInvalid"),
    Form("GET / HTTP/1.2\r\nHost: a\r\n\r\n", "versionUnsupported", 505),
    Form("GET / HTTP/0.9\r\nHost: a\r\n\r\n", "versionUnsupported", 505),
    Form("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "versionUnsupported", 505),
    Form("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "methodUnsupported", 501),
    Form("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", "methodUnsupported", 501),
    // Field lines.
    Form(field: "Content-Length : 5", "spaceBeforeColon"),
    Form(field: "Transfer-Encoding\t: chunked", "spaceBeforeColon"),
    Form(field: "X: y\r\n z", "lineFolded"),
    Form(field: "X: y\r\n\tTransfer-Encoding: chunked", "lineFolded"),
    Form("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "lineFolded"),
    Form(field: ": y", "fieldNameEmpty"),
    Form(field: "no colon", "spaceBeforeColon"),
    Form(field: "nocolon", "fieldNameInvalid"),
    Form(field: "na\u{0}me: y", "fieldNameInvalid"),
    Form(field: "na\u{e9}me: y", "fieldNameInvalid"),
    Form(field: "na(me): y", "fieldNameInvalid"),
    Form(field: "\u{b}Transfer-Encoding: chunked", "fieldNameInvalid"),
    Form(field: "X: a\u{0}b", "fieldValueInvalid"),
    Form(field: "X: a\u{b}b", "fieldValueInvalid"),
    Form(field: "X: a\u{7f}b", "fieldValueInvalid"),
    Form(field: "X: \u{1}", "fieldValueInvalid"),
    // Host.
    Form("GET / HTTP/1.1\r\n\r\n", "hostMissing"),
    Form(field: "Host: a", "hostRepeated"),
    Form("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", "hostRepeated"),
    Form("GET / HTTP/1.1\r\nHost:\r\n\r\n", "hostInvalid"),
    Form("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "hostInvalid"),
    Form("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "hostInvalid"),
    Form("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "hostInvalid"),
    Form("GET / HTTP/1.1\r\nHost: a:\r\n\r\n", "hostInvalid"),
    Form("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", "hostInvalid"),
    Form("GET / HTTP/1.1\r\nHost: a:+1\r\n\r\n", "hostInvalid"),
    Form("GET / HTTP/1.1\r\nHost: a%2e\r\n\r\n", "hostInvalid"),
    Form("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "hostInvalid"),
    Form("GET / HTTP/1.1\r\nHost: [g::]\r\n\r\n", "hostInvalid"),
    Form("GET / HTTP/1.1\r\nHost: [:::]\r\n\r\n", "hostInvalid"),
    Form("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "hostInvalid"),
    // Content-Length.
    Form(field: "Content-Length: 5\r\nContent-Length: 5", "contentLengthRepeated"),
    Form(field: "Content-Length: 5\r\ncontent-length: 6", "contentLengthRepeated"),
    Form(field: "Content-Length: 5, 5", "contentLengthInvalid"),
    Form(field: "Content-Length: +5", "contentLengthInvalid"),
    Form(field: "Content-Length: -5", "contentLengthInvalid"),
    Form(field: "Content-Length: 0x5", "contentLengthInvalid"),
    Form(field: "Content-Length: 5 ;", "contentLengthInvalid"),
    Form(field: "Content-Length: 5 5", "contentLengthInvalid"),
    Form(field: "Content-Length: \"5\"", "contentLengthInvalid"),
    Form(field: "Content-Length:", "contentLengthInvalid"),
    Form(field: "Content-Length: ٥", "contentLengthInvalid"),
    Form(field: "Content-Length: 18446744073709551617", "contentLengthTooLarge", 413),
    Form(field: "Content-Length: 9223372036854775808", "contentLengthTooLarge", 413),
    // Transfer-Encoding.
    Form(field: "Content-Length: 5\r\nTransfer-Encoding: chunked", "lengthBesideTransferEncoding"),
    Form(field: "Transfer-Encoding: chunked\r\nContent-Length: 5", "lengthBesideTransferEncoding"),
    Form(field: "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "transferEncodingRepeated"),
    Form(field: "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "transferEncodingRepeated"),
    Form(field: "Transfer-Encoding: chunked, chunked", "transferEncodingInvalid"),
    Form(field: "Transfer-Encoding: gzip, chunked", "transferEncodingInvalid"),
    Form(field: "Transfer-Encoding: chunked, identity", "transferEncodingInvalid"),
    Form(field: "Transfer-Encoding: chunked;x=y", "transferEncodingInvalid"),
    Form(field: "Transfer-Encoding: \"chunked\"", "transferEncodingInvalid"),
    Form(field: "Transfer-Encoding: , chunked", "transferEncodingInvalid"),
    Form(field: "Transfer-Encoding:", "transferEncodingInvalid"),
    Form(field: "Transfer-Encoding: xchunked", "transferEncodingUnsupported", 501),
    Form(field: "Transfer-Encoding: identity", "transferEncodingUnsupported", 501),
    Form(field: "Transfer-Encoding: \u{b}chunked", "fieldValueInvalid"),
    Form("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "transferEncodingTooNew"),
    // Connection and Expect.
    Form(field: "Connection: close, Content-Length", "connectionNominatesFraming"),
    Form(field: "Connection: Host", "connectionNominatesFraming"),
    Form(field: "Connection: Transfer-Encoding", "connectionNominatesFraming"),
    Form(field: "Connection: a b", "connectionInvalid"),
    Form(field: "Connection: \"close\"", "connectionInvalid"),
    Form(field: "Expect: 200-ok", "expectationUnknown", 417),
    Form(field: "Content-Length: 1\r\nExpect: 100-continue, x", "expectationUnknown", 417),
  ]

  private func name(_ error: HTTPError?) -> String {
    guard let error else { return "accepted" }
    return String("\(error)".prefix { $0 != "(" })
  }

  @Test(arguments: forms) func refuses(_ form: Form) {
    let error = decodeRequest(form.octets).error
    #expect(name(error) == form.rule)
    #expect(error?.status == form.status)
    #expect((0...form.octets.count).contains(error?.position ?? -1))
  }

  @Test(arguments: forms) func refusesTheSameAtEverySplit(_ form: Form) {
    for split in 0..<form.octets.count {
      let outcome = decodeRequest(form.octets, arrivingAt: [split, form.octets.count])
      #expect(outcome.error != nil, "split at \(split)")
      #expect(outcome.error?.status == form.status, "split at \(split)")
    }
    let dripped = decodeRequest(form.octets, arrivingAt: Array(0...form.octets.count))
    #expect(dripped.error?.status == form.status)
  }

  @Test func controlsInValuesAreRefusedWhereverTheyStand() {
    for octet in UInt8.min...UInt8.max {
      for offset in 0..<20 {
        var value = Array(repeating: UInt8(ascii: "v"), count: 20)
        value[offset] = octet
        let octets = Array("GET / HTTP/1.1\r\nHost: a\r\nX: ".utf8) + value + Array("\r\n\r\n".utf8)
        let isAllowed = octet == 0x09 || (octet >= 0x20 && octet != 0x7F)
        #expect((decodeRequest(octets).head != nil) == isAllowed, "\(octet) at \(offset)")
      }
    }
  }

  @Test func onlyVisibleOctetsMakeTargets() {
    for octet in UInt8.min...UInt8.max {
      for offset in [0, 3, 7, 8, 12] {
        var target = Array(repeating: UInt8(ascii: "t"), count: 13)
        target[offset] = octet
        let octets = Array("GET /".utf8) + target + Array(" HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
        #expect((decodeRequest(octets).head != nil) == (octet > 0x20 && octet < 0x7F), "\(octet) at \(offset)")
      }
    }
  }

  @Test func onlyTokensMakeNames() {
    for octet in UInt8.min...UInt8.max {
      for offset in [0, 5, 8, 13] {
        var name = Array("content-length".utf8)
        name[offset] = octet
        let octets = Array("GET / HTTP/1.1\r\nHost: a\r\n".utf8) + name + Array(": 5\r\n\r\n".utf8)
        let isSame = octet | 0x20 == Array("content-length".utf8)[offset] && octet & 0x40 != 0
        let head = decodeRequest(octets).head
        if octet == 0x3A { continue }
        #expect((head != nil) == OctetClass.token.contains(octet), "\(octet) at \(offset)")
        #expect((head?.has(.contentLength) ?? false) == isSame, "\(octet) at \(offset)")
      }
    }
  }
}
