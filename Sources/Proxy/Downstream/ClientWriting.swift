import Bytes
import IO
import Ledger

extension Worker {
  /// Keeps everything that is written from now on back until the entry is durable.
  mutating func setGate(_ index: Int, _ after: LSN) {
    guard !isDurable(after) else { return }
    let connection = downstreams.pointer(index)
    connection.pointee.gate = max(connection.pointee.gate, after)
    // The epoch that this turn began with: an entry of before a failed commit must not look durable after it.
    connection.pointee.gateEpoch = epoch
    // Whether or not anything is written from now on: what waits in `output` already is behind the gate as well.
    makeWaiting(index)
  }

  /// Whether an entry is on disk; 0 always is.
  func isDurable(_ entry: LSN) -> Bool {
    guard entry != 0 else { return true }
    guard let ledger else { return false }
    switch ledger.durability(of: entry, epoch: epoch) {
    case .durable: return true
    case .pending, .void: return false
    }
  }

  /// Sends what stands in `outgoing`, and `tail` behind it, or keeps it for later; `outgoing` is empty afterwards.
  mutating func transmit(_ index: Int, _ tail: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.state != .closed, !connection.pointee.has(.gone) else { return outgoing.removeAll() }
    let total = outgoing.count + tail.count
    guard total > 0 else { return settle(index) }
    if connection.pointee.gate != 0 || !connection.pointee.output.isEmpty {
      connection.pointee.output.append(outgoing)
      connection.pointee.output.append(tail)
      outgoing.removeAll()
      if connection.pointee.gate != 0 { makeWaiting(index) }
      return
    }
    // Safe because: `outgoing` does not change before the send has returned.
    let first = outgoing.withUnsafeBytes { $0 }
    var sent = 0
    switch send(downstream: index, first, tail) {
    case .moved(let count): sent = count
    case .wouldBlock, .ended: break
    case .failed:
      outgoing.removeAll()
      return clientLost(index)
    }
    if connection.pointee.transport != .stream { metrics.octetsSent.add(UInt64(sent)) }
    if connection.pointee.has(.headSeen) || connection.pointee.state == .answer { connection.pointee.flags.insert(.departed) }
    if sent < total {
      if sent < first.count { connection.pointee.output.append(UnsafeRawBufferPointer(rebasing: first[sent...])) }
      let skipped = max(0, sent - first.count)
      if skipped < tail.count { connection.pointee.output.append(UnsafeRawBufferPointer(rebasing: tail[skipped...])) }
    }
    if sent < total || connection.pointee.has(.unsent) { setDeadline(index, writeDeadline(index)) }
    outgoing.removeAll()
    settle(index)
  }

  /// Sends what waits in `output`, now that the socket has room or the gate is open.
  mutating func flush(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard !connection.pointee.has(.gone) else { return }
    if connection.pointee.has(.unsent), !flushTransport(downstream: index) { return }
    guard connection.pointee.gate == 0 else { return }
    while !connection.pointee.output.isEmpty {
      // Safe because: `output` does not change before the send has returned.
      let octets = connection.pointee.output.withUnsafeBytes { $0 }
      switch send(downstream: index, octets, UnsafeRawBufferPointer(start: nil, count: 0)) {
      case .moved(let count):
        if connection.pointee.transport != .stream { metrics.octetsSent.add(UInt64(count)) }
        connection.pointee.flags.insert(.departed)
        connection.pointee.output.removeFirst(count)
        if count < octets.count { return setDeadline(index, writeDeadline(index)) }
      case .wouldBlock, .ended: return
      case .failed: return clientLost(index)
      }
    }
    connection.pointee.output.release()
    noteUnsentMessages(index)
    if connection.pointee.has(.unsent) { setDeadline(index, writeDeadline(index)) } else { drained(index) }
  }

  /// Counts what a client of an MCP endpoint has not read yet among what the worker keeps of answers.
  @inline(__always)
  func noteUnsentMessages(_ index: Int) {
    guard let exchange = downstreams.pointer(index).pointee.mcp else { return }
    // A buffer keeps its memory until its last octet has left.
    _ = exchange.keep(downstreams.pointer(index).pointee.output.capacity + exchange.events.heldCount)
  }

  /// Everything that was written has left: the next step may follow.
  private mutating func drained(_ index: Int) {
    let connection = downstreams.pointer(index)
    switch connection.pointee.state {
    case .answer: settle(index)
    case .multiplexed: sessionDrained(of: index)
    case .ending: continueEnding(index)
    case .tunnel: tunnelDrained(index)
    case .exchange:
      setDeadline(index, now &+ times(index).idle)
      if !connection.pointee.held.isEmpty, !connection.pointee.has(.withheld) {
        passHeld(index)
        transmit(index)
      }
      resumeUpstream(of: index)
    case .handshake, .idle, .head, .content, .beforeForward, .queued, .pendingAnswer, .discard, .linger, .closed: break
    }
  }

  /// Reads the upstream again, where reading had stopped.
  mutating func resumeUpstream(of index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.state == .exchange, connection.pointee.upstream >= 0 else { return }
    let slot = Int(connection.pointee.upstream)
    if upstreams.pointer(slot).pointee.transport == .stream { return openWindow(upstream: slot) }
    if upstreams.pointer(slot).pointee.has(.readable) { makeReady(upstream: slot) }
  }

  /// Ends an answer when its last octet has left.
  private mutating func settle(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.state == .answer, connection.pointee.output.isEmpty, !connection.pointee.has(.unsent) else { return }
    // Without octets of its own the end still waits for its entry: the next request must not overtake it.
    if connection.pointee.gate == 0 { answerWritten(index) } else { makeWaiting(index) }
  }
}
