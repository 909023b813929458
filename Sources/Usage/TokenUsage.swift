/// The tokens of one exchange, in parts that do not overlap, so that each can have its own price.
public struct TokenUsage: Hashable, Sendable {
  /// The most tokens of one part that are believed; a larger number is no usage.
  public static let most: UInt64 = 1 << 40

  /// The input tokens that did not come from a cache, those written into a cache included.
  public var input: UInt64
  /// The input tokens read from a cache.
  public var cachedInput: UInt64
  /// The output tokens: text, tool calls and reasoning, shown or not.
  public var output: UInt64
  /// How many of `input` were written into a cache, where the vendor says so.
  public var cacheWrite: UInt64

  /// Makes a usage of its parts.
  public init(input: UInt64 = 0, cachedInput: UInt64 = 0, output: UInt64 = 0, cacheWrite: UInt64 = 0) {
    self.input = input
    self.cachedInput = cachedInput
    self.output = output
    self.cacheWrite = cacheWrite
  }

  /// All input tokens, cached or not.
  public var wholeInput: UInt64 { input &+ cachedInput }
}

/// The counts of usage as a vendor reports them, before it is known what contains what.
///
/// A count that was not reported is nil; a count reported later takes its place, since all of them run up from the start.
struct ReportedCounts: Hashable, Sendable {
  var input: UInt64?
  var cachedInput: UInt64?
  var cacheWrite: UInt64?
  var output: UInt64?
  var reasoning: UInt64?
  var toolInput: UInt64?
  var total: UInt64?
  var timedInput: UInt64?
  var timedCachedInput: UInt64?
  var timedOutput: UInt64?

  /// Whether there is at least one number of tokens.
  var isEmpty: Bool {
    input == nil && output == nil && total == nil && timedInput == nil && timedOutput == nil && cachedInput == nil && cacheWrite == nil && reasoning == nil
  }

  /// Takes over what `other` reports.
  mutating func replace(by other: ReportedCounts) {
    input = other.input ?? input
    cachedInput = other.cachedInput ?? cachedInput
    cacheWrite = other.cacheWrite ?? cacheWrite
    output = other.output ?? output
    reasoning = other.reasoning ?? reasoning
    toolInput = other.toolInput ?? toolInput
    total = other.total ?? total
    timedInput = other.timedInput ?? timedInput
    timedCachedInput = other.timedCachedInput ?? timedCachedInput
    timedOutput = other.timedOutput ?? timedOutput
  }

  /// Takes over what `other` reports where it is more.
  ///
  /// Anthropic's counts are cumulative, and servers that speak its format send zeros in one of the two places.
  mutating func raise(to other: ReportedCounts) {
    func higher(_ one: UInt64?, _ two: UInt64?) -> UInt64? {
      guard let one, let two else { return one ?? two }
      return max(one, two)
    }
    input = higher(input, other.input)
    cachedInput = higher(cachedInput, other.cachedInput)
    cacheWrite = higher(cacheWrite, other.cacheWrite)
    output = higher(output, other.output)
  }

  /// OpenAI: cached and written tokens are part of the prompt's, reasoning is part of the completion's.
  ///
  /// Some vendors that speak the format count reasoning only in the total; what the total has beside the prompt is output.
  var insideInput: TokenUsage {
    var input = self.input ?? 0
    var output = self.output ?? 0
    var cached = cachedInput ?? 0
    if self.input == nil, self.output == nil, total == nil {
      cached = timedCachedInput ?? 0
      input = (timedInput ?? 0) &+ cached
      output = timedOutput ?? 0
    } else if let total {
      if self.input == nil { input = total > output ? total - output : 0 }
      if total > input { output = max(output, total - input) }
    }
    return Self.parts(input, cached, output, cacheWrite ?? 0)
  }

  /// The input of an embedding or a ranking, which has no output.
  var inputOnly: TokenUsage {
    Self.parts(input ?? total ?? 0, cachedInput ?? 0, 0, 0)
  }

  /// Anthropic: what was read from the cache and what was written into it stand beside the input.
  var besideInput: TokenUsage {
    let written = cacheWrite ?? 0
    return TokenUsage(input: (input ?? 0) &+ written, cachedInput: cachedInput ?? 0, output: output ?? 0, cacheWrite: written)
  }

  /// Gemini: cached tokens are part of the prompt's; thoughts stand beside the candidates', results of tools beside the prompt's.
  var besideCandidates: TokenUsage {
    let input = (self.input ?? 0) &+ (toolInput ?? 0)
    var output = (self.output ?? 0) &+ (reasoning ?? 0)
    if let total, self.input != nil, total > input { output = max(output, total - input) }
    return Self.parts(input, cachedInput ?? 0, output, 0)
  }

  /// llama.cpp's own form: `tokens_evaluated` is the whole prompt, `timings.cache_n` the part of it that was in the cache.
  var evaluated: TokenUsage {
    Self.parts(input ?? 0, timedCachedInput ?? 0, output ?? 0, 0)
  }

  private static func parts(_ input: UInt64, _ cached: UInt64, _ output: UInt64, _ written: UInt64) -> TokenUsage {
    let cached = min(cached, input)
    return TokenUsage(input: input - cached, cachedInput: cached, output: output, cacheWrite: min(written, input - cached))
  }
}
