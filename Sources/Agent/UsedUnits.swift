import Metering

/// What an answer has used by one part of its price, in the price's own words.
public struct UsedUnits: Equatable, Sendable {
  /// What is counted, in the plural: `octets`, `events`, `seconds`, `input tokens`.
  public let name: String
  /// How many; nil where only the server knows.
  public let count: UInt64?
  /// Whether the number is a guess until the server tells.
  public let isEstimate: Bool

  /// Names what a part counts.
  static func name(of unit: Unit) -> String {
    switch unit {
    case .request: "requests"
    case .requestByte: "octets sent"
    case .responseByte, .byte: "octets"
    case .requestMessage, .responseMessage, .message: "messages"
    case .second: "seconds"
    case .event: "events"
    case .inputToken: "input tokens"
    case .cachedInputToken: "cached input tokens"
    case .outputToken: "output tokens"
    case .call: "calls"
    case .reported: "units"
    }
  }

  /// How many of a unit there are in what has come; nil where only the server knows.
  static func count(of unit: Unit, in quantities: Quantities) -> UInt64? {
    switch unit {
    case .request, .call: 1
    case .requestByte: quantities.requestOctets
    case .responseByte: quantities.responseOctets
    case .byte: quantities.requestOctets &+ quantities.responseOctets
    case .second: quantities.seconds
    case .event: quantities.events
    case .inputToken: quantities.inputTokens
    case .cachedInputToken: quantities.cachedInputTokens
    case .outputToken: quantities.outputTokens
    case .requestMessage, .responseMessage, .message, .reported: nil
    }
  }
}
