import HTTP

/// One direction of an upgraded connection.
struct TunnelFlow {
  /// What the direction waits for before more of it passes.
  enum Wait: UInt8 {
    case nothing
    /// An entry that is not on disk yet.
    case disk
    /// Money.
    case budget
  }

  /// What ends a direction, once everything before has passed.
  enum Fault: UInt8 {
    /// A frame is malformed.
    case malformed
    /// The session that pays is closing or frozen.
    case stopped
  }

  /// Follows the frames, where the protocol is WebSocket.
  var scanner: WebSocketScanner
  /// A frame whose header is the first of what waits: it may not begin yet.
  var frame: WebSocketFrame?
  /// Whether the frame that is passing carries a part of a message.
  var isData = false
  /// Octets of content that are paid for and have not passed.
  var paid: UInt64 = 0
  var wait = Wait.nothing
  /// Whether octets of content cost something, and messages.
  var metersOctets = false
  var metersMessages = false
  /// Why nothing more of it passes.
  var fault: Fault?
  /// Its sender has ended its direction.
  var isEnded = false

  init(sender: WebSocketScanner.Sender, extensions: WebSocketExtensions = .none) {
    scanner = WebSocketScanner(sender: sender, extensions: extensions)
  }

  /// Whether a frame of our own fits behind what has passed.
  var isBetweenFrames: Bool { frame != nil || scanner.isBetweenFrames }
  /// Whether the next octets are of a message, which costs something; control frames do not.
  var continuesMessage: Bool { frame.map { !$0.opcode.isControl } ?? (isData && !scanner.isBetweenFrames) }
  /// Whether its sender has said Close, and all of that has passed.
  var hasClosed: Bool { scanner.isClosed && frame == nil && scanner.isBetweenFrames }
}

/// How an upgraded connection ends.
struct TunnelEnding {
  var end: ExchangeEnd
  /// What each peer is told; one that is told nothing has everything already.
  var client: Farewell?
  var upstream: Farewell?
}

/// A connection that is switched to another protocol, from the request for it on. Lives in a worker's slab, since few
/// connections are any.
struct Tunnel {
  /// Nanoseconds of a second.
  static let second: Int64 = 1_000_000_000

  /// The protocol's name, in lower case.
  let name: [UInt8]
  /// Whether its frames are known.
  let isWebSocket: Bool
  /// The key for the upstream, where the client sent none (RFC 8441).
  var key: [UInt8] = []
  /// What the upstream must answer to the key.
  var accept: [UInt8] = []
  var fromClient = TunnelFlow(sender: .client)
  var fromUpstream = TunnelFlow(sender: .server)

  /// When the second ends that was paid for last, monotonic nanoseconds; `max` where time costs nothing.
  var secondEnds: Int64 = .max
  var clockWait = TunnelFlow.Wait.nothing
  /// Since when the clock stands still, because something waits for money; 0: it runs.
  var pausedAt: Int64 = 0
  /// When a connection that waits for money is given up.
  var holdDeadline: Int64 = .max
  /// When a connection is given up on which nothing passes.
  var idleDeadline: Int64 = .max
  /// When one is given up that both peers have closed, or that ends with the frame that is passing.
  var closeDeadline: Int64 = .max
  /// How it ends once the frame has passed that was passing when that was decided.
  var ending: TunnelEnding?
  /// Whether the upstream has switched.
  var isOpen = false

  init(name: [UInt8]) {
    self.name = name
    isWebSocket = name.elementsEqual("websocket".utf8)
  }

  /// Whether anything waits for money.
  var isHeld: Bool { fromClient.wait == .budget || fromUpstream.wait == .budget || clockWait == .budget }
  /// Whether anything waits for money or the disk.
  var isWaiting: Bool { fromClient.wait != .nothing || fromUpstream.wait != .nothing || clockWait != .nothing }

  /// Whether time is sold and stands still: then no messages pass in either direction, or the one that is not held would have the
  /// time of the hold for nothing.
  var isStandingStill: Bool { clockWait != .nothing || (secondEnds != .max && isHeld) }
  /// Whether the next octets of a direction wait for the clock. Control frames never do, so that both ends know that the other is there.
  func isStopped(_ flow: borrowing TunnelFlow) -> Bool {
    guard isStandingStill else { return false }
    return isWebSocket ? flow.continuesMessage : true
  }

  /// When it has to be looked at. While money is waited for, the hold's end counts, however long nothing passes.
  var deadline: Int64 {
    let clock = pausedAt == 0 && clockWait == .nothing ? secondEnds : .max
    return min(min(clock, holdDeadline), min(isHeld ? .max : idleDeadline, closeDeadline))
  }
}
