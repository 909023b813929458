import Bytes
import Testing

@testable import HTTP

@Suite struct CanonicalTargetTests {
  private func canonical(_ raw: [UInt8]) throws -> (text: String, target: CanonicalTarget) {
    var buffer = ByteBuffer()
    buffer.append("before")
    let target = try raw.withUnsafeBytes { try CanonicalTarget.canonicalise($0, into: &buffer) }
    let octets = target.isUnchanged ? raw : buffer.withUnsafeBytes { Array($0) }
    if target.isUnchanged { #expect(buffer.count == 6) }
    #expect(target.isUnchanged || target.path.lowerBound == 6)
    if let query = target.query { #expect(octets[query.lowerBound - 1] == UInt8(ascii: "?")) }
    return (String(decoding: octets[target.range], as: UTF8.self), target)
  }

  @Test(arguments: [
    "/", "/a", "/a/b/", "/a.b/c..d", "/v1/things?a=b&c=d", "/?", "/a?x=%20y%2F", "/a;b=c/d", "/a/..b/.c", "/a/...",
    "/~user/-._", "/a[0]|b^c", "/q?a={b}&c=`d`|[e]", "/!$&'()*+,;=:@", "/q?!$&'()*+,;=:@/?", "/q?x=%0A%5C",
  ])
  func leavesCanonicalTargetsAlone(text: String) throws {
    let result = try canonical(Array(text.utf8))
    #expect(result.text == text)
    // A dot behind a slash takes the slow way, which must come to the same octets.
    #expect(result.target.isUnchanged || text.contains("/."))
  }

  @Test(arguments: [
    ("", "/"), ("?a", "/?a"), ("/%61", "/a"), ("/a%2Db%2e%5F%7E", "/a-b._~"), ("/a%20b", "/a%20b"), ("/%c3%a9", "/%C3%A9"),
    ("/%e2%82%ac/%F0%9F%98%80", "/%E2%82%AC/%F0%9F%98%80"), ("/a?%61%2f%2F", "/a?a%2F%2F"), ("/%25%32%65", "/%252e"),
    ("/a/.%2e.", "/a/..."), ("/a%3ab", "/a%3Ab"), ("/x?y=%e9", "/x?y=%E9"), ("/%7B%7d", "/%7B%7D"), ("/a?b=%0a", "/a?b=%0A"),
  ])
  func bringsIntoForm(text: String, expected: String) throws {
    #expect(try canonical(Array(text.utf8)).text == expected)
  }

  @Test(arguments: [
    ("/a%2Fb", "targetEscapeForbidden"), ("/a%2fb", "targetEscapeForbidden"), ("/a%5Cb", "targetEscapeForbidden"),
    ("/a%5cb", "targetEscapeForbidden"), ("/a%00", "targetEscapeForbidden"), ("/a%0a", "targetEscapeForbidden"),
    ("/a%7F", "targetEscapeForbidden"), ("/a?b=%00", "targetEscapeForbidden"), ("/.", "targetDotSegment"),
    ("/..", "targetDotSegment"), ("/a/../b", "targetDotSegment"), ("/a/./b", "targetDotSegment"),
    ("/a/%2e%2E/b", "targetDotSegment"), ("/a/.%2e", "targetDotSegment"), ("/%2e?x", "targetDotSegment"),
    ("/a/..;/b", "targetDotSegment"), ("/a/..;x=y", "targetDotSegment"), ("/a/.%2e%3b/b", "targetDotSegment"),
    ("//a", "targetEmptySegment"), ("/a//b", "targetEmptySegment"), ("/a//", "targetEmptySegment"),
    ("/a\\b", "targetBackslash"), ("/a?b\\c", "targetBackslash"), ("/a#b", "targetFragment"), ("/a?b#c", "targetFragment"),
    ("/%", "targetEscapeInvalid"), ("/%4", "targetEscapeInvalid"), ("/%4g", "targetEscapeInvalid"),
    ("/%%41", "targetEscapeInvalid"), ("/a?%", "targetEscapeInvalid"), ("/a?%u0041", "targetEscapeInvalid"),
    ("/a b", "targetInvalid"), ("/a\"b", "targetInvalid"), ("/<a>", "targetInvalid"), ("/{a}", "targetInvalid"),
    ("/a?b c", "targetInvalid"), ("/a?\"b\"", "targetInvalid"), ("a", "targetInvalid"), ("*", "targetInvalid"),
    ("/%C0%AF", "targetNotUTF8"), ("/%C1%81", "targetNotUTF8"), ("/%E0%80%AF", "targetNotUTF8"),
    ("/%F0%80%80%AF", "targetNotUTF8"), ("/%80", "targetNotUTF8"), ("/%C3", "targetNotUTF8"), ("/%C3x", "targetNotUTF8"),
    ("/%C3%41", "targetNotUTF8"), ("/%ED%A0%80", "targetNotUTF8"), ("/%F4%90%80%80", "targetNotUTF8"),
    ("/%F5%80%80%80", "targetNotUTF8"), ("/%FF", "targetNotUTF8"), ("/%E2%82", "targetNotUTF8"), ("/%E9", "targetNotUTF8"),
  ])
  func refuses(text: String, rule: String) {
    do {
      let result = try canonical(Array(text.utf8))
      Issue.record("accepted as \(result.text)")
    } catch {
      #expect(String("\(error)".prefix { $0 != "(" }) == rule)
    }
  }

  @Test func refusesRawOctetsOutsideASCII() {
    for octet in UInt8(0x80)...0xFF {
      #expect(throws: HTTPError.targetInvalid(at: 1)) { try canonical([0x2F, octet]) }
      #expect(throws: HTTPError.targetInvalid(at: 2)) { try canonical([0x2F, 0x3F, octet]) }
    }
  }

  /// The canonical form is its own canonical form, and decodes to the same octets.
  @Test func isStable() {
    var generator = SeededGenerator(state: 0xCA_0001)
    let alphabet = Array("/abz09.-_~%%%2eEfF;?=&:@[]{}\\#\u{e9}".utf8)
    var accepted = 0
    for _ in 0..<60_000 {
      let count = Int.random(in: 0..<16, using: &generator)
      let raw = [0x2F] + (0..<count).map { _ in alphabet.randomElement(using: &generator) ?? 0x2F }
      guard let first = try? canonical(raw).text else { continue }
      accepted += 1
      let again = try? canonical(Array(first.utf8))
      #expect(again?.text == first)
      #expect(decoded(first) == decoded(String(decoding: raw, as: UTF8.self)))
      let path = first.prefix { $0 != "?" }
      let segments = path.split(separator: "/", omittingEmptySubsequences: true)
      #expect(!path.contains("//") && !segments.contains(".") && !segments.contains(".."))
    }
    #expect(accepted > 5_000)
  }

  private func decoded(_ text: String) -> [UInt8] {
    var octets: [UInt8] = []
    let utf8 = Array(text.utf8)
    var index = 0
    while index < utf8.count {
      if let escape = Escape(utf8.span.bytes, at: index) {
        octets.append(escape.value)
        index += 3
      } else {
        octets.append(utf8[index])
        index += 1
      }
    }
    return octets
  }

  @Test func tellsCanonicalRoutes() {
    #expect(CanonicalTarget.isCanonical(path: "/v1/x"))
    #expect(CanonicalTarget.isCanonical(path: "/v1/.well"))
    for path in ["", "v1", "/v1?x", "/a//b", "/%61", "/a/..", "/{x}", "/%c3%a9"] {
      #expect(!CanonicalTarget.isCanonical(path: path), "\(path)")
    }
  }
}
