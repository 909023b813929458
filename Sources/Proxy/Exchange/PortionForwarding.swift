import Bytes
import Ledger

// Content that is paid for by what it holds: events, tokens, or time.
extension Worker {
  /// Most octets that are looked at at once, and handed over together.
  private static var portionLimit: Int { 16 << 10 }
  /// The same of content that is decoded for the look: each octet may stand for a thousand.
  private static var encodedPortionLimit: Int { 2 << 10 }
  /// Most octets that are decoded for one exchange before others have their turn.
  private static var decodedLimit: UInt64 { 2 << 20 }

  /// Passes held content on portion by portion, as far as the budget goes: whole events of an event stream, elsewhere what has come.
  mutating func passPortions(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard !connection.pointee.awaitsTurn, payTime(index) else { return }
    var result = GrantResult.granted(0)
    let decoded = cashier.decodedCount(connection.pointee.exchange) &+ Self.decodedLimit
    while case .granted = result, !connection.pointee.held.isEmpty {
      guard cashier.decodedCount(connection.pointee.exchange) < decoded else {
        connection.pointee.awaitsTurn = true
        makeReady(downstream: index)
        break
      }
      var used = 0
      portions.removeAll()
      result = grantPortions(index, used: &used)
      guard used > 0 else { break }
      let content = portions.withUnsafeBytes { $0 }
      if !content.isEmpty { pass(index, content, isWhole: false) }
      // A send that failed has ended the exchange and let go of what was held.
      guard connection.pointee.state != .closed, connection.pointee.held.count >= used else { return }
      cashier.deliveredPortions(connection.pointee.exchange)
      connection.pointee.held.removeFirst(used)
      // The client's side is full: the rest is held, and paid for when it moves.
      if connection.pointee.output.count >= RelayPlan.bufferLimit { break }
    }
    if connection.pointee.held.isEmpty { connection.pointee.held.release() }
    if case .dry = result {} else { scheduleSecond(index) }
    waitForGrant(index, result)
  }

  /// Goes on with content that others were let in front of.
  mutating func continuePortions(_ index: Int) {
    let connection = downstreams.pointer(index)
    connection.pointee.awaitsTurn = false
    if connection.pointee.state == .ending { return continueEnding(index) }
    guard connection.pointee.state == .exchange, !connection.pointee.has(.dry), !connection.pointee.has(.awaitsGrant) else { return }
    passHeld(index)
    transmit(index)
    resumeUpstream(of: index)
  }

  /// Asks for one portion after another and gathers what may leave.
  private mutating func grantPortions(_ index: Int, used: inout Int) -> GrantResult {
    let connection = downstreams.pointer(index)
    // Safe because: `held` does not change before what was used of it has left.
    let octets = connection.pointee.held.withUnsafeBytes { $0 }
    let limit = cashier.decodes(connection.pointee.exchange) ? Self.encodedPortionLimit : Self.portionLimit
    while used < octets.count, portions.count < limit {
      let rest = UnsafeRawBufferPointer(rebasing: octets[used...])
      guard let (offered, endsEvent) = portionCount(index, rest) else { break }
      let result = cashier.grantPortion(connection.pointee.exchange, UnsafeRawBufferPointer(rebasing: rest[..<offered]), at: wall)
      guard case .granted(let granted) = result else { return result }
      // A portion that had to wait may have been shorter.
      let count = min(Int(clamping: granted), offered)
      let isWhole = endsEvent && count == offered
      cashier.appendPortion(connection.pointee.exchange, to: &portions)
      if isWhole {
        connection.pointee.events.deliverEvents(count)
      } else if connection.pointee.has(.eventStream) {
        connection.pointee.events.deliver(count, of: UnsafeRawBufferPointer(rebasing: rest[..<count]))
      }
      used += count
    }
    return .granted(UInt64(used))
  }

  /// How many octets make up the next portion, and whether it ends with an event; nil while an event's end has not come.
  private func portionCount(_ index: Int, _ rest: UnsafeRawBufferPointer) -> (count: Int, endsEvent: Bool)? {
    let connection = downstreams.pointer(index)
    guard connection.pointee.has(.eventStream) else {
      let limit = cashier.decodes(connection.pointee.exchange) ? Self.encodedPortionLimit : Self.portionLimit
      return (min(rest.count, limit), false)
    }
    let whole = connection.pointee.events.completeCount(heldCount: rest.count)
    if whole > 0 { return (connection.pointee.events.firstEvent(in: UnsafeRawBufferPointer(rebasing: rest[..<whole])), true) }
    return rest.count >= Self.eventHoldLimit || connection.pointee.has(.responseWhole) ? (rest.count, false) : nil
  }

  /// Waits for what a grant waits for.
  private mutating func waitForGrant(_ index: Int, _ result: GrantResult) {
    switch result {
    case .granted: break
    case .waitDurable:
      downstreams.pointer(index).pointee.flags.insert(.awaitsGrant)
      makeWaiting(index)
    case .dry(let dry): becomeDry(index, dry)
    case .stop: stopResponse(index)
    }
  }

  /// All of the response has been handed over: what the filter kept follows, and the exchange is settled by what was reported.
  mutating func completePortions(_ index: Int) {
    let connection = downstreams.pointer(index)
    portions.removeAll()
    if cashier.completePortions(connection.pointee.exchange, into: &portions) {
      metrics.usageMissing.add()
      control.notices.usageMissing(route: plan.routes[Int(connection.pointee.route)].id, at: now)
    }
    let content = portions.withUnsafeBytes { $0 }
    if !content.isEmpty { pass(index, content, isWhole: false) }
  }

  // MARK: Time

  /// Sees that the next second is paid for when it begins.
  private mutating func scheduleSecond(_ index: Int) {
    let next = cashier.nextSecond(downstreams.pointer(index).pointee.exchange)
    downstreams.pointer(index).pointee.secondEnds = next
    if next != .max { wheel.schedule(index * 2, deadline: next) }
  }

  /// Pays for the seconds that have begun before anything else passes; false where the exchange waits, or is over.
  private mutating func payTime(_ index: Int) -> Bool {
    let connection = downstreams.pointer(index)
    guard connection.pointee.secondEnds <= now || connection.pointee.isPaused else { return true }
    let result = cashier.grantTime(connection.pointee.exchange, at: wall)
    switch result {
    case .granted, .waitDurable:
      connection.pointee.isPaused = false
      scheduleSecond(index)
      return true
    case .dry, .stop:
      connection.pointee.isPaused = true
      waitForGrant(index, result)
      return false
    }
  }

  /// A second of an exchange has begun while nothing passed.
  mutating func secondBegan(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.has(.paid), connection.pointee.state == .exchange || connection.pointee.state == .ending else {
      connection.pointee.secondEnds = .max
      return
    }
    if connection.pointee.has(.dry) { return keepAlive(index) }
    guard connection.pointee.exchange.isTallied else {
      connection.pointee.secondEnds = .max
      return
    }
    if connection.pointee.has(.peerClosing), !isHalfClosed(index) { return }
    guard payTime(index) else { return }
    scheduleSecond(index)
  }

  /// Whether a client that has ended its direction still reads (RFC 9112, section 9.6), which only a write can tell: one that has gone
  /// answers it by a reset. Until something has been written and a second has gone by no time is asked for; what passes meanwhile is paid
  /// with all the time before it. Who has been written nothing in the time in which a client is taken for gone has left.
  private mutating func isHalfClosed(_ index: Int) -> Bool {
    let connection = downstreams.pointer(index)
    var known = connection.pointee.halfClose
    if known == nil {
      known = HalfClose(since: now, sent: connection.pointee.contentSent)
      connection.pointee.halfClose = known
      if connection.pointee.has(.eventStream) {
        insertEvent(index, Self.probeComment)
        guard connection.pointee.state != .closed, connection.pointee.has(.paid) else { return false }
      }
    } else if connection.pointee.contentSent != known?.sent, connection.pointee.output.isEmpty {
      // What was written a look ago has not been answered by a reset.
      if known?.isWritten == true { return true }
      connection.pointee.halfClose?.isWritten = true
    } else if let since = known?.since, now &- since >= plan.timeouts.abandon {
      clientLost(index)
      return false
    }
    connection.pointee.secondEnds = now &+ Self.second
    wheel.schedule(index * 2, deadline: connection.pointee.secondEnds)
    return false
  }

  private static var second: Int64 { 1_000_000_000 }
  private static var probeComment: [UInt8] { Array(":\n\n".utf8) }

  // MARK: Waiting

  /// How often a client is told that its event stream is still there while it waits for money, nanoseconds; at least once in the route's
  /// hold timeout. The HTML standard advises servers to send a comment every 15 seconds or so (section 9.2.7).
  private static var keepAliveInterval: Int64 { 10_000_000_000 }
  private static var keepAliveComment: [UInt8] { Array(": waiting for a top-up\n\n".utf8) }

  /// Sees that the client of an event stream that waits for money hears of it now and then.
  mutating func scheduleKeepAlive(_ index: Int) {
    let next = now &+ min(Self.keepAliveInterval, downstreams.pointer(index).pointee.exchange.holdTimeout / 2)
    downstreams.pointer(index).pointee.secondEnds = next
    wheel.schedule(index * 2, deadline: next)
  }

  private mutating func keepAlive(_ index: Int) {
    downstreams.pointer(index).pointee.secondEnds = .max
    guard downstreams.pointer(index).pointee.has(.eventStream) else { return }
    insertEvent(index, Self.keepAliveComment)
    guard downstreams.pointer(index).pointee.state != .closed else { return }
    scheduleKeepAlive(index)
  }
}
