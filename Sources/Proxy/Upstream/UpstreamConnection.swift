import Bytes
import HTTP
import IO

/// A connection to an upstream. Lives in a worker's slab.
struct UpstreamConnection: ~Copyable {
  enum State: UInt8 {
    case connecting
    /// In the pool.
    case idle
    /// Serves a client's exchange.
    case busy
    /// It served an upgraded connection: what it still says is thrown away.
    case linger
    /// Closed; the place is freed at the end of the turn.
    case closed
  }

  struct Flags: OptionSet {
    let rawValue: UInt16
    /// An edge said that there is something to receive.
    static let readable = Flags(rawValue: 1 << 0)
    static let peerClosing = Flags(rawValue: 1 << 1)
    /// It served a request before this one.
    static let reused = Flags(rawValue: 1 << 2)
    /// `output` holds the whole request so far, so that it can be sent again.
    static let replayable = Flags(rawValue: 1 << 3)
    /// An octet of a response has come.
    static let answering = Flags(rawValue: 1 << 4)
    /// The final head has come.
    static let headSeen = Flags(rawValue: 1 << 5)
    /// The connection may serve another request when this response is complete.
    static let persistent = Flags(rawValue: 1 << 6)
    static let listedReady = Flags(rawValue: 1 << 7)
    /// It takes no more octets, but may have answered before.
    static let deaf = Flags(rawValue: 1 << 8)
    /// It counts among the requests at its server.
    static let counted = Flags(rawValue: 1 << 14)
    /// It serves no request after this one: it began with this client's address, or its server has moved.
    static let last = Flags(rawValue: 1 << 15)
  }

  let descriptor: Int32
  /// Index of the server.
  let pool: Int
  var state: State
  var flags: Flags = []
  /// The client's connection that it serves.
  var downstream: Int32 = -1
  /// The request. The first `sentCount` octets have left.
  var output = ByteBuffer()
  var sentCount = 0
  /// Received and not used up: a partial head or chunk.
  var input = ByteBuffer()
  var progress = ContentProgress.complete
  var decoder = ChunkedDecoder()
  var deadline: Int64 = .max
  /// Which of the server's addresses it was opened to; nil for a Unix socket.
  var address: SocketAddress?

  init(descriptor: Int32, pool: Int, state: State) {
    self.descriptor = descriptor
    self.pool = pool
    self.state = state
  }

  @inline(__always) func has(_ flag: Flags) -> Bool { flags.contains(flag) }
  /// Octets of the request that have not left.
  @inline(__always) var unsentCount: Int { output.count - sentCount }
}
