import Testing

@testable import HTTP2

private func post(_ path: String) -> String { "POST \(path) HTTP/1.1\r\nHost: a\r\n\r\n" }
private let ok = "HTTP/1.1 200 OK\r\n\r\n"

private func octets(_ count: Int, _ seed: Int = 0) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ seed) } }

@Suite struct FlowControlTests {
  /// A stream whose content nobody uses up stops at its window; its siblings go on.
  @Test func aStalledUploadStopsAloneAndGoesOn() throws {
    var pair = try Pair()
    pair.server.consumes = false
    let stalled = try pair.client.request(post("/stalled"), ends: false)
    let window = HTTP2Limits.standard.streamWindow
    // The queue takes a window's worth, and again as much once the first is on its way.
    #expect(pair.client.send(stalled, octets(window)) == window)
    try pair.run()
    #expect(pair.client.send(stalled, octets(window, 7)) == window)
    try pair.run()
    #expect(pair.client.send(stalled, [1]) == 0)
    var received = 0
    for case .data(stalled, let content) in pair.server.news() { received += content.count }
    #expect(received == window)

    for _ in 0..<40 {
      let sibling = try pair.client.request(post("/sibling"), ends: false)
      #expect(pair.client.send(sibling, octets(60_000)) == 60_000)
      pair.client.end(sibling)
      try pair.run()
      var count = 0
      for event in pair.server.news() {
        if case .data(sibling, let content) = event { count += content.count }
      }
      #expect(count == 60_000)
      try pair.server.head(sibling, ok, ends: true)
    }

    pair.server.session.consumed(pair.server.stream(stalled), window)
    try pair.run()
    #expect(pair.client.news().contains(.writable(stalled)))
    var content: [UInt8] = []
    for case .data(stalled, let more) in pair.server.news() { content += more }
    #expect(content == octets(window, 7))
  }

  /// A client that does not read one response gets the others whole.
  @Test func aStalledResponseStopsAlone() throws {
    var pair = try Pair()
    pair.client.consumes = false
    let stalled = try pair.client.request("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
    try pair.run()
    try pair.server.head(stalled, ok)
    #expect(pair.server.send(stalled, octets(65_536)) == 65_536)
    try pair.run()
    #expect(pair.server.send(stalled, octets(65_536)) == 65_536)
    #expect(pair.server.send(stalled, octets(1)) == 0)
    try pair.run()
    #expect(pair.server.session.queuedCount(pair.server.stream(stalled)) == 65_536)
    _ = pair.client.news()
    pair.client.consumes = true
    let sibling = try pair.client.request("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    try pair.run()
    try pair.server.head(sibling, ok)
    #expect(pair.server.send(sibling, octets(50_000)) == 50_000)
    pair.server.end(sibling)
    try pair.run()
    #expect(pair.client.news() == [.head(sibling, ok, ends: false), .data(sibling, octets(50_000)), .ended(sibling), .closed(sibling)])
    _ = pair.server.news()
    pair.client.session.consumed(pair.client.stream(stalled), 65_536)
    try pair.run()
    #expect(pair.server.news() == [.writable(stalled)])
    #expect(pair.server.session.queuedCount(pair.server.stream(stalled)) == 0)
  }

  /// More than both windows, both ways at once, in pieces that fit nothing.
  @Test func windowsAreUsedUpAndOpenAgain() throws {
    var limits = HTTP2Limits.standard
    limits.connectionWindow = 100_000
    var pair = try Pair(client: limits, server: limits)
    let ids = try (0..<4).map { _ in try pair.client.request(post("/"), ends: false) }
    try pair.run()
    for id in ids { try pair.server.head(id, ok) }
    let total = 300_000
    var up: [Int32: Int] = [:], down: [Int32: Int] = [:]
    var gotUp: [Int32: [UInt8]] = [:], gotDown: [Int32: [UInt8]] = [:]
    let content = octets(total)
    var rounds = 0
    while rounds < 1000, gotUp.values.reduce(0, { $0 + $1.count }) + gotDown.values.reduce(0, { $0 + $1.count }) < 8 * total {
      rounds += 1
      for id in ids {
        let (sent, answered) = (up[id, default: 0], down[id, default: 0])
        up[id] = sent + pair.client.send(id, Array(content[sent..<min(total, sent + 9_999)]))
        down[id] = answered + pair.server.send(id, Array(content[answered..<min(total, answered + 7_777)]))
      }
      try pair.run()
      for case .data(let id, let more) in pair.server.news() { gotUp[id, default: []] += more }
      for case .data(let id, let more) in pair.client.news() { gotDown[id, default: []] += more }
    }
    for id in ids {
      #expect(gotUp[id] == content)
      #expect(gotDown[id] == content)
    }
  }

  /// What disregards the window costs its stream, and nothing beyond the window comes out.
  @Test func contentBeyondTheWindowResetsTheStream() throws {
    var spoken = try Spoken()
    spoken.peer.consumes = false
    _ = spoken.say(Frames.headers(1, Frames.post, ends: false))
    var answer: [SeenFrame] = []
    for _ in 0..<5 { answer += spoken.say(Frames.data(1, [UInt8](repeating: 1, count: 16_384))) }
    #expect(answer.contains { $0.code == .flowControlError && $0.stream == 1 })
    var count = 0
    for event in spoken.news() { if case .data(1, let content) = event { count += content.count } }
    #expect(count <= HTTP2Limits.standard.streamWindow)
  }

  /// Before a client has seen a smaller window it may use the one that every connection begins with.
  @Test func whatCameBeforeTheSettingsIsNotLost() throws {
    var limits = HTTP2Limits.standard
    limits.streamWindow = 1_000
    var peer = Peer(.server, limits)
    peer.consumes = false
    let content = octets(10_000)
    try peer.receive(Frames.preface + Frames.settings() + Frames.headers(1, Frames.post, ends: false) + Frames.data(1, content, ends: true))
    let isWhole = peer.news().contains(.data(1, content))
    #expect(isWhole)
  }

  @Test func aHundredStreamsInterleaved() throws {
    var pair = try Pair()
    let ids = try (0..<100).map { try pair.client.request("GET /\($0) HTTP/1.1\r\nHost: a\r\n\r\n") }
    #expect(pair.client.session.canRequest() == false)
    #expect(throws: HTTP2Error.requestRefused) { _ = try pair.client.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n") }
    try pair.run()
    #expect(pair.server.news().count == 100)
    for id in ids { try pair.server.head(id, ok) }
    var got: [Int32: [UInt8]] = [:]
    for step in 0..<10 {
      for id in ids.reversed() { #expect(pair.server.send(id, octets(1_000, step + Int(id))) == 1_000) }
      if step == 9 { for id in ids { pair.server.end(id, trailers: "x-id: \(id)\r\n") } }
      try pair.run()
      for event in pair.client.news() { if case .data(let id, let more) = event { got[id, default: []] += more } }
    }
    for id in ids { #expect(got[id] == (0..<10).flatMap { octets(1_000, $0 + Int(id)) }) }
    #expect(pair.client.session.streamCount() == 0 && pair.server.session.streamCount() == 0)
    #expect(pair.client.session.canRequest() == true)
  }

  /// One long response does not hold up a short one that began later.
  @Test func streamsShareTheConnection() throws {
    var pair = try Pair()
    let long = try pair.client.request("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
    let short = try pair.client.request("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    try pair.run()
    for id in [long, short] { try pair.server.head(id, ok) }
    #expect(pair.server.send(long, octets(65_536)) == 65_536)
    #expect(pair.server.send(short, octets(16_384)) == 16_384)
    // A third of what waits holds some of each.
    let frames = SeenFrame.read(pair.server.output(limit: 30_000)).filter { $0.type == 0 }
    #expect(Set(frames.map(\.stream)) == [long, short])
  }

  /// A driver that sends on only when it hears `writable` sends everything, whatever the pieces and windows are.
  @Test(arguments: [997, 16_384, 65_535, 65_536, 100_000]) func writableIsEnoughToGoOn(_ piece: Int) throws {
    var limits = HTTP2Limits.standard
    limits.streamWindow = 65_535
    limits.connectionWindow = 65_535
    for total in [65_535, 65_536, 65_537, 131_072, 200_001, 400_000] {
      var pair = try Pair(client: limits)
      let id = try pair.client.request("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
      try pair.run()
      try pair.server.head(id, ok)
      let content = octets(total)
      var (offered, kept, isEnded) = (0, 0..<0, false)
      var got: [UInt8] = []
      var isFull = false
      for _ in 0..<20_000 where got.count < total || !isEnded {
        if !isFull {
          if kept.isEmpty {
            kept = offered..<min(total, offered + piece)
            offered = kept.upperBound
          }
          let taken = pair.server.send(id, Array(content[kept]))
          kept = kept.lowerBound + taken..<kept.upperBound
          isFull = !kept.isEmpty
          if offered == total, kept.isEmpty, !isEnded {
            isEnded = true
            pair.server.end(id)
          }
        }
        let down = pair.server.output(limit: 65_536)
        if !down.isEmpty { try pair.client.receive(down) }
        for case .data(id, let more) in pair.client.news() { got += more }
        let up = pair.client.output()
        if !up.isEmpty { try pair.server.receive(up) }
        if pair.server.news().contains(.writable(id)) { isFull = false }
      }
      let isWhole = got == content
      #expect(isWhole, "\(got.count) of \(total) in pieces of \(piece)")
    }
  }

  @Test func outputStopsAtItsLimit() throws {
    var pair = try Pair()
    let id = try pair.client.request("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
    try pair.run()
    try pair.server.head(id, ok)
    #expect(pair.server.send(id, octets(60_000)) == 60_000)
    pair.server.end(id)
    var pieces = 0
    var got: [UInt8] = []
    while pair.server.session.wantsOutput() {
      let piece = pair.server.output(limit: 1)
      #expect(piece.count <= 16_384 + 9)
      pieces += 1
      try pair.client.receive(piece)
      for event in pair.client.news() { if case .data(id, let more) = event { got += more } }
      let back = pair.client.output()
      if !back.isEmpty { try pair.server.receive(back) }
    }
    #expect(pieces >= 4 && got == octets(60_000))
  }
}
