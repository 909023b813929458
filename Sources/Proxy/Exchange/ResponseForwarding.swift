import Bytes
import HTTP
import IO
import Ledger

extension Worker {
  /// Octets of an event that are held for its end; a longer one is passed on in parts.
  static var eventHoldLimit: Int { 32 << 10 }
  /// From here on content is sent from where it was received, not copied behind the head.
  static var copyLimit: Int { 16 << 10 }

  /// Interim responses to one request that are passed on.
  private static var interimLimit: UInt8 { 100 }

  // MARK: Heads

  /// Passes an interim response on: 100 where the client waits for it, the others to clients that may know them.
  mutating func passInterim(_ index: Int, _ octets: UnsafeRawBufferPointer) {
    let connection = downstreams.pointer(index)
    guard !connection.pointee.has(.gone), connection.pointee.minorVersion == 1 else { return }
    // They could come without end, for a client that reads nothing.
    guard connection.pointee.interimCount < Self.interimLimit else { return }
    connection.pointee.interimCount += 1
    if responseHead.pointee.status == 100 {
      guard connection.pointee.has(.expectsContinue) else { return }
      connection.pointee.flags.remove(.expectsContinue)
      outgoing.append(Status.continueLine)
    } else {
      // Before a payment is on disk nothing leaves that the upstream made of it.
      guard !connection.pointee.has(.paid) else { return }
      let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
      ResponseRewriter.append(
        responseHead.pointee, octets: octets, delivery: ResponseDelivery(framing: .none, keepAlive: true),
        additional: nothing, date: nothing, to: &outgoing)
    }
    markHead(index)
    transmit(index)
  }

  /// Takes the final head of a response: asks the cashier, and writes the client's head.
  mutating func beginResponse(_ slot: Int, _ index: Int, _ octets: UnsafeRawBufferPointer) {
    let connection = downstreams.pointer(index)
    let head = responseHead
    noteAnswered(index, status: head.pointee.status)
    // On a priced route clients pay again on every 402, so one leaves only with a challenge of ours: the upstream's, whose
    // challenge is withheld, is its failure, and money goes back whatever the route charges for. A free route's passes as it
    // is, without its payment fields: nothing is sold there, no money of ours is at stake, and the status says why it failed.
    if head.pointee.status == 402, plan.routes[Int(connection.pointee.route)].isPriced {
      return breakExchange(index, .upstreamWantsPayment)
    }
    if isSwitchMissing(index) { return breakExchange(index, .upstreamMalformed) }
    connection.pointee.flags.insert(.headSeen)
    connection.pointee.responseStatus = head.pointee.status
    connection.pointee.trailers.removeAll()
    connection.pointee.changesContent = false
    if connection.pointee.progress == .complete { setDeadline(index, now &+ times(index).idle) }
    if !connection.pointee.freeRequests.isEmpty, !cashier.isServed(connection.pointee.route, status: head.pointee.status) { returnFreeRequests(index) }
    fields.removeAll()
    if connection.pointee.mcp != nil {
      guard beginMessages(slot, index, octets) else { return }
    } else if connection.pointee.has(.paid) {
      guard beginPaidResponse(slot, index, octets) else { return }
    } else if connection.pointee.has(.carriesCredential) {
      fields.append("Cache-Control: private\r\n")
      fields.append(Cashier.vary)
    }
    writeResponseHead(index, octets, framing: head.pointee.framing)
  }

  /// Settles with the cashier at the head; false where the head does not leave now.
  private mutating func beginPaidResponse(_ slot: Int, _ index: Int, _ octets: UnsafeRawBufferPointer) -> Bool {
    let connection = downstreams.pointer(index)
    let head = responseHead
    // Between the octets of encoded events nothing can stand.
    let isEventStream = head.pointee.mayBeEventStream(octets) && head.pointee.contentCoding(octets) == .identity
    let length: UInt64? =
      switch head.pointee.framing {
      case .none: 0
      case .length(let count): count
      case .chunked, .untilClose: nil
      }
    // A call that failed before anything was said is no success, whatever HTTP calls it.
    let status = connection.pointee.has(.grpc) ? GRPCAnswer.status(of: head.pointee, octets) : head.pointee.status
    if connection.pointee.exchange.isTallied {
      cashier.read(connection.pointee.exchange, head: head.pointee, octets)
    }
    let gate = cashier.answered(
      &connection.pointee.exchange, status: status, isEventStream: isEventStream, contentLength: length,
      fields: &fields, at: wall)
    guard !connection.pointee.has(.gone) else {
      endAbandoned(index, slot: slot)
      return false
    }
    if isEventStream, head.pointee.framing != .none {
      connection.pointee.flags.insert(.eventStream)
      connection.pointee.changesContent = true
      connection.pointee.events = EventPassage()
    }
    switch gate {
    case .reply(let after):
      setGate(index, max(after, connection.pointee.exchange.replyAfter))
      if connection.pointee.exchange.keepsAnswer { beginCopy(index, octets) }
      return true
    case .withhold(let limit):
      connection.pointee.flags.insert(.withheld)
      connection.pointee.collectLimit = limit
      connection.pointee.keptHead.removeAll()
      connection.pointee.keptHead.append(octets)
      connection.pointee.keptFields.removeAll()
      connection.pointee.keptFields.append(fields)
      return false
    case .refuse:
      // Nothing of it leaves, so it is as if it had not come.
      connection.pointee.flags.subtract([.headSeen, .eventStream])
      breakExchange(index, .upstreamTooLong)
      return false
    }
  }

  /// Writes the client's head into `outgoing`, with the upstream's framing or what the client can take of it.
  private mutating func writeResponseHead(_ index: Int, _ octets: UnsafeRawBufferPointer, framing: BodyFraming) {
    let connection = downstreams.pointer(index)
    let isNew = connection.pointee.minorVersion == 1
    var chosen = framing
    let mayGrow =
      connection.pointee.has(.eventStream) || connection.pointee.mcp?.passage == .events
      || (connection.pointee.has(.paid) && connection.pointee.exchange.wantsTrailer && connection.pointee.has(.acceptsTrailers))
    switch framing {
    case .none: break
    case .length: if mayGrow { chosen = isNew ? .chunked : .untilClose }
    case .chunked, .untilClose: chosen = isNew ? .chunked : .untilClose
    }
    if responseHead.pointee.isDeclaredEmpty, framing == .untilClose { chosen = connection.pointee.transport == .stream ? .none : .length(0) }
    var written = OutgoingFraming(chosen)
    if connection.pointee.transport == .stream {
      // A stream ends by itself, so nothing has to be said of it.
      if written == .chunked { (chosen, written) = (.untilClose, .stream) }
    } else if chosen == .untilClose {
      connection.pointee.flags.insert(.closing)
    }
    // An early answer to content that is too much to be read to its end, or that perhaps never comes.
    if connection.pointee.progress != .complete, !mayDiscard(index) { connection.pointee.flags.insert(.closing) }
    connection.pointee.responseFraming = written
    metrics.count(status: responseHead.pointee.status)
    noteStatus(index, responseHead.pointee.status)
    let delivery = ResponseDelivery(
      framing: chosen, keepAlive: !connection.pointee.has(.closing) || connection.pointee.transport == .stream, clientMinorVersion: connection.pointee.minorVersion,
      keepsSharing: !hasSharing(index), keepsDigests: !connection.pointee.changesContent,
      isPrivate: connection.pointee.has(.paid) || connection.pointee.has(.carriesCredential))
    // Safe because: neither `fields` nor the date changes while the head is written.
    let additional = fields.withUnsafeBytes { $0 }
    let line = date.withUnsafeBytes { $0 }
    ResponseRewriter.append(
      responseHead.pointee, octets: octets, delivery: delivery, fields: plan.routes[Int(connection.pointee.route)].responseFields,
      additional: additional, date: line, to: &outgoing)
    markHead(index)
  }

  /// Whether our field lines say which pages may read the response.
  private func hasSharing(_ index: Int) -> Bool {
    let connection = downstreams.pointer(index)
    return connection.pointee.has(.paid) && cashier.decidesSharing(connection.pointee.exchange)
  }

  // MARK: Content

  /// Passes content of the response on, or holds it where it may not leave yet.
  mutating func deliver(_ index: Int, _ content: UnsafeRawBufferPointer, isWhole: Bool) {
    let connection = downstreams.pointer(index)
    if connection.pointee.progress == .complete { setDeadline(index, now &+ times(index).idle) }
    guard !connection.pointee.has(.gone) else { return }
    if connection.pointee.has(.withheld) {
      connection.pointee.held.append(content)
      if let exchange = connection.pointee.mcp { return keepMessages(index, exchange) }
      guard connection.pointee.held.count > connection.pointee.collectLimit else { return }
      if connection.pointee.exchange.settlesAfter { giveUpWithheld(index) } else { releaseWithheld(index, isWhole: false) }
    } else if let exchange = connection.pointee.mcp, exchange.passage == .events {
      deliverEvents(index, exchange, content)
    } else if connection.pointee.has(.eventStream) {
      connection.pointee.events.take(content, into: &connection.pointee.held)
      passHeld(index)
    } else if connection.pointee.has(.paid), connection.pointee.exchange.isTallied {
      connection.pointee.held.append(content)
      passPortions(index)
    } else if connection.pointee.has(.paid), connection.pointee.exchange.metersResponse {
      deliverMetered(index, content, isWhole: isWhole)
    } else {
      pass(index, content, isWhole: isWhole)
    }
  }

  /// Passes metered content straight from where it was received, as far as the budget goes, and holds the rest.
  private mutating func deliverMetered(_ index: Int, _ content: UnsafeRawBufferPointer, isWhole: Bool) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.held.isEmpty else { return connection.pointee.held.append(content) }
    var rest = content
    while !rest.isEmpty {
      switch cashier.grant(&connection.pointee.exchange, wanted: UInt64(rest.count), atLeast: 1, at: wall) {
      case .granted(let granted):
        let count = min(Int(clamping: granted), rest.count)
        guard count > 0 else { return connection.pointee.held.append(rest) }
        pass(index, UnsafeRawBufferPointer(rebasing: rest[..<count]), isWhole: isWhole && count == rest.count)
        guard connection.pointee.state != .closed else { return }
        cashier.delivered(&connection.pointee.exchange, UInt64(count))
        rest = UnsafeRawBufferPointer(rebasing: rest[count...])
      case .waitDurable:
        connection.pointee.held.append(rest)
        connection.pointee.flags.insert(.awaitsGrant)
        return makeWaiting(index)
      case .dry(let dry):
        connection.pointee.held.append(rest)
        return becomeDry(index, dry)
      case .stop:
        return stopResponse(index)
      }
    }
  }

  /// Passes held content on as far as events and budget allow.
  mutating func passHeld(_ index: Int) {
    let connection = downstreams.pointer(index)
    connection.pointee.flags.remove(.awaitsGrant)
    if connection.pointee.exchange.isTallied { return passPortions(index) }
    while !connection.pointee.held.isEmpty {
      var wanted = connection.pointee.held.count
      var least = 1
      // Safe because: `held` is consumed only after the last use of its octets.
      let octets = connection.pointee.held.withUnsafeBytes { $0 }
      if connection.pointee.has(.eventStream) {
        let whole = connection.pointee.events.completeCount(heldCount: wanted)
        if whole > 0 {
          wanted = whole
          least = connection.pointee.events.firstEvent(in: UnsafeRawBufferPointer(rebasing: octets[..<whole]))
        } else if wanted < Self.eventHoldLimit, !connection.pointee.has(.responseWhole) {
          return
        }
      }
      var count = wanted
      if connection.pointee.exchange.metersResponse {
        switch cashier.grant(&connection.pointee.exchange, wanted: UInt64(wanted), atLeast: UInt64(least), at: wall) {
        case .granted(let granted): count = min(Int(clamping: granted), wanted)
        case .waitDurable:
          connection.pointee.flags.insert(.awaitsGrant)
          return makeWaiting(index)
        case .dry(let dry): return becomeDry(index, dry)
        case .stop: return stopResponse(index)
        }
        if connection.pointee.has(.eventStream), count < wanted {
          let whole = connection.pointee.events.wholeEvents(in: octets, limit: count)
          if whole > 0 { count = whole }
        }
      }
      guard count > 0 else { return }
      let content = UnsafeRawBufferPointer(rebasing: octets[..<count])
      if connection.pointee.has(.eventStream) { connection.pointee.events.deliver(count, of: content) }
      pass(index, content, isWhole: false)
      // A send that failed has ended the exchange and let go of what was held.
      guard connection.pointee.state != .closed, connection.pointee.held.count >= count else { return }
      if connection.pointee.exchange.metersResponse { cashier.delivered(&connection.pointee.exchange, UInt64(count)) }
      connection.pointee.held.removeFirst(count)
      // The client's side is full: the rest is held, and paid for when it moves.
      if connection.pointee.output.count >= RelayPlan.bufferLimit { return }
    }
    connection.pointee.held.release()
  }

  /// Puts content into the client's framing and sends it. What is whole waits for the end's octets, to leave with them.
  ///
  /// - Parameter isOwn: whether it is ours, and no part of what the upstream has sent: a repetition does not get it again.
  mutating func pass(_ index: Int, _ content: UnsafeRawBufferPointer, isWhole: Bool, isOwn: Bool = false) {
    let connection = downstreams.pointer(index)
    connection.pointee.contentSent &+= UInt64(content.count)
    if connection.pointee.exchange.keepsAnswer, !isOwn { copy(index, content) }
    switch connection.pointee.responseFraming {
    case .none: return
    case .chunked:
      outgoing.append(hexadecimal: UInt64(content.count))
      outgoing.append("\r\n")
      outgoing.append(content)
      outgoing.append("\r\n")
      if !isWhole { transmit(index) }
    case .length, .untilClose, .stream:
      if content.count <= Self.copyLimit {
        outgoing.append(content)
        if !isWhole { transmit(index) }
      } else {
        transmit(index, content)
      }
    }
  }

  /// Puts an event of our own between two of the upstream's; nothing where one of them is half passed on.
  mutating func insertEvent(_ index: Int, _ event: [UInt8]) {
    guard !event.isEmpty else { return }
    let connection = downstreams.pointer(index)
    guard connection.pointee.has(.eventStream), connection.pointee.events.isBetweenEvents else { return }
    event.withUnsafeBytes { pass(index, $0, isWhole: false, isOwn: true) }
  }

  // MARK: Withheld responses

  /// Lets a withheld response go: whole, or because it is longer than what is kept.
  mutating func releaseWithheld(_ index: Int, isWhole: Bool) {
    let connection = downstreams.pointer(index)
    connection.pointee.flags.remove(.withheld)
    // Safe because: `keptHead` and `held` stay as they are until this function is done with them.
    let octets = connection.pointee.keptHead.withUnsafeBytes { $0 }
    let content = connection.pointee.held.withUnsafeBytes { $0 }
    responseHead.pointee.reset()
    guard
      (try? ResponseDecoder.decode(
        octets, limits: plan.responseHeadLimits, requestMethod: connection.pointee.method, into: &responseHead.pointee)) == true
    else { return breakExchange(index, .upstreamMalformed) }
    fields.removeAll()
    fields.append(connection.pointee.keptFields)
    connection.pointee.keptFields.release()
    let after = connection.pointee.mcp == nil ? reportCollected(index, octets, isWhole ? content : nil) : 0
    setGate(index, max(after, connection.pointee.exchange.replyAfter))
    let declared = responseHead.pointee.framing
    let framing: BodyFraming = isWhole && declared != .none ? .length(UInt64(content.count)) : declared
    writeResponseHead(index, octets, framing: framing)
    connection.pointee.keptHead.release()
    if connection.pointee.exchange.metersResponse || connection.pointee.has(.eventStream) { return passHeld(index) }
    if !content.isEmpty { pass(index, content, isWhole: isWhole) }
    connection.pointee.held.release()
  }

  /// Shows the cashier the response as the client gets it: its field lines without framing, and its content.
  private mutating func reportCollected(
    _ index: Int, _ octets: UnsafeRawBufferPointer, _ content: UnsafeRawBufferPointer?
  ) -> LSN {
    let head = linesOfClient(index, octets)
    return head.withUnsafeBytes { lines in
      cashier.collected(
        &downstreams.pointer(index).pointee.exchange, status: responseHead.pointee.status, fields: lines, body: content, at: wall)
    }
  }

  /// The response's field lines as the client gets them, without framing.
  func linesOfClient(_ index: Int, _ octets: UnsafeRawBufferPointer) -> ByteBuffer {
    let connection = downstreams.pointer(index)
    var head = ByteBuffer(capacity: octets.count + 256)
    // Read until the connection closes, it has neither a length nor a coding, and open, no connection field.
    let delivery = ResponseDelivery(framing: .untilClose, keepAlive: true, keepsSharing: !hasSharing(index), isPrivate: true)
    let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
    ResponseRewriter.append(
      responseHead.pointee, octets: octets, delivery: delivery, fields: plan.routes[Int(connection.pointee.route)].responseFields,
      additional: fields.withUnsafeBytes { $0 }, date: nothing, to: &head)
    var lines = ByteBuffer(capacity: head.count)
    head.withUnsafeBytes { written in
      let start = (written.firstIndex(of: UInt8(ascii: "\n")) ?? -1) + 1
      lines.append(UnsafeRawBufferPointer(rebasing: written[start..<max(start, written.count - 2)]))
    }
    return lines
  }

  // MARK: Copies

  /// Begins to copy a response that passes, for its request's repetition.
  private mutating func beginCopy(_ index: Int, _ octets: UnsafeRawBufferPointer) {
    let connection = downstreams.pointer(index)
    connection.pointee.keptHead = linesOfClient(index, octets)
    connection.pointee.copied.removeAll()
  }

  private mutating func copy(_ index: Int, _ content: UnsafeRawBufferPointer) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.copied.count + content.count <= cashier.keptLimit else { return endCopy(index) }
    connection.pointee.copied.append(content)
  }

  /// Hands the copy of a response that came whole to the cashier.
  mutating func keepCopy(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.exchange.keepsAnswer else { return }
    // Safe because: neither buffer changes before the cashier is done with it.
    let lines = connection.pointee.keptHead.withUnsafeBytes { $0 }
    let content = connection.pointee.copied.withUnsafeBytes { $0 }
    cashier.keep(connection.pointee.exchange, fields: lines, body: content, at: wall)
    endCopy(index)
  }

  /// Lets go of a copy.
  mutating func endCopy(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.exchange.keepsAnswer else { return }
    connection.pointee.exchange.keepsAnswer = false
    connection.pointee.keptHead.release()
    connection.pointee.copied.release()
  }
}
