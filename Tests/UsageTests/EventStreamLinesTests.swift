import Testing
import Usage

/// What the lines of a stream come to, the pieces of a value joined.
private func lines(_ pieces: [ArraySlice<UInt8>]) -> [String] {
  var lines = EventStreamLines()
  var found: [String] = []
  var offset = 0
  func add(_ kind: String, _ octets: ArraySlice<UInt8>) {
    let text = String(decoding: octets, as: UTF8.self)
    if let last = found.last, last.hasPrefix(kind) { found[found.count - 1] = last + text } else { found.append(kind + text) }
  }
  for piece in pieces {
    piece.withUnsafeBytes { octets in
      var index = 0
      while true {
        switch lines.next(in: octets.bytes, at: &index) {
        case .needsMore:
          #expect(index == octets.count)
          return
        case .data(let range): add("data ", Array(octets)[range])
        case .name(let range): add("name ", Array(octets)[range])
        case .dataLine: found.append("line")
        case .commentEnded(let end): found.append("comment \(offset + end)")
        case .eventEnded(let end): found.append("end \(offset + end)")
        }
      }
    }
    offset += piece.count
  }
  return found
}

@Suite struct EventStreamLinesTests {
  @Test(arguments: [
    ("data: a\n\n", ["data a", "end 9"]), ("data:a\r\n\r\n", ["data a", "end 9"]), ("data:  a\r\r", ["data  a", "end 10"]),
    ("event: x\ndata: a\ndata: b\n\ndata: c\n\n", ["name x", "data a", "line", "data b", "end 26", "data c", "end 35"]),
    (": c\n\n:\r\n\r\n", ["comment 4", "end 5", "comment 7", "end 9"]), ("\u{FEFF}data: a\n\n", ["data a", "end 12"]), ("\u{FEFF}\u{FEFF}data: a\n\n", ["end 15"]),
    ("\n\r\n\r\r", ["end 1", "end 2", "end 4", "end 5"]), ("data\ndata:\ndata: x\n\n", ["line", "line", "data x", "end 20"]),
    ("Data: a\ndatabases: b\n data: c\ndata : d\nid: 4\n\n", ["end 46"]), ("data: open", ["data open"]), ("data: a:b: c\n", ["data a:b: c"]),
  ])
  func takesEveryStreamApartAtEverySplit(text: String, expected: [String]) {
    let octets = Array(text.utf8)
    for cut in 0...octets.count { #expect(lines(pieces(octets, at: [cut])) == expected, "\(text.debugDescription) cut at \(cut)") }
    #expect(lines(octets.indices.map { octets[$0...$0] }) == expected)
  }
}
