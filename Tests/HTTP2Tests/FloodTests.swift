import Testing

@testable import HTTP2

@Suite struct FloodTests {
  /// Says the same until the connection ends; gives how often, and with what.
  private func flood(
    _ limits: HTTP2Limits = .standard, most: Int, before: [UInt8] = [], _ octets: (Int32) -> [UInt8]
  ) throws -> (count: Int, code: HTTP2ErrorCode?) {
    var spoken = try Spoken(limits)
    _ = spoken.say(before)
    for count in 1...most {
      let answer = spoken.say(octets(Int32(count) * 2 + 1))
      _ = spoken.news()
      if let last = answer.last(where: { $0.type == 7 }) {
        #expect(spoken.peer.session.isFinished() == true)
        return (count, last.code)
      }
    }
    return (most, nil)
  }

  /// CVE-2023-44487.
  @Test func rapidResetsEndTheConnection() throws {
    let (count, code) = try flood(most: 1000) { Frames.headers($0, Frames.get) + Frames.reset($0, .cancel) }
    #expect(code == .enhanceYourCalm && count == HTTP2Limits.standard.resets.burst + 1)
  }

  /// The same in one piece, before anything is answered.
  @Test func rapidResetsInOnePieceAreCountedAsWell() throws {
    var spoken = try Spoken()
    let octets = (1...1000).flatMap { (count: Int32) -> [UInt8] in
      Frames.headers(count * 2 - 1, Frames.get) + Frames.reset(count * 2 - 1, .cancel)
    }
    #expect(spoken.say(octets).last?.code == .enhanceYourCalm)
    #expect(spoken.news().count <= 2 * (HTTP2Limits.standard.resets.burst + 1))
  }

  /// A client that makes the server reset, by one broken rule in each stream.
  @Test func provokedResetsAreCountedAsWell() throws {
    let (count, code) = try flood(most: 1000) { Frames.headers($0, Frames.post + [("content-length", "1")], ends: false) + Frames.data($0, "ab") }
    #expect(code == .enhanceYourCalm && count <= HTTP2Limits.standard.resets.burst + 1)
    let malformed = try flood(most: 1000) { Frames.headers($0, [("X", "1")]) }
    #expect(malformed.code == .enhanceYourCalm && malformed.count <= HTTP2Limits.standard.resets.burst + 1)
  }

  @Test func resetsAreForgivenWithTime() throws {
    var spoken = try Spoken()
    for count in Int32(0)..<1000 {
      spoken.peer.now += 50_000_000
      #expect(spoken.say(Frames.headers(count * 2 + 1, Frames.get) + Frames.reset(count * 2 + 1, .cancel)).isEmpty)
      _ = spoken.news()
    }
  }

  /// CVE-2024-27316.
  @Test func continuationsAreLimited() throws {
    var spoken = try Spoken()
    let block = Frames.block(Frames.get)
    _ = spoken.say(Frames.frame(1, 0, 1, block))
    var count = 0
    while !spoken.peer.session.isFinished(), count < 100 {
      _ = spoken.say(Frames.continuation(1, [], ends: false))
      count += 1
    }
    #expect(count == HTTP2Limits.standard.continuations + 1)
    #expect(spoken.peer.session.failure == .enhanceYourCalm)
    #expect(spoken.news().isEmpty)
  }

  /// The same of a block that is not looked at, because its stream is refused.
  @Test func continuationsOfARefusedStreamAreLimitedAsWell() throws {
    var limits = HTTP2Limits.standard
    limits.concurrentStreams = 0
    var spoken = try Spoken(limits)
    _ = spoken.say(Frames.frame(1, 0, 1, Frames.block(Frames.get)))
    var answer: [SeenFrame] = []
    for _ in 0..<100 { answer += spoken.say(Frames.continuation(1, [], ends: false)) }
    #expect(answer.map(\.code) == [.enhanceYourCalm])
    #expect(spoken.peer.session.isFinished() == true)
  }

  @Test func settingsPingsAndPrioritiesAreLimited() throws {
    let limits = HTTP2Limits.standard
    let settings = try flood(most: 1000) { _ in Frames.settings([(4, 65535)]) }
    #expect(settings.code == .enhanceYourCalm && settings.count <= limits.settings.burst + 1)
    let pings = try flood(most: 1000) { _ in Frames.ping() }
    #expect(pings.code == .enhanceYourCalm && pings.count == limits.pings.burst + 1)
    let priorities = try flood(most: 1000) { Frames.priority($0, on: 0) }
    #expect(priorities.code == .enhanceYourCalm && priorities.count == limits.strays.burst + 1)
    #expect(try flood(most: 200) { _ in Frames.ping(Frames.acknowledges) }.code == nil)
  }

  /// gRPC sends a PING with what it receives, to measure the path.
  @Test func pingsThatAnswerContentAreNoFlood() throws {
    var pair = try Pair()
    let id = try pair.client.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    try pair.run()
    try pair.server.head(id, "HTTP/1.1 200 OK\r\n\r\n")
    for _ in 0..<1_000 {
      #expect(pair.server.send(id, "x") == 1)
      try pair.run()
      try pair.server.receive(Frames.ping())
    }
    #expect(pair.server.session.failure == nil)
  }

  /// A server that answers early resets every stream, and may.
  @Test func aServerMayResetWhatWasAskedOfIt() throws {
    var client = Peer(.client(isSecure: false))
    try client.receive(Frames.settings())
    for _ in 0..<1_000 {
      let id = try client.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
      _ = client.output()
      try client.receive(Frames.frame(1, 5, id, [0x88]) + Frames.reset(id, .noError))
    }
    for _ in 0..<1_000 {
      let id = try client.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
      _ = client.output()
      try client.receive(Frames.reset(id, .refusedStream))
    }
    #expect(client.session.failure == nil)
  }

  @Test func settingsWithTooManyEntriesEndTheConnection() throws {
    let entries = [(UInt16, UInt32)](repeating: (4, 65535), count: HTTP2Limits.standard.settingsEntries + 1)
    #expect(try flood(most: 1) { _ in Frames.settings(entries) }.code != nil)
  }

  @Test func emptyFramesAreLimited() throws {
    let post = Frames.headers(1, Frames.post, ends: false)
    let empty = try flood(most: 1000, before: post) { _ in Frames.data(1, "") }
    #expect(empty.code == .enhanceYourCalm && empty.count == HTTP2Limits.standard.emptyData.burst + 1)
    let padding = try flood(most: 1000, before: post) { _ in Frames.frame(0, Frames.padded, 1, [0]) }
    #expect(padding.code == .enhanceYourCalm && padding.count == HTTP2Limits.standard.emptyData.burst + 1)
    #expect(try flood(most: 1000, before: post) { _ in Frames.data(1, "x") }.code == nil)
  }

  @Test func windowUpdatesAreLimited() throws {
    let updates = try flood(most: 3000) { _ in Frames.windowUpdate(0, 1) }
    #expect(updates.code == .enhanceYourCalm && updates.count == HTTP2Limits.standard.windowUpdates.burst + 1)
  }

  @Test func windowsOfOneOctetAreLimited() throws {
    var spoken = try Spoken()
    _ = spoken.say(Frames.settings([(4, 0)]) + Frames.headers(1, Frames.get))
    try spoken.peer.head(1, "HTTP/1.1 200 OK\r\n\r\n")
    #expect(spoken.peer.send(1, [UInt8](repeating: 1, count: 10_000)) == 10_000)
    var count = 0
    while !spoken.peer.session.isFinished(), count < 2000 {
      _ = spoken.say(Frames.windowUpdate(1, 1))
      count += 1
    }
    #expect(count <= HTTP2Limits.standard.trickles.burst + 2)
    #expect(spoken.peer.session.failure == .enhanceYourCalm)
  }

  /// Frames that wait are bounded though nobody reads them.
  @Test func whatIsNotReadIsBounded() throws {
    var limits = HTTP2Limits.standard
    limits.pings = FrameRate(burst: 1_000_000, perSecond: 0)
    limits.settings = limits.pings
    var peer = Peer(.server, limits)
    try peer.receive(Frames.preface + Frames.settings())
    var count = 0
    #expect(throws: HTTP2Error.self) {
      while count < 100_000 {
        count += 1
        try peer.receive(Frames.ping())
      }
    }
    #expect(count <= limits.outboundFrames + 1)
  }

  @Test func streamsBeyondTheLimitAreRefused() throws {
    var limits = HTTP2Limits.standard
    limits.concurrentStreams = 2
    var peer = Peer(.server, limits)
    try peer.receive(Frames.preface + Frames.settings() + Frames.settingsAcknowledged)
    let settings = SeenFrame.read(peer.output())[0]
    #expect(settings.type == 4 && stride(from: 0, to: settings.payload.count, by: 6).contains { Array(settings.payload[$0..<$0 + 6]) == [0, 3, 0, 0, 0, 2] })
    _ = peer.news()
    try peer.receive(Frames.headers(1, Frames.post, ends: false) + Frames.headers(3, Frames.get) + Frames.headers(5, Frames.get))
    let answer = SeenFrame.read(peer.output())
    #expect(answer.map(\.code) == [.refusedStream] && answer.first?.stream == 5)
    #expect(peer.news().count == 2)
    try peer.head(3, "HTTP/1.1 204 No Content\r\n\r\n", ends: true)
    _ = peer.output()
    try peer.receive(Frames.headers(7, Frames.get))
    #expect(peer.news() == [.closed(3), .head(7, "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n", ends: true)])
    let many = try flood(limits, most: 1000, before: Frames.headers(1, Frames.get) + Frames.headers(3, Frames.get)) { Frames.headers($0 + 2, Frames.get) }
    #expect(many.code == .enhanceYourCalm && many.count <= limits.strays.burst + 1)
  }
}

@Suite struct ConnectionErrorTests {
  private static let cases: [(String, [UInt8], HTTP2ErrorCode)] = [
    ("DATA on stream 0", Frames.data(0, "x"), .protocolError),
    ("HEADERS on stream 0", Frames.headers(0, Frames.get), .protocolError),
    ("HEADERS on an even stream", Frames.headers(2, Frames.get), .protocolError),
    ("DATA on an idle stream", Frames.data(1, "x"), .protocolError),
    ("RST_STREAM of an idle stream", Frames.reset(1, .cancel), .protocolError),
    ("RST_STREAM of a wrong size", Frames.frame(3, 0, 1, [0]), .frameSizeError),
    ("PING of a wrong size", Frames.frame(6, 0, 0, [0]), .frameSizeError),
    ("PING on a stream", Frames.frame(6, 0, 1, [0, 0, 0, 0, 0, 0, 0, 0]), .protocolError),
    ("SETTINGS of a wrong size", Frames.frame(4, 0, 0, [0]), .frameSizeError),
    ("SETTINGS on a stream", Frames.frame(4, 0, 1, []), .protocolError),
    ("an acknowledgement with content", Frames.frame(4, 1, 0, [0, 0, 0, 0, 0, 0]), .frameSizeError),
    ("a window above the largest", Frames.settings([(4, 0x8000_0000)]), .flowControlError),
    ("a frame size below the least", Frames.settings([(5, 16_383)]), .protocolError),
    ("ENABLE_PUSH of 2", Frames.settings([(2, 2)]), .protocolError),
    ("PUSH_PROMISE of a client", Frames.frame(5, 4, 1, [0, 0, 0, 2]), .protocolError),
    ("CONTINUATION alone", Frames.continuation(1, [], ends: true), .protocolError),
    ("a frame between HEADERS and CONTINUATION", Frames.frame(1, 0, 1, Frames.block(Frames.get)) + Frames.ping(), .protocolError),
    ("a frame above 16 KiB", Frames.data(1, [UInt8](repeating: 0, count: 16_385)), .frameSizeError),
    ("padding longer than the frame", Frames.frame(1, 12, 1, [200, 0]), .protocolError),
    ("a window that overflows", Frames.windowUpdate(0, 0x7FFF_FFFF), .flowControlError),
    ("a window update of nothing", Frames.windowUpdate(0, 0), .protocolError),
    ("a header block that does not decode", Frames.frame(1, 5, 1, [0x80]), .compressionError),
    ("a table index beyond the table", Frames.frame(1, 5, 1, [0xFF, 0x20]), .compressionError),
    ("HEADERS behind the stream's end", Frames.headers(1, Frames.get) + Frames.headers(1, Frames.get), .streamClosed),
    ("DATA behind the stream's end", Frames.headers(1, Frames.get) + Frames.data(1, "x"), .streamClosed),
  ]

  @Test(arguments: cases.indices) func endsTheConnectionWithItsCode(_ index: Int) throws {
    let (name, octets, code) = Self.cases[index]
    var spoken = try Spoken()
    let answer = spoken.say(octets)
    #expect(answer.last?.type == 7 && answer.last?.code == code, "\(name): \(answer) \(String(describing: answer.last?.code))")
    #expect(spoken.peer.session.isFinished() == true, "\(name)")
    #expect(spoken.peer.session.failure == code, "\(name)")
    #expect(throws: HTTP2Error.connectionError(code)) { try spoken.peer.receive(Frames.ping()) }
  }

  @Test func whatIsNoPrefaceIsNotAnswered() {
    var peer = Peer(.server)
    #expect(throws: HTTP2Error.prefaceInvalid) { try peer.receive(Array("GET / HTTP/1.1\r\n\r\n".utf8)) }
    var late = Peer(.server)
    #expect(throws: HTTP2Error.self) {
      try late.receive(Frames.preface + Frames.ping())
      _ = late.output()
      try late.receive(Frames.ping())
    }
    #expect(late.session.failure == .protocolError)
  }
}
