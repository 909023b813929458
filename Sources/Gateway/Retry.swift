public import HTTP

/// Decides whether a request that an upstream connection lost is sent once more, on a new connection.
public enum Retry {
  /// Most times that one request is sent.
  public static let attemptLimit = 2

  /// What became of a request on a connection before a single octet of a response had come.
  public struct Attempt: Sendable, Hashable {
    /// How often it has been tried, this time included.
    public var number: Int
    /// Whether the connection had served another request before; such a one may have been closed meanwhile.
    public var isReused: Bool
    /// Whether an octet of the request was handed to the connection.
    public var isSent: Bool
    /// Whether all octets that were handed over are still there to be sent again.
    public var isReplayable: Bool

    public init(number: Int, isReused: Bool, isSent: Bool, isReplayable: Bool) {
      self.number = number
      self.isReused = isReused
      self.isSent = isSent
      self.isReplayable = isReplayable
    }
  }

  /// Says whether to send it again (RFC 9110 section 9.2.2).
  ///
  /// What never left may go again, whatever its method. What was sent may go again only where doing it twice means
  /// doing it once, and only after a reused connection: a new one that dies is an upstream that fails.
  public static func isAllowed(_ attempt: Attempt, method: Method) -> Bool {
    guard attempt.number < attemptLimit, attempt.isReplayable else { return false }
    return !attempt.isSent || (attempt.isReused && method.isIdempotent)
  }
}
