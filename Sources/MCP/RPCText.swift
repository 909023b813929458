import Encoding

/// Bounds what a JSON-RPC text may ask for.
public enum RPCText {
  /// The most arrays and objects inside one another.
  public static let depthLimit = 64
  /// The most messages of one batch.
  public static let messageLimit = 64
}

/// The `id` of a request or response (JSON-RPC 2.0, section 4): a string, a number or null.
public struct RPCIdentifier: Hashable, Sendable {
  /// As it was written, to be echoed exactly.
  public let octets: [UInt8]
  private let value: JSONValue

  /// Stands for the id of a message that has none that could be read.
  public static let null = RPCIdentifier(octets: Array("null".utf8), value: .null)

  private init(octets: [UInt8], value: JSONValue) {
    self.octets = octets
    self.value = value
  }

  init(_ range: Range<Int>, in scanner: JSONScanner) throws(MCPError) {
    guard let value = try? JSON.parse(scanner.octets(range)) else { throw .invalidIdentifier(offset: range.lowerBound) }
    switch value {
    case .string, .number, .null: self.value = value
    case .bool, .array, .object: throw .invalidIdentifier(offset: range.lowerBound)
    }
    octets = Array(scanner.octets(range))
  }

  /// Compares by value: `1` and `1.0` name the same request.
  public static func == (left: RPCIdentifier, right: RPCIdentifier) -> Bool { left.value == right.value }
  /// Feeds the value to the hasher.
  public func hash(into hasher: inout Hasher) { hasher.combine(value) }
}

/// One message of JSON-RPC 2.0, by where its parts stand in the text.
struct RPCMessage: Sendable {
  enum Kind: Sendable {
    case request, notification, response
  }

  let kind: Kind
  let range: Range<Int>
  /// Nil where there is none.
  let identifier: RPCIdentifier?
  /// Empty in a response.
  let method: String
  let params: Range<Int>?
  let result: Range<Int>?
  let error: Range<Int>?
  /// `_meta` beside the others, as JSON-RPC outside of MCP has it.
  let meta: Range<Int>?

  private static let members: [StaticString] = ["jsonrpc", "id", "method", "params", "result", "error", "_meta"]

  /// Reads one message.
  init(_ range: Range<Int>, in scanner: JSONScanner) throws(MCPError) {
    guard scanner.isObject(range) else { throw .invalidMessage(offset: range.lowerBound) }
    var names = MemberNames(Self.members)
    var found: [Range<Int>?] = Array(repeating: nil, count: Self.members.count)
    try scanner.forEachMember(of: range) { member throws(MCPError) in
      if let index = try names.find(member.name, in: scanner) { found[index] = member.value }
    }
    self.range = range
    params = found[3]
    result = found[4]
    error = found[5]
    meta = found[6]
    identifier = if let id = found[1] { try RPCIdentifier(id, in: scanner) } else { nil }
    let version = found[0].flatMap { try? JSON.parse(scanner.octets($0)) }
    guard version?.stringValue == "2.0" else { throw .invalidMessage(offset: range.lowerBound) }
    if let word = found[2] {
      guard let name = (try? JSON.parse(scanner.octets(word)))?.stringValue, result == nil, error == nil else {
        throw .invalidMessage(offset: word.lowerBound)
      }
      method = name
      kind = identifier == nil ? .notification : .request
    } else {
      guard (result == nil) != (error == nil) else { throw .invalidMessage(offset: range.lowerBound) }
      method = ""
      kind = .response
    }
  }

  /// Reads a text of one message or a batch; says which it is.
  static func read(_ scanner: JSONScanner) throws(MCPError) -> (messages: [RPCMessage], isBatch: Bool) {
    let whole = try scanner.value()
    guard scanner.isArray(whole) else { return ([try RPCMessage(whole, in: scanner)], false) }
    var messages: [RPCMessage] = []
    try scanner.forEachElement(of: whole) { element throws(MCPError) in
      guard messages.count < RPCText.messageLimit else { throw .tooManyMessages }
      messages.append(try RPCMessage(element, in: scanner))
    }
    guard !messages.isEmpty else { throw .emptyBatch }
    return (messages, true)
  }
}
