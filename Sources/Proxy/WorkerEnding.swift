// How a worker comes to its end: it drains, or closes everything at once.
extension Worker {
  /// Accepts nothing more, and sees that what runs comes to its end.
  mutating func startDraining() {
    guard !isDraining else { return }
    isDraining = true
    drainDeadline = now &+ plan.timeouts.drain
    for index in 0..<listeners.placeCount where listeners.isInUse(index) { listeners.remove(index) }
    for index in 0..<downstreams.placeCount where downstreams.isInUse(index) {
      let connection = downstreams.pointer(index)
      if mayHandOver(index) { continue }
      guard successor == nil else {
        giveNotice(index)
        continue
      }
      switch connection.pointee.state {
      case .idle, .handshake: closeDownstream(index)
      case .multiplexed: drainSession(of: index)
      case .head, .content, .beforeForward, .queued, .exchange, .ending, .pendingAnswer, .answer, .discard:
        connection.pointee.flags.insert(.closing)
        // Who waits for a payment is told that it takes longer, and not just cut off.
        if paymentTickets[index] != nil { setDeadline(index, min(connection.pointee.deadline, drainDeadline &- plan.timeouts.drain / 4)) }
      case .tunnel: drainTunnel(index)
      case .linger, .closed: break
      }
    }
  }

  /// Stops when nothing runs any more, or the time for that is over.
  mutating func checkDrained() {
    if downstreams.count == 0 || now >= drainDeadline { isStopped = true }
  }

  /// Closes all connections, whatever they are about.
  mutating func closeEverything() {
    for index in 0..<downstreams.placeCount where downstreams.isInUse(index) {
      if downstreams.pointer(index).pointee.state != .closed { closeDownstream(index) }
    }
    for index in 0..<upstreams.placeCount where upstreams.isInUse(index) {
      if upstreams.pointer(index).pointee.state != .closed { closeUpstream(index) }
    }
    buryClosed()
  }
}
