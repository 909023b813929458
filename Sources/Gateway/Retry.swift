public import HTTP

/// Decides whether a request that an upstream connection lost is sent anew, and at whose expense.
public enum Retry {
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
    /// Whether another server of the upstream can be used.
    public var hasOther: Bool

    public init(number: Int, isReused: Bool, isSent: Bool, isReplayable: Bool, hasOther: Bool = false) {
      self.number = number
      self.isReused = isReused
      self.isSent = isSent
      self.isReplayable = isReplayable
      self.hasOther = hasOther
    }
  }

  /// What is done about a request that was lost.
  public enum Decision: Equatable, Sendable {
    /// It fails.
    case fail
    /// It goes again, on a new connection: the old one had been closed behind our back, which is no failure.
    case again
    /// It goes to another server if the retry budget allows.
    case elsewhere
  }

  /// Decides, for a request that may be tried `retries` times beyond the first (RFC 9110 section 9.2.2).
  ///
  /// What never left may go again, whatever its method. What was sent may go again only where doing it twice means
  /// doing it once; to the same server only after a reused connection, for a new one that dies is a server that fails.
  public static func decision(_ attempt: Attempt, method: Method, retries: Int) -> Decision {
    guard attempt.number <= retries, attempt.isReplayable else { return .fail }
    guard !attempt.isSent || method.isIdempotent else { return .fail }
    if attempt.isReused { return .again }
    return attempt.hasOther || !attempt.isSent ? .elsewhere : .fail
  }
}
