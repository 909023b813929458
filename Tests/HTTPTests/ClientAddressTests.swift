import Testing

@testable import HTTP

@Suite struct ClientAddressTests {
  @Test(arguments: [
    ("0.0.0.0", "0.0.0.0"), ("127.0.0.1", "127.0.0.1"), ("255.255.255.255", "255.255.255.255"), ("10.20.30.4", "10.20.30.4"),
    ("::", "::"), ("::1", "::1"), ("2001:DB8::1", "2001:db8::1"), ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
    ("2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"), ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
    ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"), ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"), ("1::8", "1::8"),
    ("::ffff:192.0.2.1", "192.0.2.1"), ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"), ("1:0:0:4::", "1:0:0:4::"),
    ("fe80::", "fe80::"), ("0:0:0:0:0:0:0:1", "::1"), ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
  ])
  func readsAndWrites(text: String, expected: String) throws {
    let address = try #require(ClientAddress(text))
    #expect(address.description == expected)
    #expect(ClientAddress(address.description) == address)
    #expect(address.octets.withUnsafeBytes { ClientAddress(octets: $0) } == address)
  }

  @Test(arguments: [
    "", "1", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.04", "1..2.3", "1.2.3.4 ", " 1.2.3.4", "1.2.3.a", "1.2.3.",
    ".1.2.3", ":", ":::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", "12345::", "g::", "::1%eth0", "[::1]", "1:", ":1",
    "1:2:3:4:5:6:7:8::", "::1.2.3", "::1.2.3.4.5", "1:2:3:4:5:6:7:1.2.3.4", "1.2.3.4::", "1:2:3:4:5:6:7:8:",
  ])
  func refuses(text: String) {
    #expect(ClientAddress(text) == nil)
  }

  @Test func readsAndWritesRandomAddresses() {
    var generator = SeededGenerator(state: 6)
    for _ in 0..<5_000 {
      let mask = UInt64.random(in: 0...UInt64.max, using: &generator)
      let address = ClientAddress(
        high: .random(in: 0...UInt64.max, using: &generator) & (mask & 1 == 0 ? 0xFFFF_0000_0000_FFFF : .max),
        low: .random(in: 0...UInt64.max, using: &generator) & (mask & 2 == 0 ? 0xFFFF_0000_0000_00FF : .max))
      #expect(ClientAddress(address.description) == address)
    }
  }

  @Test func limitsCountByCustomer() throws {
    let one = try #require(ClientAddress("2001:db8:1:2:3::4"))
    let same = try #require(ClientAddress("2001:db8:1:2::9"))
    let other = try #require(ClientAddress("2001:db8:1:3::9"))
    #expect(one.limitKey == same.limitKey && one.limitKey != other.limitKey)
    let first = try #require(ClientAddress("192.0.2.1"))
    #expect(first.limitKey == first && first.isIPv4 && first.ipv4 == 0xC000_0201)
    #expect(first == ClientAddress("::ffff:c000:201"))
    #expect(try #require(ClientAddress("127.9.9.9")).isLoopback && !first.isLoopback)
  }

  @Test(arguments: [
    ("10.0.0.0/8", "10.255.0.1", true), ("10.0.0.0/8", "11.0.0.1", false), ("0.0.0.0/0", "1.2.3.4", true),
    ("0.0.0.0/0", "::1", false), ("::/0", "1.2.3.4", true), ("192.0.2.1", "192.0.2.1", true), ("192.0.2.1", "192.0.2.2", false),
    ("192.0.2.0/31", "192.0.2.1", true), ("2001:db8::/32", "2001:db8:ffff::1", true), ("2001:db8::/32", "2001:db9::", false),
    ("2001:db8::/65", "2001:db8::7fff:0:0:0", true), ("2001:db8::/65", "2001:db8::8000:0:0:0", false), ("::1/128", "::1", true),
    ("2001:db8:0:1::/64", "2001:db8:0:1:ffff::", true), ("2001:db8:0:1::/64", "2001:db8:0:2::", false),
  ])
  func blocksContain(block: String, address: String, expected: Bool) throws {
    #expect(try #require(CIDR(block)).contains(try #require(ClientAddress(address))) == expected)
  }

  @Test(arguments: ["", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.1/8", "::/129", "10.0.0.0/08", "10.0.0.0/+8", "x/8", "10.0.0.0/8/8"])
  func blocksRefuse(text: String) {
    #expect(CIDR(text) == nil)
  }
}
