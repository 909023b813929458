import Bytes
import Crypto
import Encoding
import Ethereum
import Gateway
import HTTP
import Ledger
import Methods
import Payments

// Payments on chains as they are presented: what is new is compared with what is sold.
extension Cashier {
  // MARK: x402

  /// Resolves a payment of x402.
  mutating func x402(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ range: Range<Int>, _ field: PaymentPayload.Field, at now: Timestamp
  ) -> Verdict {
    defer { (chainReason, identifier, correction) = (nil, nil, nil) }
    let octets = UnsafeRawBufferPointer(rebasing: request.octets[range])
    return x402(request, index, at: now) { () throws(X402Error) in try PaymentPayload.parse(octets, field: field) }
  }

  /// Resolves the payment of x402 that a call's message carries.
  mutating func x402(_ request: borrowing PaidRequest, _ index: RouteIndex, paying payment: UnsafeRawBufferPointer, at now: Timestamp) -> Verdict {
    defer { (chainReason, identifier, correction) = (nil, nil, nil) }
    return x402(request, index, at: now) { () throws(X402Error) in
      let payload = try X402Transport.payment(meta: payment)
      guard payload.version == .v2 else { throw .unsupportedVersion }
      // A call's answer tells nothing of what the other schemes have charged.
      guard payload.scheme == .exact else { throw .unknownScheme }
      return payload
    }
  }

  private mutating func x402(
    _ request: borrowing PaidRequest, _ index: RouteIndex, at now: Timestamp, _ parse: () throws(X402Error) -> PaymentPayload
  ) -> Verdict {
    guard isAvailable else { return .answer(unavailable()) }
    if let refused = refusedByRate(request, index) { return .answer(refused) }
    let sold = soldOnChains(index, at: now).filter { $0.printer != nil }
    let payload: PaymentPayload
    do throws(X402Error) { payload = try parse() } catch {
      switch error.reason {
      // What can be read but is not sold here is told the offers anew.
      case .unsupportedScheme, .invalidNetwork: return .answer(failed(request, index, error.reason, at: now))
      default:
        guard !sold.isEmpty else { return .answer(failed(request, index, .methodUnsupported, at: now)) }
        admission.failed(request.client, at: request.monotonic)
        return .answer(problem(.badRequest, detail: "The payment of x402 cannot be read: \(error.reason.rawValue)."))
      }
    }
    if payload.scheme == .batchSettlement, let verdict = batch(request, index, payload, sold, at: now) { return verdict }
    if payload.scheme == .upto, let verdict = upto(request, index, payload, sold, at: now) { return verdict }
    identifier = paymentName(payload)
    let presented = PresentedPayment(dialect: .x402(payload.version), digest: SHA256.hash(JCS.serialize(.object(payload.payment.json))), credential: nil)
    for id in Self.ids(payload, sold) {
      if let view = ledger?.promise(id), view.isWithheld {
        if let verdict = goOn(request, index, withheld: view, presented, at: now) { return verdict }
      } else if let verdict = known(request, index, id, presented, at: now) {
        return verdict
      }
    }
    guard !sold.isEmpty else { return .answer(failed(request, index, .methodUnsupported, at: now)) }
    guard let rails = sold.first(where: { payload.match($0.requirements) != nil }), let printer = rails.printer,
      let place = payload.match(rails.requirements)
    else { return .answer(failed(request, index, X402Reason.invalidPaymentRequirements, at: now)) }
    guard printer.mismatchedExtension(in: payload) == nil else { return .answer(failed(request, index, X402Reason.extensionEchoMismatch, at: now)) }
    if let resource = payload.resource, !names(resource.url, request) {
      return .answer(failed(request, index, X402Reason.invalidPayload, at: now))
    }
    let offer = rails.x402[place]
    let charge: ChainCharge
    do throws(ChainChargeError) {
      charge = try ExactEVM.check(payload, against: rails.requirements[place], token: offer.token, wallets: .all, now: now)
    } catch { return .answer(failed(request, index, error.x402Reason, at: now)) }
    if let verdict = identify(request, index, payload, charge, presented, at: now) { return verdict }
    var facilitated: [UInt8]?
    if offer.isFacilitated {
      var content = ByteBuffer()
      var info = printer.resource
      info.url = self.resource(of: request).url
      guard FacilitatorRequest.append(payload, rails.requirements[place], resource: info, to: &content) else {
        return .answer(failed(request, index, X402Reason.invalidPaymentRequirements, at: now))
      }
      facilitated = content.array()
    }
    // How it was taken first, it goes on.
    guard routes[Int(index)]?.settlement.order == .after || ledger?.promise(charge.id) != nil else {
      return claim(request, index, offer, charge, presented, facilitated, at: now)
    }
    return withhold(request, index, offer, charge, presented, facilitated, at: now)
  }

  /// What a payment may be known as: version 1 does not say which token it is of.
  private static func ids(_ payload: PaymentPayload, _ sold: [RouteRails]) -> [Digest32] {
    let chain = payload.network.chainID
    var assets = payload.accepted?.assetAddress.map { [$0] } ?? []
    if payload.accepted == nil {
      for offer in sold.lazy.flatMap(\.x402) where offer.chain == chain && !assets.contains(offer.token.address) { assets.append(offer.token.address) }
    }
    let ids = assets.isEmpty ? [ChainCharge.id(payload.payment, chain: chain, asset: nil)] : assets.map { ChainCharge.id(payload.payment, chain: chain, asset: $0) }
    return ids.compactMap(\.self)
  }

  /// Whether a payment's unsigned `resource` is this request's. A query that leaves no room for the field is left out of the offer, and of
  /// what its payer echoes: the payment is bound to it nevertheless.
  func names(_ url: String, _ request: borrowing PaidRequest) -> Bool {
    let own = resource(of: request).url
    guard url != own, request.query != nil, let mark = own.utf8.firstIndex(of: 0x3F) else { return url == own }
    return url == own[..<mark]
  }

  /// What a route sells on chains, and what it sold there before its configuration changed: what was offered may still be paid.
  private func soldOnChains(_ index: RouteIndex, at now: Timestamp) -> [RouteRails] {
    guard let route = routes[Int(index)] else { return [] }
    return [route.rails] + route.former.filter { $0.until > now }.compactMap(\.rails)
  }

  /// Counts a payment of x402 that failed, and answers it with the offers and the reason.
  mutating func failed(_ request: borrowing PaidRequest, _ index: RouteIndex, _ reason: X402Reason, at now: Timestamp) -> Answer {
    chainReason = reason
    return failed(request, index, .verificationFailed, at: now)
  }

  // MARK: MPP's methods of chains

  /// How long after its challenge has expired a transaction's hash may be brought.
  private static var hashGrace: Duration { .seconds(3600) }

  /// Resolves a charge by the method `evm` or `tempo`.
  mutating func chainCharge(_ request: borrowing PaidRequest, _ index: RouteIndex, _ credential: Credential, at now: Timestamp) -> Verdict {
    guard isAvailable else { return .answer(unavailable()) }
    guard credential.challenge.intent == "charge" else { return .answer(failed(request, index, .methodUnsupported, at: now)) }
    guard credential.isAuthentic(keys.challengeSecrets) else {
      return .answer(failed(request, index, .invalidChallenge, detail: "The challenge was altered or not issued here.", at: now))
    }
    let presented = PresentedPayment(
      dialect: .mpp(method: credential.challenge.method), digest: SHA256.hash(JCS.serialize(.object(credential.payload))), credential: credential)
    let asked = ChargeRequest(credential.challenge.method, parsing: credential.request)
    if let id = asked?.id(credential) ?? asked?.id(proof: credential, terms(credential, at: now)), let verdict = known(request, index, id, presented, at: now) { return verdict }
    if isFenced(credential) { return .answer(failed(request, index, .invalidChallenge, detail: Self.beforeRestoration, at: now)) }
    guard let route = routes[Int(index)], let binding = try? RouteBinding(credential.opaque), isBound(binding, request, route),
      credential.challenge.realm == settings.realm, let quote = asked,
      let sold = soldOnChains(index, at: now).lazy.compactMap({ $0.charges.first { $0.request == quote } }).first
    else { return .answer(failed(request, index, .invalidChallenge, detail: Self.otherRequest, at: now)) }
    if let verdict = bindContent(request, index, credential, at: now) { return verdict }
    let charge: ChainCharge
    do throws(ChainChargeError) { charge = try check(quote, credential, sold.offer, at: now) } catch {
      return .answer(failed(request, index, error.problem, detail: error.detail, at: now))
    }
    // A transfer that was broadcast in time is judged by the time of its block: a node that was away is no reason to pay again.
    let isLate = charge.isHash && now < charge.expires + Self.hashGrace && ledger?.claimState(credential.challengeID) == nil
    if !isLate, let answer = spent(request, index, credential, at: now) { return .answer(answer) }
    return claim(request, index, sold.offer, charge, presented, nil, at: now)
  }

  private func terms(_ credential: Credential, at now: Timestamp) -> ChallengeTerms {
    let expires = credential.expires ?? now
    return ChallengeTerms(id: credential.challenge.id, realm: credential.challenge.realm, issued: expires - settings.expires, expires: expires)
  }

  /// Checks what needs no network, and signs for the fees where they are ours.
  private func check(
    _ quote: ChargeRequest, _ credential: Credential, _ offer: RouteRails.Offer, at now: Timestamp
  ) throws(ChainChargeError) -> ChainCharge {
    let terms = terms(credential, at: now)
    switch quote {
    case .evm(let charge):
      return try charge.check(
        try EVMChargePayload(parsing: credential.payload), source: credential.source, challenge: terms, token: offer.token,
        submitter: chains?.submitter(offer.chain), wallets: .all, now: now)
    case .tempo(let charge):
      // Signatures of keys that only the chain knows are taken by nobody here: nothing could be simulated before it is sent.
      let checked = try charge.check(
        try TempoChargePayload(parsing: credential.payload), source: credential.source, challenge: terms, token: offer.token, wallets: .refused,
        now: now)
      guard charge.feePayer, checked.transaction != nil else { return checked.charge }
      guard let key = chains?.sponsor(offer.chain) else { throw .feesNotSponsored }
      return try checked.sponsored(by: key, feeToken: offer.token.address)
    }
  }
}

extension ChainCharge {
  /// Whether it is a transaction that the payer has broadcast himself.
  fileprivate var isHash: Bool { if case .hash = means { true } else { false } }
}
