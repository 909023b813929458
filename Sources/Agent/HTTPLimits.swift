/// Bounds what the agent's HTTP client waits for and takes in.
public struct HTTPLimits: Sendable {
  /// The longest wait for one address to answer a connect.
  public var connect: Duration = .seconds(10)
  /// The longest wait for the head of an answer after the request was sent; a paid retry is answered within 35 s.
  public var head: Duration = .seconds(60)
  /// The longest time in which the server takes no octet of the request.
  public var writeStall: Duration = .seconds(30)
  /// The longest silence inside a body. A stream that waits for a top-up is silent for up to its route's hold timeout.
  public var bodySilence: Duration = .seconds(90)
  /// How long a large request waits for `100 Continue` before it is sent anyway (RFC 9110 section 10.1.1).
  public var continueWait: Duration = .seconds(1)
  /// The age after which an idle connection is not used again; servers close theirs at about a minute.
  public var idleAge: Duration = .seconds(20)
  /// The time for everything together, nil for no limit.
  public var whole: Duration?

  /// The octets of content from which on the server is asked before they are sent.
  static let expectByteCount: UInt64 = 1 << 20
  /// The interim answers (1xx) that are taken before one final answer.
  static let interimLimit = 16
  /// The idle connections that are kept.
  static let idleConnectionLimit = 8
  /// The octets of an unwanted body that are read to save a connection.
  static let drainByteLimit = 262_144
  /// The octets of one document of the server: problem, keys, wallet report.
  static let documentByteLimit = 1 << 20

  /// Makes the limits that suit a server on the same continent.
  public init() {}
}
