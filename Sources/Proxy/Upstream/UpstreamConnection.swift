import Bytes
import HTTP
import HTTP2
import IO

/// A connection to an upstream. Lives in a worker's slab.
struct UpstreamConnection: ~Copyable {
  enum State: UInt8 {
    case connecting
    /// TLS is being agreed on.
    case handshake
    /// It carries an HTTP/2 session; each of its streams is a connection of its own.
    case multiplexed
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
    /// What was taken from us waits in the transport: the socket has no room.
    static let unsent = Flags(rawValue: 1 << 9)
    /// The stream is over for both sides.
    static let streamOver = Flags(rawValue: 1 << 10)
    /// The end of the request was handed to the stream's session.
    static let requestEnded = Flags(rawValue: 1 << 11)
    /// Others wait for what comes of it.
    static let opening = Flags(rawValue: 1 << 12)
    /// Its session is looked at when the turn ends.
    static let listedFlush = Flags(rawValue: 1 << 13)
    /// It counts among the requests at its server.
    static let counted = Flags(rawValue: 1 << 14)
    /// It serves no request after this one: it began with this client's address, or its server has moved.
    static let last = Flags(rawValue: 1 << 15)
  }

  /// The socket; -1 for a stream.
  let descriptor: Int32
  var transport = Transport.plain
  /// The place of its TLS; -1: none.
  var secure: Int32 = -1
  /// The place of the HTTP/2 session that it carries, or is a stream of; -1: none.
  var session: Int32 = -1
  /// Where the stream stands in its session's list.
  var streamPlace: Int32 = -1
  /// What the session calls the stream; none before the request's head was handed over.
  var stream = HTTP2Stream.none
  /// Octets of content that the stream has given and may not give again yet.
  var unused = 0
  /// Trailer lines that came on the stream.
  var trailers = ByteBuffer()
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
