import Bytes
import Encoding

/// What an MCP server answered: one message of JSON-RPC or a batch, as JSON or as an event's data, read as far as payment needs it.
///
/// What belongs to payments in it is never the server's to say: it is taken out, and what the proxy adds stands in its place.
public struct MCPAnswer: Sendable {
  /// How a request ended.
  public enum Outcome: Sendable {
    /// With a result.
    case success
    /// With an error, or with a tool's result that says it is one (`isError`).
    case failure
    /// The server asks for more before it has a result (`resultType` `input_required`).
    case unfinished
  }

  /// One message of the answer.
  public struct Message: Sendable {
    /// Of a response: the request's; nil in other messages.
    public let identifier: RPCIdentifier?
    /// Of a response; nil in requests and notifications of the server's.
    public let outcome: Outcome?
    let range: Range<Int>
    let result: ResultParts?
    let error: ErrorParts?
    let rootMeta: PaymentMeta?
    fileprivate var receipt: (name: PaymentMember, value: [UInt8])?
    fileprivate var edits = TextEdits()

    /// The error that tells of a settlement; nil where there is none.
    fileprivate var settledError: ErrorParts? { receipt?.name == .x402Response ? error : nil }
  }

  /// A result that is an object, by where its parts stand.
  struct ResultParts: Sendable {
    let range: Range<Int>
    let isEmpty: Bool
    let meta: PaymentMeta?
    /// `_meta` is there and no object.
    let oddMeta: Range<Int>?
    let lists: [Range<Int>?]
    let capabilities: Range<Int>?
    /// Who may keep the result: of one that was paid for, nobody but the client.
    let cacheScope: Range<Int>?
  }

  /// An error that is an object, by where its parts stand.
  struct ErrorParts: Sendable {
    let range: Range<Int>
    let isEmpty: Bool
    /// What says more of it, or `_meta` where that is no object.
    let meta: PaymentMeta?
    /// `data` is there and no object.
    let hasOddData: Bool
  }

  public let isBatch: Bool
  public private(set) var messages: [Message]

  /// Reads an answer.
  public init(_ octets: UnsafeRawBufferPointer) throws(MCPError) {
    let scanner = JSONScanner(text: octets)
    let (read, isBatch) = try RPCMessage.read(scanner)
    self.isBatch = isBatch
    messages = []
    for message in read { messages.append(try Message(message, in: scanner)) }
  }

  // MARK: What is added

  /// Puts a receipt, a JSON object, into the `_meta` of a response's result, or what x402 says of a settlement. An error gets no receipt, but
  /// what x402 says: in its `data`, or in a `_meta` beside that where it is no object.
  public mutating func addReceipt(_ json: [UInt8], at index: Int, isX402: Bool = false) {
    messages[index].receipt = (isX402 ? .x402Response : .receipt, json)
  }

  /// Puts prices into the entries of a list: `price` gives the JSON object for a name or URI; nil where it is free.
  public mutating func addPrices(
    _ listing: MCPRequest.Listing, at index: Int, in octets: UnsafeRawBufferPointer, price: (CallTarget) -> [UInt8]?
  ) throws(MCPError) {
    let scanner = JSONScanner(text: octets)
    guard let list = messages[index].result?.lists[listing.index] else { return }
    var edits = messages[index].edits
    try scanner.forEachElement(of: list) { entry throws(MCPError) in
      guard scanner.isObject(entry) else { return }
      try Self.addPrice(to: entry, listing.kind, scanner, &edits, price)
    }
    messages[index].edits = edits
  }

  private static func addPrice(
    to entry: Range<Int>, _ kind: CallKind, _ scanner: JSONScanner, _ edits: inout TextEdits, _ price: (CallTarget) -> [UInt8]?
  ) throws(MCPError) {
    var names = MemberNames([kind.member, "_meta"])
    var (name, meta): (Range<Int>?, Range<Int>?)
    try scanner.forEachMember(of: entry) { member throws(MCPError) in
      switch try names.find(member.name, in: scanner) {
      case 0: name = member.value
      case 1: meta = member.value
      default: break
      }
    }
    let read = try PaymentMeta(meta, in: scanner)
    let text = name.flatMap { try? JSON.parse(scanner.octets($0)) }?.stringValue
    let added = text.flatMap { try? CallTarget(kind: kind, name: $0) }.flatMap(price)
    guard added != nil || read?.isConcerned == true else { return }
    let member = added.map { (name: PaymentMember.information, value: $0) }
    if let range = read?.range ?? meta {
      edits.replace(range, metaText(read, member, scanner))
    } else if let member {
      var object = ByteBuffer()
      object.append(byte: 0x7B)
      PaymentMeta.append(member, to: &object)
      object.append(byte: 0x7D)
      edits.insert("_meta", object.array(), into: entry, isEmpty: false)
    }
  }

  /// Sets `capabilities.experimental.payment` of a result that says what the server can do.
  public mutating func addCapability(_ json: [UInt8], at index: Int, in octets: UnsafeRawBufferPointer) throws(MCPError) {
    let scanner = JSONScanner(text: octets)
    guard let capabilities = messages[index].result?.capabilities, scanner.isObject(capabilities) else { return }
    var names = MemberNames(["experimental"])
    var experimental: Range<Int>?
    var isEmpty = true
    try scanner.forEachMember(of: capabilities) { member throws(MCPError) in
      isEmpty = false
      if try names.find(member.name, in: scanner) != nil { experimental = member.value }
    }
    guard let experimental, scanner.isObject(experimental) else {
      let object = Array("{\"payment\":".utf8) + json + [0x7D]
      if let experimental { return messages[index].edits.replace(experimental, object) }
      return messages[index].edits.insert("experimental", object, into: capabilities, isEmpty: isEmpty)
    }
    var inner = MemberNames(["payment"])
    var out = ByteBuffer()
    out.append("{\"payment\":" as StaticString)
    out.append(json)
    var others: [Range<Int>] = []
    try scanner.forEachMember(of: experimental) { member throws(MCPError) in
      if try inner.find(member.name, in: scanner) == nil { others.append(member.name.lowerBound..<member.value.upperBound) }
    }
    for other in others {
      out.append(byte: 0x2C)
      out.append(scanner.octets(other))
    }
    out.append(byte: 0x7D)
    messages[index].edits.replace(experimental, out.array())
  }

  // MARK: The text

  /// Whether the client may have the text as it came.
  public var isUntouched: Bool {
    messages.allSatisfy { message in
      message.edits.isEmpty && message.rootMeta?.isConcerned != true && message.result?.meta?.isConcerned != true
        && (message.receipt == nil || message.result == nil && message.settledError == nil)
    }
  }

  /// What the client gets.
  public func text(_ octets: UnsafeRawBufferPointer) -> [UInt8] {
    let scanner = JSONScanner(text: octets)
    var out = ByteBuffer(capacity: octets.count + 1024)
    for (index, message) in messages.enumerated() {
      if isBatch { out.append(byte: index == 0 ? 0x5B : 0x2C) }
      var edits = message.edits
      if let meta = message.rootMeta, meta.isConcerned { edits.replace(meta.range, Self.metaText(meta, nil, scanner)) }
      if let result = message.result {
        let receipt = message.receipt
        if receipt != nil, let scope = result.cacheScope { edits.replace(scope, Array("\"private\"".utf8)) }
        if let meta = result.meta {
          if meta.isConcerned || receipt != nil { edits.replace(meta.range, Self.metaText(meta, receipt, scanner)) }
        } else if let receipt {
          let object = Self.metaText(nil, receipt, scanner)
          if let odd = result.oddMeta {
            edits.replace(odd, object)
          } else {
            edits.insert("_meta", object, into: result.range, isEmpty: result.isEmpty)
          }
        }
      }
      if let error = message.settledError, let receipt = message.receipt { Self.add(receipt, to: error, scanner, &edits) }
      edits.append(octets, message.range, to: &out)
    }
    if isBatch { out.append(byte: 0x5D) }
    return out.array()
  }

  private static func add(
    _ receipt: (name: PaymentMember, value: [UInt8]), to error: ErrorParts, _ scanner: JSONScanner, _ edits: inout TextEdits
  ) {
    let text = metaText(error.meta, receipt, scanner)
    if let meta = error.meta { return edits.replace(meta.range, text) }
    edits.insert(error.hasOddData ? "_meta" : "data", text, into: error.range, isEmpty: error.isEmpty)
  }

  /// A response as it was, with another id; nil where the text is none.
  public static func renamed(_ octets: UnsafeRawBufferPointer, _ identifier: RPCIdentifier) -> [UInt8]? {
    let scanner = JSONScanner(text: octets)
    guard let whole = try? scanner.value(), scanner.isObject(whole) else { return nil }
    var names = MemberNames(["id"])
    var edits = TextEdits()
    do throws(MCPError) {
      try scanner.forEachMember(of: whole) { member throws(MCPError) in
        if try names.find(member.name, in: scanner) != nil { edits.replace(member.value, identifier.octets) }
      }
    } catch { return nil }
    var out = ByteBuffer(capacity: octets.count + identifier.octets.count)
    edits.append(octets, whole, to: &out)
    return out.array()
  }

  private static func metaText(_ meta: PaymentMeta?, _ added: (name: PaymentMember, value: [UInt8])?, _ scanner: JSONScanner) -> [UInt8] {
    var out = ByteBuffer()
    if let meta {
      meta.append(with: added, from: scanner, to: &out)
    } else {
      out.append(byte: 0x7B)
      if let added { PaymentMeta.append(added, to: &out) }
      out.append(byte: 0x7D)
    }
    return out.array()
  }
}

extension MCPAnswer.Message {
  private static let members: [StaticString] = ["_meta", "isError", "resultType", "capabilities", "tools", "resources", "prompts", "cacheScope"]

  fileprivate init(_ message: RPCMessage, in scanner: JSONScanner) throws(MCPError) {
    range = message.range
    identifier = message.kind == .response ? message.identifier ?? .null : nil
    rootMeta = try PaymentMeta(message.meta, in: scanner)
    error = try MCPAnswer.ErrorParts(message.error, in: scanner)
    guard let range = message.result, scanner.isObject(range) else {
      result = nil
      outcome = message.kind == .response ? (message.error == nil ? .success : .failure) : nil
      return
    }
    var names = MemberNames(Self.members)
    var found: [Range<Int>?] = Array(repeating: nil, count: Self.members.count)
    var isEmpty = true
    try scanner.forEachMember(of: range) { member throws(MCPError) in
      isEmpty = false
      if let index = try names.find(member.name, in: scanner) { found[index] = member.value }
    }
    let meta = try PaymentMeta(found[0], in: scanner)
    result = MCPAnswer.ResultParts(
      range: range, isEmpty: isEmpty, meta: meta, oddMeta: meta == nil ? found[0] : nil,
      lists: found[4...6].map { $0.flatMap { scanner.isArray($0) ? $0 : nil } }, capabilities: found[3], cacheScope: found[7])
    if let flag = found[1], scanner.isTrue(flag) {
      outcome = .failure
    } else if let type = found[2], (try? JSON.parse(scanner.octets(type)))?.stringValue == "input_required" {
      outcome = .unfinished
    } else {
      outcome = .success
    }
  }
}

extension MCPAnswer.ErrorParts {
  /// Reads an error; nil where there is none, or another value stands there.
  fileprivate init?(_ range: Range<Int>?, in scanner: JSONScanner) throws(MCPError) {
    guard let range, scanner.isObject(range) else { return nil }
    var names = MemberNames(["data", "_meta"])
    var (data, meta): (Range<Int>?, Range<Int>?)
    var isEmpty = true
    try scanner.forEachMember(of: range) { member throws(MCPError) in
      isEmpty = false
      switch try names.find(member.name, in: scanner) {
      case 0: data = member.value
      case 1: meta = member.value
      default: break
      }
    }
    self.range = range
    self.isEmpty = isEmpty
    let read = try PaymentMeta(data, in: scanner)
    hasOddData = data != nil && read == nil
    self.meta = if let read { read } else if data == nil { nil } else { try PaymentMeta(meta, in: scanner) }
  }
}

extension MCPRequest.Listing {
  fileprivate var index: Int {
    switch self {
    case .tools: 0
    case .resources: 1
    case .prompts: 2
    }
  }

  /// How the list's entries are asked for.
  public var kind: CallKind {
    switch self {
    case .tools: .tool
    case .resources: .resource
    case .prompts: .prompt
    }
  }
}
