import Bytes
@testable import HTTP2
import Testing

/// An event with its octets, kept beyond the call that it came from.
enum Heard: Equatable {
  case head(Int32, String, ends: Bool)
  case tunnel(Int32, String)
  case data(Int32, [UInt8])
  case trailers(Int32, String)
  case ended(Int32)
  case writable(Int32)
  case closed(Int32)
  case reset(Int32, HTTP2ErrorCode)
  case goAway(Int32, HTTP2ErrorCode)
  case settings

  static func text(_ id: Int32, _ text: String) -> Heard { .data(id, Array(text.utf8)) }
}

/// A session and what it said.
struct Peer: ~Copyable {
  var session: HTTP2Session
  var heard: [Heard] = []
  var streams: [Int32: HTTP2Stream] = [:]
  var now: Int64 = 0
  /// Uses content up as it comes.
  var consumes = true

  init(_ role: HTTP2Role, _ limits: HTTP2Limits = .standard) {
    session = HTTP2Session(role: role, limits: limits, now: 0)
  }

  /// What was heard since the last call, without settings.
  mutating func news() -> [Heard] {
    defer { heard = [] }
    return heard.filter { $0 != .settings }
  }

  mutating func receive(_ octets: [UInt8]) throws(HTTP2Error) {
    let now = now
    var failure: HTTP2Error?
    octets.withUnsafeBytes { octets in
      do throws(HTTP2Error) { try session.receive(octets, now: now) } catch { failure = error }
      drain(octets)
    }
    if let failure { throw failure }
  }

  mutating func drain(_ octets: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)) {
    while let event = session.nextEvent() {
      switch event {
      case .head(let stream, let range, let ends, let isTunnel):
        streams[stream.id] = stream
        let text = text(range)
        heard.append(isTunnel ? .tunnel(stream.id, text) : .head(stream.id, text, ends: ends))
      case .data(let stream, let range):
        if case .data(stream.id, let before)? = heard.last {
          heard[heard.count - 1] = .data(stream.id, before + octets[range])
        } else {
          heard.append(.data(stream.id, Array(octets[range])))
        }
        if consumes { session.consumed(stream, range.count) }
      case .trailers(let stream, let range): heard.append(.trailers(stream.id, text(range)))
      case .ended(let stream): heard.append(.ended(stream.id))
      case .writable(let stream): heard.append(.writable(stream.id))
      case .closed(let stream): heard.append(.closed(stream.id))
      case .reset(let stream, let code): heard.append(.reset(stream.id, code))
      case .goAway(let last, let code): heard.append(.goAway(last, code))
      case .settings: heard.append(.settings)
      }
    }
  }

  func text(_ range: Range<Int>) -> String {
    session.withHeadOctets { String(decoding: $0[range], as: UTF8.self) }
  }

  mutating func output(limit: Int = 1 << 20) -> [UInt8] {
    var buffer = ByteBuffer()
    session.takeOutput(into: &buffer, limit: limit)
    drain()
    return buffer.array()
  }

  mutating func head(_ id: Int32, _ head: String, ends: Bool = false) throws(HTTP2Error) {
    var failure: HTTP2Error?
    Array(head.utf8).withUnsafeBytes { octets in
      do throws(HTTP2Error) { try session.submitHead(stream(id), octets, endsStream: ends) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  mutating func interim(_ id: Int32, _ head: String) throws {
    try Array(head.utf8).withUnsafeBytes { try session.submitInterim(stream(id), $0) }
  }

  mutating func request(_ head: String, ends: Bool = true) throws -> Int32 {
    let stream = try Array(head.utf8).withUnsafeBytes { try session.request($0, endsStream: ends) }
    streams[stream.id] = stream
    return stream.id
  }

  mutating func send(_ id: Int32, _ octets: [UInt8]) -> Int { octets.withUnsafeBytes { session.send(stream(id), $0) } }
  mutating func send(_ id: Int32, _ text: String) -> Int { send(id, Array(text.utf8)) }
  mutating func end(_ id: Int32, trailers: String = "") { Array(trailers.utf8).withUnsafeBytes { session.end(stream(id), trailers: $0) } }
  mutating func reset(_ id: Int32, _ code: HTTP2ErrorCode) { session.reset(stream(id), code) }
  func stream(_ id: Int32) -> HTTP2Stream { streams[id] ?? .none }
}

/// A client and a server, joined by memory.
struct Pair: ~Copyable {
  var client: Peer
  var server: Peer

  init(client: HTTP2Limits = .standard, server: HTTP2Limits = .standard) throws {
    self.client = Peer(.client(isSecure: false), client)
    self.server = Peer(.server, server)
    try run()
    _ = self.client.news()
    _ = self.server.news()
  }

  /// Moves octets both ways until nothing moves any more.
  mutating func run(rounds: Int = 1000) throws {
    for _ in 0..<rounds {
      let up = client.output()
      if !up.isEmpty { try server.receive(up) }
      let down = server.output()
      if !down.isEmpty { try client.receive(down) }
      if up.isEmpty, down.isEmpty { return }
    }
    Issue.record("still moving")
  }
}
