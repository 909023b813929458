/// What an exchange has used, by what prices count.
public struct Quantities: Sendable, Hashable {
  /// Octets of request content.
  public var requestOctets: UInt64
  /// Octets of response content.
  public var responseOctets: UInt64
  /// Server-sent events that carry data.
  public var events: UInt64
  /// Seconds since the first octet of content was delivered, those left out in which the exchange waited for money.
  public var seconds: UInt64
  /// Tokens of input that did not come from a cache.
  public var inputTokens: UInt64
  /// Tokens of input that came from a cache.
  public var cachedInputTokens: UInt64
  /// Tokens of output.
  public var outputTokens: UInt64
  /// Units that the upstream reported.
  public var units: UInt64

  /// Makes quantities; what is left out is nothing.
  public init(
    requestOctets: UInt64 = 0, responseOctets: UInt64 = 0, events: UInt64 = 0, seconds: UInt64 = 0, inputTokens: UInt64 = 0,
    cachedInputTokens: UInt64 = 0, outputTokens: UInt64 = 0, units: UInt64 = 0
  ) {
    self.requestOctets = requestOctets
    self.responseOctets = responseOctets
    self.events = events
    self.seconds = seconds
    self.inputTokens = inputTokens
    self.cachedInputTokens = cachedInputTokens
    self.outputTokens = outputTokens
    self.units = units
  }
}
