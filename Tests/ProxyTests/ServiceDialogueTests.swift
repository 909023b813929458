import Bytes
import Testing

@testable import Proxy

@Suite struct ServiceDialogueTests {
  /// What comes of an answer in pieces, and of the connection's end behind them; nil: it failed.
  private func content(_ pieces: [ArraySlice<UInt8>], ends: Bool = false) -> String? {
    var dialogue = ServiceDialogue(Array("POST / HTTP/1.1\r\n\r\n".utf8), engine: nil)
    var output = ByteBuffer()
    guard dialogue.begin(into: &output), output.count == 19 else { return "not begun" }
    for piece in pieces {
      switch Array(piece).withUnsafeBytes({ dialogue.receive($0, into: &output) }) {
      case .more: continue
      case .done(let reply): return "\(reply.status) \(reply.maximumAge ?? -1) \(String(decoding: reply.content, as: UTF8.self))"
      case .failed: return nil
      }
    }
    guard ends, case .done(let reply) = dialogue.ended() else { return nil }
    return "\(reply.status) \(reply.maximumAge ?? -1) \(String(decoding: reply.content, as: UTF8.self))"
  }

  @Test(arguments: [
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nCache-Control: max-age=9\r\n\r\nhello",
    "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: public\r\nCache-Control: max-age=9\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    "HTTP/1.0 200 OK\r\nCache-Control: max-age=9\r\n\r\nhello",
  ])
  func readsAnswersCutAnywhere(_ text: String) {
    let octets = Array(text.utf8)
    for cut in 0...octets.count {
      #expect(content([octets[..<cut], octets[cut...]], ends: true) == "200 9 hello", "cut at \(cut)")
    }
    #expect(content(octets.indices.map { octets[$0...$0] }, ends: true) == "200 9 hello")
    if !text.hasPrefix("HTTP/1.0") {
      for cut in 0..<octets.count - 1 { #expect(content([octets[..<cut]], ends: true) == nil, "ended at \(cut)") }
    }
  }

  @Test func boundsWhatItReads() {
    func failed(_ text: String) -> Bool { content([Array(text.utf8)[...]]) == nil }
    let long = String(repeating: "x", count: ServiceDialogue.contentLimit + 1)
    #expect(failed("HTTP/1.1 200 OK\r\nContent-Length: \(long.utf8.count)\r\n\r\n"))
    #expect(failed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\(String(long.utf8.count, radix: 16))\r\n\(long)"))
    #expect(failed("HTTP/1.1 200 OK\r\n\r\n\(long)"))
    #expect(failed("HTTP/1.1 200 OK\r\nX: \(long)"))
    #expect(failed(String(repeating: "HTTP/1.1 100 Continue\r\n\r\n", count: 20)))
  }

  /// Says one request after another, each answered by the text in single octets; how many there were before one could not be said.
  private func rounds(_ text: String, idle: String = "") -> Int {
    var dialogue = ServiceDialogue(Array("POST /1 HTTP/1.1\r\n\r\n".utf8), engine: nil)
    var output = ByteBuffer()
    guard dialogue.begin(into: &output) else { return 0 }
    for round in 1...3 {
      var isDone = false
      for octet in Array(text.utf8) {
        if case .done(let reply) = [octet].withUnsafeBytes({ dialogue.receive($0, into: &output) }) {
          guard reply.status == 200, reply.content == Array("hi".utf8) else { return -1 }
          isDone = true
        }
      }
      guard isDone else { return -1 }
      if !idle.isEmpty { return Array(idle.utf8).withUnsafeBytes { dialogue.receiveIdle($0, into: &output) } ? -2 : round }
      output.removeAll()
      let next = Array("POST /\(round + 1) HTTP/1.1\r\n\r\n".utf8)
      guard dialogue.ask(next, limit: 16, into: &output) else { return round }
      guard output.array() == next else { return -3 }
    }
    return 3
  }

  @Test func asksAgainOnlyWhereTheAnswerLeavesTheConnectionOpen() {
    #expect(rounds("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") == 3)
    #expect(rounds("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n") == 3)
    #expect(rounds("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi") == 1)
    #expect(rounds("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi") == 1)
    #expect(rounds("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", idle: "HTTP/1.1 200 OK\r\n") == 1)
  }

  @Test func takesNoOctetsBehindAnAnswerForTheNextOne() {
    var dialogue = ServiceDialogue(Array("POST / HTTP/1.1\r\n\r\n".utf8), engine: nil)
    var output = ByteBuffer()
    guard dialogue.begin(into: &output) else { return }
    let octets = Array("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno".utf8)
    guard case .done(let reply) = octets.withUnsafeBytes({ dialogue.receive($0, into: &output) }) else {
      Issue.record("no answer")
      return
    }
    #expect(reply.content == Array("hi".utf8))
    let isReusable = dialogue.isReusable
    #expect(!isReusable)
  }
}
