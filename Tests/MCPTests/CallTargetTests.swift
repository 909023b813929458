import Testing

@testable import MCP

@Suite struct CallTargetTests {
  @Test func patternsAreRead() throws {
    #expect(CallPattern("tools/call:search").map { [$0.kind.rawValue, $0.name, "\($0.isPrefix)"] } == ["tools/call", "search", "false"])
    #expect(CallPattern("prompts/get:*").map { [$0.kind.rawValue, $0.name, "\($0.isPrefix)"] } == ["prompts/get", "", "true"])
    #expect(CallPattern("resources/read:file:///r/*")?.name == "file:///r/")
    for text in ["tools/call", "tools/call:", "tools/list:*", "search", ":x", "tools/call:a*b", "tools/call:**", "tools/call:a\u{7}"] {
      #expect(CallPattern(text) == nil, "\(text)")
    }
  }

  @Test func theClosestPatternWins() throws {
    let patterns = try ["tools/call:db.*", "tools/call:db.read*", "tools/call:db.read", "tools/call:*", "resources/read:file:///a"].map {
      try #require(CallPattern($0))
    }
    func closest(_ kind: CallKind, _ name: String) throws -> Int? {
      CallPattern.closest(to: try CallTarget(kind: kind, name: name), in: patterns)
    }
    #expect(try closest(.tool, "db.read") == 2)
    #expect(try closest(.tool, "db.readers") == 1)
    #expect(try closest(.tool, "db.write") == 0)
    #expect(try closest(.tool, "DB.write") == 3)
    #expect(try closest(.prompt, "db.read") == nil)
    #expect(try closest(.resource, "file:///a") == 4)
    #expect(try closest(.resource, "file:///a?x=1") == 4)
    #expect(try closest(.resource, "file:///ab") == nil)
  }

  @Test func fragmentsStandInURLsAndTexts() throws {
    #expect(String(decoding: try CallTarget(kind: .tool, name: "db.read").fragment, as: UTF8.self) == "#tools/call:db.read")
    #expect(String(decoding: try CallTarget(kind: .resource, name: "f:/\"\\#%é ").fragment, as: UTF8.self) == "#resources/read:f:/%22%5C%23%25%C3%A9%20")
  }

  @Test(arguments: [("app://x/a%3Ab%20c", "app://x/a:b c"), ("app://x/%C3%A9%", "app://x/é%"), ("app://x/a", nil), ("app://x/%2525", "app://x/%25")] as [(String, String?)])
  func escapesAreUndoneOnce(uri: String, plain: String?) throws {
    #expect(try CallTarget(kind: .resource, name: uri).unescaped?.name == plain)
    #expect(try CallTarget(kind: .tool, name: uri).unescaped == nil)
  }

  @Test(arguments: [
    "file:///reports/a.txt", "file:///", "data://premium/market-data", "https://example.com/a/b?c=d/../e", "urn:isbn:0451450523", "note://x",
    "https://example.com:8443/%20a", "db://table/1%2B2", "custom:thing", "file:///dir/",
  ])
  func urisOfOneSpellingAreRead(uri: String) { #expect(ResourceURI.isCanonical(uri)) }

  @Test(arguments: [
    "FILE:///reports/a", "file:///reports/../a", "file:///reports/./a", "file:///reports//a", "file:////reports", "file:/reports/a",
    "file:reports", "file://localhost/a", "file:///%61", "file:///a%2Fb", "file:///a%2fb", "file:///%5Ca", "file:///a\\b", "file:///a b",
    " file:///a", "file:///a ", "file:///a\n", "file:///é", "file:///a#x", "https://EXAMPLE.com/a", "https://example.com:443/a",
    "https://example.com", "https://user@example.com/", "https:///a", "https://example.com./a", "://x", "", "a", "file:///..", "data:///a/..",
    "file:///a%", "file:///a%4", "file:///%00", "1a://x",
  ])
  func urisOfSeveralSpellingsAreRefused(uri: String) { #expect(!ResourceURI.isCanonical(uri)) }
}
