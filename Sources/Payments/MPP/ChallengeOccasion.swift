import Bytes
import Encoding

/// The request that is answered by a 402, and why; its octets live as long as the call.
public struct ChallengeOccasion {
  /// The HTTP method's octets.
  public var method: UnsafeRawBufferPointer
  /// Scheme and authority of the URL that the client used: `https://api.example.com`.
  public var origin: UnsafeRawBufferPointer
  /// The canonical path.
  public var path: UnsafeRawBufferPointer
  /// The canonical query without its `?`; nil where there is none.
  public var query: UnsafeRawBufferPointer?
  /// SHA-256 of the request's content, where the route binds it.
  public var digest: Digest32?
  public var now: Timestamp
  /// 16 fresh random octets: the offers of one 402 share them, no two 402s do.
  public var nonce: (UInt64, UInt64)
  /// The offers to print, by index and best first; nil and none stand for all, since a 402 without a challenge must not be.
  public var order: [Int]?
  /// A problem of status 402.
  public var problem: PaymentProblem
  /// Stands in for the problem's own sentence.
  public var detail: String?
  /// Further members of the problem document.
  public var members: JSONObject?

  public init(
    method: UnsafeRawBufferPointer, origin: UnsafeRawBufferPointer, path: UnsafeRawBufferPointer, query: UnsafeRawBufferPointer?,
    digest: Digest32? = nil, now: Timestamp, nonce: (UInt64, UInt64), order: [Int]? = nil,
    problem: PaymentProblem = .paymentRequired, detail: String? = nil, members: JSONObject? = nil
  ) {
    self.method = method
    self.origin = origin
    self.path = path
    self.query = query
    self.digest = digest
    self.now = now
    self.nonce = nonce
    self.order = order
    self.problem = problem
    self.detail = detail
    self.members = members
  }
}
