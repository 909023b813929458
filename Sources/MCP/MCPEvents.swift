import Bytes
import Metering

/// Takes the event stream of an MCP server apart into whole events (HTML standard, section 9.2), so that the messages in them can be
/// looked at before they leave. What is not changed passes octet for octet; names that look like events of ours are changed.
public struct MCPEvents: ~Copyable {
  /// One event, or a block of lines without data, with the empty line that ends it.
  public struct Block {
    /// What the stream has of it.
    public let octets: [UInt8]
    /// The text of its data lines, joined by line feeds; nil where it has none.
    public let data: [UInt8]?
    /// Whether it has an id by which a client can go on behind it.
    public let hasIdentifier: Bool
    fileprivate let lines: [Range<Int>]
    fileprivate let firstData: Int?
  }

  private var renaming = EventStreamScanner()
  private var buffer = ByteBuffer()
  /// How far the buffer was looked through, and where its present line began.
  private var looked = 0
  private var lineStart = 0
  /// The line before ended in a carriage return, to which a line feed may belong.
  private var isAfterReturn = false
  private var isFirst = true

  /// Begins before a stream's first octet.
  public init() {}

  /// The octets that are kept for the end of their event.
  public var heldCount: Int { buffer.count }

  /// Takes what the server sent next.
  public mutating func take(_ octets: UnsafeRawBufferPointer) { renaming.scan(octets, into: &buffer) }

  /// The stream has ended whole.
  public mutating func finish() { renaming.finish(into: &buffer) }

  /// Takes what is left where the stream ended inside of an event.
  public mutating func takeRest() -> [UInt8] {
    defer { buffer.release() }
    return buffer.array()
  }

  /// Gives the next whole event; nil where more has to come.
  public mutating func next() -> Block? {
    while let octet = findLineEnd() {
      let isSecondHalf = octet == 0x0A && isAfterReturn && lineStart == looked
      looked += 1
      isAfterReturn = octet == 0x0D
      if isSecondHalf {
        lineStart = looked
        continue
      }
      let isBlank = lineStart == looked - 1
      lineStart = looked
      if isBlank {
        // The line feed of the empty line's own end goes with it where it is there already.
        if isAfterReturn, looked < buffer.count, buffer.withUnsafeBytes({ $0[looked] }) == 0x0A {
          looked += 1
          isAfterReturn = false
        }
        return takeBlock()
      }
    }
    return nil
  }

  /// Moves to the next octet that ends a line; nil where none has come.
  private mutating func findLineEnd() -> UInt8? {
    let start = looked
    let found = buffer.withUnsafeBytes { octets -> (index: Int, octet: UInt8?) in
      var index = start
      while index < octets.count {
        if octets[index] == 0x0A || octets[index] == 0x0D { return (index, octets[index]) }
        index += 1
      }
      return (index, nil)
    }
    if found.index > start { isAfterReturn = false }
    looked = found.index
    return found.octet
  }

  private mutating func takeBlock() -> Block {
    let octets = buffer.withUnsafeBytes { [UInt8]($0[..<looked]) }
    buffer.removeFirst(looked)
    looked = 0
    lineStart = 0
    defer { isFirst = false }
    return Block(octets, isFirst: isFirst)
  }
}

extension MCPEvents.Block {
  fileprivate init(_ octets: [UInt8], isFirst: Bool) {
    var lines: [Range<Int>] = []
    var data: [UInt8]?
    var firstData: Int?
    var hasIdentifier = false
    var start = isFirst && octets.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
    while start < octets.count {
      var end = start
      while end < octets.count, octets[end] != 0x0A, octets[end] != 0x0D { end += 1 }
      let (name, value) = Self.field(octets[start..<end])
      if name.elementsEqual("data".utf8) {
        if firstData == nil {
          firstData = lines.count
          data = Array(value)
        } else {
          data?.append(0x0A)
          data?.append(contentsOf: value)
        }
      } else if name.elementsEqual("id".utf8), !value.isEmpty {
        hasIdentifier = true
      }
      var next = end
      if next < octets.count, octets[next] == 0x0D { next += 1 }
      if next < octets.count, octets[next] == 0x0A { next += 1 }
      lines.append(start..<next)
      start = next
    }
    self.octets = octets
    self.data = data
    self.hasIdentifier = hasIdentifier
    self.lines = lines
    self.firstData = firstData
  }

  private static func field(_ line: ArraySlice<UInt8>) -> (name: ArraySlice<UInt8>, value: ArraySlice<UInt8>) {
    guard let colon = line.firstIndex(of: 0x3A) else { return (line, line[line.endIndex...]) }
    var value = line[(colon + 1)...]
    if value.first == 0x20 { value = value.dropFirst() }
    return (line[..<colon], value)
  }

  /// The event with other data: its other lines stay as they are.
  public func replacing(data: [UInt8]) -> [UInt8] {
    guard let firstData else { return octets }
    var out: [UInt8] = []
    out.reserveCapacity(octets.count + data.count)
    if let first = lines.first { out += octets[..<first.lowerBound] }
    for (index, line) in lines.enumerated() {
      let text = octets[line]
      let name = Self.field(text.prefix { $0 != 0x0A && $0 != 0x0D }).name
      guard name.elementsEqual("data".utf8) else {
        out += text
        continue
      }
      guard index == firstData else { continue }
      let ending = text.drop { $0 != 0x0A && $0 != 0x0D }
      for part in data.split(separator: 0x0A, omittingEmptySubsequences: false) {
        out += Array("data: ".utf8) + part + ending
      }
    }
    return out
  }
}
