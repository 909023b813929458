import HTTP
import Testing

@testable import Gateway

@Suite struct RouterTests {
  private func match(_ router: Router, _ host: String, _ path: String, _ method: HTTP.Method = .get) -> RouteMatch {
    Array(host.utf8).withUnsafeBytes { host in
      Array(path.utf8).withUnsafeBytes { path in router.match(host: host, path: path, method: method) }
    }
  }

  static let patterns: [RoutePattern] = [
    RoutePattern(path: .exact("/v1/models")),  // 0
    RoutePattern(path: .segments("/v1/{name}")),  // 1
    RoutePattern(path: .prefix("/v1")),  // 2
    RoutePattern(path: .prefix("/v1/files/")),  // 3
    RoutePattern(path: .segments("/v1/{a}/x")),  // 4
    RoutePattern(path: .segments("/v1/files/{b}")),  // 5
    RoutePattern(hosts: ["api.example.com", "other.example.com"], path: .prefix("/")),  // 6
    RoutePattern(hosts: ["api.example.com"], path: .exact("/v1/models"), methods: MethodSet(.get)),  // 7
    RoutePattern(hosts: ["api.example.com"], path: .exact("/v1/models"), methods: MethodSet(.post)),  // 8
    RoutePattern(path: .exact("/")),  // 9
    RoutePattern(hosts: ["[::1]"], path: .prefix("/six")),  // 10
    RoutePattern(path: .segments("/{a}/{b}/{c}/end")),  // 11
    RoutePattern(path: .segments("/a/{b}/c/{d}")),  // 12
    RoutePattern(path: .prefix("/a")),  // 13
    RoutePattern(path: .exact("/dir/")),  // 14
  ]

  @Test(arguments: [
    ("h", "/v1/models", 0), ("h", "/v1/other", 1), ("h", "/v1", 2), ("h", "/v1/", 2), ("h", "/v1/a/b", 2), ("h", "/v1/files/x", 5),
    ("h", "/v1/files/x/y", 3), ("h", "/v1/files/", 3), ("h", "/v1/files", 1), ("h", "/v1/q/x", 4), ("h", "/v1/files/x", 5),
    ("h", "/v1/q/x/", 2), ("h", "/v1//x", 2), ("h", "/", 9), ("api.example.com", "/v1/other", 6), ("other.example.com", "/", 6),
    ("API.Example.COM", "/v1/models", 7), ("api.example.com.", "/v1/models", 7), ("[::1]", "/six/x", 10), ("[::1]", "/v1/models", 0),
    ("h", "/a/b/c/d", 12), ("h", "/a/b/c/end", 12), ("h", "/a/b/x/end", 11), ("h", "/a/b/x/y", 13), ("h", "/a", 13), ("h", "/q/b/c/end", 11),
    ("h", "/dir/", 14), ("", "/v1/models", 0), ("example.com", "/v1/models", 0),
  ])
  func findsTheMostSpecific(host: String, path: String, route: Int) throws {
    #expect(match(try Router(Self.patterns), host, path) == .route(RouteIndex(route)))
  }

  @Test(arguments: ["/v", "/v10", "/v2/models", "/dir", "/dir/x", "/six", "/b/c/end", "/a2", "", "v1", "/V1/models", "/models"])
  func findsNothingElse(path: String) throws {
    #expect(match(try Router(Self.patterns), "h", path) == .none)
  }

  @Test func theBestPathDecidesAboutTheMethod() throws {
    let router = try Router(Self.patterns)
    #expect(match(router, "api.example.com", "/v1/models", .post) == .route(8))
    #expect(match(router, "api.example.com", "/v1/models", .head) == .route(7))
    #expect(
      match(router, "api.example.com", "/v1/models", .delete) == .methodNotAllowed(7, allow: MethodSet([.get, .head, .post])))
    #expect(match(router, "api.example.com", "/v1/models", .other) == .methodNotAllowed(7, allow: MethodSet([.get, .head, .post])))
    #expect(match(router, "h", "/v1/models", .other) == .route(0))
  }

  @Test(arguments: [
    (RoutePattern(path: .exact("v1")), GatewayError.pathInvalid(route: 0)), (RoutePattern(path: .exact("")), .pathInvalid(route: 0)),
    (RoutePattern(path: .exact("/a//b")), .pathInvalid(route: 0)), (RoutePattern(path: .prefix("/a/../b")), .pathInvalid(route: 0)),
    (RoutePattern(path: .exact("/%61")), .pathInvalid(route: 0)), (RoutePattern(path: .exact("/a?b")), .pathInvalid(route: 0)),
    (RoutePattern(path: .exact("/{a}")), .pathInvalid(route: 0)), (RoutePattern(path: .prefix("/{a}/")), .pathInvalid(route: 0)),
    (RoutePattern(path: .segments("/{}")), .segmentInvalid(route: 0)), (RoutePattern(path: .segments("/{a")), .segmentInvalid(route: 0)),
    (RoutePattern(path: .segments("/a}")), .segmentInvalid(route: 0)), (RoutePattern(path: .segments("/x{a}")), .segmentInvalid(route: 0)),
    (RoutePattern(path: .segments("/{a}{b}")), .segmentInvalid(route: 0)), (RoutePattern(path: .segments("/{")), .segmentInvalid(route: 0)),
    (RoutePattern(hosts: ["Example.com"], path: .exact("/")), .hostInvalid(route: 0)),
    (RoutePattern(hosts: ["a:80"], path: .exact("/")), .hostInvalid(route: 0)), (RoutePattern(hosts: [""], path: .exact("/")), .hostInvalid(route: 0)),
    (RoutePattern(hosts: ["a/b"], path: .exact("/")), .hostInvalid(route: 0)), (RoutePattern(hosts: ["a."], path: .exact("/")), .hostInvalid(route: 0)),
    (RoutePattern(path: .exact("/"), methods: []), .methodsEmpty(route: 0)),
    (RoutePattern(path: .exact("/" + String(repeating: "a/", count: 64))), .pathInvalid(route: 0)),
  ])
  func refusesPatterns(pattern: RoutePattern, error: GatewayError) {
    #expect(throws: error) { try Router([pattern]) }
  }

  @Test func refusesConflicts() throws {
    func conflict(_ one: RoutePattern, _ other: RoutePattern) -> Bool {
      do throws(GatewayError) {
        _ = try Router([one, other])
        return false
      } catch {
        return error == .conflict(route: 1, with: 0)
      }
    }
    #expect(conflict(RoutePattern(path: .exact("/a")), RoutePattern(path: .exact("/a"))))
    #expect(conflict(RoutePattern(path: .segments("/{a}")), RoutePattern(path: .segments("/{b}"))))
    #expect(conflict(RoutePattern(path: .exact("/a")), RoutePattern(path: .segments("/a"))))
    #expect(conflict(RoutePattern(path: .prefix("/a")), RoutePattern(path: .prefix("/a"), methods: MethodSet(.get))))
    #expect(
      conflict(RoutePattern(path: .exact("/a"), methods: MethodSet(.get)), RoutePattern(path: .exact("/a"), methods: MethodSet(.head))))
    #expect(conflict(RoutePattern(hosts: ["a", "b"], path: .exact("/")), RoutePattern(hosts: ["b"], path: .exact("/"))))
    #expect(conflict(RoutePattern(hosts: ["a"], path: .exact("/")), RoutePattern(hosts: ["a", "a"], path: .exact("/"))))
    #expect(!conflict(RoutePattern(path: .prefix("/a")), RoutePattern(path: .prefix("/a/"))))
    #expect(!conflict(RoutePattern(hosts: ["a"], path: .exact("/")), RoutePattern(path: .exact("/"))))
    #expect(!conflict(RoutePattern(path: .exact("/a"), methods: MethodSet(.get)), RoutePattern(path: .exact("/a"), methods: MethodSet(.put))))
  }

  /// Compares with the definition, told as plainly as possible, over random routes and paths.
  @Test func agreesWithTheDefinition() throws {
    var generator = SeededGenerator(state: 77)
    let words = ["a", "b", "cc", "{x}"]
    for _ in 0..<300 {
      var patterns: [RoutePattern] = []
      for _ in 0..<12 {
        let segments = (0..<Int.random(in: 1..<5, using: &generator)).map { _ in words.randomElement(using: &generator) ?? "a" }
        let text = "/" + segments.joined(separator: "/")
        let path: PathPattern =
          switch Int.random(in: 0..<4, using: &generator) {
          case 0: .exact(text.replacing("{x}", with: "a"))
          case 1: .prefix(text.replacing("{x}", with: "b"))
          case 2: .prefix(text.replacing("{x}", with: "b") + "/")
          default: .segments(text)
          }
        let hosts = Bool.random(using: &generator) ? [] : ["h"]
        if !patterns.contains(where: { $0.path.text == path.text && $0.hosts == hosts }) {
          patterns.append(RoutePattern(hosts: hosts, path: path))
        }
      }
      let router = try Router(patterns)
      for _ in 0..<100 {
        let segments = (0..<Int.random(in: 1..<6, using: &generator)).map { _ in ["a", "b", "cc", "dd", ""].randomElement(using: &generator) ?? "" }
        let path = "/" + segments.joined(separator: "/")
        for host in ["h", "g"] { #expect(match(router, host, path) == Definition.match(patterns, host, path), "\(host) \(path)") }
      }
    }
  }
}

/// The router's rules without its data structures.
enum Definition {
  static func match(_ patterns: [RoutePattern], _ host: String, _ path: String) -> RouteMatch {
    for isOwn in [true, false] {
      let candidates = patterns.indices.filter { isOwn ? patterns[$0].hosts.contains(host) : patterns[$0].hosts.isEmpty }
      let best = candidates.filter { rank(patterns[$0].path, path) != nil }
        .max { (rank(patterns[$0].path, path) ?? []).lexicographicallyPrecedes(rank(patterns[$1].path, path) ?? []) }
      if let best { return .route(RouteIndex(best)) }
    }
    return .none
  }

  /// Ranks a pattern that matches: its kind, then literal segments from the left or the prefix's length.
  private static func rank(_ pattern: PathPattern, _ path: String) -> [Int]? {
    switch pattern {
    case .exact(let text): return text == path ? [2] : nil
    case .prefix(let text):
      let matches = path == text || path.hasPrefix(text.hasSuffix("/") ? text : text + "/")
      return matches ? [0, text.utf8.count] : nil
    case .segments(let text):
      let wanted = text.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
      let given = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
      guard wanted.count == given.count else { return nil }
      var rank = [wanted.contains("{x}") ? 1 : 2]
      for (one, other) in zip(wanted, given) {
        guard one == other || (one == "{x}" && !other.isEmpty) else { return nil }
        rank.append(one == "{x}" ? 0 : 1)
      }
      return rank
    }
  }
}

/// A small generator with a seed (splitmix64), so that a failing case can be had again.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
    return value ^ value >> 31
  }
}
