@testable import HTTP2

/// Frames octet for octet (RFC 9113 section 4.1), header blocks as plain literals (RFC 7541 section 6.2.2).
enum Frames {
  static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
  static let endStream: UInt8 = 1
  static let endHeaders: UInt8 = 4
  static let padded: UInt8 = 8
  static let acknowledges: UInt8 = 1

  static func frame(_ type: UInt8, _ flags: UInt8, _ stream: Int32, _ payload: [UInt8]) -> [UInt8] {
    let count = payload.count
    let head = [UInt8(count >> 16 & 255), UInt8(count >> 8 & 255), UInt8(count & 255), type, flags]
    return head + number(UInt32(bitPattern: stream)) + payload
  }

  static func number(_ value: UInt32) -> [UInt8] {
    [UInt8(value >> 24), UInt8(value >> 16 & 255), UInt8(value >> 8 & 255), UInt8(value & 255)]
  }

  static func data(_ stream: Int32, _ text: String, ends: Bool = false) -> [UInt8] { data(stream, Array(text.utf8), ends: ends) }
  static func data(_ stream: Int32, _ octets: [UInt8], ends: Bool = false) -> [UInt8] { frame(0, ends ? endStream : 0, stream, octets) }
  static func headers(_ stream: Int32, _ fields: [(String, String)], ends: Bool = true) -> [UInt8] {
    frame(1, endHeaders | (ends ? endStream : 0), stream, block(fields))
  }
  static func priority(_ stream: Int32, on other: Int32) -> [UInt8] { frame(2, 0, stream, number(UInt32(bitPattern: other)) + [15]) }
  static func reset(_ stream: Int32, _ code: HTTP2ErrorCode) -> [UInt8] { frame(3, 0, stream, number(code.rawValue)) }
  static func settings(_ entries: [(UInt16, UInt32)] = []) -> [UInt8] {
    frame(4, 0, 0, entries.flatMap { [UInt8($0.0 >> 8), UInt8($0.0 & 255)] + number($0.1) })
  }
  static let settingsAcknowledged = frame(4, acknowledges, 0, [])
  static func ping(_ flags: UInt8 = 0) -> [UInt8] { frame(6, flags, 0, [1, 2, 3, 4, 5, 6, 7, 8]) }
  static func goAway(_ last: Int32, _ code: HTTP2ErrorCode) -> [UInt8] { frame(7, 0, 0, number(UInt32(bitPattern: last)) + number(code.rawValue)) }
  static func windowUpdate(_ stream: Int32, _ increment: UInt32) -> [UInt8] { frame(8, 0, stream, number(increment)) }
  static func continuation(_ stream: Int32, _ payload: [UInt8], ends: Bool) -> [UInt8] { frame(9, ends ? endHeaders : 0, stream, payload) }

  /// A header block of literals that no table keeps.
  static func block(_ fields: [(String, String)]) -> [UInt8] {
    fields.flatMap { name, value in [0] + string(Array(name.utf8)) + string(Array(value.utf8)) }
  }

  static func block(_ name: [UInt8], _ value: [UInt8]) -> [UInt8] { [0] + string(name) + string(value) }

  /// A string literal without Huffman coding (RFC 7541 section 5.2).
  static func string(_ octets: [UInt8]) -> [UInt8] { integer(octets.count, prefix: 7, first: 0) + octets }

  /// An integer (RFC 7541 section 5.1).
  static func integer(_ value: Int, prefix: Int, first: UInt8) -> [UInt8] {
    let most = (1 << prefix) - 1
    guard value >= most else { return [first | UInt8(value)] }
    var octets = [first | UInt8(most)]
    var rest = value - most
    while rest >= 128 {
      octets.append(UInt8(rest & 127 | 128))
      rest >>= 7
    }
    return octets + [UInt8(rest)]
  }

  /// What every request needs.
  static let get: [(String, String)] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.example")]
  static let post: [(String, String)] = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a.example")]
}

/// A frame that was read back from output.
struct SeenFrame: Equatable, CustomStringConvertible {
  var type: UInt8
  var flags: UInt8
  var stream: Int32
  var payload: [UInt8]

  var description: String { "type \(type) flags \(flags) stream \(stream) \(payload.count) octets" }

  static func read(_ octets: [UInt8]) -> [SeenFrame] {
    var frames: [SeenFrame] = []
    var index = 0
    while index + 9 <= octets.count {
      let count = Int(octets[index]) << 16 | Int(octets[index + 1]) << 8 | Int(octets[index + 2])
      let stream = octets[index + 5..<index + 9].reduce(Int32(0)) { $0 << 8 | Int32($1) }
      let end = min(octets.count, index + 9 + count)
      frames.append(SeenFrame(type: octets[index + 3], flags: octets[index + 4], stream: stream, payload: Array(octets[index + 9..<end])))
      index += 9 + count
    }
    return frames
  }

  /// The code of a RST_STREAM or GOAWAY.
  var code: HTTP2ErrorCode? {
    let at = type == 3 ? 0 : 4
    guard type == 3 || type == 7, payload.count >= at + 4 else { return nil }
    return HTTP2ErrorCode(rawValue: payload[at..<at + 4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) })
  }
}

/// A server session that is spoken to in frames.
struct Spoken: ~Copyable {
  var peer: Peer

  init(_ limits: HTTP2Limits = .standard) throws {
    peer = Peer(.server, limits)
    try peer.receive(Frames.preface + Frames.settings() + Frames.settingsAcknowledged)
    _ = peer.output()
    _ = peer.news()
  }

  /// Gives octets, and the frames that answer them; a connection error counts as an answer.
  mutating func say(_ octets: [UInt8]) -> [SeenFrame] {
    do throws(HTTP2Error) { try peer.receive(octets) } catch {}
    return SeenFrame.read(peer.output())
  }

  mutating func news() -> [Heard] { peer.news() }
}
