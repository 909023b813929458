import Bytes
import Coding
import Configuration
import Metering
import Payments
import Usage

/// Counts what an exchange uses whose price is one sum over events, tokens, seconds, units and octets. It looks on at the response's
/// content portion by portion, and keeps what was shown to it apart from what has passed.
///
/// An object, since few exchanges have one, and it is large.
final class Tally {
  private static let second: Int64 = 1_000_000_000

  let price: Price
  /// The change of the request's content by which the upstream reports usage.
  let change: IncludeUsage?
  /// What has been debited for the exchange.
  var tab: ExchangeTab
  /// What was handed to the client's connection.
  private(set) var passed: Quantities
  /// What may be handed to it.
  private var granted: Quantities
  /// What may be with the portion that was shown last.
  private var shown: Quantities
  /// A portion was shown and may not pass yet.
  private(set) var isPending = false
  /// How many octets that portion has.
  private(set) var shownCount = 0
  /// What of it goes to the client.
  private(set) var output = ByteBuffer()
  private let format: UsageFormat?
  private let octetsPerToken: UInt64
  /// Reads what the upstream reports; nil where nothing of it can be read.
  private var reader: UsageReader?
  /// Takes the usage chunk out that the proxy asked for.
  private var filter: UsageChunkFilter?
  /// Decodes content for the reader.
  private var decoder: ContentDecoder?
  /// Counts events where there is no reader.
  private var lines = EventStreamLines()
  /// The content is an event stream, in whatever coding.
  private var isEventStream = false
  /// The content's coding cannot be read, or broke.
  private var isUnreadable = false
  private let estimatedInput: UInt64
  private var estimator: TokenEstimator
  /// The output tokens that the content shown stands for, whatever was reported of it as the whole.
  private var estimatedOutput: UInt64 = 0
  /// The output tokens that count where none are reported, whatever passes: those of an answer that comes elsewhere.
  private let leastOutput: UInt64
  /// Whether what passes may have been generated for this exchange.
  private let countsTokens: Bool
  /// The output tokens that were reported last.
  private var reportedOutput: UInt64?
  /// Content octets of the response as they came.
  private var contentOctets: UInt64 = 0
  /// What the upstream says that the exchange costs, instead of its units.
  private var override: SettlementOverride?
  /// It has reported units, or a cost.
  private var hasReport = false
  /// What it reported behind the content.
  private var lastReport: UpstreamReport?
  /// When the first octet passed, on the loop's clock; each wait for money moves it on.
  private var clockStart: Int64?
  private var pausedAt: Int64?
  /// The response came whole, and reported no usage that could be read.
  private(set) var isUnreported = false

  /// Begins before the request is forwarded.
  ///
  /// - Parameter octets: the request's content as far as it is here.
  init(_ price: Price, _ request: RequestFacts, octetsPerToken: UInt64, octets: UInt64, tab: ExchangeTab) {
    self.price = price
    self.tab = tab
    self.octetsPerToken = octetsPerToken
    format = request.format
    change = request.change
    estimatedInput = request.estimatedInput
    estimator = TokenEstimator(octetsPerToken: octetsPerToken)
    countsTokens = price.countsTokens && !request.generatesNothing
    leastOutput = request.isBackground ? request.heldOutput : 0
    passed = Quantities(requestOctets: octets)
    if countsTokens {
      passed.inputTokens = request.estimatedInput
      passed.outputTokens = leastOutput
    }
    granted = passed
    shown = passed
  }

  // MARK: the response

  /// Takes the response's head.
  ///
  /// - Parameter removesUsage: whether the usage chunk was asked for by the proxy, and is not the client's. From encoded content nothing
  ///   can be taken out.
  func answered(contentType: UnsafeRawBufferPointer, coding: ContentCoding, isEventStream: Bool, removesUsage: Bool) {
    self.isEventStream = isEventStream
    if coding != .identity {
      do throws(CodingError) {
        decoder = try ContentDecoder(coding)
      } catch {
        isUnreadable = true
        return
      }
    }
    guard countsTokens, let format, let framing = UsageFraming(contentType: contentType.bytes) else { return }
    reader = UsageReader(format: format, framing: framing)
    if removesUsage, framing == .events, coding == .identity { filter = UsageChunkFilter() }
  }

  /// Takes what the upstream reports in the response's head: content leaves when that is paid for.
  func report(_ report: UpstreamReport) {
    if report.units != nil || report.override != nil { hasReport = true }
    if let units = report.units {
      passed.units = units
      granted.units = units
      shown.units = units
    }
    if let override = report.override { self.override = override }
  }

  /// Takes what it reports behind the content, which settles the exchange at its end: content that has left cannot wait for money any
  /// more, so no more than was held is debited then.
  func reportAtEnd(_ report: UpstreamReport) { lastReport = report }

  /// Looks at a portion of the response's content; again only when it has passed.
  func show(_ portion: UnsafeRawBufferPointer, at clock: Int64) {
    guard !isPending else { return tick(at: clock) }
    output.removeAll()
    shownCount = portion.count
    if filter != nil { filter?.filter(portion, into: &output) } else { output.append(portion) }
    contentOctets &+= UInt64(portion.count)
    read(portion)
    isPending = true
    count()
    tick(at: clock)
  }

  /// Whether content is decoded to be looked at.
  var isDecoding: Bool { decoder != nil && !isUnreadable }

  /// How many octets have been decoded.
  var decodedCount: UInt64 { decoder?.produced ?? 0 }

  private func read(_ portion: UnsafeRawBufferPointer) {
    guard !isUnreadable else { return }
    guard decoder != nil else { return look(portion) }
    do throws(CodingError) {
      try decoder?.decode(portion) { look($0) }
    } catch {
      isUnreadable = true
    }
  }

  private func look(_ content: UnsafeRawBufferPointer) {
    if reader != nil { reader?.read(content) } else if isEventStream { lines.count(content.bytes) }
  }

  private func count() {
    shown.responseOctets = granted.responseOctets &+ UInt64(output.count)
    if isEventStream {
      let events = reader?.events ?? lines.events
      shown.events = events - min(events, filter?.removedChunks ?? 0)
    }
    guard countsTokens else { return }
    guard let reader, !isUnreadable else {
      // What was read before the content could not be read any further counts at least.
      let octets = format == .openAIEmbeddings ? 0 : contentOctets
      estimatedOutput = max(estimatedOutput, TokenEstimator.tokens(ofOctets: octets, octetsPerToken: octetsPerToken), leastOutput)
      shown.outputTokens = estimatedOutput
      return
    }
    estimator.advance(toOctets: reader.contentOctets)
    estimatedOutput = max(estimatedOutput, estimator.tokens, leastOutput)
    guard let usage = reader.usage else {
      shown.outputTokens = estimatedOutput
      return
    }
    take(usage, isInputReported: reader.isInputReported)
    guard !reader.hasFinalUsage else { return }
    if usage.output != reportedOutput {
      reportedOutput = usage.output
      estimator.report(tokens: usage.output)
    }
    estimatedOutput = max(estimator.tokens, leastOutput)
    shown.outputTokens = estimatedOutput
  }

  private func take(_ usage: TokenUsage, isInputReported: Bool) {
    if isInputReported { (shown.inputTokens, shown.cachedInputTokens) = (usage.input, usage.cachedInput) }
    shown.outputTokens = usage.output
  }

  /// What has to be paid before the portion passes; nil past 128 bits.
  ///
  /// Once the upstream has reported the usage as the whole, that is no more than what the content stands for by the estimate: the rest
  /// of a report settles at the end, out of what is held.
  var shownCost: ExactCost? {
    guard let cost = cost(of: shown) else { return nil }
    guard override == nil, !isUnreadable, reader?.hasFinalUsage == true else { return cost }
    var estimated = shown
    (estimated.inputTokens, estimated.cachedInputTokens, estimated.outputTokens) = (estimatedInput, 0, estimatedOutput)
    return self.cost(of: estimated).map { min(cost, $0) } ?? cost
  }

  private func cost(of quantities: Quantities) -> ExactCost? {
    switch override {
    case .amount(let amount): ExactCost(whole: amount)
    case .share: override.map { ExactCost(whole: $0.cost(ofHeld: (tab.debited.adding(tab.held) ?? tab.debited).whole)) }
    case nil: price.cost(of: quantities)
    }
  }

  /// The portion that was shown may pass; the first one starts the clock.
  func grant(at clock: Int64) {
    granted = shown
    isPending = false
    if clockStart == nil { clockStart = clock }
  }

  /// What was granted is handed to the client's connection.
  func pass() { passed = granted }

  // MARK: time

  /// Counts the seconds that have begun.
  private func tick(at clock: Int64) {
    guard price.countsSeconds else { return }
    shown.seconds = seconds(at: clock)
  }

  private func seconds(at clock: Int64) -> UInt64 {
    guard let clockStart else { return isPending ? 1 : 0 }
    return UInt64(max(0, min(clock, pausedAt ?? clock) &- clockStart) / Self.second) + 1
  }

  /// Asks for the seconds that have begun while nothing passed.
  func showTime(at clock: Int64) {
    if !isPending { shown = granted }
    tick(at: clock)
  }

  /// The time that was shown is paid, though no portion was.
  func grantTime() {
    granted.seconds = max(granted.seconds, shown.seconds)
    passed.seconds = granted.seconds
  }

  /// There is money again: the clock goes on.
  func resume(at clock: Int64) {
    if let pausedAt, let start = clockStart { clockStart = start &+ (clock &- pausedAt) }
    pausedAt = nil
  }

  /// The exchange waits for money: the clock stands still.
  func pause(at clock: Int64) { if pausedAt == nil { pausedAt = clock } }

  /// When the next second begins, on the loop's clock; nil while the clock stands still.
  var nextSecond: Int64? {
    guard price.countsSeconds, let clockStart, pausedAt == nil else { return nil }
    return clockStart &+ Int64(clamping: granted.seconds) &* Self.second
  }

  // MARK: the request

  /// What the exchange comes to when more of the request's content passes.
  func cost(withRequest octets: UInt64) -> ExactCost? {
    var quantities = granted
    quantities.requestOctets &+= octets
    return cost(of: quantities)
  }

  /// Counts request content that went upstream.
  func sent(_ octets: UInt64) {
    passed.requestOctets &+= octets
    granted.requestOctets &+= octets
    shown.requestOctets &+= octets
  }

  // MARK: the end

  /// The response came whole: what the upstream reported takes the place of what was estimated. Appends what the filter kept.
  func complete(at clock: Int64, into output: inout ByteBuffer) {
    let before = output.count
    filter?.finish(into: &output)
    if let lastReport { report(lastReport) }
    shown = passed
    shown.responseOctets &+= UInt64(output.count - before)
    tick(at: clock)
    defer { passed = shown }
    // What is put between it and the proxy's own last event completes an event whose upstream left out its end.
    if isEventStream, reader?.isInsideEvent ?? lines.isInsideEvent { shown.events &+= 1 }
    isUnreported = isUnreadable && price.countsEvents && isEventStream || price.countsUnits && !hasReport && contentOctets > 0
    guard countsTokens else { return }
    reader?.finish()
    guard let reader, !isUnreadable, reader.hasFinalUsage, let usage = reader.usage else {
      isUnreported = true
      return
    }
    take(usage, isInputReported: reader.isInputReported)
  }

  /// What the exchange has used; never more than was debited for it.
  var used: ExactCost { min(cost(of: passed) ?? tab.debited, tab.debited) }

  /// What is to be debited at the end out of what is held, for the exchange has used more than was debited.
  var missingAtEnd: ExactCost { min(cost(of: passed)?.subtracting(tab.debited) ?? .zero, tab.held) }

  /// What receipts and the audit log count: tokens, else units, events, seconds or octets.
  var units: UInt64 {
    if price.countsTokens { return passed.inputTokens &+ passed.cachedInputTokens &+ passed.outputTokens }
    if price.countsUnits { return passed.units }
    if price.countsEvents { return passed.events }
    if price.countsSeconds { return passed.seconds }
    return passed.requestOctets &+ passed.responseOctets
  }
}
