import Bytes
import Crypto
import Encoding
import Gateway
import HTTP
import Ledger
import Metering
import Methods
import Payments

// What the cashier answers by itself: challenges, problems, and the refusals of the ledger.
extension Cashier {
  /// Seconds after which a client may try again where nothing is sold.
  private static var retryAfter: UInt32 { 5 }

  /// Whether the ledger takes new payments.
  var isSelling: Bool {
    guard let ledger else { return false }
    switch ledger.availability {
    case .selling: return true
    case .closingOnly, .unavailable: return false
    }
  }

  /// Whether the ledger can be asked at all: closes are taken where nothing is sold any more.
  var isAvailable: Bool {
    guard let ledger else { return false }
    switch ledger.availability {
    case .selling, .closingOnly: return true
    case .unavailable: return false
    }
  }

  /// The last entry that was applied: an answer that tells what the books say waits for it, since a commit that fails
  /// would make it untrue.
  var lastEntry: LSN { ledger?.applied ?? 0 }

  /// A problem document without a challenge.
  func problem(
    _ problem: PaymentProblem, detail: String? = nil, members: JSONObject? = nil, challengeID: String? = nil, after: LSN = 0,
    retryAfter: UInt32? = nil
  ) -> Answer {
    var lines = "Content-Type: application/problem+json\r\nCache-Control: no-store\r\n"
    if let retryAfter { lines += "Retry-After: \(retryAfter)\r\n" }
    return Answer(
      status: problem.status, fields: Array(lines.utf8),
      body: problem.document(origin: settings.origin, detail: detail, challengeID: challengeID, members: members), after: after)
  }

  /// 503: nothing is sold.
  /// When to ask again whether an operator has confirmed a session, in seconds.
  static let confirmationRetry: UInt32 = 60

  func unavailable() -> Answer { problem(.ledgerUnavailable, retryAfter: Self.retryAfter) }

  /// A 402 with fresh challenges and an invoice, or 429 where the client asked too often. `isCounted` says that the client's
  /// rate was asked about this challenge before.
  mutating func challenge(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ problem: PaymentProblem, detail: String? = nil,
    members: JSONObject? = nil, isCounted: Bool = false, at now: Timestamp
  ) -> Answer {
    guard problem.status == 402 else { return self.problem(problem, detail: detail, members: members) }
    // A challenge invites to pay, and the payment would be refused.
    guard isSelling else { return unavailable() }
    // Where a price had to be asked for, the client was counted before.
    if !isCounted, pricing.known == nil, offered == nil {
      switch admission.challenge(request.client, at: request.monotonic) {
      case .admitted: break
      case .refused(let seconds): return self.problem(.rateLimited, retryAfter: seconds)
      }
    }
    if pricing.isUnknown {
      // Never sent: the request is decided about again when the price is known.
      pricing.isNeeded = true
      return Answer(status: 402, fields: [], body: [])
    }
    guard let route = pricing.known ?? routes[Int(index)] else { return unavailable() }
    guard isPayable(route) else { return self.problem(.railUnavailable, retryAfter: Self.retryAfter) }
    var origin = ByteBuffer()
    appendOrigin(of: request, to: &origin)
    let method = UnsafeRawBufferPointer(rebasing: request.octets[request.head.pointee.methodRange])
    let digest = contentDigest(request, route)
    let order = order(request, route)
    fields.removeAll()
    body.removeAll()
    do throws(PaymentError) {
      try origin.withUnsafeBytes { origin throws(PaymentError) in
        try (hintedPrinter(route) ?? route.printer).print(
          ChallengeOccasion(
            method: method, origin: origin, path: request.path, query: request.query, digest: digest, now: now, nonce: Self.nonce(),
            order: order, problem: problem, detail: detail, members: members),
          secrets: keys.challengeSecrets, signer: keys.signer, scratch: &scratch, fields: &fields, body: &body)
      }
    } catch {
      return Answer(
        status: 414, fields: Array("Content-Type: application/problem+json\r\nCache-Control: no-store\r\n".utf8),
        body: Array(#"{"type":"about:blank","title":"URI Too Long","status":414}"#.utf8))
    }
    fields.append(Self.vary)
    countChallenge()
    appendX402(request, route, at: now)
    return Answer(status: 402, fields: fields.array(), body: body.array())
  }

  /// Adds what the route offers in x402 to the 402 that has been printed.
  private mutating func appendX402(_ request: borrowing PaidRequest, _ route: PricedRoute, at now: Timestamp) {
    guard var printer = keepsBatches(route.rails) ? route.rails.printer : route.rails.plainPrinter,
      route.rails.x402.contains(where: { isReachable($0) })
    else { return }
    if settings.x402.signs { printer.offerReceipt = offerReceipt }
    var origin = ByteBuffer()
    appendOrigin(of: request, to: &origin)
    origin.withUnsafeBytes { origin in
      let occasion = PaymentRequiredOccasion(
        origin: origin, path: request.path, query: request.query, now: now, nonce: printer.signIn == nil ? (0, 0) : signInNonce(Self.nonce().0), reason: chainReason)
      // A URL that leaves no room for the field is offered by the other dialects alone.
      guard (try? printer.appendField(occasion, correction: correction, to: &fields)) != nil, printer.speaksV1 else { return }
      // Version 1 reads the body: its members stand behind those of the problem document.
      body.truncate(to: body.count - 1)
      body.append(byte: 0x2C)
      printer.appendBodyMembers(occasion, to: &body)
      body.append(byte: 0x7D)
    }
  }

  /// Counts a credential that failed, and answers it.
  mutating func failed(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ problem: PaymentProblem, detail: String? = nil,
    members: JSONObject? = nil, at now: Timestamp
  ) -> Answer {
    if pricing.known == nil, offered == nil { admission.failed(request.client, at: request.monotonic) }
    return challenge(request, index, problem, detail: detail, members: members, at: now)
  }

  /// 429 for a client whose credentials failed too often: no more of them are looked at for a while.
  mutating func refusedByRate(_ request: borrowing PaidRequest, _ index: RouteIndex) -> Answer? {
    switch admission.credential(request.client, at: request.monotonic) {
    case .admitted: nil
    case .refused(let seconds): problem(.rateLimited, retryAfter: seconds)
    }
  }

  /// The SHA-256 of the content where the route binds it and it is here.
  func contentDigest(_ request: borrowing PaidRequest, _ route: PricedRoute) -> Digest32? {
    guard route.bindsDigest, case .buffered(let octets) = request.content, !octets.isEmpty else { return nil }
    return SHA256.hash(octets)
  }

  /// Whether payments on an offer's chain can be settled now.
  func isReachable(_ offer: RouteRails.Offer) -> Bool { chains?.isReachable(offer.chain, isFacilitated: offer.isFacilitated) ?? false }

  /// Whether any of a route's offers can be kept at the moment.
  private func isPayable(_ route: PricedRoute) -> Bool {
    let rails = route.rails
    guard rails.isAlone else { return true }
    return rails.x402.contains { isReachable($0) } || rails.charges.contains { isReachable($0.offer) } || rails.sessions.contains { isWatched($0) }
  }

  /// The offers to print, best first: as the client prefers them, and without those on chains that cannot be reached. Nil: all of them.
  private func order(_ request: borrowing PaidRequest, _ route: PricedRoute) -> [Int]? {
    let preferred = preference(request, route.printer)
    let footings = route.offerFootings
    guard !footings.allSatisfy({ isKept($0, route) }) else { return preferred }
    return (preferred ?? Array(footings.indices)).filter { isKept(footings[$0], route) }
  }

  private func isKept(_ footing: RouteRails.Footing, _ route: PricedRoute) -> Bool {
    switch footing {
    case .ledger: true
    case .chain(let chain): chains?.isReachable(chain) ?? false
    case .session(let place): isWatched(route.rails.sessions[place])
    }
  }

  private func preference(_ request: borrowing PaidRequest, _ printer: ChallengePrinter) -> [Int]? {
    guard request.head.pointee.has(.acceptPayment) else { return nil }
    var joined: [UInt8] = []
    for field in request.head.pointee.fields where field.name == .acceptPayment {
      if !joined.isEmpty { joined.append(UInt8(ascii: ",")) }
      joined.append(contentsOf: field.value(in: request.octets))
    }
    return joined.withUnsafeBytes { AcceptPayment($0) }.map { printer.order($0) }
  }

  /// Scheme and authority of the URL that the client used.
  func appendOrigin(of request: borrowing PaidRequest, to out: inout ByteBuffer) {
    guard !request.host.isEmpty else { return out.append(settings.origin) }
    out.append(scheme)
    out.append(request.host)
  }

  /// 16 fresh random octets.
  private static func nonce() -> (UInt64, UInt64) {
    var nonce: (UInt64, UInt64) = (0, 0)
    // Safe because: the pointer covers exactly the two integers and does not leave the closure.
    withUnsafeMutableBytes(of: &nonce) { Random.fill($0) }
    return nonce
  }

  /// What the ledger refused after a valid signature, for the audit log.
  struct RefusedPayment {
    var wallet: Digest32
    var session: Digest32?
    var amount: UInt128
    var currency: String
    var recipient: String
  }

  /// Answers a refusal of the ledger. One line of the audit log says why, where a wallet that exists was refused.
  mutating func answer(
    _ refusal: Refusal, _ request: borrowing PaidRequest, _ index: RouteIndex, _ credential: Credential?, _ payment: RefusedPayment?,
    at now: Timestamp
  ) -> Answer {
    let id = credential?.challenge.id
    switch refusal {
    case .unknownWallet, .walletExists:
      return failed(request, index, .paymentInsufficient, at: now)
    case .insufficientFunds(let required, _):
      record(payment, request, index, cause: "insufficient-funds")
      return failed(request, index, .paymentInsufficient, members: ["required": .string(String(required))], at: now)
    case .policy(let limit):
      record(payment, request, index, cause: limit.rawValue)
      admission.failed(request.client, at: request.monotonic)
      return problem(
        .policyDenied, detail: "The wallet's policy forbids this payment: \(limit.rawValue).", members: ["limit": .string(limit.rawValue)],
        challengeID: id)
    case .claimInFlight: return problem(.paymentInFlight, challengeID: id)
    case .claimSettled(let reference): return alreadyPaid(reference, id)
    case .claimExpired: return failed(request, index, .paymentExpired, at: now)
    case .alreadyOpen(let receipt):
      return problem(
        .alreadyOpen, members: ["receipt": .string(String(decoding: receipt, as: UTF8.self))], challengeID: id, after: lastEntry)
    case .sessionExists: return problem(.sessionExists, challengeID: id)
    case .unknownSession: return problem(.sessionNotFound, challengeID: id)
    case .sessionClosing, .sessionClosed, .channelSuspended: return problem(.sessionFinalized, challengeID: id)
    case .sessionUnconfirmed: return problem(.sessionUnconfirmed, challengeID: id, retryAfter: Self.confirmationRetry)
    case .insufficientBudget(let required):
      return challenge(request, index, .sessionInsufficientBalance, members: ["required": .string(String(required))], at: now)
    case .wrongWallet, .wrongTerms, .wrongBudgetSource:
      record(payment, request, index, cause: "session-mismatch")
      return problem(.sessionMismatch, challengeID: id)
    case .tooMany(.inFlight): return problem(.tooManyInFlight, retryAfter: 1)
    case .tooMany, .unavailable: return unavailable()
    case .paymentMismatch: return problem(.paymentInFlight, challengeID: id)
    case .unknownHold, .unknownCurrency, .unknownMerchant, .unknownReference, .referenceUsed, .alreadyRefunded, .malformedName, .unknownPayment,
      .unknownTransaction, .wrongNonce, .channelBusy, .beyondDeposit:
      return problem(.internalPaymentError, challengeID: id)
    case .overflow: return problem(.badRequest, detail: "The amount is beyond what accounts hold.", challengeID: id)
    case .outcomeInFlight: return problem(.idempotencyInFlight, retryAfter: 1)
    case .outcomeMismatch: return problem(.idempotencyMismatch)
    }
  }

  /// 403 for a credential that has been used: its payment stands, and no challenge invites to pay again.
  func alreadyPaid(_ reference: LSN, _ challengeID: String?) -> Answer {
    problem(.alreadyPaid, members: ["reference": .string(String(reference))], challengeID: challengeID, after: lastEntry)
  }

  private func record(_ payment: RefusedPayment?, _ request: borrowing PaidRequest, _ index: RouteIndex, cause: String) {
    guard let ledger, let payment, let route = routes[Int(index)] else { return }
    var event = AuditEvent(.paymentRefused)
    event.route = route.label
    event.client = request.client
    event.wallet = payment.wallet
    event.session = payment.session
    event.amount = payment.amount
    event.currency = payment.currency
    event.recipient = payment.recipient
    event.cause = cause
    ledger.record(event)
  }
}

extension PrepaidError {
  /// A sentence for the problem document; it names members, never octets that were sent.
  var detail: String {
    switch self {
    case .missing(let member): "The member \(member.rawValue) is missing."
    case .invalid(let member), .contradiction(let member): "The member \(member.rawValue) is malformed."
    case .unexpectedMember: "The payload has a member that its action does not know."
    case .unknownAction: "The payload's action is not one of the intent's."
    case .ambiguousProof: "A close carries either a preimage, or a wallet and its signature."
    case .sourceDiffers: "The source is not the payload's wallet."
    case .malformed: "The text is not one strict JSON object."
    case .malformedField: "Prepaid-Session is not \"<id>; key=<preimage>\"."
    }
  }
}
