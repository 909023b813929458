import Configuration
import Gateway
import MCP

/// What the relay needs of a route of type `mcp`, worked out once: which calls have which price.
final class MCPRoute: Sendable {
  /// What a request's target leads to.
  enum Choice: Equatable {
    case free
    /// Sold as the route at this place of the cashier's.
    case priced(RouteIndex)
  }

  private let patterns: [CallPattern]
  /// By pattern; nil: free.
  private let places: [RouteIndex?]
  private let pricesResources: Bool
  /// Most octets of a request's content: 413 beyond.
  let contentLimit: Int
  /// Most octets of an answer, or of one event, that are looked at before they leave.
  let answerLimit: Int
  /// Whether a call that failed (`isError`, or an error) costs what one that worked costs.
  let chargesErrors: Bool
  /// Whether a tool that is called without payment answers in the words of x402: where that is the first of the rails.
  let asksByX402: Bool

  /// Prepares a route whose variants stand at `places`, in their order; nil where it is none of this type.
  init?(_ route: Settings.Route, places: [RouteIndex]) {
    guard route.selector == .mcp else { return nil }
    var (patterns, chosen): ([CallPattern], [RouteIndex?]) = ([], [])
    for (variant, place) in zip(route.variants, places) {
      let sold = variant.price == nil ? nil : place
      for pattern in variant.patterns.compactMap({ CallPattern($0) }) {
        patterns.append(pattern)
        chosen.append(sold)
      }
    }
    self.patterns = patterns
    self.places = chosen
    pricesResources = zip(patterns, chosen).contains { $0.kind == .resource && $1 != nil }
    contentLimit = route.usage.bodyLimit
    answerLimit = route.calls.answerLimit
    chargesErrors = route.calls.chargesErrors
    asksByX402 = if case .x402? = route.rails.first { true } else { false }
  }

  /// Finds the price of a target.
  func choice(of target: CallTarget) -> Choice {
    guard let index = CallPattern.closest(to: target, in: patterns), let place = places[index] else { return .free }
    return .priced(place)
  }

  /// Whether a message names a resource that may be known to the upstream by another spelling, where that would be another price.
  func isAmbiguous(_ message: MCPRequest.Message) -> Bool {
    guard pricesResources, case .call(let target) = message.subject else { return false }
    guard message.isTargetCanonical else { return true }
    guard let plain = target.unescaped else { return false }
    let known = choice(of: plain)
    return known != .free && known != choice(of: target)
  }

  /// Everything that is sold.
  var sold: [RouteIndex] { places.compactMap { $0 } }
}
