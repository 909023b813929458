import HTTP

/// Names the rule that a set of routes breaks, and the routes that break it, by their index.
public enum GatewayError: Error, Hashable, Sendable {
  /// A path that is not absolute, canonical and within `PathPattern`'s limits.
  case pathInvalid(route: Int)
  /// A `{segment}` that is empty, unclosed or only part of a segment.
  case segmentInvalid(route: Int)
  /// A host that is no lower-case host name.
  case hostInvalid(route: Int)
  /// A route that serves no method.
  case methodsEmpty(route: Int)
  /// Two routes that serve the same host, path and method.
  case conflict(route: Int, with: Int)
  /// More routes than an index can name.
  case tooManyRoutes
}
