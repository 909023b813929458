import Encoding
import Metering

// How an answer goes on whose connection was lost. `Resumption` decides; what it decides is done here.
extension AgentAnswer {
  /// Whether the answer is an event stream.
  var isEventStream: Bool { head.mediaType == "text/event-stream" }

  /// By which means the rest of this answer could be had.
  var wayOn: Resumption.Way {
    guard purchase.agent.options.continuesLostAnswers else { return .none }
    let request = purchase.request
    if !request.isSafe {
      let isKept = (head.contentLength).map { $0 > 0 && $0 <= UInt64(Resumption.replayByteLimit) } ?? false
      return purchase.isKeyed && isKept && (200..<300).contains(head.status) && !isEventStream ? .replay : .none
    }
    guard request.method == "GET", head.status == 200, !costsAnew else { return .none }
    if isEventStream { return .events }
    guard !request.has("range"), let total = head.contentLength, total > 0, let validator = strongValidator else { return .none }
    let units = head.all("accept-ranges").flatMap { $0.lowercased().split(separator: ",") }
    guard units.contains(where: { $0.filter { $0 != " " && $0 != "\t" } == "bytes" }) else { return .none }
    return .range(validator: validator, total: total)
  }

  /// Whether another answer would be paid for beside what it brings.
  private var costsAnew: Bool {
    guard let payment else { return false }
    switch payment.kind {
    case .charge: return true
    case .opened, .session: return meter?.costsAnew ?? true
    }
  }

  /// The entity tag, where it is one that promises the same octets (RFC 9110 section 8.8.1).
  private var strongValidator: String? {
    guard let tag = head.first("etag"), tag.hasPrefix("\""), tag.hasSuffix("\""), tag.utf8.count > 2 else { return nil }
    return tag
  }

  /// Whether what has come until now is enough to ask for the rest.
  private var canContinue: Bool {
    switch resumption.way {
    case .none: false
    case .events: position?.isContinuable == true && position?.lastEventID != nil
    case .range(_, let total): byteCount > 0 && byteCount < total
    case .replay: true
    }
  }

  /// Asks for the rest until it comes, or the failure that began it has to be told.
  ///
  /// - Returns: whether the body goes on; false where the server says that nothing more follows.
  func resume(after failure: AgentError) throws(AgentError) -> Bool {
    var action = resumption.receive(.lost(retry: position?.retry, canContinue: canContinue))
    body.discard()
    if let session = payment?.session { try? learnFigures(of: session) }
    while true {
      switch action {
      case .proceed:
        purchase.observe(.resumed)
        return true
      case .end: return false
      case .fail: throw failure
      case .reconnect(let wait, let attempt):
        position?.breakOff()
        purchase.observe(.resuming(after: wait, attempt: attempt))
        try purchase.agent.client.pause(for: wait)
        action = resumption.receive(try askForRest())
      }
    }
  }

  private func askForRest() throws(AgentError) -> Resumption.Event {
    do throws(AgentError) {
      return resumption.way == .replay ? try replay() : try askAgain()
    } catch {
      switch error {
      case .answerLost: return .lost(retry: position?.retry, canContinue: canContinue)
      case .noUsableOffer, .sessionGone: return .refused
      default:
        guard error.isLoss else { throw error }
        return .lost(retry: position?.retry, canContinue: canContinue)
      }
    }
  }

  private func askAgain() throws(AgentError) -> Resumption.Event {
    let request = purchase.request
    var fields = request.fields.filter { !Self.placeFields.contains($0.name.lowercased()) }
    switch resumption.way {
    case .events:
      if let id = position?.lastEventID { fields.append(AgentRequest.Field(name: "Last-Event-ID", value: id)) }
    case .range(let validator, _):
      fields.append(AgentRequest.Field(name: "Range", value: "bytes=\(byteCount)-"))
      fields.append(AgentRequest.Field(name: "If-Range", value: validator))
    case .none, .replay: return .refused
    }
    let again = try AgentRequest(method: request.method, address: request.address, fields: fields, content: request.content)
    let next = Purchase(continuing: purchase, request: again)
    // What was topped up counts, even where no answer came.
    defer { purchase.spending = next.spending }
    let answer = try next.answered()
    purchase = next
    guard continues(answer.head) else {
      answer.body.discard()
      return answer.head.status == 204 && resumption.way == .events ? .nothingMore : .refused
    }
    try adopt(answer)
    return .continued
  }

  /// The fields that say from where on; those of the last attempt are replaced.
  private static let placeFields: Set<String> = ["last-event-id", "range", "if-range"]

  private func continues(_ next: ReceivedHead) -> Bool {
    switch resumption.way {
    case .events: next.status == 200 && next.mediaType == "text/event-stream"
    case .range(let validator, let total):
      // Any other part, or a part of another whole, does not follow on what was handed out (RFC 9110 sections 14.4 and 15.3.7.3).
      next.status == 206 && next.first("etag") == validator && next.first("content-range") == "bytes \(byteCount)-\(total - 1)/\(total)"
    case .none, .replay: false
    }
  }

  /// Goes on with another answer's body.
  private func adopt(_ answer: RawAnswer) throws(AgentError) {
    body = answer.body
    prefix = answer.prefix
    earlier = earlier.adding(tally.quantities)
    earlierEventCount = eventCount
    tally = StreamTally(requestOctets: 0)
    hasTimedOut = false
    pause = nil
    if scanner != nil { scanner = PaymentEventScanner() }
    try settle(answer.head)
  }

  /// Has the answer to an unsafe request sent once more from where the server keeps it, and goes on behind what was handed out.
  private func replay() throws(AgentError) -> Resumption.Event {
    guard let answer = try purchase.replayed(), answer.head.status == head.status else { return .refused }
    let octets = answer.prefix + (try answer.body.collect(limit: Resumption.replayByteLimit))
    guard UInt64(octets.count) == head.contentLength, octets.starts(with: delivered) else { return .refused }
    body = answer.body
    prefix = Array(octets[delivered.count...])
    return .continued
  }
}
