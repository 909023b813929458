extension Settings {
  /// How the usage of a route's exchanges is learned: tokens, events and units of the upstream's.
  public struct UsageReading: Sendable, Hashable {
    /// The names of the formats that are known, as `format` takes them.
    public static let formats = ["openai-chat", "openai-responses", "openai-embeddings", "anthropic", "gemini", "ollama", "llama-cpp"]

    /// The format of requests and responses; nil: by path and content type.
    public var format: String?
    /// The output tokens that are held for a request that names no limit.
    public var defaultOutputTokens: UInt64 = 4096
    /// How many octets of content are taken for a token until the usage is reported.
    public var octetsPerToken: UInt64 = 4
    /// Whether a request whose worst case the budget cannot pay for is refused; otherwise the budget is its ceiling.
    public var refusesBeyondBudget = true
    /// Whether streams in OpenAI's format are asked for their usage.
    public var includesUsage = true
    /// Whether the client gets the event with the usage where only the proxy asked for it.
    public var keepsUsageChunk = false
    /// Whether compressed content is decoded to be read; otherwise the upstream is asked for none.
    public var decodesContent = false
    /// The response field or trailer in which the upstream reports units.
    public var unitsField = "Metered-Units"
    /// The units that are held before the upstream is asked.
    public var mostUnits: UInt64 = 0
    /// Most octets of request content that are buffered to be read: 413 beyond.
    public var bodyLimit = 8 << 20

    /// Makes the defaults.
    public init() {}
  }
}
