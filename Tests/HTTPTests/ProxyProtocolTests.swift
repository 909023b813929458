import Bytes
import HTTP
import Testing

private typealias Endpoint = ProxyProtocol.Endpoint

private func decode(_ octets: [UInt8]) throws(HTTPError) -> (header: ProxyProtocol.Header, count: Int)? {
  var count = 0
  // Safe because: the octets outlive the call.
  let header: Result<ProxyProtocol.Header?, HTTPError> = octets.withUnsafeBytes { octets in
    do throws(HTTPError) { return .success(try ProxyProtocol.decode(octets, count: &count)) } catch { return .failure(error) }
  }
  return try header.get().map { ($0, count) }
}

private func write(_ header: ProxyProtocol.Header, _ version: ProxyProtocol.Version) -> [UInt8] {
  var buffer = ByteBuffer()
  ProxyProtocol.append(header, version, to: &buffer)
  return buffer.array()
}

private func end(_ address: String, _ port: UInt16) throws -> Endpoint { Endpoint(try #require(ClientAddress(address)), port: port) }

private let signature: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A]
private let tcp4: [UInt8] = signature + [0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 2, 0xDD, 0xD5, 0x01, 0xBB]

private func samples() throws -> [(octets: [UInt8], header: ProxyProtocol.Header)] {
  let four = ProxyProtocol.Header.relayed(source: try end("192.0.2.1", 56789), destination: try end("198.51.100.2", 443))
  let six = ProxyProtocol.Header.relayed(source: try end("2001:db8::1", 1), destination: try end("2001:db8::2", 65535))
  let addresses = try end("2001:db8::1", 1).address.octets + end("2001:db8::2", 1).address.octets
  return [
    (Array("PROXY TCP4 192.0.2.1 198.51.100.2 56789 443\r\n".utf8), four),
    (Array("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n".utf8), six),
    (Array("PROXY UNKNOWN\r\n".utf8), .unspecified),
    (Array("PROXY UNKNOWN ff:: ff:: 1 2\r\n".utf8), .unspecified),
    (tcp4, four),
    (signature + [0x21, 0x21, 0, 36] + addresses + [0, 1, 0xFF, 0xFF], six),
    (signature + [0x21, 0x11, 0, 17] + tcp4[16...] + [0x04, 0, 2, 0, 0], four),
    (signature + [0x20, 0x00, 0, 0], .unspecified),
    (signature + [0x20, 0x11, 0, 3, 1, 2, 3], .unspecified),
    (signature + [0x21, 0x00, 0, 1, 9], .unspecified),
    (signature + [0x21, 0x31, 0, 216] + [UInt8](repeating: 0x2F, count: 216), .unspecified),
  ]
}

@Suite struct ProxyProtocolTests {
  @Test func readsBothVersionsAtEverySplitPoint() throws {
    for (octets, header) in try samples() {
      for cut in 0..<octets.count { #expect(try decode(Array(octets[..<cut])) == nil, "\(octets) cut at \(cut)") }
      for tail in [[], Array("GET / HTTP/1.1\r\n".utf8), [0x00]] {
        let found = try #require(try decode(octets + tail))
        #expect(found.header == header && found.count == octets.count)
      }
    }
  }

  @Test func writesWhatItReads() throws {
    for (_, header) in try samples() {
      for version in [ProxyProtocol.Version.v1, .v2] {
        let octets = write(header, version)
        #expect(try decode(octets).map { [$0.header] } == [header])
        #expect(try decode(octets)?.count == octets.count)
      }
    }
    let mixed = ProxyProtocol.Header.relayed(source: try end("192.0.2.1", 5), destination: try end("2001:db8::2", 6))
    #expect(String(decoding: write(mixed, .v1), as: UTF8.self) == "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 5 6\r\n")
    for version in [ProxyProtocol.Version.v1, .v2] { #expect(try decode(write(mixed, version))?.header == mixed) }
    #expect(write(.unspecified, .v1) == Array("PROXY UNKNOWN\r\n".utf8))
    #expect(try decode(tcp4).map { write($0.header, .v2) } == tcp4)
  }

  @Test(arguments: [
    ("GET / HTTP/1.1\r\n", 0), ("PROXX", 4), ("PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n", 6), ("PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", 6),
    ("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", 32), ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", 35),
    ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", 35), ("PROXY TCP4 ::1 ::1 1 2\r\n", 11), ("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", 11),
    ("PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", 31), ("PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", 31),
    ("PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", 31), ("PROXY TCP4 192.0.2.300 192.0.2.2 1 2\r\n", 11), ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rX", 35),
    ("PROXY TCP4\r\n", 10), ("PROXY \r\n", 6),
  ])
  func refusesWhatIsNoLine(text: String, position: Int) {
    #expect(throws: HTTPError.proxyHeaderInvalid(at: position)) { try decode(Array(text.utf8)) }
  }

  @Test func refusesWhatIsTooLong() {
    let line = Array("PROXY UNKNOWN ".utf8) + [UInt8](repeating: 0x41, count: 200)
    #expect(throws: HTTPError.proxyHeaderTooLong(at: 106)) { try decode(line) }
    #expect(throws: HTTPError.proxyHeaderTooLong(at: 14)) { try decode(signature + [0x21, 0x11, 0x40, 0x00]) }
  }

  @Test func refusesOctetsThatBreakVersionTwo() {
    let cases: [(octets: [UInt8], position: Int)] = [
      (signature + [0x11], 12), (signature + [0x22], 12), (signature + [0x21, 0x12, 0, 12] + tcp4[16...], 13),
      (signature + [0x21, 0x41, 0, 0], 13), (signature + [0x21, 0x11, 0, 11] + tcp4[16..<27], 14),
      (signature + [0x21, 0x11, 0, 14] + tcp4[16...] + [4, 0], 28), (signature + [0x21, 0x11, 0, 15] + tcp4[16...] + [4, 0, 1], 28),
      ([0x0D, 0x0A, 0x0D, 0x0B], 3), ([0x47], 0),
    ]
    for (octets, position) in cases {
      #expect(throws: HTTPError.proxyHeaderInvalid(at: position), "\(octets)") { try decode(octets) }
    }
  }

  /// Changed octets are read, refused or waited for; nothing traps, and no count passes what was there.
  @Test func survivesChangedOctets() throws {
    var generator = SplitMix(state: 7)
    let all = try samples().map(\.octets)
    for _ in 0..<20_000 {
      var octets = all[Int(generator.next() % UInt64(all.count))] + [0x47, 0x45]
      for _ in 0...generator.next() % 3 {
        octets[Int(generator.next() % UInt64(octets.count))] = UInt8(truncatingIfNeeded: generator.next())
      }
      octets = Array(octets.prefix(Int(generator.next() % UInt64(octets.count + 1))))
      if let found = try? decode(octets) { #expect(found.count <= octets.count && found.count > 0) }
    }
  }
}

private struct SplitMix {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
    return mixed ^ mixed >> 31
  }
}
