import Bytes
import Crypto
import Encoding
import Ethereum
import Gateway
import HTTP
import Ledger
import Methods
import Payments

/// How a payment on a chain was presented, and what its receipt needs.
struct ChainReceipt: Sendable {
  enum Dialect: Sendable {
    case x402(X402Version)
    case mpp(method: String)
  }

  let dialect: Dialect
  let chain: UInt64
  let payer: Address
  let transaction: Digest32?
}

// Payments on chains: claimed once, settled by the desk, served once.
extension Cashier {
  /// Seconds after which a request whose payment is pending may be repeated.
  private static var pendingRetry: UInt32 { 5 }

  // MARK: x402

  /// Resolves a payment of x402.
  mutating func x402(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ range: Range<Int>, _ field: PaymentPayload.Field, at now: Timestamp
  ) -> Verdict {
    defer { chainReason = nil }
    guard isAvailable else { return .answer(unavailable()) }
    if let refused = refusedByRate(request, index) { return .answer(refused) }
    let sold = soldOnChains(index, at: now).filter { $0.printer != nil }
    guard !sold.isEmpty else { return .answer(failed(request, index, .methodUnsupported, at: now)) }
    let payload: PaymentPayload
    do throws(X402Error) {
      payload = try PaymentPayload.parse(UnsafeRawBufferPointer(rebasing: request.octets[range]), field: field)
    } catch {
      switch error.reason {
      // What can be read but is not sold here is told the offers anew.
      case .unsupportedScheme, .invalidNetwork: return .answer(failed(request, index, error.reason, at: now))
      default:
        admission.failed(request.client, at: request.monotonic)
        return .answer(problem(.badRequest, detail: "The payment of x402 cannot be read: \(error.reason.rawValue)."))
      }
    }
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
      charge = try inTime(at: now, orThen: [payload.payment.lastMoment]) { (time) throws(ChainChargeError) in
        try ExactEVM.check(payload, against: rails.requirements[place], token: offer.token, wallets: .all, now: time)
      }
    } catch { return .answer(failed(request, index, error.x402Reason, at: now)) }
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
    return pay(request, index, offer, charge, .x402(payload.version), nil, facilitated, at: now)
  }

  /// Whether a payment's unsigned `resource` is this request's. A query that leaves no room for the field is left out of the offer, and of
  /// what its payer echoes: the payment is bound to it nevertheless.
  private func names(_ url: String, _ request: borrowing PaidRequest) -> Bool {
    let own = resource(of: request).url
    guard url != own, request.query != nil, let mark = own.utf8.firstIndex(of: 0x3F) else { return url == own }
    return url == own[..<mark]
  }

  /// What a route sells on chains, and what it sold there before its configuration changed: what was offered may still be paid.
  private func soldOnChains(_ index: RouteIndex, at now: Timestamp) -> [RouteRails] {
    guard let route = routes[Int(index)] else { return [] }
    return [route.rails] + route.former.filter { $0.until > now }.compactMap(\.rails)
  }

  /// Checks a payment now. One that has run out meanwhile is checked as of a moment when it held, and counts where it is known: money that
  /// moved is never asked for again.
  private func inTime(
    at now: Timestamp, orThen moments: [Timestamp], _ check: (Timestamp) throws(ChainChargeError) -> ChainCharge
  ) throws(ChainChargeError) -> ChainCharge {
    do throws(ChainChargeError) { return try check(now) } catch {
      guard case .expired = error else { throw error }
      for moment in moments where moment < now {
        guard let charge = try? check(moment), ledger?.payment(charge.id) != nil else { continue }
        return charge
      }
      throw error
    }
  }

  /// Counts a payment of x402 that failed, and answers it with the offers and the reason.
  private mutating func failed(_ request: borrowing PaidRequest, _ index: RouteIndex, _ reason: X402Reason, at now: Timestamp) -> Answer {
    chainReason = reason
    return failed(request, index, .verificationFailed, at: now)
  }

  // MARK: MPP's methods of chains

  /// Resolves a charge by the method `evm` or `tempo`.
  mutating func chainCharge(_ request: borrowing PaidRequest, _ index: RouteIndex, _ credential: Credential, at now: Timestamp) -> Verdict {
    guard isAvailable else { return .answer(unavailable()) }
    guard credential.challenge.intent == "charge" else { return .answer(failed(request, index, .methodUnsupported, at: now)) }
    guard credential.isAuthentic(keys.challengeSecrets) else {
      return .answer(failed(request, index, .invalidChallenge, detail: "The challenge was altered or not issued here.", at: now))
    }
    guard let route = routes[Int(index)], let binding = try? RouteBinding(credential.opaque), isBound(binding, request, route),
      credential.challenge.realm == settings.realm, let quote = ChargeRequest(credential.challenge.method, parsing: credential.request),
      let known = soldOnChains(index, at: now).lazy.compactMap({ $0.charges.first { $0.request == quote } }).first
    else { return .answer(failed(request, index, .invalidChallenge, detail: Self.otherRequest, at: now)) }
    if let verdict = bindContent(request, index, credential, at: now) { return verdict }
    let charge: ChainCharge
    do throws(ChainChargeError) {
      let expires = credential.expires ?? now
      let moments = [expires - .seconds(10), expires - settings.expires + .seconds(1)]
      charge = try inTime(at: now, orThen: moments) { (time) throws(ChainChargeError) in try check(quote, credential, known.offer, at: time) }
    } catch {
      return .answer(failed(request, index, error.problem, detail: error.detail, at: now))
    }
    if let view = ledger?.payment(charge.id) {
      // A transaction is everybody's to see once it was broadcast: it pays for the challenge that it was brought with, and no other.
      guard view.challengeID == credential.challengeID else {
        return .answer(problem(.paymentMismatch, challengeID: credential.challenge.id))
      }
    } else if let answer = spent(request, index, credential, at: now) {
      // What is under way or settled is found by its own name; an unused challenge has to be in time.
      return .answer(answer)
    }
    return pay(request, index, known.offer, charge, .mpp(method: quote.method), credential, nil, at: now)
  }

  /// Checks what needs no network, and signs for the fees where they are ours.
  private func check(
    _ quote: ChargeRequest, _ credential: Credential, _ offer: RouteRails.Offer, at now: Timestamp
  ) throws(ChainChargeError) -> ChainCharge {
    let expires = credential.expires ?? now
    let terms = ChallengeTerms(
      id: credential.challenge.id, realm: credential.challenge.realm, issued: expires - settings.expires, expires: expires)
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

  // MARK: the payment

  /// Claims, settles and serves a payment that passed every check that needs no network.
  private mutating func pay(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ offer: RouteRails.Offer, _ charge: ChainCharge, _ dialect: ChainReceipt.Dialect,
    _ credential: Credential?, _ facilitated: [UInt8]?, at now: Timestamp
  ) -> Verdict {
    guard let ledger, let chains, let route = routes[Int(index)] else { return .answer(unavailable()) }
    guard let digest = requestDigest(request) else { return .collectBody(limit: route.digestLimit) }
    let challengeID = credential?.challenge.id
    if let told, told.id == charge.id {
      switch told.word {
      case .settled: break
      case .refused(let refusal): return .answer(refused(request, index, refusal, offer, charge, dialect, at: now))
      case .unavailable: return .answer(problem(.railUnavailable, challengeID: challengeID, retryAfter: Self.pendingRetry))
      case .unknown:
        let answer = problem(.paymentPending, challengeID: challengeID, retryAfter: Self.pendingRetry)
        return .answer(telling(ledger.payment(charge.id), answer, offer, charge, dialect))
      }
    }
    guard let view = ledger.payment(charge.id) else {
      guard isSelling else { return .answer(unavailable()) }
      guard chains.isReachable(offer.chain) else { return .answer(problem(.railUnavailable, challengeID: challengeID, retryAfter: Self.pendingRetry)) }
      return claim(request, index, offer, charge, digest, credential, facilitated, at: now)
    }
    guard view.request == digest else { return .answer(telling(view, problem(.paymentMismatch, challengeID: challengeID), offer, charge, dialect)) }
    // What settles a payment can be read on its chain by everybody, and brought here: it is its payer's, as far as can be told.
    let isSameClient = view.client == request.client
    switch view.state {
    case .claimed, .submitted:
      guard isSameClient else { return .answer(problem(.paymentInFlight, challengeID: challengeID, retryAfter: Self.pendingRetry)) }
      let order = SettlementOrder(
        payment: Self.order(view), chain: offer.chain, charge: charge, facilitated: facilitated, entry: view.changed)
      return .awaitSettlement(order)
    case .settled: return serve(request, index, offer, charge, view, dialect, credential, digest, at: now)
    case .serving:
      return .answer(telling(view, problem(.paymentInFlight, challengeID: challengeID, retryAfter: 1), offer, charge, dialect))
    case .served:
      guard isSameClient, case .stored(let stored) = ledger.outcome(OutcomeKey(key: charge.id, request: digest)) else {
        return .answer(telling(view, alreadyPaid(view.reference, challengeID), offer, charge, dialect))
      }
      let answer = replay(stored)
      return .answer(stored.body == nil ? telling(view, answer, offer, charge, dialect) : answer)
    case .writtenOff: return .answer(telling(view, alreadyPaid(view.reference, challengeID), offer, charge, dialect))
    }
  }

  private mutating func claim(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ offer: RouteRails.Offer, _ charge: ChainCharge, _ digest: Digest32,
    _ credential: Credential?, _ facilitated: [UInt8]?, at now: Timestamp
  ) -> Verdict {
    guard let ledger, let route = routes[Int(index)] else { return .answer(unavailable()) }
    let payment = ChainPaymentOrder(
      id: charge.id, request: digest, payer: charge.payer.lowercase, amount: charge.amount, currency: offer.account, merchant: route.merchant,
      route: route.label, client: request.client, expires: charge.expires, challengeID: credential?.challengeID,
      proof: SettlementOrder.proof(chain: offer.chain, charge: charge, facilitated: facilitated))
    var order = SettlementOrder(payment: payment, chain: offer.chain, charge: charge, facilitated: facilitated, entry: nil)
    // A contract's signature is judged by the contract first: nothing is claimed for what may be rubbish.
    if charge.signatureCheck != .recovered { return .awaitSettlement(order) }
    do throws(Refusal) {
      order.entry = try ledger.claim(payment, at: now)
      return .awaitSettlement(order)
    } catch {
      return .answer(answer(error, request, index, credential, nil, at: now))
    }
  }

  private static func order(_ view: ChainPaymentView) -> ChainPaymentOrder {
    ChainPaymentOrder(
      id: view.id, request: view.request, payer: view.payer, amount: view.amount, currency: view.currency, merchant: view.merchant,
      expires: view.expires, challengeID: view.challengeID, proof: view.proof)
  }

  private mutating func serve(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ offer: RouteRails.Offer, _ charge: ChainCharge, _ view: ChainPaymentView,
    _ dialect: ChainReceipt.Dialect, _ credential: Credential?, _ digest: Digest32, at now: Timestamp
  ) -> Verdict {
    guard let ledger, let route = routes[Int(index)] else { return .answer(unavailable()) }
    let key = OutcomeKey(key: charge.id, request: digest)
    let hold: Hold
    do throws(Refusal) {
      hold = try ledger.serve(charge.id, request: digest, idempotency: key, route: route.label, client: request.client, at: now)
    } catch { return .answer(answer(error, request, index, credential, nil, at: now)) }
    let place = exchanges.take()
    remember(request, index, at: place)
    exchanges[place].payment = .held(hold)
    exchanges[place].amount = view.amount
    exchanges[place].wallet = Digest32()
    exchanges[place].reference = view.reference
    exchanges[place].currency = view.currency
    exchanges[place].recipient = offer.recipient.checksummed
    exchanges[place].challengeID = credential?.challenge.id ?? ""
    exchanges[place].idempotency = key
    exchanges[place].chain = ChainReceipt(dialect: dialect, chain: offer.chain, payer: charge.payer, transaction: view.transaction)
    return .paid(PaidExchange(forwardAfter: hold.lsn, replyAfter: hold.lsn, epoch: hold.epoch, place: place))
  }

  /// What a payment buys: method, host, path, query and content; nil while the content is still to come.
  private func requestDigest(_ request: borrowing PaidRequest) -> Digest32? {
    let content: Digest32
    switch request.content {
    case .none: content = SHA256.hash([UInt8]())
    case .buffered(let octets): content = SHA256.hash(octets)
    case .streaming: return nil
    }
    var hash = SHA256()
    // Each part behind its length: no two different requests give the same octets.
    func add(_ octets: UnsafeRawBufferPointer) {
      withUnsafeBytes(of: UInt64(octets.count).littleEndian) { hash.update($0) }
      hash.update(octets)
    }
    add(UnsafeRawBufferPointer(rebasing: request.octets[request.head.pointee.methodRange]))
    add(request.host)
    add(request.path)
    if let query = request.query { add(query) }
    hash.update(byte: request.query == nil ? 0 : 1)
    hash.update(content)
    return hash.finalize()
  }

  // MARK: answers

  /// Answers a payment that the chain did not take: nothing was charged, so the offers are made anew.
  private mutating func refused(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ refusal: SettlementRefusal, _ offer: RouteRails.Offer, _ charge: ChainCharge,
    _ dialect: ChainReceipt.Dialect, at now: Timestamp
  ) -> Answer {
    switch dialect {
    case .mpp: return failed(request, index, .verificationFailed, detail: "The payment did not settle: \(refusal.reason.rawValue).", at: now)
    case .x402(let version):
      var answer = failed(request, index, refusal.reason, at: now)
      var lines = ByteBuffer()
      let response = SettlementResponse(
        isSuccess: false, reason: refusal.reason, payer: charge.payer.checksummed, transaction: refusal.transaction, network: X402Network(chainID: offer.chain))
      response.appendField(version, to: &lines)
      answer.fields += lines.array()
      return answer
    }
  }

  /// Adds to an answer that is no success what became of its payment, where x402 has a field for that: that money has moved must not be
  /// hidden by what failed afterwards.
  private func telling(
    _ view: ChainPaymentView?, _ answer: Answer, _ offer: RouteRails.Offer, _ charge: ChainCharge, _ dialect: ChainReceipt.Dialect
  ) -> Answer {
    guard let view, case .x402(let version) = dialect else { return answer }
    let hasMoved: Bool
    switch view.state {
    case .claimed, .submitted: hasMoved = false
    case .settled, .serving, .served, .writtenOff: hasMoved = true
    }
    var answer = answer
    var lines = ByteBuffer()
    SettlementResponse(
      isSuccess: hasMoved, reason: hasMoved ? nil : .settlementPending, payer: charge.payer.checksummed, transaction: view.transaction,
      network: X402Network(chainID: offer.chain), amount: hasMoved ? .units(view.amount) : .unsaid
    ).appendField(version, to: &lines)
    answer.fields += lines.array()
    return answer
  }

  /// Appends what became of an exchange's payment to an answer that is no success; MPP's receipts say nothing of failures.
  func appendSettlement(_ place: UInt32, to fields: inout ByteBuffer, at now: Timestamp) {
    guard let chain = exchanges[place].chain, case .x402 = chain.dialect else { return }
    appendChainReceipt(place, chain, to: &fields, at: now)
  }

  /// Appends the receipt of a payment on a chain: x402's field, or MPP's.
  func appendChainReceipt(_ place: UInt32, _ chain: ChainReceipt, to fields: inout ByteBuffer, at now: Timestamp) {
    switch chain.dialect {
    case .x402(let version):
      SettlementResponse(
        isSuccess: true, payer: chain.payer.checksummed, transaction: chain.transaction, network: X402Network(chainID: chain.chain),
        amount: .units(exchanges[place].amount)
      ).appendField(version, to: &fields)
    case .mpp(let method):
      guard let ledger else { return }
      let log = ledger.lastCheckpoint
      let record = exchanges[place]
      let receipt = Receipt(
        method: method, intent: "charge", timestamp: now, reference: chain.transaction.map { HexData.text($0) } ?? String(record.reference), challengeID: record.challengeID,
        amount: record.amount, currency: record.currency, recipient: record.recipient, resource: record.resourceValue,
        chainID: chain.chain)
      fields.append("Payment-Receipt: ")
      fields.append(receipt.signed(by: keys.signer, log: Receipt.LogPosition(size: log.size, root: log.root)).encoded)
      fields.append("\r\n")
    }
  }
}
