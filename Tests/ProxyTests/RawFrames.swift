/// Frames octet for octet (RFC 9113 section 4.1), for what no well-behaved session says.
enum RawFrames {
  static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
  static let (dataType, headersType, resetType, goAwayType): (UInt8, UInt8, UInt8, UInt8) = (0, 1, 3, 7)

  static func frame(_ type: UInt8, _ flags: UInt8, _ stream: UInt32, _ payload: [UInt8]) -> [UInt8] {
    let count = payload.count
    return [UInt8(count >> 16 & 255), UInt8(count >> 8 & 255), UInt8(count & 255), type, flags] + number(stream) + payload
  }

  static func number(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) } }

  static func settings(_ entries: [(UInt8, UInt32)] = []) -> [UInt8] { frame(4, 0, 0, entries.flatMap { [0, $0.0] + number($0.1) }) }
  static let ping = frame(6, 0, 0, [UInt8](repeating: 1, count: 8))
  static func windowUpdate(_ stream: UInt32, _ count: UInt32) -> [UInt8] { frame(8, 0, stream, number(count)) }
  static func data(_ stream: UInt32, _ text: String, ends: Bool = false) -> [UInt8] { frame(0, ends ? 1 : 0, stream, Array(text.utf8)) }

  /// A request's HEADERS, of literals that no table keeps.
  static func request(_ stream: UInt32, _ method: String, _ path: String, ends: Bool) -> [UInt8] {
    var block: [UInt8] = []
    for (name, value) in [(":method", method), (":scheme", "http"), (":path", path), (":authority", "a.example")] {
      block.append(0)
      for text in [name, value] {
        block.append(UInt8(text.utf8.count))
        block += text.utf8
      }
    }
    return frame(headersType, ends ? 5 : 4, stream, block)
  }

  /// HEADERS of a response with status 200.
  static func ok(_ stream: UInt32, ends: Bool) -> [UInt8] { frame(headersType, ends ? 5 : 4, stream, [0x88]) }
}

/// A frame as it came.
struct RawFrame {
  let type: UInt8
  let flags: UInt8
  let stream: UInt32
  let payload: [UInt8]

  /// The number that the payload begins with.
  var number: UInt32 { payload.prefix(4).reduce(0) { $0 << 8 | UInt32($1) } }

  /// Reads the next frame; throws where the connection ends.
  init(from wire: Wire) throws {
    let head = try wire.read(9)
    type = head[3]
    flags = head[4]
    stream = head[5...].reduce(0) { $0 << 8 | UInt32($1) }
    payload = try wire.read(head[..<3].reduce(0) { $0 << 8 | Int($1) })
  }
}
