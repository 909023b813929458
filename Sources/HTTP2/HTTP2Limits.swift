/// Bounds of a session, all of what a peer may make it keep or do.
///
/// An idle session holds 18 KB, nearly all of it nghttp2's. A busy one holds at most, besides: `concurrentStreams` × (`streamQueue`
/// outgoing and about 0.7 KB), one header block, and `outboundFrames` control frames of 0.2 KB: 6.9 MB with the standard values. What the
/// relay keeps of incoming content is bounded by `streamWindow` for each stream.
public struct HTTP2Limits: Sendable, Hashable {
  /// Streams that the peer may have open at once; beyond it they are refused with REFUSED_STREAM.
  public var concurrentStreams = 100
  /// Octets of content of one stream that the peer may send before the relay has used any up: the initial window.
  public var streamWindow = 65_536
  /// Octets of content of all streams that may be on their way: the connection's window.
  public var connectionWindow = 1 << 20
  /// Octets of content of one stream that wait for the peer's window.
  public var streamQueue = 65_536
  /// Octets in a stream's queue below which a driver that was turned away hears `writable`.
  public var streamLowMark = 16_384
  /// Octets of a head, as HTTP/1.1 writes it, that are handed on. What is larger is cut there, so that the relay's decoder,
  /// whose own bound is not above it, refuses it with 414 or 431 and the connection lives.
  public var head = 32_768
  /// Octets of a header list (RFC 9113 section 6.5.2: 32 for each field) that end its stream: 16 times `head`, so that
  /// what nghttp2 decodes for one block stays bounded.
  public var headerBlock = 1 << 19
  /// Octets of a trailer section.
  public var trailers = 8_192
  /// Fields of a trailer section.
  public var trailerCount = 32
  /// Octets of a header list of ours, compressed at worst; a stream with a larger one is reset with INTERNAL_ERROR.
  public var sentBlock = 1 << 17
  /// CONTINUATION frames of one header block.
  public var continuations = 8
  /// Entries of one SETTINGS frame.
  public var settingsEntries = 32
  /// Frames that wait in nghttp2 to be taken as output, content excluded.
  public var outboundFrames = 1_000

  /// Streams that a client, or a fault of the client's, may reset. A server is not limited, for it resets only what was asked of it.
  public var resets = FrameRate(burst: 200, perSecond: 30)
  /// SETTINGS frames, acknowledgements excluded.
  public var settings = FrameRate(burst: 32, perSecond: 2)
  /// PING frames, acknowledgements excluded; each DATA frame that goes out allows one more, since gRPC measures with them.
  public var pings = FrameRate(burst: 64, perSecond: 10)
  /// Streams beyond `concurrentStreams`, PRIORITY frames, and RST_STREAM of streams that are gone.
  public var strays = FrameRate(burst: 400, perSecond: 50)
  /// DATA frames without content that do not end their stream.
  public var emptyData = FrameRate(burst: 64, perSecond: 10)
  /// WINDOW_UPDATE frames; each DATA frame that goes out allows `windowUpdatesPerFrame` more.
  public var windowUpdates = FrameRate(burst: 1_000, perSecond: 100)
  /// WINDOW_UPDATE frames that one DATA frame of ours may cause.
  public var windowUpdatesPerFrame = 4
  /// DATA frames that the peer's window cut to fewer than `trickle` octets.
  public var trickles = FrameRate(burst: 256, perSecond: 20)
  /// Octets below which a frame cut by the peer's window counts as a trickle.
  public var trickle = 256

  /// Sets the standard limits.
  public init() {}

  /// Sets the standard limits, and those that follow from how large heads may be.
  ///
  /// - Parameters:
  ///   - head: octets of a received head that are handed on.
  ///   - sentHead: octets of the longest head that is sent, as HTTP/1.1 writes it.
  ///   - streams: streams that may be open at once.
  public init(head: Int, sentHead: Int, streams: Int) {
    self.head = head
    concurrentStreams = streams
    headerBlock = max(headerBlock, 16 * head)
    sentBlock = max(sentBlock, 4 * sentHead)
    // A frame has room for 16 KiB, and some peers leave half of it empty.
    continuations = max(continuations, head / 8_192)
  }

  /// The limits that the proxy uses unless it is configured otherwise.
  public static let standard = HTTP2Limits()
}

/// How many frames of a kind are let through: so many at once, and so many more each second.
public struct FrameRate: Sendable, Hashable {
  /// Frames at once.
  public var burst: Int
  /// Frames a second.
  public var perSecond: Int

  /// Makes a rate.
  public init(burst: Int, perSecond: Int) {
    self.burst = burst
    self.perSecond = perSecond
  }
}

/// What is left of a `FrameRate`.
struct FrameBudget {
  private var tokens: Int
  private var filledAt: Int64

  init(_ rate: FrameRate, now: Int64) {
    tokens = rate.burst
    filledAt = now
  }

  /// Takes one frame; false when too many came.
  mutating func take(_ rate: FrameRate, now: Int64) -> Bool {
    if tokens == 0 { fill(rate, now: now) }
    guard tokens > 0 else { return false }
    tokens &-= 1
    return true
  }

  /// Allows more frames, up to the burst.
  @inline(__always)
  mutating func allow(_ count: Int, _ rate: FrameRate) { tokens = min(tokens &+ count, rate.burst) }

  /// Looks at the clock only when nothing is left.
  private mutating func fill(_ rate: FrameRate, now: Int64) {
    guard rate.perSecond > 0 else { return }
    let nanosecondsEach = Int64(1_000_000_000 / rate.perSecond)
    let earned = max(0, now &- filledAt) / max(1, nanosecondsEach)
    guard earned > 0 else { return }
    tokens = Int(min(Int64(rate.burst), earned))
    filledAt = now
  }
}
