public import Bytes

/// The PROXY protocol, by which a proxy in front of us, or we to an upstream, tells at the start of a connection whose it
/// is (haproxy.org, doc/proxy-protocol.txt, versions 1 and 2).
public enum ProxyProtocol {
  /// Which of the two forms is written.
  public enum Version: String, Sendable, Hashable {
    /// A line of text.
    case v1
    /// Octets behind a signature.
    case v2
  }

  /// One end of a connection.
  public struct Endpoint: Sendable, Hashable {
    /// Its address.
    public var address: ClientAddress
    /// Its port.
    public var port: UInt16

    /// Makes an end.
    public init(_ address: ClientAddress, port: UInt16) {
      self.address = address
      self.port = port
    }
  }

  /// What a header says.
  public enum Header: Sendable, Hashable {
    /// The connection between these two was relayed.
    case relayed(source: Endpoint, destination: Endpoint)
    /// Nothing: the sender's own connection (LOCAL), or one without internet addresses (UNKNOWN).
    case unspecified
  }

  /// Octets of the longest line of version 1, its end included.
  public static let longestLine = 107
  /// Octets of the longest header that is accepted; version 2 may have extensions behind the addresses.
  public static let longestHeader = 4096

  private static let signature: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A]
  private static let word: [UInt8] = Array("PROXY ".utf8)
  /// Signature, version and command, family, and length.
  private static let prefixCount = 16

  // MARK: Reading

  /// Reads a header at the front of `octets`; nothing where more is needed. `count` is then how many octets it has.
  ///
  /// Refuses at the first octet that cannot belong to a header, so that what is none is known at once.
  public static func decode(_ octets: UnsafeRawBufferPointer, count: inout Int) throws(HTTPError) -> Header? {
    guard let first = octets.first else { return nil }
    return first == word[0] ? try line(octets, &count) : try binary(octets, &count)
  }

  private static func matches(_ octets: UnsafeRawBufferPointer, _ expected: [UInt8]) throws(HTTPError) -> Bool {
    for index in 0..<min(octets.count, expected.count) where octets[index] != expected[index] {
      throw .proxyHeaderInvalid(at: index)
    }
    return octets.count >= expected.count
  }

  // MARK: Version 1

  private static func line(_ octets: UnsafeRawBufferPointer, _ count: inout Int) throws(HTTPError) -> Header? {
    guard try matches(octets, word) else { return nil }
    var end = word.count
    while end < min(octets.count, longestLine - 1), octets[end] != 0x0D { end += 1 }
    guard end < longestLine - 1 else { throw .proxyHeaderTooLong(at: end) }
    guard end + 1 < octets.count else { return nil }
    guard octets[end + 1] == 0x0A else { throw .proxyHeaderInvalid(at: end + 1) }
    count = end + 2
    return try parsed(octets.bytes, word.count..<end)
  }

  private static func parsed(_ octets: RawSpan, _ range: Range<Int>) throws(HTTPError) -> Header {
    var index = range.lowerBound
    let family = field(octets, range.upperBound, &index)
    if equals(octets, family, "UNKNOWN") { return .unspecified }
    let isIPv4 = equals(octets, family, "TCP4")
    guard isIPv4 || equals(octets, family, "TCP6") else { throw .proxyHeaderInvalid(at: family.lowerBound) }
    let source = try address(octets, field(octets, range.upperBound, &index), isIPv4)
    let destination = try address(octets, field(octets, range.upperBound, &index), isIPv4)
    let sourcePort = try port(octets, field(octets, range.upperBound, &index))
    let destinationPort = try port(octets, field(octets, range.upperBound, &index))
    // The last field ends the line, so `index` stands one behind it.
    guard index == range.upperBound + 1 else { throw .proxyHeaderInvalid(at: min(index, range.upperBound)) }
    return .relayed(source: Endpoint(source, port: sourcePort), destination: Endpoint(destination, port: destinationPort))
  }

  /// Takes the octets up to the next space, and steps over it.
  private static func field(_ octets: RawSpan, _ end: Int, _ index: inout Int) -> Range<Int> {
    let start = min(index, end)
    var stop = start
    while stop < end, octets.octet(stop) != 0x20 { stop += 1 }
    index = stop + 1
    return start..<stop
  }

  private static func equals(_ octets: RawSpan, _ range: Range<Int>, _ text: StaticString) -> Bool {
    guard range.count == text.utf8CodeUnitCount else { return false }
    return text.withUTF8Buffer { expected in
      for (offset, index) in range.enumerated() where octets.octet(index) != expected[offset] { return false }
      return true
    }
  }

  private static func address(_ octets: RawSpan, _ range: Range<Int>, _ isIPv4: Bool) throws(HTTPError) -> ClientAddress {
    var hasColon = false
    for index in range where octets.octet(index) == UInt8(ascii: ":") { hasColon = true }
    guard !range.isEmpty, hasColon != isIPv4, let address = ClientAddress(text: octets, range) else {
      throw .proxyHeaderInvalid(at: range.lowerBound)
    }
    return address
  }

  private static func port(_ octets: RawSpan, _ range: Range<Int>) throws(HTTPError) -> UInt16 {
    var port: UInt32 = 0
    guard (1...5).contains(range.count), range.count == 1 || octets.octet(range.lowerBound) != 0x30 else {
      throw .proxyHeaderInvalid(at: range.lowerBound)
    }
    for index in range {
      guard octets.octet(index).isDigit else { throw .proxyHeaderInvalid(at: index) }
      port = port * 10 + UInt32(octets.octet(index) - 0x30)
    }
    guard let port = UInt16(exactly: port) else { throw .proxyHeaderInvalid(at: range.lowerBound) }
    return port
  }

  // MARK: Version 2

  private static func binary(_ octets: UnsafeRawBufferPointer, _ count: inout Int) throws(HTTPError) -> Header? {
    guard try matches(octets, signature), octets.count > 12 else { return nil }
    let isLocal = octets[12] == 0x20
    guard isLocal || octets[12] == 0x21 else { throw .proxyHeaderInvalid(at: 12) }
    guard octets.count >= prefixCount else { return nil }
    let family = octets[13]
    let length = Int(octets[14]) << 8 | Int(octets[15])
    guard prefixCount + length <= longestHeader else { throw .proxyHeaderTooLong(at: 14) }
    guard octets.count >= prefixCount + length else { return nil }
    count = prefixCount + length
    let rest = UnsafeRawBufferPointer(rebasing: octets[prefixCount..<count])
    // Whatever stands behind LOCAL is to be skipped, whichever family it names.
    if isLocal { return .unspecified }
    switch family {
    case 0x00:
      return .unspecified
    case 0x11:
      try checkExtensions(rest, from: 12)
      return relayed(rest, width: 4)
    case 0x21:
      try checkExtensions(rest, from: 36)
      return relayed(rest, width: 16)
    case 0x31:
      try checkExtensions(rest, from: 216)
      return .unspecified
    default: throw .proxyHeaderInvalid(at: 13)
    }
  }

  private static func relayed(_ rest: UnsafeRawBufferPointer, width: Int) -> Header {
    func end(_ start: Int, _ port: Int) -> Endpoint {
      let address = ClientAddress(octets: UnsafeRawBufferPointer(rebasing: rest[start..<start + width])) ?? .none
      return Endpoint(address, port: UInt16(rest[port]) << 8 | UInt16(rest[port + 1]))
    }
    return .relayed(source: end(0, 2 * width), destination: end(width, 2 * width + 2))
  }

  /// Walks over type, length and value of each extension: none may reach beyond the header.
  private static func checkExtensions(_ rest: UnsafeRawBufferPointer, from start: Int) throws(HTTPError) {
    guard rest.count >= start else { throw .proxyHeaderInvalid(at: 14) }
    var index = start
    while index < rest.count {
      guard index + 3 <= rest.count else { throw .proxyHeaderInvalid(at: prefixCount + index) }
      let length = Int(rest[index + 1]) << 8 | Int(rest[index + 2])
      guard index + 3 + length <= rest.count else { throw .proxyHeaderInvalid(at: prefixCount + index) }
      index += 3 + length
    }
  }

  // MARK: Writing

  /// Appends a header; both addresses are written as IPv6 ones where they are of different families.
  public static func append(_ header: Header, _ version: Version, to buffer: inout ByteBuffer) {
    switch version {
    case .v1: appendLine(header, to: &buffer)
    case .v2: appendBinary(header, to: &buffer)
    }
  }

  private static func appendLine(_ header: Header, to buffer: inout ByteBuffer) {
    guard case .relayed(let source, let destination) = header else { return buffer.append("PROXY UNKNOWN\r\n") }
    let isIPv4 = source.address.isIPv4 && destination.address.isIPv4
    buffer.append(isIPv4 ? "PROXY TCP4 " : "PROXY TCP6 ")
    for end in [source, destination] {
      if !isIPv4, end.address.isIPv4 { buffer.append("::ffff:") }
      end.address.append(to: &buffer)
      buffer.append(" ")
    }
    buffer.append(decimal: UInt64(source.port))
    buffer.append(" ")
    buffer.append(decimal: UInt64(destination.port))
    buffer.append("\r\n")
  }

  private static func appendBinary(_ header: Header, to buffer: inout ByteBuffer) {
    buffer.append(signature)
    guard case .relayed(let source, let destination) = header else { return buffer.append([0x20, 0x00, 0x00, 0x00]) }
    let isIPv4 = source.address.isIPv4 && destination.address.isIPv4
    buffer.append(isIPv4 ? [0x21, 0x11, 0x00, 12] : [0x21, 0x21, 0x00, 36])
    for end in [source, destination] { buffer.append(isIPv4 ? end.address.octets[12...] : end.address.octets[...]) }
    for port in [source.port, destination.port] { buffer.append([UInt8(port >> 8), UInt8(truncatingIfNeeded: port)]) }
  }
}
