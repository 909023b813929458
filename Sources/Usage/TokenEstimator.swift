/// Estimates how many tokens have passed from the octets of content, and learns from usage that is reported on the way.
///
/// Everything is whole numbers. The estimate is never below what was last reported, and starts at four octets a token.
public struct TokenEstimator: Hashable, Sendable {
  /// How many octets of content the starting ratio weighs as much as; what is reported of less content moves the ratio little.
  static let startingWeight: UInt64 = 256
  /// The most octets a token that may be configured to start with.
  public static let mostOctetsPerToken: UInt64 = 256

  /// Tokens and octets that the ratio is made of: the starting ones, and what reports have shown.
  private var ratioTokens: UInt64
  private var ratioOctets: UInt64
  private var octets: UInt64 = 0
  private var reportedTokens: UInt64?
  private var octetsAtReport: UInt64 = 0

  /// Starts with a number of octets a token, from 1 to `mostOctetsPerToken`; others are brought into that range.
  public init(octetsPerToken: UInt64 = 4) {
    let start = min(max(octetsPerToken, 1), Self.mostOctetsPerToken)
    ratioTokens = max(1, Self.startingWeight / start)
    ratioOctets = ratioTokens * start
  }

  /// The estimate for a number of octets without anything known of their content.
  public static func tokens(ofOctets octets: UInt64, octetsPerToken: UInt64 = 4) -> UInt64 {
    let divisor = max(1, octetsPerToken)
    return octets / divisor + (octets % divisor == 0 ? 0 : 1)
  }

  /// Takes the octets of content that have passed since the start; fewer than before are taken for as many.
  public mutating func advance(toOctets octets: UInt64) {
    self.octets = max(self.octets, octets)
  }

  /// Takes the tokens that were reported since the start, for the octets that have passed until now.
  ///
  /// A first report gives no ratio: it may count tokens that came before any content. Between two reports no more than a token an
  /// octet is learnt, for reasoning that is not shown would otherwise be taken for dense text.
  public mutating func report(tokens: UInt64) {
    if let reportedTokens {
      let passed = octets - octetsAtReport
      let gained = tokens > reportedTokens ? min(tokens - reportedTokens, passed) : 0
      learn(tokens: gained, octets: passed)
    }
    reportedTokens = tokens
    octetsAtReport = octets
  }

  private mutating func learn(tokens: UInt64, octets: UInt64) {
    guard tokens > 0, octets > 0 else { return }
    let (moreTokens, tokensOverflow) = ratioTokens.addingReportingOverflow(tokens)
    let (moreOctets, octetsOverflow) = ratioOctets.addingReportingOverflow(octets)
    // Both stay a ratio of what came before; past 2^63 octets nothing new is learnt.
    guard !tokensOverflow, !octetsOverflow else { return }
    ratioTokens = moreTokens
    ratioOctets = moreOctets
  }

  /// The tokens until now: those reported, and an estimate, rounded up, of what has passed since.
  public var tokens: UInt64 {
    let passed = octets - octetsAtReport
    let product = passed.multipliedFullWidth(by: ratioTokens)
    guard product.high < ratioOctets else { return .max }
    let (quotient, remainder) = ratioOctets.dividingFullWidth(product)
    let estimate = quotient &+ (remainder == 0 ? 0 : 1)
    let (sum, overflows) = (reportedTokens ?? 0).addingReportingOverflow(estimate)
    return overflows ? .max : sum
  }
}
