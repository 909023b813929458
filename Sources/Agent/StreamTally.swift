import Encoding
import Metering
import Usage

/// Counts what an answer brings, in the units in which answers are priced. It looks on while the octets pass.
struct StreamTally {
  /// What has come; tokens are a guess by the content's length until the server has told them.
  private(set) var quantities: Quantities
  /// Whether the tokens are such a guess.
  private(set) var isEstimate = false

  private var began: Instant?
  private var reader: UsageReader?
  private var estimator = TokenEstimator()

  init(requestOctets: UInt64) { quantities = Quantities(requestOctets: requestOctets) }

  /// Reads the usage of a language model's answer as it comes, where the address and the media type are of a known interface.
  mutating func readUsage(of request: AgentRequest, head: ReceivedHead) {
    guard head.first("content-encoding") == nil, let type = head.first("content-type") else { return }
    let path = Array(request.address.path.utf8)
    guard let format = UsageFormat(path: path.span.bytes), let framing = UsageFraming(contentType: Array(type.utf8).span.bytes) else { return }
    reader = UsageReader(format: format, framing: framing)
  }

  /// Takes the next octets, and the number of events that are whole by now.
  mutating func take(_ octets: [UInt8], events: UInt64, at now: Instant) {
    let start = began ?? now
    began = start
    quantities.responseOctets &+= UInt64(octets.count)
    quantities.events = events
    // A second that has begun counts whole.
    quantities.seconds = UInt64(clamping: (now - start).components.seconds) &+ 1
    reader?.read(octets.span.bytes)
    takeUsage()
  }

  private mutating func takeUsage() {
    guard let reader else { return }
    estimator.advance(toOctets: reader.contentOctets)
    guard let usage = reader.usage else {
      isEstimate = true
      quantities.outputTokens = estimator.tokens
      return
    }
    isEstimate = !reader.hasFinalUsage
    quantities.inputTokens = usage.input
    quantities.cachedInputTokens = usage.cachedInput
    quantities.outputTokens = isEstimate ? max(usage.output, estimator.tokens) : usage.output
  }
}

extension Quantities {
  /// Adds what two answers have brought.
  func adding(_ other: Quantities) -> Quantities {
    Quantities(
      requestOctets: requestOctets &+ other.requestOctets, responseOctets: responseOctets &+ other.responseOctets,
      events: events &+ other.events, seconds: seconds &+ other.seconds, inputTokens: inputTokens &+ other.inputTokens,
      cachedInputTokens: cachedInputTokens &+ other.cachedInputTokens, outputTokens: outputTokens &+ other.outputTokens,
      units: units &+ other.units)
  }
}
