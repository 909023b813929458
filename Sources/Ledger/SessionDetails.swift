import Bytes

/// What a session was opened for, kept once for all sessions that agree in it.
final class SharedTerms: Sendable {
  let terms: SessionTerms
  init(_ terms: SessionTerms) { self.terms = terms }
}

/// What is known of a session beside its balance: little, since there may be a million of them, which mostly rest.
struct SessionDetails {
  var id: Digest32
  var shared: SharedTerms
  /// Challenge ids that were used for it.
  var claims: SessionClaims
  /// What is known of its close; nil while it is open.
  private var close: SessionClose?

  init(id: Digest32, shared: SharedTerms, claims: [Digest32], cause: CloseCause? = nil, closeClaim: Digest32? = nil) {
    self.id = id
    self.shared = shared
    self.claims = SessionClaims(claims)
    if cause != nil || closeClaim != nil { close = SessionClose(cause: cause, claim: closeClaim, receipt: nil) }
  }

  var terms: SessionTerms { shared.terms }

  var cause: CloseCause? {
    get { close?.cause }
    set { close = SessionClose(cause: newValue, claim: close?.claim, receipt: close?.receipt) }
  }

  /// The claim of the close credential, whose answer is stored.
  var closeClaim: Digest32? {
    get { close?.claim }
    set { close = SessionClose(cause: close?.cause, claim: newValue, receipt: close?.receipt) }
  }

  /// Makes the close's answer; lost in a restart.
  var closeReceipt: (@Sendable (ReceiptFacts) -> [UInt8])? {
    get { close?.receipt }
    set { close = SessionClose(cause: close?.cause, claim: close?.claim, receipt: newValue) }
  }
}

/// What few sessions have at a time, and so stands by itself.
private final class SessionClose: Sendable {
  let cause: CloseCause?
  let claim: Digest32?
  let receipt: (@Sendable (ReceiptFacts) -> [UInt8])?

  init(cause: CloseCause?, claim: Digest32?, receipt: (@Sendable (ReceiptFacts) -> [UInt8])?) {
    self.cause = cause
    self.claim = claim
    self.receipt = receipt
  }
}

/// Challenge ids in the order of their use. Most sessions have used one, which takes no memory of its own.
struct SessionClaims {
  private(set) var first: Digest32?
  private var rest: [Digest32] = []

  init(_ claims: [Digest32]) {
    first = claims.first
    rest = Array(claims.dropFirst())
  }

  var count: Int { first == nil ? 0 : 1 + rest.count }

  var all: [Digest32] { first.map { [$0] + rest } ?? [] }

  mutating func append(_ claim: Digest32) {
    if first == nil { first = claim } else { rest.append(claim) }
  }
}

extension LedgerState {
  /// How many terms are known as shared; beyond that they are learnt anew.
  static let sharedTermsLimit = 4_096

  /// Gives terms as others have them already, octet by octet.
  mutating func share(_ terms: SessionTerms) -> SharedTerms {
    var image = ByteBuffer()
    image.put(terms)
    return share(terms, image: image.array())
  }

  mutating func share(_ terms: SessionTerms, image: [UInt8]) -> SharedTerms {
    if let known = sharedTerms[image] { return known }
    if sharedTerms.count >= Self.sharedTermsLimit { sharedTerms.removeAll() }
    let shared = SharedTerms(terms)
    sharedTerms[image] = shared
    return shared
  }
}
