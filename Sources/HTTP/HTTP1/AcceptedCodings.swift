import Bytes

/// Which content codings the upstream is asked for, where something of ours has to read what it answers.
public enum AcceptedCodings: Sendable, Hashable {
  /// What the client asks for.
  case asAsked
  /// None.
  case identity
  /// Those that the client asks for and that we can read.
  case readable

  /// The codings that can be read, in lower case.
  private static let known: [StaticString] = ["gzip", "br", "zstd", "deflate", "identity", "x-gzip"]

  /// Appends the upstream's `Accept-Encoding` line (RFC 9110, section 12.5.3). Elements that are kept stand as the client wrote them.
  /// A client that says nothing takes whatever comes (there the upstream is asked for no coding at all), so nothing is worse for it.
  func append(_ head: borrowing RequestHead, _ octets: UnsafeRawBufferPointer, to output: inout ByteBuffer) {
    switch self {
    case .asAsked: return
    case .identity: output.append("Accept-Encoding: identity\r\n")
    case .readable:
      output.append("Accept-Encoding: ")
      var count = 0
      for field in head.section.fields where field.name == .acceptEncoding {
        Self.appendReadable(field.value(in: octets), &count, to: &output)
      }
      if count == 0 { output.append("identity") }
      output.append("\r\n")
    }
  }

  private static func appendReadable(_ value: UnsafeRawBufferPointer, _ count: inout Int, to output: inout ByteBuffer) {
    var start = 0
    while start < value.count {
      let end = value[start...].firstIndex(of: UInt8(ascii: ",")) ?? value.count
      let element = trimmed(value, start..<end)
      if isReadable(value, element) {
        if count > 0 { output.append(", ") }
        count += 1
        output.append(UnsafeRawBufferPointer(rebasing: value[element]))
      }
      start = end + 1
    }
  }

  private static func isReadable(_ value: UnsafeRawBufferPointer, _ element: Range<Int>) -> Bool {
    let end = value[element].firstIndex { $0 == UInt8(ascii: ";") || $0 == 0x20 || $0 == 0x09 } ?? element.upperBound
    let name = element.lowerBound..<end
    return known.contains { name.count == $0.utf8CodeUnitCount && value.bytes.equalsIgnoringCase($0, at: name.lowerBound, count: name.count) }
  }

  private static func trimmed(_ value: UnsafeRawBufferPointer, _ range: Range<Int>) -> Range<Int> {
    var (first, last) = (range.lowerBound, range.upperBound)
    while first < last, value[first] == 0x20 || value[first] == 0x09 { first += 1 }
    while last > first, value[last - 1] == 0x20 || value[last - 1] == 0x09 { last -= 1 }
    return first..<last
  }
}
