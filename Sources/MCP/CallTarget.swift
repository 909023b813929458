/// The methods that can be priced (draft-payment-transport-mcp-00 "MCP Covered Operations").
public enum CallKind: String, Sendable, CaseIterable {
  case tool = "tools/call"
  case resource = "resources/read"
  case prompt = "prompts/get"

  /// The member of `params` that says what is wanted.
  public var member: StaticString {
    switch self {
    case .tool, .prompt: "name"
    case .resource: "uri"
    }
  }
}

/// What a request calls, reads or gets.
public struct CallTarget: Hashable, Sendable {
  /// The most octets of a name or URI.
  public static let limit = 2048

  public let kind: CallKind
  /// The tool's or prompt's name, or the resource's URI.
  public let name: String

  /// Names a target.
  ///
  /// - Throws: `targetTooLong`.
  public init(kind: CallKind, name: String) throws(MCPError) {
    guard name.utf8.count <= Self.limit else { throw .targetTooLong }
    self.kind = kind
    self.name = name
  }

  /// The target as a URL's fragment, with its number sign: `#tools/call:search`. A challenge binds it beside the path, and
  /// receipts name it, so that what was paid for one tool serves no other.
  public var fragment: [UInt8] {
    var out = Array("#\(kind.rawValue):".utf8)
    for octet in name.utf8 {
      if Self.isPlain(octet) {
        out.append(octet)
      } else {
        out += [0x25, Self.digit(octet >> 4), Self.digit(octet & 15)]
      }
    }
    return out
  }

  /// The URI with its escapes undone, as servers know it that undo them before they look it up; nil where there are none.
  public var unescaped: CallTarget? {
    guard kind == .resource, name.utf8.contains(0x25) else { return nil }
    let octets = Array(name.utf8)
    var out: [UInt8] = []
    var index = 0
    while index < octets.count {
      if octets[index] == 0x25, index + 2 < octets.count, let high = ResourceURI.digit(octets[index + 1]), let low = ResourceURI.digit(octets[index + 2]) {
        out.append(high << 4 | low)
        index += 3
      } else {
        out.append(octets[index])
        index += 1
      }
    }
    return try? CallTarget(kind: kind, name: String(decoding: out, as: UTF8.self))
  }

  /// What may stand in a fragment as it is (RFC 3986, section 3.5), but for what URLs and JSON texts have other uses for.
  private static func isPlain(_ octet: UInt8) -> Bool {
    switch octet {
    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
    case 0x2D, 0x2E, 0x5F, 0x7E, 0x2F, 0x3A, 0x40, 0x2A: true
    default: false
    }
  }

  private static func digit(_ value: UInt8) -> UInt8 { value < 10 ? 0x30 + value : 0x41 + value - 10 }
}

/// Which calls a price is for: `tools/call:search`, `tools/call:db.*`, `resources/read:file:///reports/*`, `prompts/get:*`.
public struct CallPattern: Hashable, Sendable {
  public let kind: CallKind
  /// What the name is, or begins with.
  public let name: String
  /// Whether the pattern ends in `*`.
  public let isPrefix: Bool

  /// Reads a pattern; nil where it is none.
  public init?(_ text: String) {
    guard let colon = text.utf8.firstIndex(of: UInt8(ascii: ":")), let kind = CallKind(rawValue: String(text[..<colon])) else { return nil }
    let rest = text[text.index(after: colon)...]
    isPrefix = rest.hasSuffix("*")
    name = String(isPrefix ? rest.dropLast() : rest)
    self.kind = kind
    guard name.utf8.count <= CallTarget.limit, isPrefix || !name.isEmpty, !name.utf8.contains(UInt8(ascii: "*")) else { return nil }
    guard name.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) else { return nil }
  }

  /// Whether it is for a target.
  public func matches(_ target: CallTarget) -> Bool {
    guard kind == target.kind else { return false }
    if isPrefix { return target.name.utf8.starts(with: name.utf8) }
    if target.name.utf8.elementsEqual(name.utf8) { return true }
    guard kind == .resource else { return false }
    // A server that knows no query of its own may well pass over one.
    return target.name.utf8.prefix { $0 != UInt8(ascii: "?") }.elementsEqual(name.utf8)
  }

  /// Finds the closest of some patterns: an exact one before any prefix, a longer prefix before a shorter one.
  public static func closest(to target: CallTarget, in patterns: [CallPattern]) -> Int? {
    var best: Int?
    for (index, pattern) in patterns.enumerated() where pattern.matches(target) {
      guard let other = best.map({ patterns[$0] }) else {
        best = index
        continue
      }
      if other.isPrefix && (!pattern.isPrefix || pattern.name.utf8.count > other.name.utf8.count) { best = index }
    }
    return best
  }
}
