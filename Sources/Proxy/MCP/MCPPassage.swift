import Bytes
import Encoding
import HTTP
import Ledger
import MCP
import Payments

// Answers of MCP endpoints: a response that was paid for is settled when it is there, by how the call ended, and leaves when the entry is
// durable. Progress and other messages before it pass at once.
extension Worker {
  /// Says what becomes of an answer's content once its head is here. False where the head does not leave now.
  mutating func beginMessages(_ slot: Int, _ index: Int, _ octets: UnsafeRawBufferPointer) -> Bool {
    let connection = downstreams.pointer(index)
    let head = responseHead
    guard let exchange = connection.pointee.mcp else { return true }
    let isPaid = connection.pointee.has(.paid)
    if connection.pointee.has(.carriesCredential) { fields.append("Cache-Control: private\r\n") }
    // Without content, or accepted to be answered elsewhere: the status is all there is to go by.
    guard (200...299).contains(head.pointee.status), head.pointee.status != 202, head.pointee.framing != .none else {
      return isPaid ? settleByStatus(slot, index, exchange) : true
    }
    let isPlain = head.pointee.first(.contentEncoding).map { $0.value(in: octets).isMediaType("identity") } ?? true
    if isPlain, head.pointee.mayBeEventStream(octets) {
      exchange.passage = .events
      connection.pointee.changesContent = true
    } else if isPlain, let type = head.pointee.first(.contentType), type.value(in: octets).isMediaType("application/json") {
      exchange.passage = .collected
      let limit = exchange.isLookedFor ? exchange.route.answerLimit : min(exchange.route.answerLimit, RelayPlan.bufferLimit)
      if case .length(let length) = head.pointee.framing, length > UInt64(limit) { exchange.passage = .whole }
    }
    guard isPaid else { return exchange.passage == .collected ? withhold(index, octets, exchange) : true }
    guard exchange.passage != .whole else {
      // Nothing of it leaves, so it is as if it had not come.
      connection.pointee.flags.remove(.headSeen)
      breakExchange(index, .upstreamMalformed)
      return false
    }
    for call in exchange.calls { if let paid = call.exchange { cashier.beginCall(paid, status: head.pointee.status) } }
    guard !connection.pointee.has(.gone) else {
      endAbandoned(index, slot: slot)
      return false
    }
    fields.append(cashier.corsLines(of: connection.pointee.exchange))
    setGate(index, connection.pointee.exchange.replyAfter)
    return exchange.passage == .collected ? withhold(index, octets, exchange) : true
  }

  /// Settles paid calls by the status alone, as everywhere else.
  private mutating func settleByStatus(_ slot: Int, _ index: Int, _ exchange: MCPExchange) -> Bool {
    let connection = downstreams.pointer(index)
    let status = responseHead.pointee.status
    fields.removeAll()
    var after = connection.pointee.exchange.replyAfter
    for call in exchange.calls.indices {
      exchange.calls[call].isAnswered = true
      guard var paid = exchange.calls[call].exchange else { continue }
      var other = ByteBuffer()
      var gate: AnswerGate
      if call == exchange.leading {
        gate = cashier.answered(&connection.pointee.exchange, status: status, isEventStream: false, contentLength: nil, fields: &fields, at: wall)
        paid = connection.pointee.exchange
      } else {
        gate = cashier.answered(&paid, status: status, isEventStream: false, contentLength: nil, fields: &other, at: wall)
      }
      if case .withhold = gate {
        gate = .reply(after: cashier.collected(&paid, status: status, fields: UnsafeRawBufferPointer(start: nil, count: 0), body: nil, at: wall))
      }
      if case .reply(let entry) = gate { after = max(after, entry) }
    }
    guard !connection.pointee.has(.gone) else {
      endAbandoned(index, slot: slot)
      return false
    }
    setGate(index, after)
    return true
  }

  private mutating func withhold(_ index: Int, _ octets: UnsafeRawBufferPointer, _ exchange: MCPExchange) -> Bool {
    let connection = downstreams.pointer(index)
    connection.pointee.flags.insert(.withheld)
    // Prices are put into lists; of other answers that nobody paid for only the short ones are worth a look.
    connection.pointee.collectLimit = exchange.isLookedFor ? exchange.route.answerLimit : min(exchange.route.answerLimit, RelayPlan.bufferLimit)
    connection.pointee.keptHead.removeAll()
    connection.pointee.keptHead.append(octets)
    connection.pointee.keptFields.removeAll()
    connection.pointee.keptFields.append(fields)
    return false
  }

  // MARK: Collected answers

  /// An answer has grown: lets go of one that is too long to be kept, unless it was paid for.
  mutating func keepMessages(_ index: Int, _ exchange: MCPExchange) {
    let connection = downstreams.pointer(index)
    let isLong = connection.pointee.held.count > connection.pointee.collectLimit
    let fits = exchange.keep(connection.pointee.held.count)
    guard isLong || !fits else { return }
    guard !connection.pointee.has(.paid) else { return breakExchange(index, isLong ? .upstreamMalformed : .contentMemoryUsed) }
    exchange.passage = .whole
    releaseWithheld(index, isWhole: false)
    _ = exchange.keep(connection.pointee.output.capacity)
  }

  /// Looks at an answer that is here whole, and puts what the client gets in its place. False where nothing can be made of it, though
  /// somebody paid for it.
  mutating func rewriteMessages(_ index: Int, _ exchange: MCPExchange) -> Bool {
    let connection = downstreams.pointer(index)
    // Safe because: `held` is replaced only after the last use of its octets.
    let content = connection.pointee.held.withUnsafeBytes { $0 }
    let isPaid = connection.pointee.has(.paid)
    guard var read = try? MCPAnswer(content) else { return !isPaid }
    if isPaid, !exchange.isBatch, !read.messages.contains(where: { $0.outcome != nil }) { return false }
    let receipt = resolve(index, exchange, &read, content)
    settleUnanswered(index, exchange)
    if case .fields = exchange.dialect {
      switch receipt {
      case .none: break
      case .receipt(let encoded):
        connection.pointee.keptFields.append("Payment-Receipt: ")
        connection.pointee.keptFields.append(encoded)
        connection.pointee.keptFields.append("\r\n")
      case .settlement(let line): connection.pointee.keptFields.append(line)
      }
    }
    guard !read.isUntouched else {
      keepCall(exchange, read, content)
      return true
    }
    let text = read.text(content)
    text.withUnsafeBytes { keepCall(exchange, read, $0) }
    connection.pointee.changesContent = true
    connection.pointee.held.removeAll()
    connection.pointee.held.append(text)
    return true
  }

  /// Settles the calls whose responses are among the messages, and adds receipts and prices. Returns the receipt of a client that looks
  /// for it in a field.
  private mutating func resolve(_ index: Int, _ exchange: MCPExchange, _ read: inout MCPAnswer, _ content: UnsafeRawBufferPointer) -> Cashier.CallReceipt {
    var told = Cashier.CallReceipt.none
    for (number, message) in read.messages.enumerated() {
      guard let identifier = message.identifier, let outcome = message.outcome, let call = exchange.call(for: identifier),
        !exchange.calls[call].isAnswered
      else { continue }
      exchange.calls[call].isAnswered = true
      switch exchange.calls[call].subject {
      case .list(let listing):
        try? read.addPrices(listing, at: number, in: content) { target in
          guard case .priced(let place) = exchange.route.choice(of: target) else { return nil }
          return cashier.information(of: place)
        }
      case .capabilities: try? read.addCapability(cashier.capability(of: exchange.route.sold), at: number, in: content)
      case .call, .other: break
      }
      let isCharged: Bool
      switch outcome {
      case .success: isCharged = true
      case .failure: isCharged = exchange.route.chargesErrors || exchange.calls[call].isCancelled
      case .unfinished: isCharged = exchange.calls[call].isCancelled
      }
      let receipt = settle(index, exchange, call, isCharged: isCharged)
      if case .fields = exchange.dialect {
        told = receipt
      } else {
        switch receipt {
        case .none: break
        case .receipt(let encoded): if let json = RPCCredential.receipt(encoded) { read.addReceipt(json, at: number) }
        case .settlement(let line):
          let json = MCPReply.lines(line, of: "payment-response").first.flatMap { Base64.decode($0) }
          if let json { read.addReceipt(json, at: number, isX402: true) }
        }
      }
    }
    return told
  }

  /// Keeps the response of a call that was paid for, as its client gets it.
  private mutating func keepCall(_ exchange: MCPExchange, _ read: MCPAnswer, _ text: UnsafeRawBufferPointer) {
    guard !exchange.isBatch, !read.isBatch, let call = exchange.calls.first, call.isAnswered, let paid = call.exchange,
      read.messages.first?.outcome != nil
    else { return }
    cashier.keepCall(paid, text, at: wall)
  }

  /// Settles one call; the answer then waits for the entry. Returns the receipt.
  private mutating func settle(_ index: Int, _ exchange: MCPExchange, _ call: Int, isCharged: Bool) -> Cashier.CallReceipt {
    guard downstreams.pointer(index).pointee.has(.paid), let paid = exchange.calls[call].exchange else { return .none }
    let (after, receipt) = cashier.settleCall(paid, isCharged: isCharged, at: wall)
    setGate(index, after)
    return receipt
  }

  /// Nothing more comes: calls without a response cost nothing, unless the client can get it elsewhere, or has cancelled them itself.
  private mutating func settleUnanswered(_ index: Int, _ exchange: MCPExchange) {
    for call in exchange.calls.indices where !exchange.calls[call].isAnswered {
      exchange.calls[call].isAnswered = true
      _ = settle(index, exchange, call, isCharged: exchange.isResumable || exchange.calls[call].isCancelled)
    }
  }

  // MARK: Event streams

  /// Passes events on, each looked at before it leaves.
  mutating func deliverEvents(_ index: Int, _ exchange: MCPExchange, _ content: UnsafeRawBufferPointer) {
    let connection = downstreams.pointer(index)
    exchange.events.take(content)
    while let block = exchange.events.next() {
      guard let octets = rewritten(index, exchange, block) else { return breakExchange(index, .upstreamMalformed) }
      octets.withUnsafeBytes { pass(index, $0, isWhole: false) }
      guard connection.pointee.state != .closed else { return }
    }
    let fits = exchange.keep(exchange.events.heldCount + connection.pointee.output.capacity)
    let isLong = exchange.events.heldCount > exchange.route.answerLimit
    guard isLong || !fits else { return }
    guard !connection.pointee.has(.paid) else { return breakExchange(index, isLong ? .upstreamMalformed : .contentMemoryUsed) }
    exchange.passage = .whole
    exchange.events.takeRest().withUnsafeBytes { pass(index, $0, isWhole: false) }
    _ = exchange.keep(connection.pointee.output.capacity)
  }

  /// What the client gets of an event; nil where it cannot be read while a call that was paid for has no response: it may be that one, which
  /// clients that are less strict would have for nothing.
  private mutating func rewritten(_ index: Int, _ exchange: MCPExchange, _ block: MCPEvents.Block) -> [UInt8]? {
    if block.hasIdentifier, !exchange.isResumable {
      exchange.isResumable = true
      for call in exchange.calls where !call.isAnswered { if let paid = call.exchange { cashier.keepCharge(paid) } }
    }
    guard let data = block.data, !data.isEmpty else { return block.octets }
    return data.withUnsafeBytes { content in
      guard var read = try? MCPAnswer(content) else { return exchange.awaitsResponses ? nil : block.octets }
      let receipt = resolve(index, exchange, &read, content)
      var octets = block.octets
      if read.isUntouched {
        keepCall(exchange, read, content)
      } else {
        let text = read.text(content)
        text.withUnsafeBytes { keepCall(exchange, read, $0) }
        octets = block.replacing(data: text)
      }
      // x402 has no event for it: who asks again learns of the settlement.
      if case .fields = exchange.dialect, case .receipt(let encoded) = receipt {
        octets += Array("event: payment-receipt\ndata: ".utf8) + encoded + Array("\n\n".utf8)
      }
      return octets
    }
  }

  /// The stream has ended whole.
  mutating func finishEvents(_ index: Int, _ exchange: MCPExchange) {
    exchange.passage = .whole
    exchange.events.finish()
    while let block = exchange.events.next() {
      guard let octets = rewritten(index, exchange, block) else { return breakExchange(index, .upstreamMalformed) }
      octets.withUnsafeBytes { pass(index, $0, isWhole: false) }
    }
    let rest = exchange.events.takeRest()
    // An event that its end never came to is none. Clients that take it all the same get no response in it that nobody has paid for.
    let isOwed = exchange.awaitsResponses
    settleUnanswered(index, exchange)
    if !rest.isEmpty, !isOwed { rest.withUnsafeBytes { pass(index, $0, isWhole: false) } }
  }

  // MARK: The end

  /// An answer that was paid for cannot be read: nothing of it has left, and it costs nothing.
  mutating func messagesBroken(_ index: Int) {
    let connection = downstreams.pointer(index)
    connection.pointee.flags.subtract([.withheld, .headSeen])
    connection.pointee.held.release()
    connection.pointee.keptHead.release()
    connection.pointee.keptFields.release()
    fail(index, .upstreamMalformed)
  }

  /// Whether one of the sessions that pay for calls is closing or frozen.
  func mustStopCalls(_ index: Int) -> Bool {
    guard let exchange = downstreams.pointer(index).pointee.mcp, exchange.isBatch else { return false }
    return exchange.calls.contains { call in call.exchange.map { cashier.mustStop($0) } ?? false }
  }

  /// Ends the exchanges of the calls that the connection's own does not pay for.
  mutating func finishCalls(_ index: Int, _ exchange: MCPExchange, _ end: ExchangeEnd) -> LSN {
    let connection = downstreams.pointer(index)
    let (isForwarded, isHeadSeen) = (connection.pointee.has(.forwarded), connection.pointee.has(.headSeen))
    var after: LSN = 0
    for call in exchange.calls.indices where call != exchange.leading {
      guard var paid = exchange.calls[call].exchange else { continue }
      exchange.calls[call].exchange = nil
      let own = exchange.end(end, of: call, isForwarded: isForwarded, isHeadSeen: isHeadSeen)
      after = max(after, cashier.finish(&paid, own, at: wall).after)
    }
    if let scope = exchange.scope { control.calls.leave(scope, exchange.calls.compactMap(\.cancellation)) }
    exchange.calls.indices.forEach { exchange.calls[$0].exchange = nil }
    return after
  }
}
