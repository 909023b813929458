import Bytes
import HTTP
import HTTP2

private func frame(_ type: UInt8, _ flags: UInt8, _ stream: UInt8, _ payload: [UInt8]) -> [UInt8] {
  let count: [UInt8] = [0, UInt8(payload.count >> 8 & 255), UInt8(payload.count & 255)]
  return count + [type, flags, 0, 0, 0, stream] + payload
}

private func block(_ fields: [(String, String)]) -> [UInt8] {
  var octets: [UInt8] = []
  for (name, value) in fields {
    octets += [0, UInt8(name.utf8.count)]
    octets += Array(name.utf8)
    octets.append(UInt8(value.utf8.count))
    octets += Array(value.utf8)
  }
  return octets
}

/// The preface, SETTINGS, and frames.
private func dialogue(_ settings: [UInt8], _ frames: [UInt8]...) -> [UInt8] {
  Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + frame(4, 0, 0, settings) + frames.joined()
}

private let request = [(":method", "POST"), (":scheme", "https"), (":path", "/a?b"), (":authority", "a.example:80")]
private let connect = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"), (":authority", "[::1]")]
private let compressed: [UInt8] = [0x82, 0x86, 0x84, 0x41, 0x8C, 0xF1, 0xE3, 0xC2, 0xE5, 0xF2, 0x3A, 0x6B, 0xA0, 0xAB, 0x90, 0xF4, 0xFF]
/// What a client may say.
private let dialogues: [[UInt8]] = [
  dialogue([], frame(1, 5, 1, block(request + [("cookie", "a"), ("host", "A.example:80"), ("cookie", "b")]))),
  dialogue(
    [0, 3, 0, 0, 0, 9, 0, 4, 0, 0, 1, 0], frame(1, 4, 1, block(request + [("content-length", "5")])), frame(0, 1, 1, Array("hello".utf8)),
    frame(6, 0, 0, [0, 1, 2, 3, 4, 5, 6, 7])),
  dialogue(
    [], frame(1, 0, 1, block(request)), frame(9, 4, 1, block([("te", "trailers")])), frame(0, 8, 1, [2, 65, 0, 0]),
    frame(1, 5, 1, block([("x-t", "1")]))),
  dialogue(
    [], frame(1, 0x25, 1, [0, 0, 0, 0, 15] + block(request)), frame(3, 0, 1, [0, 0, 0, 8]), frame(8, 0, 0, [0, 0, 0, 9]),
    frame(1, 5, 3, compressed)),
  dialogue([], frame(1, 4, 1, block(connect)), frame(7, 0, 0, [0, 0, 0, 0, 0, 0, 0, 0]), frame(2, 0, 5, [0, 0, 0, 1, 1]), frame(4, 1, 0, [])),
]

/// What a server may say.
private let answers: [[UInt8]] = [
  [frame(4, 0, 0, []), frame(1, 4, 1, [0x88] + block([("content-length", "5")])), frame(0, 1, 1, Array("hello".utf8))].flatMap { $0 },
  [
    frame(4, 0, 0, [0, 3, 0, 0, 0, 1]), frame(1, 4, 1, block([(":status", "103"), ("link", "<a>")])), frame(1, 4, 1, [0x8D]),
    frame(1, 5, 1, block([("grpc-status", "0")])),
  ].flatMap { $0 },
  [
    frame(4, 0, 0, []), frame(3, 0, 3, [0, 0, 0, 7]), frame(7, 0, 0, [0, 0, 0, 1, 0, 0, 0, 0]), frame(1, 5, 1, block([(":status", "204")])),
    frame(4, 1, 0, []),
  ].flatMap { $0 },
]

/// What came out of a session: events with their octets, neighbours of content joined, then how it ended.
private struct Record: Equatable {
  var events: [String] = []
  var failure: HTTP2ErrorCode?
  var isRefused = false
  var heads: [[UInt8]] = []

  mutating func drain(_ session: inout HTTP2Session, _ octets: UnsafeRawBufferPointer) {
    while let event = session.nextEvent() {
      switch event {
      case .head(let stream, let range, let ends, let isTunnel):
        let head = session.withHeadOctets { Array($0[range]) }
        heads.append(head)
        events.append("head \(stream.id) \(ends) \(isTunnel) \(head)")
      case .data(let stream, let range):
        let name = "data \(stream.id) "
        if events.last?.hasPrefix(name) != true { events.append(name) }
        events[events.count - 1] += octets[range].map { "\($0)," }.joined()
        session.consumed(stream, range.count)
      case .trailers(let stream, let range): events.append("trailers \(stream.id) \(session.withHeadOctets { Array($0[range]) })")
      case .ended(let stream): events.append("ended \(stream.id)")
      case .writable(let stream): events.append("writable \(stream.id)")
      case .closed(let stream): events.append("closed \(stream.id)")
      case .reset(let stream, let code): events.append("reset \(stream.id) \(code)")
      case .goAway(let last, let code): events.append("goAway \(last) \(code)")
      case .settings: events.append("settings")
      }
    }
  }
}

private func run(_ session: inout HTTP2Session, _ octets: [UInt8], _ cuts: [Int]) -> Record {
  var record = Record()
  var output = ByteBuffer()
  var start = 0
  for end in cuts + [octets.count] where !record.isRefused {
    octets.withUnsafeBytes { all in
      let piece = UnsafeRawBufferPointer(rebasing: all[start..<end])
      do { try session.receive(piece, now: 0) } catch { record.isRefused = true }
      record.drain(&session, piece)
    }
    start = end
  }
  session.takeOutput(into: &output, limit: 1 << 20)
  record.drain(&session, UnsafeRawBufferPointer(start: nil, count: 0))
  record.failure = session.failure
  // Where the octets behind an error stand, in this piece or the next, makes no difference but this.
  record.isRefused = record.isRefused || record.failure != nil
  if let end = record.events.firstIndex(where: { $0.hasPrefix("goAway") }) {
    // When nothing is left to come, octets that follow are not looked at, wherever they stand.
    record.failure = nil
    record.isRefused = false
    record.events = record.events[...end] + record.events[end...].filter { !$0.hasPrefix("goAway") && $0 != "settings" }
  }
  // Of a frame that breaks a rule at its end, what came before is given out where it came alone.
  let ended = Set(record.events.filter { $0.hasPrefix("ended") }.map { $0.dropFirst(6) })
  record.events.removeAll { $0.hasPrefix("data") && !ended.contains($0.split(separator: " ")[1]) }
  return record
}

/// A head that comes out is one that the relay's decoder takes, or refuses for what it may refuse of any client: never for its form.
private func requireDecodable(_ octets: [UInt8]) throws {
  var head = RequestHead()
  try octets.withUnsafeBytes { octets in
    let isComplete: Bool
    do throws(HTTPError) {
      isComplete = try RequestDecoder.decode(octets, limits: .standard, into: &head)
    } catch {
      return try require([413, 414, 417, 431, 501].contains(error.status), "\(error): \(Array(octets))")
    }
    try require(isComplete && head.byteCount == octets.count, "\(Array(octets))")
  }
}

extension Property {
  /// HTTP/2, as a client and as a server may speak it.
  static let sessions: [Property] = [
    Property("h2-clients", dialogues) { octets in
      var whole = HTTP2Session(role: .server, now: 0)
      var pieces = HTTP2Session(role: .server, now: 0)
      let first = run(&whole, octets, [])
      let second = run(&pieces, octets, cuts(of: octets))
      try require(first == second, "\(first) in one, \(second) cut at \(cuts(of: octets))")
      for head in first.heads { try requireDecodable(head) }
    },
    Property("h2-servers", answers) { octets in
      let requestHead = Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
      var whole = HTTP2Session(role: .client(isSecure: true), now: 0)
      var pieces = HTTP2Session(role: .client(isSecure: true), now: 0)
      for _ in 0..<2 {
        _ = requestHead.withUnsafeBytes { try? whole.request($0, endsStream: true) }
        _ = requestHead.withUnsafeBytes { try? pieces.request($0, endsStream: true) }
      }
      var output = ByteBuffer()
      whole.takeOutput(into: &output, limit: 1 << 20)
      pieces.takeOutput(into: &output, limit: 1 << 20)
      let first = run(&whole, octets, [])
      let second = run(&pieces, octets, cuts(of: octets))
      try require(first == second, "\(first) in one, \(second) cut at \(cuts(of: octets))")
    },
  ]
}
