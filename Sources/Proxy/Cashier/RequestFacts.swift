import Bytes
import Configuration
import HTTP
import Usage

/// What a request tells of the tokens that it will use.
struct RequestFacts {
  /// What is held for an image, a sound or a file, besides its octets: vendors count each by rules of their own.
  private static let mediaTokens: UInt64 = 2048
  /// Octets of an encoded image, sound or file that are taken for one token.
  private static let mediaOctetsPerToken: UInt64 = 256
  /// What is held for input that is kept at the vendor's, and whose size the request does not tell.
  private static let storedTokens: UInt64 = 16_384
  /// What each request has besides its content: roles, separators and the like.
  private static let ownTokens: UInt64 = 64

  /// The format of request and response; nil where none is known.
  var format: UsageFormat?
  /// The input tokens that are billed where none are reported.
  var estimatedInput: UInt64 = 0
  /// The input tokens that are held before the upstream is asked: more than the estimate, since what was not held cannot be billed.
  var heldInput: UInt64 = 0
  /// The output tokens that are held before the upstream is asked.
  var heldOutput: UInt64 = 0
  /// The change of the content by which the upstream reports usage.
  var change: IncludeUsage?
  /// Servers may read the request differently from this reading, and what it costs depends on that.
  var isAmbiguous = false
  /// The answer comes later, and its usage is reported elsewhere: the output that is held counts until the usage is known.
  var isBackground = false
  /// What was generated earlier is asked for: no tokens are used.
  var generatesNothing = false
  /// The content cannot be read, though its format is known: nobody can tell what the request may come to cost.
  var isUnreadable = false

  /// Knows nothing: the price does not count tokens.
  init() {}

  /// Reads a request.
  init(_ request: borrowing PaidRequest, usage: Settings.UsageReading) {
    format = usage.format.flatMap { UsageFormat(name: $0) } ?? UsageFormat(path: request.path.bytes)
    heldOutput = usage.defaultOutputTokens
    switch request.content {
    case .none:
      guard UsageFormat.isStored(path: request.path.bytes) else { return }
      generatesNothing = true
      heldOutput = 0
    case .streaming(let length): estimate(length ?? UInt64(usage.bodyLimit), usage)
    case .buffered(let octets):
      guard let format, !octets.isEmpty else {
        estimate(UInt64(octets.count), usage)
        return
      }
      guard !request.head.pointee.has(.contentEncoding),
        let reading = try? RequestReading(octets.bytes, format: format, path: request.path.bytes)
      else {
        isUnreadable = true
        return
      }
      take(reading, usage)
      // A digest of the content would not hold for the changed one.
      if usage.includesUsage, !request.head.pointee.has(.contentDigest) { change = reading.includeUsage }
    }
  }

  private mutating func estimate(_ octets: UInt64, _ usage: Settings.UsageReading) {
    estimatedInput = TokenEstimator.tokens(ofOctets: octets, octetsPerToken: usage.octetsPerToken)
    heldInput = Self.sum(estimatedInput, estimatedInput, Self.ownTokens)
  }

  private mutating func take(_ reading: RequestReading, _ usage: Settings.UsageReading) {
    isAmbiguous = reading.isAmbiguous
    isBackground = reading.isBackground
    estimate(reading.contentOctets, usage)
    let (media, overflows) = reading.mediaCount.multipliedReportingOverflow(by: Self.mediaTokens)
    let stored = reading.refersToStoredInput ? Self.storedTokens : 0
    let besides = Self.sum(overflows ? .max : media, reading.mediaOctets / Self.mediaOctetsPerToken, stored)
    heldInput = min(Self.sum(heldInput, besides, 0), TokenUsage.most)
    let (output, passes) = usage.defaultOutputTokens.multipliedReportingOverflow(by: reading.completions)
    heldOutput = min(reading.outputLimit ?? (passes ? .max : output), TokenUsage.most)
    if format == .openAIEmbeddings { heldOutput = 0 }
  }

  private static func sum(_ first: UInt64, _ second: UInt64, _ third: UInt64) -> UInt64 {
    let (sum, overflows) = first.addingReportingOverflow(second)
    let (whole, passes) = sum.addingReportingOverflow(third)
    return overflows || passes ? .max : whole
  }
}
