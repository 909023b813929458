import Bytes
import IO
import Ledger

extension Worker {
  /// How often answers that wait for other exchanges are asked for, nanoseconds.
  static var pendingInterval: Int64 { 100_000_000 }

  /// Lists a connection that waits for the ledger: for an entry, a top-up, or a session's other exchanges.
  mutating func makeWaiting(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard !connection.pointee.has(.listedWaiting) else { return }
    connection.pointee.flags.insert(.listedWaiting)
    waiting.append(index)
  }

  /// Whether the ledger has moved in a way that somebody here waits for.
  func mustFollow(_ ledger: Ledger) -> Bool {
    if ledger.changes != seenChanges || ledger.epoch != epoch { return true }
    return !waiting.isEmpty && ledger.durable != seenDurable
  }

  /// Looks at what the ledger has done since the last turn, and goes on with those who waited for it.
  mutating func followLedger(_ ledger: Ledger) {
    // Read before the epoch: a number that was given out again after a failed commit then never stands for the old one.
    let durable = ledger.durable
    if ledger.epoch != epoch {
      epoch = ledger.epoch
      ledgerWasReloaded()
    }
    let changes = ledger.changes
    let hasChanged = changes != seenChanges
    if hasChanged {
      seenChanges = changes
      if paidCount > 0 { stopWhatMustStop() }
    }
    guard !waiting.isEmpty else { return }
    let isPollDue = now &- lastPoll >= Self.pendingInterval
    guard durable != seenDurable || hasChanged || isPollDue else { return }
    seenDurable = durable
    if isPollDue { lastPoll = now }
    swap(&waiting, &waitingNow)
    for index in waitingNow {
      guard downstreams.isInUse(index), downstreams.pointer(index).pointee.has(.listedWaiting) else { continue }
      downstreams.pointer(index).pointee.flags.remove(.listedWaiting)
      resumeWaiting(index, durable: durable, hasChanged: hasChanged || isPollDue)
    }
    waitingNow.removeAll(keepingCapacity: true)
  }

  private mutating func resumeWaiting(_ index: Int, durable: LSN, hasChanged: Bool) {
    let connection = downstreams.pointer(index)
    switch connection.pointee.state {
    case .closed, .handshake, .multiplexed, .idle, .head, .content, .queued, .discard, .linger: return
    case .beforeForward:
      if connection.pointee.exchange.forwardAfter <= durable { forwardPrepared(index) } else { makeWaiting(index) }
    case .pendingAnswer: resumePending(index)
    case .tunnel:
      openGate(index, durable: durable)
      resumeTunnel(index, hasChanged: hasChanged)
    case .exchange, .ending, .answer:
      openGate(index, durable: durable)
      guard connection.pointee.state == .exchange || connection.pointee.state == .ending else { return stillWaits(index) }
      resumeGrants(index, hasChanged: hasChanged)
      stillWaits(index)
    }
  }

  private mutating func openGate(_ index: Int, durable: LSN) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.gate != 0, connection.pointee.gate <= durable else { return }
    connection.pointee.gate = 0
    flush(index)
  }

  private mutating func resumeGrants(_ index: Int, hasChanged: Bool) {
    let connection = downstreams.pointer(index)
    if connection.pointee.has(.dry) {
      guard hasChanged else { return }
      connection.pointee.flags.remove(.dry)
      if connection.pointee.has(.requestHeld) {
        resumeRequest(index)
      } else {
        resumeResponse(index)
      }
      // Grants came, so the hold is over.
      if connection.pointee.state != .closed, !connection.pointee.has(.dry), connection.pointee.holdDeadline != 0 {
        connection.pointee.holdDeadline = 0
        setDeadline(index, now &+ times(index).idle)
      }
    } else if connection.pointee.has(.requestHeld) {
      resumeRequest(index)
    } else if connection.pointee.has(.awaitsGrant) {
      resumeResponse(index)
    }
  }

  private mutating func resumeRequest(_ index: Int) {
    let connection = downstreams.pointer(index)
    passHeldContent(index)
    guard connection.pointee.state == .exchange, !connection.pointee.has(.requestHeld) else { return }
    setDeadline(index, contentDeadline(index))
    continueRequest(index)
  }

  private mutating func resumeResponse(_ index: Int) {
    let connection = downstreams.pointer(index)
    if connection.pointee.state == .ending {
      connection.pointee.flags.remove(.awaitsGrant)
      return continueEnding(index)
    }
    passHeld(index)
    transmit(index)
    resumeUpstream(of: index)
  }

  private mutating func stillWaits(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.state != .closed else { return }
    let waits =
      connection.pointee.gate != 0 || connection.pointee.has(.dry) || connection.pointee.has(.awaitsGrant)
      || connection.pointee.has(.requestHeld)
    if waits { makeWaiting(index) }
  }

  private mutating func resumePending(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard var pending = connection.pointee.pending else { return }
    if let reply = cashier.resume(&pending, at: wall) {
      connection.pointee.pending = nil
      answer(index, reply)
    } else {
      connection.pointee.pending = pending
      makeWaiting(index)
    }
  }

  // MARK: Running dry

  /// The budget is used up: holds the exchange until it is topped up, or for the hold timeout at most.
  mutating func becomeDry(_ index: Int, _ dry: Dry = Dry(event: [])) {
    let connection = downstreams.pointer(index)
    connection.pointee.flags.insert(.dry)
    if connection.pointee.holdDeadline == 0 {
      metrics.streamsDry.add()
      connection.pointee.holdDeadline = now &+ connection.pointee.exchange.holdTimeout
      scheduleKeepAlive(index)
    }
    insertEvent(index, dry.event)
    guard connection.pointee.state != .closed else { return }
    setDeadline(index, connection.pointee.holdDeadline)
    makeWaiting(index)
  }

  // MARK: Sessions that end, ledgers that are read back

  /// Stops the exchanges whose sessions are closing or frozen.
  private mutating func stopWhatMustStop() {
    for index in 0..<downstreams.placeCount where downstreams.isInUse(index) {
      let connection = downstreams.pointer(index)
      guard connection.pointee.has(.paid), cashier.mustStop(connection.pointee.exchange) || mustStopCalls(index) else { continue }
      switch connection.pointee.state {
      case .beforeForward, .queued: fail(index, .sessionEnded)
      case .exchange: breakExchange(index, .sessionEnded)
      case .ending: responseBroken(index, .sessionStopped)
      case .tunnel: stopTunnel(index)
      case .handshake, .multiplexed, .idle, .head, .content, .pendingAnswer, .answer, .discard, .linger, .closed: break
      }
    }
  }

  /// The ledger failed and was read back: what was promised since is void. Nothing that waited for an entry has left,
  /// so it is answered with 503; what has left in part is cut off where more of it would have to be paid for.
  private mutating func ledgerWasReloaded() {
    for index in 0..<downstreams.placeCount where downstreams.isInUse(index) {
      let connection = downstreams.pointer(index)
      // What was begun after the ledger had been read back is as good as ever.
      let isConcerned =
        (connection.pointee.has(.paid) && connection.pointee.exchange.epoch != epoch && !isPaidWhole(index))
        || (connection.pointee.gate != 0 && connection.pointee.gateEpoch != epoch) || (connection.pointee.state == .pendingAnswer && connection.pointee.pending != nil)
      guard connection.pointee.state != .closed, isConcerned else { continue }
      connection.pointee.gate = 0
      connection.pointee.pending = nil
      if connection.pointee.state == .tunnel, connection.pointee.has(.departed) {
        loseTunnel(index)
        continue
      }
      releaseTunnel(index)
      detachUpstream(index)
      if connection.pointee.has(.departed) {
        connection.pointee.output.removeAll()
        responseBroken(index, .ledgerLost)
      } else {
        connection.pointee.output.removeAll()
        connection.pointee.held.removeAll()
        connection.pointee.flags.subtract([.withheld, .eventStream, .headSeen])
        fail(index, .ledgerUnavailable)
      }
    }
  }

  /// Whether all of a response was paid for, durably, when its first octet left: it then goes on whatever becomes of the ledger.
  private func isPaidWhole(_ index: Int) -> Bool {
    let connection = downstreams.pointer(index)
    return connection.pointee.has(.departed) && connection.pointee.has(.headSeen) && connection.pointee.gate == 0
      && !connection.pointee.exchange.isMetered && connection.pointee.mcp?.awaitsResponses != true
  }
}
