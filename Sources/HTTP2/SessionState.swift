import Bytes
import CNghttp2

/// What nghttp2's callbacks read and write. It stands in memory of its own, since callbacks come in the middle of a call.
struct SessionState: ~Copyable {
  let isServer: Bool
  let isSecure: Bool
  let limits: HTTP2Limits
  /// The clock of the last `receive`, in nanoseconds.
  var now: Int64
  var streams = StreamTable()
  var reader = HeaderBlockReader()
  var fields = FieldArray()
  /// Start of the octets that are being received.
  var input: UnsafeRawPointer?
  /// Where output goes, while it is taken.
  var output: UnsafeMutablePointer<ByteBuffer>?
  /// Octets in `output` from which on no frame is begun.
  var outputEnd = 0
  /// The code of the GOAWAY that ends the connection.
  var failure: HTTP2ErrorCode?
  /// nghttp2 has given up, and the GOAWAY is ours to write.
  var isDead = false
  /// That GOAWAY was not written yet.
  var isFarewellDue = false
  /// Streams that are open, or are to be.
  var openCount = 0
  /// The SETTINGS that nghttp2 wrote say that streams are unlimited, since it would end the connection for one too many.
  var isLimitAnnounced = false
  var isGoingAway = false
  /// A stream that has been closed, and whose event was just given out.
  var releasable: UInt32 = .max

  private var events: [StoredEvent] = []
  private var nextEvent = 0

  private var continuations = 0
  private var resets: FrameBudget
  private var settings: FrameBudget
  private var pings: FrameBudget
  private var strays: FrameBudget
  private var emptyData: FrameBudget
  private var windowUpdates: FrameBudget
  private var trickles: FrameBudget

  init(isServer: Bool, isSecure: Bool, limits: HTTP2Limits, now: Int64) {
    self.isServer = isServer
    self.isSecure = isSecure
    self.limits = limits
    self.now = now
    resets = FrameBudget(limits.resets, now: now)
    settings = FrameBudget(limits.settings, now: now)
    pings = FrameBudget(limits.pings, now: now)
    strays = FrameBudget(limits.strays, now: now)
    emptyData = FrameBudget(limits.emptyData, now: now)
    windowUpdates = FrameBudget(limits.windowUpdates, now: now)
    trickles = FrameBudget(limits.trickles, now: now)
  }

  // MARK: Events

  var hasEvents: Bool { nextEvent < events.count }

  /// Events kept in storage that an idle session does not give back.
  private static let keptEvents = 64

  mutating func note(_ event: StoredEvent) { events.append(event) }

  mutating func note(_ kind: StoredEvent.Kind, _ place: UInt32, _ first: UInt32 = 0, _ second: UInt32 = 0) {
    events.append(StoredEvent(kind: kind, place: place, first: first, second: second))
  }

  mutating func takeEvent() -> HTTP2Event? {
    if releasable != .max {
      streams.remove(releasable)
      releasable = .max
    }
    while nextEvent < events.count {
      let event = events[nextEvent]
      nextEvent += 1
      if let event = give(event) { return event }
    }
    if events.capacity > Self.keptEvents { events = [] } else { events.removeAll(keepingCapacity: true) }
    nextEvent = 0
    return nil
  }

  /// Makes the public event; nothing for one that the driver need not hear any more.
  private mutating func give(_ event: StoredEvent) -> HTTP2Event? {
    switch event.kind {
    case .goAway: return .goAway(lastStream: Int32(truncatingIfNeeded: event.second), HTTP2ErrorCode(code: event.first))
    case .settings: return .settings
    case .head, .data, .trailers, .ended, .writable, .closed, .reset: break
    }
    let record = streams[event.place]
    let stream = HTTP2Stream(id: record.pointee.id, place: event.place)
    let isHeard = !record.pointee.flags.contains(.resetHere)
    let range = Int(event.first)..<Int(max(event.first, event.second))
    switch event.kind {
    case .closed, .reset:
      let isKnown = record.pointee.flags.contains(.announced) && isHeard
      if isKnown { releasable = event.place } else { streams.remove(event.place) }
      guard isKnown else { return nil }
      return event.kind == .closed ? .closed(stream) : .reset(stream, HTTP2ErrorCode(code: event.first))
    case .head: return isHeard ? .head(stream, range, endsStream: event.endsStream, isTunnel: event.isTunnel) : nil
    case .data: return isHeard ? .data(stream, range) : nil
    case .trailers: return isHeard ? .trailers(stream, range) : nil
    case .ended: return isHeard ? .ended(stream) : nil
    case .writable: return isHeard ? .writable(stream) : nil
    case .goAway, .settings: return nil
    }
  }

  // MARK: Floods

  enum Flood { case reset, settings, ping, stray, emptyData, windowUpdate, trickle }

  /// Counts a frame; false when the peer has sent too many of its kind.
  mutating func allows(_ kind: Flood) -> Bool {
    switch kind {
    case .reset: resets.take(limits.resets, now: now)
    case .settings: settings.take(limits.settings, now: now)
    case .ping: pings.take(limits.pings, now: now)
    case .stray: strays.take(limits.strays, now: now)
    case .emptyData: emptyData.take(limits.emptyData, now: now)
    case .windowUpdate: windowUpdates.take(limits.windowUpdates, now: now)
    case .trickle: trickles.take(limits.trickles, now: now)
    }
  }

  /// Begins to count the CONTINUATION frames of a block.
  mutating func beginBlock() -> Bool {
    continuations = 0
    return true
  }

  /// Counts a CONTINUATION frame; false when the block has too many.
  mutating func continueBlock() -> Bool {
    continuations += 1
    return continuations <= limits.continuations
  }

  /// Notes a DATA frame that went out whole: the peer answers it with WINDOW_UPDATE frames, and may measure the path with a PING.
  @inline(__always)
  mutating func allowAnswers() {
    windowUpdates.allow(limits.windowUpdatesPerFrame, limits.windowUpdates)
    pings.allow(1, limits.pings)
  }
}
