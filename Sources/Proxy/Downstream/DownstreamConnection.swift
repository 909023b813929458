import Bytes
import Gateway
import HTTP
import HTTP2
import IO
import Ledger

/// Where the content of a message that is being received stands.
enum ContentProgress: Equatable {
  /// All of it is here.
  case complete
  /// So many octets are missing.
  case length(UInt64)
  /// The connection's chunked decoder knows.
  case chunked
  /// It ends with the connection (responses only).
  case untilClose
  /// The HTTP/2 stream says when it ends.
  case stream

  init(_ framing: BodyFraming) {
    switch framing {
    case .none, .length(0): self = .complete
    case .length(let count): self = .length(count)
    case .chunked: self = .chunked
    case .untilClose: self = .untilClose
    }
  }
}

/// How the content of a message that we write is delimited.
enum OutgoingFraming: Equatable {
  /// There is none.
  case none
  /// The head said how long it is.
  case length
  case chunked
  /// It ends with the connection.
  case untilClose
  /// The HTTP/2 stream's end is its own.
  case stream
}

/// What is known of a client that has ended its direction, and may read on or have gone.
struct HalfClose {
  /// When that was noticed, on the loop's clock.
  let since: Int64
  /// Octets of content that it had been sent by then.
  let sent: UInt64
  /// It was sent more since.
  var isWritten = false
}

/// A client's connection and the one exchange that it may have in flight. Lives in a worker's slab.
struct DownstreamConnection: ~Copyable {
  /// What the connection is about.
  enum State: UInt8 {
    /// TLS is being agreed on.
    case handshake
    /// It carries an HTTP/2 session; each of its streams is a connection of its own.
    case multiplexed
    /// Between two requests; nothing of the next has come.
    case idle
    /// A part of a head has come.
    case head
    /// The content is collected for the cashier.
    case content
    /// The request waits for its entry in the ledger.
    case beforeForward
    /// The request waits for an upstream connection.
    case queued
    /// An upstream connection is ours: request and response pass.
    case exchange
    /// The upstream has given everything; the rest waits for grants.
    case ending
    /// The connection was switched to another protocol, whose octets pass both ways.
    case tunnel
    /// The cashier's answer waits for other exchanges.
    case pendingAnswer
    /// Everything is in `output` and leaves as it can.
    case answer
    /// The rest of an answered request's content is read and thrown away.
    case discard
    /// We have ended our direction and wait for the peer's.
    case linger
    /// Closed; the place is freed at the end of the turn.
    case closed
  }

  struct Flags: OptionSet {
    let rawValue: UInt32
    /// An edge said that there is something to receive.
    static let readable = Flags(rawValue: 1 << 0)
    /// The peer has ended its direction, or will have once everything is received.
    static let peerClosing = Flags(rawValue: 1 << 1)
    /// The peer's end was received.
    static let inputEnded = Flags(rawValue: 1 << 2)
    /// The socket is closed; only the exchange goes on.
    static let gone = Flags(rawValue: 1 << 3)
    /// The connection ends with the answer in progress.
    static let closing = Flags(rawValue: 1 << 4)
    /// The answer in progress was cut short: what is left must look so.
    static let broken = Flags(rawValue: 1 << 5)
    static let listedReady = Flags(rawValue: 1 << 6)
    static let listedWaiting = Flags(rawValue: 1 << 7)
    /// The final response's head has come from the upstream.
    static let headSeen = Flags(rawValue: 1 << 8)
    /// The client waits for 100 (Continue).
    static let expectsContinue = Flags(rawValue: 1 << 9)
    static let acceptsTrailers = Flags(rawValue: 1 << 10)
    /// The request carries a payment credential or another payment field.
    static let carriesCredential = Flags(rawValue: 1 << 11)
    /// `exchange` is in use.
    static let paid = Flags(rawValue: 1 << 12)
    /// The response's content is collected before its head leaves.
    static let withheld = Flags(rawValue: 1 << 13)
    static let eventStream = Flags(rawValue: 1 << 14)
    /// The budget is used up; grants are asked for again when the ledger moves.
    static let dry = Flags(rawValue: 1 << 15)
    /// A grant waits for the disk.
    static let awaitsGrant = Flags(rawValue: 1 << 16)
    /// An octet of the final response was handed to the socket.
    static let departed = Flags(rawValue: 1 << 17)
    /// Request content waits for a grant in `prepared`.
    static let requestHeld = Flags(rawValue: 1 << 18)
    /// An octet of the request was handed to an upstream connection.
    static let forwarded = Flags(rawValue: 1 << 19)
    /// The response's content has come whole.
    static let responseWhole = Flags(rawValue: 1 << 20)
    /// `collected` holds the request's whole content.
    static let collected = Flags(rawValue: 1 << 21)
    /// What was taken from us waits in the transport: the socket has no room.
    static let unsent = Flags(rawValue: 1 << 22)
    /// Every request is sent to the listener with TLS.
    static let redirects = Flags(rawValue: 1 << 28)
    /// The stream asks for another protocol (RFC 8441).
    static let tunnelAsked = Flags(rawValue: 1 << 29)
    /// Errors are told in the words of gRPC.
    static let grpc = Flags(rawValue: 1 << 31)
    /// The request of the stream ends with its head.
    static let contentless = Flags(rawValue: 1 << 26)
    /// The response of the stream ends with its head.
    static let headEnds = Flags(rawValue: 1 << 27)
    /// The stream's end was handed to its session.
    static let streamEnded = Flags(rawValue: 1 << 23)
    /// The stream is over for both sides: nothing more is said on it.
    static let streamOver = Flags(rawValue: 1 << 24)
    /// The connection's session, or for a stream its end, is looked at when the turn ends.
    static let listedFlush = Flags(rawValue: 1 << 25)
    /// The PROXY protocol's header that the connection begins with has not come whole.
    static let awaitsIntroduction = Flags(rawValue: 1 << 30)
  }

  /// The socket; -1 for a stream.
  let descriptor: Int32
  /// Whom the connection is with: who connected, or on whose behalf a trusted proxy says that it did.
  var peer: ClientAddress
  /// The peer's port; 0 where it has none.
  var peerPort: UInt16 = 0
  /// The number of the listener that it came from.
  let listener: Int32
  var transport = Transport.plain
  /// The place of its TLS; -1: none.
  var secure: Int32 = -1
  /// The place of the HTTP/2 session that it carries, or is a stream of; -1: none.
  var session: Int32 = -1
  /// What the session calls the stream.
  var stream = HTTP2Stream.none
  /// Where the stream stands in its session's list.
  var streamPlace: Int32 = -1
  /// Octets of a head at the front of what is written next: a stream's head and content go different ways.
  var headCount: Int32 = 0
  /// Octets that the stream's session had not sent at the last look.
  var queuedCount: Int32 = 0
  /// Why a broken stream ends.
  var streamError = HTTP2ErrorCode.internalError
  /// Whether the connection counts among its peer's.
  var isCounted = false
  var state = State.idle
  var flags: Flags = []

  /// Received and not used up: a partial head, pipelined requests, content that the upstream does not take yet.
  var input = ByteBuffer()
  /// To be sent: what the socket did not take, or what waits for `gate`.
  var output = ByteBuffer()
  /// The place of the pipe whose octets leave before anything else; -1: none.
  var pipe: Int32 = -1
  /// A request head that waits for an upstream connection; then request content that waits for a grant.
  var prepared = ByteBuffer()
  /// Request content for the cashier.
  var collected = ByteBuffer()
  /// The request's head while `collected` fills; the response's while it is withheld.
  var keptHead = ByteBuffer()
  /// A copy of the response's content, where it is kept for the request's repetition; `keptHead` then has its field lines.
  var copied = ByteBuffer()
  /// The cashier's lines for a withheld response.
  var keptFields = ByteBuffer()
  /// Response content that waits: for grants, for an event's end, or for the whole (withheld).
  var held = ByteBuffer()

  /// Nothing of `output` leaves before this entry is durable; 0: open. `LSN.max`: until it is known.
  var gate: LSN = 0
  var gateEpoch: UInt32 = 0

  /// Monotonic nanoseconds; what passes then depends on the state.
  var deadline: Int64 = .max
  /// When a dry exchange is given up; 0: it is not dry.
  var holdDeadline: Int64 = 0
  /// When the next second that is sold begins, or while the exchange waits for money, when its client is told so again; `Int64.max`: never.
  var secondEnds: Int64 = .max
  /// What is known of a client that has ended its direction while time is sold to it; nil: it has not.
  var halfClose: HalfClose?
  /// Content waits for the next turn of the loop, since much was decoded for it in this one.
  var awaitsTurn = false
  /// The time that is sold stands still, for want of money.
  var isPaused = false
  /// When the request's head began to come, later its content.
  var since: Int64 = 0
  /// Content octets received since then.
  var contentCount: UInt64 = 0
  var requestCount: UInt64 = 0
  /// The place of the request's record for the access log; -1: there is none.
  var access: Int32 = -1
  /// Octets of the response's content that were handed over.
  var contentSent: UInt64 = 0

  // The exchange.
  var upstream: Int32 = -1
  /// The server in whose queue the request stands; what an earlier request left in another one's does not count.
  var queuedAt: Int32 = -1
  /// The place of what is known of a switch to another protocol; -1: none was asked for.
  var tunnel: Int32 = -1
  var route: RouteIndex = 0
  var method = Method.other
  var minorVersion: UInt8 = 1
  var attempt: UInt8 = 0
  /// Interim responses that were passed on.
  var interimCount: UInt8 = 0
  /// The servers that failed the request.
  var tried: ServerSet = []
  /// What the request is hashed to a server by.
  var balanceKey: UInt64 = 0
  var client: ClientAddress
  var progress = ContentProgress.complete
  var decoder = ChunkedDecoder()
  var requestFraming = OutgoingFraming.none
  /// Octets of the head that was written for the upstream.
  var requestHeadCount: Int32 = 0
  var responseFraming = OutgoingFraming.none
  var responseStatus: UInt16 = 0
  /// The client may get other content than the upstream sent.
  var changesContent = false
  /// Most octets of `collected`, or of a withheld response.
  var collectLimit = 0
  var exchange = PaidExchange()
  var events = EventPassage()
  var pending: PendingAnswer?
  /// What the request was given of what its address has free.
  var freeRequests: [AddressVolumes.Counted] = []
  /// What is known of the exchange where its route leads to an MCP endpoint.
  var mcp: MCPExchange?
  /// Trailer lines of a stream's request.
  var requestTrailers = ByteBuffer()
  /// Trailer lines of the response, to be sent behind its last chunk.
  var trailers = ByteBuffer()

  init(descriptor: Int32, peer: ClientAddress, listener: Int32) {
    self.descriptor = descriptor
    self.peer = peer
    self.listener = listener
    client = peer
  }

  @inline(__always) func has(_ flag: Flags) -> Bool { flags.contains(flag) }
}
