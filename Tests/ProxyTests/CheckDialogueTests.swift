import Bytes
import Configuration
import Encoding
import HTTP
import HTTP2
import TLS
import Testing

@testable import Proxy

/// What checks say to servers, without sockets.
@Suite struct CheckDialogueTests {
  private static let request = Array("GET /up HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".utf8)
  private static let now = Instant(nanoseconds: 1)

  private func question(connects: Bool = false, assumesHTTP2: Bool = false) -> CheckDialogue.Question {
    CheckDialogue.Question(request: connects ? nil : Self.request, statuses: Settings.StatusSet([200...299]), assumesHTTP2: assumesHTTP2)
  }

  @Test(arguments: [
    ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true), ("HTTP/1.1 204 No Content\r\n\r\n", true),
    ("HTTP/1.1 503 Service Unavailable\r\n\r\n", false), ("HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", false),
    ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", true), ("HTTP/1.0 200 OK\r\n\r\n", true),
    ("SSH-2.0-OpenSSH_9.2\r\n", false), ("HTTP/1.1 200 OK\nX", false),
  ])
  func judgesAnswersInAnyParts(answer: String, passes: Bool) {
    let octets = Array(answer.utf8)
    for cut in 0..<octets.count {
      var dialogue = CheckDialogue(question(), engine: nil)
      var output = ByteBuffer()
      #expect(dialogue.begin(into: &output, at: Self.now) == nil)
      #expect(output.array() == Self.request)
      var verdict: Bool?
      for part in [octets[..<cut], octets[cut...]] where !part.isEmpty && verdict == nil {
        verdict = Array(part).withUnsafeBytes { dialogue.receive($0, into: &output, at: Self.now) }
      }
      #expect(verdict == passes, "cut at \(cut)")
    }
  }

  @Test func endlessHeadsFail() {
    var dialogue = CheckDialogue(question(), engine: nil)
    var output = ByteBuffer()
    _ = dialogue.begin(into: &output, at: Self.now)
    var verdict: Bool?
    for number in 0..<40 where verdict == nil {
      let octets = Array(((number == 0 ? "HTTP/1.1 200 OK\r\n" : "") + "X-\(number): " + String(repeating: "x", count: 1000) + "\r\n").utf8)
      verdict = octets.withUnsafeBytes { dialogue.receive($0, into: &output, at: Self.now) }
    }
    #expect(verdict == false)
  }

  @Test func aConnectionCanBeAllThatIsAskedFor() {
    var dialogue = CheckDialogue(question(connects: true), engine: nil)
    var output = ByteBuffer()
    #expect(dialogue.begin(into: &output, at: Self.now) == true && output.isEmpty)
  }

  // MARK: HTTP/2 and TLS

  /// A server that answers every request with a status.
  private struct Peer: ~Copyable {
    var engine: TLSEngine?
    var session: HTTP2Session?
    let status: Int
    private(set) var heads: [String] = []

    init(engine: consuming TLSEngine?, isHTTP2: Bool, status: Int) {
      self.engine = engine
      session = isHTTP2 ? HTTP2Session(role: .server, now: 0) : nil
      self.status = status
    }

    /// Takes what a client sent; what it answers.
    mutating func answer(_ octets: [UInt8]) throws -> [UInt8] {
      var sent = ByteBuffer()
      var plain = ByteBuffer()
      if engine != nil {
        _ = try octets.withUnsafeBytes { octets in
          try plain.withUnsafeWritable(minimumCapacity: octets.count + TLSEngine.slack) { space in
            try engine?.receive(octets, into: space, output: &sent) ?? 0
          }
        }
      } else {
        plain.append(octets)
      }
      var reply = ByteBuffer()
      if engine == nil || engine?.isEstablished == true { try answer(plain.array(), &reply) }
      if !reply.isEmpty {
        if engine != nil { try reply.withUnsafeBytes { try engine?.send($0, output: &sent) } } else { sent.append(reply) }
      }
      return sent.array()
    }

    private mutating func answer(_ octets: [UInt8], _ reply: inout ByteBuffer) throws {
      let head = Array("HTTP/1.1 \(status) X\r\nContent-Length: 0\r\n\r\n".utf8)
      guard session != nil else {
        if !octets.isEmpty { heads.append(String(decoding: octets, as: UTF8.self)) }
        return octets.isEmpty ? () : reply.append(head)
      }
      try octets.withUnsafeBytes { try session?.receive($0, now: 1) }
      while let event = session?.nextEvent() {
        guard case .head(let stream, let range, _, _) = event else { continue }
        session?.withHeadOctets { heads.append(String(decoding: UnsafeRawBufferPointer(rebasing: $0[range]), as: UTF8.self)) }
        try head.withUnsafeBytes { try session?.submitHead(stream, $0, endsStream: true) }
      }
      session?.takeOutput(into: &reply, limit: 65_536)
    }
  }

  /// Lets both talk until the check is decided.
  private func converse(_ dialogue: consuming CheckDialogue, _ peer: inout Peer) throws -> Bool? {
    var output = ByteBuffer()
    if let verdict = dialogue.begin(into: &output, at: Self.now) { return verdict }
    for _ in 0..<20 {
      let answer = try peer.answer(output.array())
      output.removeAll()
      guard !answer.isEmpty else { return nil }
      if let verdict = answer.withUnsafeBytes({ dialogue.receive($0, into: &output, at: Self.now) }) { return verdict }
    }
    return nil
  }

  @Test(arguments: [(200, true), (503, false)])
  func speaksHTTP2WhereThatIsAssumed(status: Int, passes: Bool) throws {
    var peer = Peer(engine: nil, isHTTP2: true, status: status)
    #expect(try converse(CheckDialogue(question(assumesHTTP2: true), engine: nil), &peer) == passes)
    #expect(peer.heads.count == 1 && peer.heads[0].hasPrefix("GET /up HTTP/1.1\r\n"))
  }

  @Test(arguments: [(200, true, true), (503, true, false), (200, false, true), (503, false, false)])
  func speaksWhatTLSAgreesOn(status: Int, isHTTP2: Bool, passes: Bool) throws {
    let server = try TLSServerContext(identities: [TestIdentity.shared.identity()], protocols: [isHTTP2 ? .http2 : .http1], ticketKeys: TLSTicketKeys())
    let client = try TLSClientContext(trust: .insecure, protocols: [.http2, .http1])
    var peer = Peer(engine: try TLSEngine(server: server), isHTTP2: isHTTP2, status: status)
    let engine = try TLSEngine(client: client, serverName: "localhost")
    #expect(try converse(CheckDialogue(question(), engine: engine), &peer) == passes)
    #expect(peer.heads.count == 1)
  }

  @Test func aHandshakeIsAConnection() throws {
    let server = try TLSServerContext(identities: [TestIdentity.shared.identity()], ticketKeys: TLSTicketKeys())
    var peer = Peer(engine: try TLSEngine(server: server), isHTTP2: false, status: 200)
    let engine = try TLSEngine(client: try TLSClientContext(trust: .insecure), serverName: "localhost")
    #expect(try converse(CheckDialogue(question(connects: true), engine: engine), &peer) == true)
  }

  @Test func aCertificateThatProvesNothingFails() throws {
    let server = try TLSServerContext(identities: [TestIdentity.shared.identity()], ticketKeys: TLSTicketKeys())
    var peer = Peer(engine: try TLSEngine(server: server), isHTTP2: false, status: 200)
    // The right authority, and another name than the certificate proves.
    let client = try TLSClientContext(trust: .authorities(TLSAuthorities(pem: TestIdentity.shared.chain)))
    #expect(try converse(CheckDialogue(question(), engine: try TLSEngine(client: client, serverName: "other.test")), &peer) == false)
  }
}
