import Bytes
import Gateway
import HTTP
import Ledger
import MCP

/// Counts the octets of answers that a worker keeps: to look at them, and then for clients that read slowly.
final class MCPMemory {
  /// The most octets of all exchanges together.
  static let limit = 128 << 20

  private let metrics: WorkerMetrics
  fileprivate(set) var heldCount = 0 {
    didSet { metrics.octetsOfMessages.set(UInt64(heldCount)) }
  }

  init(_ metrics: WorkerMetrics) { self.metrics = metrics }
}

/// What is known of one exchange with an MCP endpoint between its request and the end of its answer.
///
/// A class, since it belongs to one connection in many, and moves nowhere.
final class MCPExchange {
  /// How the client is told what it has to pay, and what it has paid.
  enum Dialect {
    /// In messages (draft-payment-transport-mcp-00).
    case messages
    /// In messages, beside the status and the fields that a client of HTTP looks for.
    case both
    /// In status and fields alone: the credential came in a field.
    case fields
  }

  /// What becomes of the answer's content.
  enum Passage {
    /// It passes.
    case whole
    /// It is collected, looked at and then let go.
    case collected
    /// Its events are looked at one by one.
    case events
  }

  /// A request of the content that waits for its response.
  struct Call {
    let identifier: RPCIdentifier
    let subject: MCPRequest.Subject
    /// What pays for it; nil where it is free.
    var exchange: PaidExchange?
    /// The response has come, or never will.
    var isAnswered = false
    /// It was refused, or manages a session: what to answer in place of a response.
    var answer: Answer?
    var presentsCredential = false
    /// Whether the client is told in the words of x402 what it has to pay.
    var speaksX402 = false
    var manages = false
    /// Tells whether the client has cancelled it; nil where nothing pays for it.
    var cancellation: CallCancellation?
    var isCancelled: Bool { cancellation?.isCancelled ?? false }
  }

  let route: MCPRoute
  let dialect: Dialect
  let isBatch: Bool
  var calls: [Call] = []
  /// Where the calls that were paid for can be cancelled; nil where there are none.
  var scope: Digest32?
  /// Which call the connection's own `exchange` pays for.
  var leading = 0
  var passage = Passage.whole
  var events = MCPEvents()
  /// A client can ask for the rest of the stream later, by the id of an event that it has got.
  var isResumable = false
  /// What of the answer is kept, in octets.
  private var heldCount = 0
  private let memory: MCPMemory
  /// The answer is written in the client's dialect already.
  var isTranslated = false

  init(_ route: MCPRoute, memory: MCPMemory, dialect: Dialect, isBatch: Bool = false) {
    self.route = route
    self.memory = memory
    self.dialect = dialect
    self.isBatch = isBatch
  }

  deinit { memory.heldCount -= heldCount }

  /// Notes how many octets of the answer are kept now, those that wait for the client included; false where the worker keeps too many.
  func keep(_ count: Int) -> Bool {
    memory.heldCount += count - heldCount
    heldCount = count
    return count == 0 || memory.heldCount <= MCPMemory.limit
  }

  /// Whether something is to be put into the answer: a receipt, prices, or what the proxy can do.
  var isLookedFor: Bool {
    calls.contains { call in
      switch call.subject {
      case .list, .capabilities: true
      case .call, .other: call.exchange != nil
      }
    }
  }

  /// Whether a call that was paid for has no response yet.
  var awaitsResponses: Bool { calls.contains { $0.exchange != nil && !$0.isAnswered } }

  /// How a call ended whose exchange came to `end`: one that its client had cancelled ends as if the client had left.
  func end(_ end: ExchangeEnd, of call: Int, isForwarded: Bool, isHeadSeen: Bool) -> ExchangeEnd {
    guard calls.indices.contains(call), calls[call].isCancelled else { return end }
    switch end {
    case .upstreamFailed, .upstreamBroke: return .clientLeft(requestForwarded: isForwarded, headSeen: isHeadSeen, safe: false)
    case .complete, .clientLeft, .abandoned, .sessionStopped, .holdTimeout, .ledgerLost: return end
    }
  }

  /// Which call a response belongs to: the only one, or the one of its id.
  func call(for identifier: RPCIdentifier) -> Int? {
    if !isBatch { return calls.isEmpty ? nil : 0 }
    return calls.firstIndex { $0.identifier == identifier }
  }
}
