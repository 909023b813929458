import Bytes
import Crypto
import Encoding
import Gateway
import HTTP
import Ledger
import Methods
import Payments

// `Idempotency-Key`: a paid request that is repeated gets its stored outcome, and is not charged twice.
extension Cashier {
  /// The longest key that is taken, in octets.
  private static var keyLimit: Int { 255 }

  /// What a request's key leads to.
  enum Repetition {
    /// The key is new: the request goes on under it.
    case fresh(OutcomeKey)
    case verdict(Verdict)
  }

  /// Looks a request's key up. Called after the payer is known, and before anything is claimed.
  ///
  /// The key is the payer's own, and bound to route, method, path and query; the content's digest tells whether it is the same request.
  mutating func outcome(_ request: borrowing PaidRequest, _ index: RouteIndex, payer: Digest32) -> Repetition {
    guard let ledger, let route = routes[Int(index)] else { return .verdict(.answer(unavailable())) }
    let digest: Digest32
    switch request.content {
    case .none: digest = SHA256.hash([UInt8]())
    case .buffered(let octets): digest = SHA256.hash(octets)
    case .streaming: return .verdict(.collectBody(limit: route.digestLimit))
    }
    guard !request.head.pointee.repeated.has(.idempotencyKey), let field = request.head.pointee.first(.idempotencyKey),
      field.valueCount > 0, Int(field.valueCount) <= Self.keyLimit
    else {
      return .verdict(.answer(problem(.badRequest, detail: "Idempotency-Key is one value of 1 to \(Self.keyLimit) octets.")))
    }
    let key = OutcomeKey(key: key(request, route, payer: payer, field.value(in: request.octets)), request: digest)
    switch ledger.outcome(key) {
    case nil: return .fresh(key)
    case .inFlight: return .verdict(.answer(problem(.idempotencyInFlight, retryAfter: 1)))
    case .mismatch: return .verdict(.answer(problem(.idempotencyMismatch)))
    case .stored(let stored): return .verdict(.answer(replay(stored)))
    }
  }

  private func key(
    _ request: borrowing PaidRequest, _ route: PricedRoute, payer: Digest32, _ value: UnsafeRawBufferPointer
  ) -> Digest32 {
    var hash = SHA256()
    hash.update(payer)
    // Each part behind its length: no two different requests give the same octets.
    func add(_ octets: UnsafeRawBufferPointer) {
      withUnsafeBytes(of: UInt64(octets.count).littleEndian) { hash.update($0) }
      hash.update(octets)
    }
    Array(route.name.utf8).withUnsafeBytes { add($0) }
    add(UnsafeRawBufferPointer(rebasing: request.octets[request.head.pointee.methodRange]))
    add(request.path)
    if let query = request.query { add(query) }
    hash.update(byte: request.query == nil ? 0 : 1)
    add(value)
    return hash.finalize()
  }

  /// The stored outcome of the first request; past the bound 409 with the receipt, so that nobody pays again.
  func replay(_ outcome: StoredOutcome) -> Answer {
    guard let body = outcome.body else {
      let receipt = String(decoding: outcome.receipt, as: UTF8.self)
      return problem(.outcomeNotKept, members: ["receipt": .string(receipt)], after: lastEntry)
    }
    guard outcome.status > 0 else { return Answer(status: 200, fields: [], body: body, after: lastEntry, isMessage: true) }
    return Answer(status: outcome.status, fields: outcome.head, body: body, after: lastEntry)
  }
}
