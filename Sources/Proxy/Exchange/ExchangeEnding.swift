import Bytes
import HTTP
import HTTP2
import IO
import Ledger

extension Worker {
  // MARK: Whole responses

  /// The upstream has given everything: passes on what is held, then ends the response.
  mutating func continueEnding(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.state == .ending else { return }
    if connection.pointee.has(.withheld) {
      if connection.pointee.exchange.settlesAfter { return settleWithheld(index) }
      if let exchange = connection.pointee.mcp, !rewriteMessages(index, exchange) { return messagesBroken(index) }
      releaseWithheld(index, isWhole: true)
      noteUnsentMessages(index)
    } else if let exchange = connection.pointee.mcp, exchange.passage == .events {
      finishEvents(index, exchange)
    }
    guard connection.pointee.state == .ending else { return }
    if connection.pointee.has(.eventStream) { connection.pointee.events.finish(into: &connection.pointee.held) }
    let isStalled = connection.pointee.has(.dry) || connection.pointee.has(.awaitsGrant)
    if !connection.pointee.held.isEmpty, !isStalled { passHeld(index) }
    guard connection.pointee.state == .ending else { return }
    guard connection.pointee.held.isEmpty else { return transmit(index) }
    finishResponse(index)
  }

  /// Writes the end of a response that came whole.
  private mutating func finishResponse(_ index: Int) {
    let connection = downstreams.pointer(index)
    var parts = FinalParts()
    if connection.pointee.has(.paid) {
      if connection.pointee.exchange.isTallied {
        completePortions(index)
        guard connection.pointee.state == .ending else { return }
      }
      keepCopy(index)
      parts = finishPaid(index, .complete)
    }
    // The receipt at the end tells of an entry, and waits for it like everything else.
    setGate(index, parts.after)
    if !parts.event.isEmpty, connection.pointee.has(.eventStream) {
      let separator = connection.pointee.events.separator
      var event: [UInt8] = []
      separator.withUTF8Buffer { event += $0 }
      event += parts.event
      connection.pointee.events.complete()
      insertEvent(index, event)
      guard connection.pointee.state == .ending else { return }
    }
    if connection.pointee.transport == .stream {
      if connection.pointee.has(.acceptsTrailers) { connection.pointee.trailers.append(parts.trailer) }
    } else if connection.pointee.responseFraming == .chunked {
      outgoing.append("0\r\n")
      outgoing.append(connection.pointee.trailers)
      if connection.pointee.has(.acceptsTrailers) { outgoing.append(parts.trailer) }
      outgoing.append("\r\n")
    }
    connection.pointee.state = .answer
    transmit(index)
  }

  /// Tells the cashier how a paid exchange ended; exactly once.
  mutating func finishPaid(_ index: Int, _ end: ExchangeEnd) -> FinalParts {
    let connection = downstreams.pointer(index)
    guard connection.pointee.has(.paid) else { return FinalParts() }
    endCopy(index)
    connection.pointee.flags.subtract([.paid, .dry, .awaitsGrant, .requestHeld])
    connection.pointee.holdDeadline = 0
    connection.pointee.secondEnds = .max
    connection.pointee.isPaused = false
    connection.pointee.halfClose = nil
    connection.pointee.awaitsTurn = false
    paidCount -= 1
    connection.pointee.exchange.deliveredOctets = connection.pointee.contentSent
    // What waits for the disk is no fault of the client's.
    connection.pointee.exchange.isClientBehind =
      connection.pointee.gate == 0 && (!connection.pointee.output.isEmpty || connection.pointee.has(.unsent))
    // Of metered content, what has not left by now was not paid for.
    if connection.pointee.exchange.metersResponse { returnPipe(index) }
    let own =
      connection.pointee.mcp.map {
        $0.end(end, of: $0.leading, isForwarded: connection.pointee.has(.forwarded), isHeadSeen: connection.pointee.has(.headSeen))
      } ?? end
    var parts = cashier.finish(&connection.pointee.exchange, own, at: wall)
    if let exchange = connection.pointee.mcp { parts.after = max(parts.after, finishCalls(index, exchange, end)) }
    notePayment(index, cashier.takeSummary())
    connection.pointee.exchange = PaidExchange()
    return parts
  }

  // MARK: Failures

  /// Gives an exchange up whose upstream connection is at work, and answers if nothing has been answered yet.
  mutating func breakExchange(_ index: Int, _ failure: Failure) {
    let connection = downstreams.pointer(index)
    detachUpstream(index)
    if connection.pointee.has(.headSeen) {
      responseBroken(index, end(of: failure, index))
    } else {
      fail(index, failure)
    }
  }

  /// Takes the upstream connection from an exchange and closes it: its framing is no longer certain.
  mutating func detachUpstream(_ index: Int) {
    let connection = downstreams.pointer(index)
    let slot = Int(connection.pointee.upstream)
    connection.pointee.upstream = -1
    guard slot >= 0 else { return }
    closeUpstream(slot)
  }

  private func end(of failure: Failure, _ index: Int) -> ExchangeEnd {
    let connection = downstreams.pointer(index)
    switch failure {
    case .malformed, .contentTooLarge, .clientContentUsed, .contentTimeout, .headTimeout, .noRoute, .methodNotAllowed, .hostUnknown:
      return .clientLeft(
        requestForwarded: connection.pointee.has(.forwarded), headSeen: connection.pointee.has(.headSeen),
        safe: connection.pointee.method.isSafe)
    case .upstreamUnreachable, .upstreamRefusesTime, .upstreamClosed, .upstreamMalformed, .upstreamSilent, .upstreamInsecure, .upstreamBusy, .upstreamUnavailable,
      .upstreamWantsPayment, .upstreamTooLong, .contentMemoryUsed, .descriptorsExhausted, .notReady, .priceUnknown:
      return connection.pointee.has(.headSeen) ? .upstreamBroke : .upstreamFailed(beforeHead: true)
    case .ledgerUnavailable: return .ledgerLost
    case .sessionEnded:
      // Closing the session does not undo a request that the upstream has: it would be the way to be served for nothing.
      guard !connection.pointee.has(.headSeen) else { return .sessionStopped }
      return .clientLeft(
        requestForwarded: connection.pointee.has(.forwarded), headSeen: false, safe: connection.pointee.method.isSafe)
    }
  }

  /// Gives what an address had free back where the request was not served, and not through its client.
  private mutating func returnFreeRequests(_ index: Int, after end: ExchangeEnd) {
    switch end {
    case .upstreamFailed, .upstreamBroke, .ledgerLost, .clientLeft(requestForwarded: false, headSeen: false, safe: _): returnFreeRequests(index)
    case .complete, .clientLeft, .abandoned, .sessionStopped, .holdTimeout: break
    }
  }

  /// Answers with a problem document; of the response nothing has been seen.
  mutating func fail(_ index: Int, _ failure: Failure) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.state != .closed else { return }
    var reply = failure.answer()
    if !connection.pointee.freeRequests.isEmpty { returnFreeRequests(index, after: end(of: failure, index)) }
    if connection.pointee.has(.paid) {
      let parts = finishPaid(index, end(of: failure, index))
      if let better = parts.answer { reply = better }
      reply.fields += parts.fieldLines
      reply.after = max(reply.after, parts.after)
    }
    if connection.pointee.has(.gone) { return closeDownstream(index) }
    answer(index, reply)
  }

  /// Ends a response that cannot be completed: what was passed on leaves, and the client can tell that it is cut short,
  /// except on an event stream that ends for want of money, which ends cleanly.
  mutating func responseBroken(_ index: Int, _ end: ExchangeEnd) {
    let connection = downstreams.pointer(index)
    if connection.pointee.has(.gone) {
      _ = finishPaid(index, end)
      return closeDownstream(index)
    }
    if !connection.pointee.freeRequests.isEmpty { returnFreeRequests(index, after: end) }
    if connection.pointee.has(.withheld) { return withheldBroken(index, end) }
    let parts = finishPaid(index, end)
    setGate(index, parts.after)
    connection.pointee.held.release()
    connection.pointee.flags.insert(.closing)
    var isClean = false
    if connection.pointee.has(.eventStream) {
      switch end {
      case .sessionStopped, .holdTimeout: isClean = true
      case .complete, .upstreamFailed, .upstreamBroke, .clientLeft, .abandoned, .ledgerLost: isClean = false
      }
      insertEvent(index, parts.event)
      guard connection.pointee.state != .closed else { return }
    }
    connection.pointee.streamError = HTTP2ErrorCode(end)
    if connection.pointee.has(.grpc), connection.pointee.responseFraming == .stream, let lines = GRPCAnswer.trailers(end) {
      connection.pointee.trailers.append(lines)
      isClean = true
    }
    if isClean, connection.pointee.transport == .stream {
      if connection.pointee.has(.acceptsTrailers) { connection.pointee.trailers.append(parts.trailer) }
    } else if isClean, connection.pointee.responseFraming == .chunked {
      outgoing.append("0\r\n")
      if connection.pointee.has(.acceptsTrailers) { outgoing.append(parts.trailer) }
      outgoing.append("\r\n")
    }
    if !isClean { connection.pointee.flags.insert(.broken) }
    connection.pointee.state = .answer
    transmit(index)
  }

  /// A withheld response broke: nothing of it has left, so the client gets an answer.
  private mutating func withheldBroken(_ index: Int, _ end: ExchangeEnd) {
    let connection = downstreams.pointer(index)
    connection.pointee.flags.subtract([.withheld, .headSeen])
    connection.pointee.held.release()
    connection.pointee.keptHead.release()
    connection.pointee.keptFields.release()
    let parts = finishPaid(index, end)
    var reply = parts.answer ?? Failure.upstreamClosed.answer()
    reply.fields += parts.fieldLines
    reply.after = max(reply.after, parts.after)
    answer(index, reply)
  }

  /// Stops a response in the middle: its session is closing or frozen.
  mutating func stopResponse(_ index: Int) {
    detachUpstream(index)
    responseBroken(index, .sessionStopped)
  }

  // MARK: Answers of our own

  /// Answers; nothing of another response has been written.
  mutating func answer(_ index: Int, _ plain: Answer) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.state != .closed, !connection.pointee.has(.gone) else { return }
    let isTrailersOnly = connection.pointee.has(.grpc) && plain.status >= 400
    let reply = isTrailersOnly ? GRPCAnswer.make(plain) : connection.pointee.mcp?.translated(plain) ?? plain
    releaseCollected(index)
    connection.pointee.keptHead.release()
    connection.pointee.prepared.release()
    if reply.closes || endsConnection(index) { connection.pointee.flags.insert(.closing) }
    if connection.pointee.progress != .complete, !mayDiscard(index) { connection.pointee.flags.insert(.closing) }
    connection.pointee.state = .answer
    metrics.count(status: reply.status)
    noteStatus(index, reply.status)
    let hasContent = Status.allowsContent(reply.status) && !isTrailersOnly
    let delivery = ResponseDelivery(
      framing: hasContent ? .length(UInt64(reply.body.count)) : .none, keepAlive: !connection.pointee.has(.closing) || connection.pointee.transport == .stream,
      clientMinorVersion: connection.pointee.minorVersion)
    let line = date.withUnsafeBytes { $0 }
    reply.fields.withUnsafeBytes { lines in
      ResponseRewriter.appendOwn(status: reply.status, fields: lines, delivery: delivery, date: line, to: &outgoing)
    }
    markHead(index)
    if hasContent, connection.pointee.method != .head {
      outgoing.append(reply.body)
      connection.pointee.contentSent = UInt64(reply.body.count)
    }
    setDeadline(index, now &+ plan.timeouts.writeStall)
    setGate(index, reply.after)
    transmit(index)
  }

  /// Whether the rest of the request's content is worth reading, to keep the connection.
  func mayDiscard(_ index: Int) -> Bool {
    let connection = downstreams.pointer(index)
    // A client that waits for 100 (Continue) does not say whether the content still comes.
    guard !connection.pointee.has(.expectsContinue), !connection.pointee.has(.closing) else { return false }
    switch connection.pointee.progress {
    case .complete, .chunked, .stream: return true
    case .length(let count): return count <= RelayPlan.discardLimit
    case .untilClose: return false
    }
  }

  /// The answer's last octet has left.
  mutating func answerWritten(_ index: Int) {
    let connection = downstreams.pointer(index)
    if connection.pointee.transport == .stream { return connection.pointee.has(.streamEnded) ? () : endStream(index) }
    if connection.pointee.has(.broken) {
      // Content that ends with the connection looks whole unless the end is a reset.
      if connection.pointee.responseFraming == .untilClose { breakOff(downstream: index) }
      return closeDownstream(index)
    }
    if connection.pointee.has(.closing) { return startLingering(index) }
    guard connection.pointee.progress != .complete else { return exchangeDone(index) }
    connection.pointee.state = .discard
    connection.pointee.contentCount = 0
    setDeadline(index, now &+ plan.timeouts.headerRead)
    if !connection.pointee.input.isEmpty || connection.pointee.has(.readable) { makeReady(downstream: index) }
  }

  /// Makes the connection ready for its next request.
  mutating func exchangeDone(_ index: Int) {
    let connection = downstreams.pointer(index)
    endAccess(index)
    releaseTunnel(index)
    if connection.pointee.transport == .stream {
      connection.pointee.flags.insert(.streamOver)
      return closeDownstream(index)
    }
    connection.pointee.state = .idle
    connection.pointee.flags.formIntersection([.readable, .peerClosing, .inputEnded, .closing, .listedReady, .listedWaiting, .redirects])
    connection.pointee.gate = 0
    if connection.pointee.trailers.capacity > 0 { connection.pointee.trailers.release() }
    if connection.pointee.has(.closing) || connection.pointee.has(.inputEnded) || (endsConnection(index) && successor == nil) {
      return startLingering(index)
    }
    setDeadline(index, now &+ (endsConnection(index) ? Self.quietTime : plan.timeouts.idle))
    if !connection.pointee.input.isEmpty || connection.pointee.has(.readable) { makeReady(downstream: index) }
  }

  // MARK: Closing

  /// Ends our direction. A peer that may still be sending is read for a while: a close at once would reset the
  /// connection, and our last octets could be lost with it.
  mutating func startLingering(_ index: Int) {
    endAccess(index)
    let connection = downstreams.pointer(index)
    let mayStillSend =
      connection.pointee.progress != .complete || connection.pointee.has(.readable) || !connection.pointee.input.isEmpty
    guard mayStillSend, !connection.pointee.has(.inputEnded) else { return closeDownstream(index) }
    endOutput(downstream: index)
    connection.pointee.state = .linger
    connection.pointee.input.release()
    connection.pointee.output.release()
    setDeadline(index, now &+ plan.timeouts.linger)
    if connection.pointee.has(.readable) { makeReady(downstream: index) }
  }

  /// Closes a client's connection. A paid exchange has been finished before, on every path that is known; one that was not would keep its
  /// session from ever being closed, so it ends here as its client's leaving does.
  mutating func closeDownstream(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.state != .closed else { return }
    if connection.pointee.has(.paid) {
      returnUnpassed(index)
      _ = finishPaid(
        index,
        .clientLeft(
          requestForwarded: connection.pointee.has(.forwarded), headSeen: connection.pointee.has(.headSeen),
          safe: connection.pointee.method.isSafe))
    }
    detachUpstream(index)
    releaseTunnel(index)
    endAccess(index)
    if connection.pointee.state == .multiplexed { loseStreams(of: index) }
    // The price that was asked for is nobody's here: the next connection at this place may wait for something else.
    if !priceTickets.isEmpty { priceTickets[index] = nil }
    if !paymentTickets.isEmpty { paymentTickets[index] = nil }
    connection.pointee.state = .closed
    if !connection.pointee.has(.gone) { closeTransport(downstream: index) }
    connection.pointee.input.release()
    connection.pointee.output.release()
    connection.pointee.held.release()
    releaseCollected(index)
    closedDownstreams.append(index)
  }

  /// The client's connection is dead.
  mutating func clientLost(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.state != .closed else { return }
    if connection.pointee.state == .tunnel { return tunnelClientLost(index) }
    guard connection.pointee.has(.paid) else { return closeDownstream(index) }
    metrics.clientsLeft.add()
    let isForwarded = connection.pointee.has(.forwarded)
    let waitsForHead =
      connection.pointee.state == .exchange && isForwarded && !connection.pointee.has(.headSeen)
      && connection.pointee.progress == .complete
    if waitsForHead {
      // What the request costs depends on the upstream's head, so that is waited for.
      closeTransport(downstream: index)
      connection.pointee.flags.insert(.gone)
      connection.pointee.output.release()
      return setDeadline(index, now &+ plan.timeouts.abandon)
    }
    closeDownstream(index)
  }

  /// The head has come for a client that is gone: the exchange has cost what it costs.
  mutating func endAbandoned(_ index: Int, slot: Int) {
    closeDownstream(index)
  }
}
