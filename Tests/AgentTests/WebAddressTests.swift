import Testing

@testable import Agent

@Suite struct WebAddressTests {
  @Test(arguments: [
    ("http://127.0.0.1:8402/v1/x?y=z#f", "http://127.0.0.1:8402/v1/x?y=z", "127.0.0.1:8402"),
    ("HTTP://LocalHost", "http://localhost/", "localhost"), ("localhost:80/a", "http://localhost/a", "localhost"),
    ("https://a.example:443?q", "https://a.example/?q", "a.example"),
    ("http://[::1]:9/a", "http://[::1]:9/a", "[::1]:9"), ("http://h/%7e%2a/%c3%a4", "http://h/~%2A/%C3%A4", "h"),
    ("http://h:/x", "http://h/x", "h"),
  ])
  func reads(text: String, whole: String, authority: String) throws {
    let address = try WebAddress(text)
    #expect(address.description == whole)
    #expect(address.authority == authority)
    #expect(try WebAddress(whole) == address)
  }

  @Test(arguments: [
    ("ftp://h/", AgentError.AddressFault.scheme), ("http://", .host), ("http:///x", .host), ("http://u:p@h/", .userInformation),
    ("http://h:0/", .port), ("http://h:65536/", .port), ("http://h:+1/", .port), ("http://a b/", .forbiddenOctet),
    ("http://h/\u{e9}", .forbiddenOctet), ("http://h\\x/", .forbiddenOctet), ("http://[::1/", .host), ("http://[x]/", .host),
    ("http://[::1]x/", .host), ("http://h%41/", .host), ("", .host), ("http://h/\r\nX: y", .forbiddenOctet),
  ])
  func refuses(text: String, fault: AgentError.AddressFault) {
    #expect(throws: AgentError.address(fault)) { try WebAddress(text) }
  }

  @Test func boundsLength() {
    #expect(throws: AgentError.address(.tooLong)) { try WebAddress("http://h/" + String(repeating: "a", count: 9000)) }
  }

  @Test(arguments: [
    ("localhost", true), ("a.localhost", true), ("127.0.0.1", true), ("127.9.9.9", true), ("[::1]", true),
    ("127.0.0.1.example", false), ("128.0.0.1", false), ("localhost.example", false), ("[::2]", false), ("127.1", false),
  ])
  func knowsLoopback(host: String, isLoopback: Bool) throws {
    #expect(try WebAddress("http://\(host)/").isLoopback == isLoopback)
  }

  /// Whatever stands in an address: it is refused, or has one spelling that reads as itself.
  @Test func randomAddressesHaveOneSpelling() throws {
    var seed: UInt64 = 0xADD2E55
    func next(_ bound: Int) -> Int {
      seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((seed >> 33) % UInt64(bound))
    }
    let words = ["http://", "https://", "h", "EX.ample", ":", "80", "8402", "/", "?", "#", "%7e", "%2F", "%", "[::1]", "@", "..", "a=b", "é", " "]
    var accepted = 0
    for _ in 0..<20_000 {
      let text = (0..<next(9)).map { _ in words[next(words.count)] }.joined()
      guard let address = try? WebAddress(text) else { continue }
      accepted += 1
      #expect(try WebAddress(address.description) == address, "\(text)")
    }
    #expect(accepted > 500)
  }
}
