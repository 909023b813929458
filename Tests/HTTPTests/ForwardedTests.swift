import Testing

@testable import HTTP

@Suite struct ForwardedTests {
  private func client(peer: String, _ fields: [String]) throws -> String {
    let octets = Array((["GET / HTTP/1.1", "Host: a"] + fields + ["", ""]).joined(separator: "\r\n").utf8)
    let head = try #require(decodeRequest(octets).head)
    let peer = try #require(ClientAddress(peer))
    let trusted = try ["10.0.0.0/8", "fd00::/8"].map { try #require(CIDR($0)) }
    return octets.withUnsafeBytes { Forwarded.client(peer: peer, head: head, octets: $0, trusted: trusted).description }
  }

  @Test(arguments: [
    (["X-Forwarded-For: 192.0.2.1"], "192.0.2.1"),
    (["X-Forwarded-For: 6.6.6.6, 192.0.2.1"], "192.0.2.1"),
    (["X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.9.9.9"], "192.0.2.1"),
    (["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 192.0.2.1 ,10.9.9.9,"], "192.0.2.1"),
    (["X-Forwarded-For: 10.1.1.1, 10.2.2.2"], "10.1.1.1"),
    (["X-Forwarded-For: 192.0.2.1:8080"], "192.0.2.1"),
    (["X-Forwarded-For: [2001:db8::1]:8080"], "2001:db8::1"),
    (["X-Forwarded-For: 2001:db8::1"], "2001:db8::1"),
    (["X-Forwarded-For: unknown"], "10.0.0.1"),
    (["X-Forwarded-For: 6.6.6.6, junk, 10.2.2.2"], "10.2.2.2"),
    (["X-Forwarded-For:"], "10.0.0.1"),
    (["X-Real-IP: 6.6.6.6"], "10.0.0.1"),
    (["Forwarded: for=192.0.2.1"], "192.0.2.1"),
    (["Forwarded: for=6.6.6.6, For=192.0.2.1;proto=https, by=x;FOR=10.1.1.1"], "192.0.2.1"),
    (["Forwarded: for=\"[2001:db8::1]:80\""], "2001:db8::1"),
    (["Forwarded: for=\"192.0.2.1\";by=\"a,b;for=6.6.6.6\""], "192.0.2.1"),
    (["Forwarded: for=_hidden"], "10.0.0.1"),
    (["Forwarded: by=192.0.2.1"], "10.0.0.1"),
    (["Forwarded: for=192.0.2.1;for=192.0.2.2"], "10.0.0.1"),
    (["Forwarded: for=\"192.0.2.1"], "10.0.0.1"),
    (["Forwarded: for=\"\\192.0.2.1\""], "10.0.0.1"),
    (["Forwarded: for="], "10.0.0.1"),
    (["Forwarded: for=192.0.2.1", "X-Forwarded-For: 192.0.2.1"], "192.0.2.1"),
    (["Forwarded: for=6.6.6.6", "X-Forwarded-For: 192.0.2.1"], "10.0.0.1"),
  ])
  func believesTheTrustedOnly(fields: [String], expected: String) throws {
    #expect(try client(peer: "10.0.0.1", fields) == expected)
    #expect(try client(peer: "198.51.100.9", fields) == "198.51.100.9")
  }

  @Test func boundsTheWalk() throws {
    let chain = Array(repeating: "10.0.0.2", count: 31).joined(separator: ", ")
    #expect(try client(peer: "10.0.0.1", ["X-Forwarded-For: 192.0.2.1, \(chain)"]) == "192.0.2.1")
    #expect(try client(peer: "10.0.0.1", ["X-Forwarded-For: 192.0.2.1, 10.0.0.2, \(chain)"]) == "10.0.0.2")
  }
}
