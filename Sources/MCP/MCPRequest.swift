import Bytes
import Encoding

/// The content of a POST to an MCP endpoint: one message of JSON-RPC or a batch, read as far as payment needs it.
public struct MCPRequest: Sendable {
  /// Lists whose entries can have prices.
  public enum Listing: Sendable {
    case tools, resources, prompts
  }

  /// What the proxy looks at in a message.
  public enum Subject: Hashable, Sendable {
    /// Nothing of ours: it passes.
    case other
    /// Something that can be priced.
    case call(CallTarget)
    /// A list whose entries can have prices.
    case list(Listing)
    /// What the server can do is asked for (`initialize`, `server/discover`).
    case capabilities
  }

  /// One message of the content.
  public struct Message: Sendable {
    /// Nil in a notification.
    public let identifier: RPCIdentifier?
    public let subject: Subject
    /// Whether an answer comes for it.
    public let isRequest: Bool
    /// Whether it answers a request of the server's.
    public let isResponse: Bool
    /// `method`; empty in a response.
    public let method: String
    /// `params.name` or `params.uri`, whatever the method.
    public let name: String?
    /// The request that the message asks to cancel (`notifications/cancelled`).
    public let cancelled: RPCIdentifier?
    /// Whether it carries a payment of x402.
    public var paysByX402: Bool { payment != nil }
    let range: Range<Int>
    let credential: Range<Int>?
    /// A payment of x402, in `params._meta`.
    let payment: Range<Int>?
    let metas: [PaymentMeta]
  }

  public let isBatch: Bool
  public let messages: [Message]

  /// Reads the content of a request.
  ///
  /// - Throws: everything of ``MCPError`` but what only credentials cause.
  public init(_ octets: UnsafeRawBufferPointer) throws(MCPError) {
    let scanner = JSONScanner(text: octets)
    let (read, isBatch) = try RPCMessage.read(scanner)
    self.isBatch = isBatch
    var messages: [Message] = []
    var identifiers: Set<RPCIdentifier> = []
    for message in read {
      let made = try Message(message, in: scanner)
      if made.isRequest, let identifier = made.identifier, !identifiers.insert(identifier).inserted {
        throw .repeatedIdentifier(offset: message.range.lowerBound)
      }
      messages.append(made)
    }
    self.messages = messages
  }

  /// The id of a text that is refused, where it is one message and has one; JSON-RPC echoes it.
  public static func identifier(of octets: UnsafeRawBufferPointer) -> RPCIdentifier {
    let scanner = JSONScanner(text: octets)
    guard let whole = try? scanner.value(), scanner.isObject(whole) else { return .null }
    var found: Range<Int>?
    var count = 0
    let isRead: Void? = try? scanner.forEachMember(of: whole) { member throws(MCPError) in
      guard scanner.octets(member.name).elementsEqual("\"id\"".utf8) else { return }
      found = member.value
      count += 1
    }
    guard isRead != nil, count == 1, let found else { return .null }
    return (try? RPCIdentifier(found, in: scanner)) ?? .null
  }

  /// Whether the upstream may have the content as it is.
  public var isUntouched: Bool { messages.allSatisfy { $0.metas.isEmpty } }

  /// What the upstream gets: everything but what belongs to payments and the messages that `dropped` names; empty where no message
  /// is left.
  public func forwarded(_ octets: UnsafeRawBufferPointer, dropping dropped: Set<Int> = []) -> [UInt8] {
    let scanner = JSONScanner(text: octets)
    var out = ByteBuffer(capacity: octets.count)
    var isFirst = true
    for (index, message) in messages.enumerated() where !dropped.contains(index) {
      if isBatch { out.append(byte: isFirst ? 0x5B : 0x2C) }
      isFirst = false
      var edits = TextEdits()
      for meta in message.metas {
        var rest = ByteBuffer()
        meta.append(with: nil, from: scanner, to: &rest)
        edits.replace(meta.range, rest.array())
      }
      edits.append(octets, message.range, to: &out)
    }
    if isBatch, !isFirst { out.append(byte: 0x5D) }
    return out.array()
  }

  /// Whether a message carries a credential, or a payment of x402.
  public func hasCredential(_ index: Int) -> Bool { messages[index].credential != nil || messages[index].payment != nil }

  /// The payment of x402 that a message carries, as the JSON text that stands there; nil where there is none.
  public func payment(_ index: Int, in octets: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    messages[index].payment.map { UnsafeRawBufferPointer(rebasing: octets[$0]) }
  }

  /// What a message asks for, in canonical form: its method and its params, but nothing that tells one try from the next. nil where that
  /// cannot be said: its octets are what it asks for then.
  public func question(_ index: Int, in octets: UnsafeRawBufferPointer) -> [UInt8]? {
    let text = UnsafeRawBufferPointer(rebasing: octets[messages[index].range])
    guard var message = (try? JSON.parse(text))?.objectValue else { return nil }
    var params = message["params"]?.objectValue ?? JSONObject()
    params.remove("_meta")
    message = ["method": .string(messages[index].method), "params": .object(params)]
    return JCS.serialize(message)
  }

  /// The credential that a message carries, as the object that `Authorization` would carry; nil where there is none.
  ///
  /// - Throws: `credentialTooLarge`, `credentialNotJSON`, `credentialMalformed`.
  public func credential(_ index: Int, in octets: UnsafeRawBufferPointer) throws(MCPError) -> JSONObject? {
    guard let range = messages[index].credential else { return nil }
    return try RPCCredential.textForm(UnsafeRawBufferPointer(rebasing: octets[range]))
  }
}

extension MCPRequest.Message {
  private static let members: [StaticString] = ["name", "uri", "_meta"]

  fileprivate init(_ message: RPCMessage, in scanner: JSONScanner) throws(MCPError) {
    range = message.range
    identifier = message.identifier
    method = message.method
    isRequest = message.kind == .request
    isResponse = message.kind == .response
    var found: [Range<Int>?] = [nil, nil, nil]
    if let params = message.params, scanner.isObject(params) {
      var names = MemberNames(Self.members)
      try scanner.forEachMember(of: params) { member throws(MCPError) in
        if let index = try names.find(member.name, in: scanner) { found[index] = member.value }
      }
    }
    func text(_ range: Range<Int>?) -> String? { range.flatMap { try? JSON.parse(scanner.octets($0)) }?.stringValue }
    cancelled = try Self.cancelled(message, in: scanner)
    let kind = CallKind(rawValue: message.method)
    name = text(kind == .resource ? found[1] : found[0])
    subject = try Self.subject(message.method, kind, name)
    let inner = try PaymentMeta(found[2], in: scanner)
    let metas = [try PaymentMeta(message.meta, in: scanner), inner].compactMap { $0 }
    let credentials = metas.compactMap { $0[.credential] }
    payment = inner?[.x402Payment]
    guard credentials.count + (payment == nil ? 0 : 1) < 2 else { throw .severalCredentials }
    credential = credentials.first
    self.metas = metas.filter(\.isConcerned)
  }

  private static func cancelled(_ message: RPCMessage, in scanner: JSONScanner) throws(MCPError) -> RPCIdentifier? {
    guard message.method == "notifications/cancelled", let params = message.params, scanner.isObject(params) else { return nil }
    var names = MemberNames(["requestId"])
    var found: Range<Int>?
    try scanner.forEachMember(of: params) { member throws(MCPError) in
      if try names.find(member.name, in: scanner) != nil { found = member.value }
    }
    return if let found { try RPCIdentifier(found, in: scanner) } else { nil }
  }

  private static func subject(_ method: String, _ kind: CallKind?, _ name: String?) throws(MCPError) -> MCPRequest.Subject {
    if let kind {
      guard let name else { throw .missingTarget }
      return .call(try CallTarget(kind: kind, name: name))
    }
    switch method {
    case "tools/list": return .list(.tools)
    case "resources/list": return .list(.resources)
    case "prompts/list": return .list(.prompts)
    case "initialize", "server/discover": return .capabilities
    default: return .other
    }
  }

  /// Whether the target's spelling is the only one it has.
  public var isTargetCanonical: Bool {
    guard case .call(let target) = subject, target.kind == .resource else { return true }
    return ResourceURI.isCanonical(target.name)
  }
}
