import Bytes
import Encoding
import Gateway
import HTTP
import Ledger

// What the relay and the cashier say to each other. The relay moves octets and knows nothing of money; the
// cashier knows money and moves no octets. The cashier's functions that the relay calls, beside `admit`:
//
//   init(settings: Settings, ledger: Ledger?, keys: KeyRing)
//   mutating func admit(_ request: borrowing PaidRequest, at now: Timestamp) -> Verdict
//   mutating func answerOwn(_ request: borrowing PaidRequest, at now: Timestamp) -> Verdict
//       paths that are ours whatever the routes say (/.well-known/…, discovery documents); `.free`: not ours
//   mutating func resume(_ pending: inout PendingAnswer, at now: Timestamp) -> Answer?
//   mutating func answered(_ exchange: inout PaidExchange, status: UInt16, isEventStream: Bool,
//       contentLength: UInt64?, fields: inout ByteBuffer, at now: Timestamp) -> AnswerGate
//   mutating func collected(_ exchange: inout PaidExchange, status: UInt16, fields: UnsafeRawBufferPointer,
//       body: UnsafeRawBufferPointer?, at now: Timestamp) -> LSN
//       after `.withhold`: the whole response is here (`body` nil: it was longer than the limit); the result
//       must be durable before the first octet leaves
//   mutating func grant(_ exchange: inout PaidExchange, wanted: UInt64, atLeast: UInt64, at now: Timestamp) -> GrantResult
//       response content that may leave now. `atLeast` (1 … wanted) is the first whole event of an event stream, so
//       that none is cut where the budget ends: fewer are no use, and then the stream is dry. Granted octets that were
//       not `delivered` yet are granted again by the next call
//   mutating func delivered(_ exchange: inout PaidExchange, _ octets: UInt64)
//   mutating func sent(_ exchange: inout PaidExchange, _ octets: UInt64, at now: Timestamp) -> GrantResult
//       asks for request content and uses up what is granted at once
//   mutating func grantFrame(_ exchange: inout PaidExchange, isClients: Bool, octets: UInt64, messages: UInt64, at now: Timestamp)
//       -> GrantResult
//   mutating func grantOctets(_ exchange: inout PaidExchange, isClients: Bool, wanted: UInt64, at now: Timestamp) -> GrantResult
//   mutating func grantSeconds(_ exchange: inout PaidExchange, _ seconds: UInt64, at now: Timestamp) -> GrantResult
//       on an upgraded connection: what is granted counts as used …
//   mutating func takeBack(_ exchange: inout PaidExchange, isClients: Bool, octets: UInt64)
//       … but for octets that did not pass before its end
//   func mustStop(_ exchange: borrowing PaidExchange) -> Bool
//       asked for every exchange when `ledger.changes` moved
//   mutating func finish(_ exchange: inout PaidExchange, _ end: ExchangeEnd, at now: Timestamp) -> FinalParts
//       called exactly once for each PaidExchange

/// The content of a request, as far as it is known when the cashier is asked.
enum RequestContent {
  /// The request has no content.
  case none
  /// All of it is here (after `Verdict.collectBody`).
  case buffered(UnsafeRawBufferPointer)
  /// It is still to come; nil where it is chunked.
  case streaming(length: UInt64?)

  /// Whether there is none.
  var isNone: Bool {
    switch self {
    case .none: true
    case .buffered, .streaming: false
    }
  }
}

/// One request as the cashier sees it. Everything points into the worker's buffers and is valid during the call.
struct PaidRequest: ~Copyable {
  /// The head's octets; the offsets of `head` count from its first.
  let octets: UnsafeRawBufferPointer
  /// The decoded head.
  let head: UnsafePointer<RequestHead>
  /// The route it matched; nil for paths of our own.
  let route: RouteIndex?
  /// The authority that was asked for: the Host field's value, or the absolute target's.
  let host: UnsafeRawBufferPointer
  /// The canonical path.
  let path: UnsafeRawBufferPointer
  /// The canonical query without its question mark; nil where there is none.
  let query: UnsafeRawBufferPointer?
  let content: RequestContent
  let client: ClientAddress
  /// The monotonic clock at this turn of the loop, in nanoseconds: rate limits count by it.
  let monotonic: Instant
  /// Whether it asks for another protocol that its route passes on.
  var isUpgrade = false
  /// Whether it is a call whose credential stands in its message.
  var isCall = false
  /// What a call asks for, in place of the content that it came in; nil elsewhere.
  var question: [UInt8]?
}

/// What the cashier decides about a request.
enum Verdict {
  /// Forward it, unpaid (a listed free method, a preflight for the upstream).
  case free
  /// Answer it; nothing is forwarded.
  case answer(Answer)
  /// An answer that has to wait for other exchanges (a close): asked for again by `resume`.
  case pending(PendingAnswer)
  /// Buffer the whole content (413 where it is longer) and ask again.
  case collectBody(limit: Int)
  /// Ask what the request costs, keep it, and ask again.
  case awaitPrice(PriceQuestion)
  /// Have its payment settled on its chain, keep it, and ask again.
  case awaitSettlement(SettlementOrder)
  /// Forward it, paid.
  case paid(PaidExchange)
}

/// An answer of our own, complete but for framing, date and connection fields.
struct Answer {
  var status: UInt16
  /// Field lines, each ended by CRLF.
  var fields: [UInt8]
  var body: [UInt8]
  /// Nothing of it leaves before this entry is durable (0: at once).
  var after: LSN = 0
  /// Whether the connection ends with it.
  var closes = false
  /// Whether the body is a response of JSON-RPC that was kept for a call, under the id of that.
  var isMessage = false
}

/// The state of an answer that waits for a session's exchanges to end.
struct PendingAnswer {
  /// The session that is closing.
  var session: Digest32
  /// When the waiting began.
  var since: Timestamp
  /// The entry that has to be durable first.
  var after: LSN = 0
  /// Handed back to the cashier as they came.
  var claim: Digest32?
  var stub: ReceiptStub?
  var corsLines: [UInt8] = []
}

/// Says when the response may begin to leave.
enum AnswerGate {
  /// When this entry is durable (0: at once).
  case reply(after: LSN)
  /// Collect the whole content up to the limit first, then call `collected`; or `withheld`, where the exchange is settled after it.
  case withhold(limit: Int)
  /// Give it up: nothing of it leaves, and it costs nothing.
  case refuse
}

/// Says how many octets of content may pass now.
enum GrantResult {
  /// So many (`atLeast` or more, at most what was wanted), durably paid.
  case granted(UInt64)
  /// None before this entry is durable; ask again then.
  case waitDurable(LSN)
  /// None: the budget is used up. Ask again when `ledger.changes` moved.
  case dry(Dry)
  /// None ever again: the session is closing or frozen.
  case stop
}

/// A budget that has run dry in the middle of an exchange.
struct Dry {
  /// The event to put between two events of an event stream; empty where it was said before or is no event stream.
  var event: [UInt8]
}

/// How an exchange ended.
enum ExchangeEnd {
  /// The response was handed to the client's connection whole.
  case complete
  /// The upstream could not be reached, refused, or failed; `beforeHead`: its head had not come.
  case upstreamFailed(beforeHead: Bool)
  /// The upstream broke off in the middle of its response.
  case upstreamBroke
  /// The client's connection ended. `requestForwarded`: an octet of the request had gone upstream.
  case clientLeft(requestForwarded: Bool, headSeen: Bool, safe: Bool)
  /// The client left and the upstream's head did not come within the abandon timeout.
  case abandoned(safe: Bool)
  /// The session is closing or frozen.
  case sessionStopped
  /// Nobody topped the session up in time.
  case holdTimeout
  /// The ledger was reloaded: its handles and numbers are void.
  case ledgerLost
}

/// What the end of an exchange adds to the response.
struct FinalParts {
  /// A trailer field line with CRLF, for a chunked response whose client takes trailers.
  var trailer: [UInt8] = []
  /// A last event, for an event stream.
  var event: [UInt8] = []
  /// Nothing of either, nor of an answer, leaves before this entry is durable.
  var after: LSN = 0
  /// What to answer where no octet of a response has left; nil: the relay's own problem document.
  var answer: Answer?
  /// Field lines for that answer: by which a page of another origin may read it, and what became of the payment.
  var fieldLines: [UInt8] = []
}
