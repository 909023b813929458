import Bytes
import Encoding
import Gateway
import HTTP
import Ledger
import MCP

// Requests to MCP endpoints (streamable HTTP): messages of JSON-RPC that are POSTed, one or a batch. What is called decides the price, and
// the credential may stand in the message as well as in a field. Everything that opens or ends a stream of the server's passes free.
extension Worker {
  /// A request's place and target, as the relay hands them on.
  struct Asked {
    let octets: UnsafeRawBufferPointer
    let path: UnsafeRawBufferPointer
    let query: UnsafeRawBufferPointer?
    let whole: UnsafeRawBufferPointer
  }

  private static var endpointMethods: MethodSet {
    [MethodSet(.get), MethodSet(.head), MethodSet(.post), MethodSet(.delete), MethodSet(.options)]
  }

  /// Looks at a request of a route of type `mcp`: refuses it, asks the cashier for what it calls, or passes it on free.
  mutating func admitMessages(_ index: Int, _ route: MCPRoute, _ asked: Asked) {
    let connection = downstreams.pointer(index)
    let head = requestHead
    let carriesCredential = connection.pointee.has(.carriesCredential)
    connection.pointee.mcp = MCPExchange(route, memory: messageMemory, dialect: .fields)
    let request = paidRequest(index, connection.pointee.route, asked.octets, asked.path, asked.query)
    if let verdict = cashier.preflight(request) { return conclude(index, verdict, asked) }
    let hasContent = connection.pointee.has(.collected) ? !connection.pointee.collected.isEmpty : connection.pointee.progress != .complete
    if !hasContent, carriesCredential, cashier.manages(request) { return conclude(index, cashier.admit(request, at: wall), asked) }
    switch head.pointee.method {
    case .post: break
    case .get, .head, .delete, .options:
      guard !hasContent else { return refuseMessages(index, .invalidRequest, "Messages are sent by POST.", asked) }
      // The server gives up what runs in a session that ends.
      if head.pointee.method == .delete, head.pointee.namesSession(asked.octets) { control.calls.cancelAll(callScope(index, asked)) }
      return conclude(index, .free, asked)
    case .put, .patch, .query, .trace, .connect, .other: return fail(index, .methodNotAllowed(Self.endpointMethods))
    }
    guard hasContent else { return refuseMessages(index, .invalidRequest, "A POST carries a message.", asked) }
    guard connection.pointee.has(.collected) else {
      guard head.pointee.declaresJSON(asked.octets) else { return answer(index, Self.unsupportedContent()) }
      return startCollecting(index, asked.octets, limit: route.contentLimit)
    }
    readMessages(index, route, asked)
  }

  private mutating func refuseMessages(_ index: Int, _ code: RPCCode, _ detail: String, _ asked: Asked) {
    var refusal = MCPReply.refusal(code, id: .null, detail: detail)
    refusal.fields += sharingLines(index, asked)
    downstreams.pointer(index).pointee.mcp?.isTranslated = true
    answer(index, refusal)
  }

  private func sharingLines(_ index: Int, _ asked: Asked) -> [UInt8] {
    cashier.corsLines(paidRequest(index, nil, asked.octets, asked.path, asked.query))
  }

  private static func unsupportedContent() -> Answer {
    Answer(
      status: 415, fields: Array("Content-Type: application/problem+json\r\nCache-Control: no-store\r\nAccept: application/json\r\n".utf8),
      body: Array(#"{"type":"about:blank","title":"Unsupported Media Type","status":415,"detail":"Messages are application/json without a content coding."}"#.utf8))
  }

  // MARK: Messages

  /// Reads the collected content, and decides about what it calls.
  private mutating func readMessages(_ index: Int, _ route: MCPRoute, _ asked: Asked) {
    let connection = downstreams.pointer(index)
    // Safe because: `collected` is not changed before the last use of its octets.
    let content = connection.pointee.collected.withUnsafeBytes { $0 }
    let read: MCPRequest
    do throws(MCPError) {
      read = try MCPRequest(content)
      if read.messages.contains(where: { route.isAmbiguous($0) }) { throw .ambiguousURI }
    } catch {
      var refusal = MCPReply.refusal(error, id: MCPRequest.identifier(of: content))
      refusal.fields += sharingLines(index, asked)
      return answer(index, refusal)
    }
    if requestHead.pointee.contradicts(read, asked.octets) {
      let id = read.messages.first?.identifier ?? .null
      var refusal = MCPReply.refusal(.headerMismatch, id: id, detail: "Mcp-Method or Mcp-Name says something else than the message.")
      refusal.fields += sharingLines(index, asked)
      return answer(index, refusal)
    }
    let dialect: MCPExchange.Dialect =
      connection.pointee.has(.carriesCredential) || requestHead.pointee.paysByX402 ? .fields : requestHead.pointee.speaksMCP(asked.octets) ? .messages : .both
    let exchange = MCPExchange(route, memory: messageMemory, dialect: dialect, isBatch: read.isBatch)
    connection.pointee.mcp = exchange
    var priced: [(message: Int, call: Int, place: RouteIndex)] = []
    var dropped: Set<Int> = []
    for (number, message) in read.messages.enumerated() {
      var place: RouteIndex?
      if case .call(let target) = message.subject, case .priced(let found) = route.choice(of: target) { place = found }
      guard message.isRequest, let identifier = message.identifier else {
        // No challenge can answer a notification, so it is dropped (draft, "Notifications").
        if place != nil, !message.isResponse { dropped.insert(number) }
        continue
      }
      if let place { priced.append((number, exchange.calls.count, place)) }
      exchange.calls.append(MCPExchange.Call(identifier: identifier, subject: message.subject, presentsCredential: read.hasCredential(number)))
      let last = exchange.calls.count - 1
      exchange.calls[last].speaksX402 = message.paysByX402 || route.asksByX402 && !read.hasCredential(number)
    }
    if !priced.isEmpty, let refusal = refusal(of: connection.pointee.route) {
      var reply = refusal.answer()
      reply.fields += sharingLines(index, asked)
      return answer(index, reply)
    }
    // Each call counts, not each request: the first has been counted, and those that are paid are counted by the cashier.
    let count = read.messages.count { !$0.isResponse }
    if let refused = count > 1 ? cashier.refusedByAddress(connection.pointee.client, count: UInt32(count - 1), at: Instant(nanoseconds: now)) : nil {
      return refuseBatch(index, refused, asked)
    }
    if !priced.isEmpty, count > priced.count, let refused = refusedByRoute(index, count: count - priced.count) {
      return refuseBatch(index, refused, asked)
    }
    guard admitCalls(index, exchange, read, content, priced, asked) else { return }
    if !read.isUntouched || !dropped.isEmpty {
      let rest = read.forwarded(content, dropping: dropped)
      guard !rest.isEmpty else {
        exchange.isTranslated = true
        return answer(index, Answer(status: 202, fields: sharingLines(index, asked), body: []))
      }
      collected.change(from: content.count, to: rest.count, of: connection.pointee.client)
      connection.pointee.collected.removeAll()
      connection.pointee.collected.append(rest)
    }
    if !connection.pointee.has(.paid), let refused = refusedByRoute(index, count: priced.isEmpty ? max(1, count) : priced.count) {
      return refuseBatch(index, refused, asked)
    }
    for message in read.messages { if let cancelled = message.cancelled { control.calls.cancel(cancelled, in: callScope(index, asked)) } }
    forward(index, asked.octets, asked.whole)
  }

  private mutating func refuseBatch(_ index: Int, _ refused: Answer, _ asked: Asked) {
    var reply = refused
    reply.fields += sharingLines(index, asked)
    answer(index, reply)
  }

  /// What a call's identifier is unique in: a session of the server's, which the request names, or else a client's address.
  private func callScope(_ index: Int, _ asked: Asked) -> Digest32 {
    let connection = downstreams.pointer(index)
    return CallsInFlight.scope(
      upstream: plan.routes[Int(connection.pointee.route)].upstream, session: requestHead.pointee.session(asked.octets), client: connection.pointee.client)
  }

  /// Asks the cashier for each call that has a price. False where the request is answered, and nothing of it is forwarded.
  private mutating func admitCalls(
    _ index: Int, _ exchange: MCPExchange, _ read: MCPRequest, _ content: UnsafeRawBufferPointer,
    _ priced: [(message: Int, call: Int, place: RouteIndex)], _ asked: Asked
  ) -> Bool {
    guard let first = priced.first else { return true }
    let connection = downstreams.pointer(index)
    if case .fields = exchange.dialect {
      guard priced.count == 1, !read.hasCredential(first.message) else {
        let detail = priced.count == 1 ? "The request carries more than one payment credential." : "One credential cannot pay for several calls."
        answer(index, cashier.problem(.badRequest, detail: detail))
        return false
      }
    }
    for (message, call, place) in priced {
      guard case .call(let target) = exchange.calls[call].subject else { continue }
      let decided = admitCall(index, exchange.dialect, read, message, target, place, content, asked)
      exchange.calls[call].manages = decided.manages
      switch decided.verdict {
      case .free: break
      case .paid(let paid): exchange.calls[call].exchange = paid
      case .answer(let answer): exchange.calls[call].answer = answer
      case .collectBody, .awaitPrice: exchange.calls[call].answer = cashier.unavailable()
      case .awaitSettlement(let order):
        guard read.isBatch else {
          awaitSettlement(index, asked.octets, order)
          return false
        }
        exchange.calls[call].answer = cashier.problem(.badRequest, detail: "What is paid on a chain is not called in a batch. Send it alone.")
      case .pending(let pending):
        guard read.isBatch else {
          awaitOthers(index, pending)
          return false
        }
        exchange.calls[call].answer = cashier.problem(.badRequest, detail: "A close that has to wait is not sent in a batch. Send it again.")
      }
    }
    connection.pointee.freeRequests = cashier.takeFreeRequests()
    guard !exchange.calls.contains(where: { $0.answer != nil }) else {
      returnFreeRequests(index)
      voidCalls(exchange)
      answer(index, exchange.isBatch ? exchange.refusedBatch() : exchange.calls[first.call].answer ?? cashier.unavailable())
      return false
    }
    beginCalls(index, exchange, callScope(index, asked))
    return true
  }

  /// Asks the cashier about one call.
  private mutating func admitCall(
    _ index: Int, _ dialect: MCPExchange.Dialect, _ read: MCPRequest, _ message: Int, _ target: CallTarget, _ place: RouteIndex,
    _ content: UnsafeRawBufferPointer, _ asked: Asked
  ) -> Cashier.CallVerdict {
    // What is called stands behind the URL: challenges bind it, and receipts name it.
    let target = Array(asked.query ?? asked.path) + target.fragment
    return target.withUnsafeBytes { named in
      var request = paidRequest(
        index, place, asked.octets, asked.query == nil ? named : asked.path, asked.query == nil ? nil : named)
      // Who calls the same again, under another id and with another payment, asks for the same.
      let payment = read.payment(message, in: content)
      if payment != nil || request.head.pointee.paysByX402 {
        // Before the cashier is asked, who would claim what nobody settles then.
        guard !read.isBatch else { return Self.refusedInBatch(cashier) }
        request.question = read.question(message, in: content)
      }
      if case .fields = dialect {
        guard !read.isBatch || !cashier.isPaidByChannel(request, nil) else { return Self.refusedInBatch(cashier) }
        return Cashier.CallVerdict(verdict: cashier.admit(request, at: wall))
      }
      request.isCall = true
      if let payment { return Cashier.CallVerdict(verdict: cashier.admitCall(request, paying: payment, at: wall)) }
      do throws(MCPError) {
        let credential = try read.credential(message, in: content)
        if read.isBatch, let credential, cashier.isPaidByChannel(request, credential) { return Self.refusedInBatch(cashier) }
        return cashier.admitCall(request, credential, at: wall)
      } catch {
        return Cashier.CallVerdict(verdict: .answer(cashier.malformedCredential(request, place, error.detail, at: wall)))
      }
    }
  }

  /// 400 for a call in a batch whose payment might have to wait for a chain: nothing was claimed.
  private static func refusedInBatch(_ cashier: borrowing Cashier) -> Cashier.CallVerdict {
    Cashier.CallVerdict(verdict: .answer(cashier.problem(.badRequest, detail: "What is paid on a chain is not called in a batch. Send it alone.")))
  }

  /// Gives back what the calls of a request have paid that goes nowhere.
  private mutating func voidCalls(_ exchange: MCPExchange) {
    for call in exchange.calls.indices {
      guard var paid = exchange.calls[call].exchange else { continue }
      exchange.calls[call].exchange = nil
      _ = cashier.finish(&paid, .upstreamFailed(beforeHead: true), at: wall)
    }
  }

  /// The connection's own exchange pays for the first call, and waits for the entries of all.
  private mutating func beginCalls(_ index: Int, _ exchange: MCPExchange, _ scope: Digest32) {
    let connection = downstreams.pointer(index)
    guard let leading = exchange.calls.firstIndex(where: { $0.exchange != nil }), var own = exchange.calls[leading].exchange else { return }
    for call in exchange.calls {
      guard let paid = call.exchange else { continue }
      own.forwardAfter = max(own.forwardAfter, paid.forwardAfter)
      own.replyAfter = max(own.replyAfter, paid.replyAfter)
      metrics.requestsPaid.add()
    }
    exchange.leading = leading
    exchange.scope = scope
    for call in exchange.calls.indices where exchange.calls[call].exchange != nil {
      exchange.calls[call].cancellation = control.calls.enter(scope, exchange.calls[call].identifier)
    }
    connection.pointee.exchange = own
    connection.pointee.flags.formUnion([.paid, .carriesCredential])
    paidCount += 1
  }

  /// Goes on with what needs no look at messages.
  private mutating func conclude(_ index: Int, _ verdict: Verdict, _ asked: Asked) {
    let connection = downstreams.pointer(index)
    switch verdict {
    case .free:
      if let refused = refusedByRoute(index) { return answer(index, refused) }
      forward(index, asked.octets, asked.whole)
    case .answer(let reply): answer(index, reply)
    case .pending(let pending): awaitOthers(index, pending)
    case .awaitSettlement(let order): awaitSettlement(index, asked.octets, order)
    case .collectBody, .awaitPrice, .paid:
      // What manages a session is answered; anything else carries a message.
      if case .paid(var exchange) = verdict { _ = cashier.finish(&exchange, .upstreamFailed(beforeHead: true), at: wall) }
      connection.pointee.mcp?.isTranslated = true
      answer(index, MCPReply.refusal(.invalidRequest, id: .null, detail: "A request that pays for a call carries its message."))
    }
  }
}

extension RequestHead {
  /// Whether a field carries a payment of x402.
  var paysByX402: Bool { has(.paymentSignature) || has(.xPayment) }

  /// Whether the content is JSON, and as it stands: in another coding or character set it would say something else to others.
  func declaresJSON(_ octets: UnsafeRawBufferPointer) -> Bool {
    guard !repeated.has(.contentType), !has(.contentEncoding), let field = first(.contentType) else { return false }
    let value = field.value(in: octets)
    guard value.isMediaType("application/json"), let semicolon = value.firstIndex(of: 0x3B) else { return value.isMediaType("application/json") }
    let parameters = String(decoding: value[(semicolon + 1)...].filter { $0 != 0x20 && $0 != 0x09 && $0 != 0x22 }, as: UTF8.self)
    return parameters.isEmpty || parameters.lowercased() == "charset=utf-8"
  }

  /// Whether the client reads the answers of MCP, and so expects payment to be spoken of in them.
  func speaksMCP(_ octets: UnsafeRawBufferPointer) -> Bool {
    guard !has(.acceptPayment) else { return false }
    return fields.contains { field in
      field.name == .accept
        && field.value(in: octets).split(separator: 0x2C).contains { element in
          let trimmed = element.drop { $0 == 0x20 || $0 == 0x09 }
          return UnsafeRawBufferPointer(rebasing: trimmed).isMediaType("text/event-stream")
        }
    }
  }

  /// Whether `Mcp-Method` or `Mcp-Name` says something else than the message: somebody behind us may go by the field.
  func contradicts(_ request: MCPRequest, _ octets: UnsafeRawBufferPointer) -> Bool {
    let methods = values("mcp-method", octets)
    let names = values("mcp-name", octets)
    guard !methods.isEmpty || !names.isEmpty else { return false }
    guard !request.isBatch, methods.count <= 1, names.count <= 1, let message = request.messages.first else { return true }
    if let method = methods.first, !method.elementsEqual(message.method.utf8) { return true }
    guard let name = names.first, case .call = message.subject else { return false }
    return !(message.name.map { Self.decoded(name).elementsEqual($0.utf8) } ?? false)
  }

  /// Whether the request belongs to a session of the server's.
  func namesSession(_ octets: UnsafeRawBufferPointer) -> Bool { !values(Self.sessionField, octets).isEmpty }

  /// The session of the server's that the request belongs to; empty where it names none.
  func session(_ octets: UnsafeRawBufferPointer) -> [UInt8] { Array(values(Self.sessionField, octets).joined(separator: [0x2C])) }

  private static var sessionField: String { "mcp-session-id" }

  private func values(_ name: String, _ octets: UnsafeRawBufferPointer) -> [UnsafeRawBufferPointer] {
    fields.filter { field in
      let found = field.name(in: octets)
      return found.count == name.utf8.count && zip(found, name.utf8).allSatisfy { ($0 == 0x5F ? 0x2D : $0 | 0x20) == $1 }
    }.map { $0.value(in: octets) }
  }

  /// A value as it is, or what stands between `=?base64?` and `?=`.
  private static func decoded(_ value: UnsafeRawBufferPointer) -> [UInt8] {
    let octets = Array(value)
    let (prefix, suffix) = (Array("=?base64?".utf8), Array("?=".utf8))
    guard octets.starts(with: prefix), octets.count >= prefix.count + suffix.count, octets.suffix(2).elementsEqual(suffix) else { return octets }
    return Base64.decode(Array(octets[prefix.count..<(octets.count - suffix.count)])) ?? octets
  }
}

extension UnsafeRawBufferPointer {
  /// Whether a field's value is a media type, with or without parameters.
  func isMediaType(_ name: StaticString) -> Bool {
    guard count >= name.utf8CodeUnitCount else { return false }
    for offset in 0..<name.utf8CodeUnitCount {
      let octet = self[offset]
      // Safe because: the offset is below the literal's count of octets.
      guard ((0x41...0x5A).contains(octet) ? octet | 0x20 : octet) == name.utf8Start[offset] else { return false }
    }
    guard count > name.utf8CodeUnitCount else { return true }
    let next = self[name.utf8CodeUnitCount]
    return next == 0x3B || next == 0x20 || next == 0x09
  }
}
