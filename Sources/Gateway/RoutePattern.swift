import HTTP

/// Numbers the routes in the order of the configuration.
public typealias RouteIndex = UInt16

/// Which requests belong to a route.
public struct RoutePattern: Sendable, Hashable {
  /// Host names in lower case, without port; none means every host.
  public var hosts: [String]
  /// The paths.
  public var path: PathPattern
  /// The methods; GET brings HEAD with it.
  public var methods: MethodSet

  /// Makes a pattern; of every host and method where none are named.
  public init(hosts: [String] = [], path: PathPattern, methods: MethodSet = .any) {
    self.hosts = hosts
    self.path = path
    self.methods = methods
  }
}

/// A set of canonical paths.
public enum PathPattern: Sendable, Hashable {
  /// This path only.
  case exact(String)
  /// The path itself and what is below it, segment by segment: `/v1` has `/v1` and `/v1/x` but not `/v10`; `/v1/` has
  /// what begins so.
  case prefix(String)
  /// Segments of which some are `{named}` and stand for any one that is not empty: `/v1/{id}/x`.
  case segments(String)

  /// Segments of the longest pattern.
  public static let segmentLimit = 64
  /// Octets of the longest pattern.
  public static let lengthLimit = 2048

  /// The pattern as it is written.
  public var text: String {
    switch self {
    case .exact(let text), .prefix(let text), .segments(let text): text
    }
  }
}
