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

/// A payment on a chain as it was presented, before anything of it is checked.
struct PresentedPayment {
  let dialect: ChainReceipt.Dialect
  /// Of what the payer has made.
  let digest: Digest32
  /// The credential that brought it; nil for x402.
  let credential: Credential?
}

// Payments on chains: claimed once, settled by the desk, served once. What is known is gone by what the ledger has of it, whatever is offered
// or configured by then: money that moved is never asked for again.
extension Cashier {
  /// Seconds after which a request whose payment is pending may be repeated.
  static var pendingRetry: UInt32 { 5 }
  /// How long money that has arrived and was not served for is kept for the address that brought it: what settled it can be read on its
  /// chain by everybody.
  private static var clientGrace: Duration { .seconds(60) }

  /// Goes on with a payment that is known, or of which the desk has said something; nil where it is new.
  mutating func known(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ id: Digest32, _ presented: PresentedPayment, at now: Timestamp
  ) -> Verdict? {
    guard let ledger, let route = routes[Int(index)] else { return .answer(unavailable()) }
    let challengeID = presented.credential?.challenge.id
    let word = told.flatMap { $0.id == id ? $0.word : nil }
    // Read before the payment: what it says of entries holds for this epoch or an earlier one.
    let epoch = ledger.epoch
    guard let view = ledger.payment(id) else {
      // Nothing is claimed any more, or nothing ever was.
      guard let word else { return nil }
      return .answer(unclaimed(request, index, word, presented, at: now))
    }
    guard let digest = requestDigest(request) else { return .collectBody(limit: route.digestLimit) }
    // Records of older programs do not say what was presented.
    guard view.request == digest, view.presented == presented.digest || view.presented == Digest32(), view.challengeID == presented.credential?.challengeID else {
      return .answer(telling(view, problem(.paymentMismatch, challengeID: challengeID), presented))
    }
    return goOn(request, index, view, epoch: epoch, presented, isClient: view.client.limitKey == request.client.limitKey, at: now)
  }

  /// Goes on with a payment that its payer has brought with the same request, by itself or by the name that he has for it.
  ///
  /// - Parameters:
  ///   - epoch: the ledger's, read before the payment was.
  ///   - isSameClient: whether it is its payer's who asks, as far as can be told.
  mutating func goOn(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ view: ChainPaymentView, epoch: UInt32, _ presented: PresentedPayment,
    isClient isSameClient: Bool, at now: Timestamp
  ) -> Verdict {
    let (digest, challengeID) = (view.request, presented.credential?.challenge.id)
    let word = told.flatMap { $0.id == view.id ? $0.word : nil }
    switch view.state {
    case .claimed, .submitted:
      guard isSameClient else { return .answer(problem(.paymentInFlight, challengeID: challengeID, retryAfter: Self.pendingRetry)) }
      if word != nil, view.isUnresolved(at: now) {
        // Whoever asks again soon gets no other answer: an operator has to find out, and needs to know which payment it is.
        let members: JSONObject = ["reference": .string(String(view.reference))]
        return .answer(telling(view, problem(.paymentInFlight, members: members, challengeID: challengeID), presented))
      }
      if let word { return .answer(telling(view, underWay(word, challengeID), presented)) }
      guard let order = SettlementOrder(view, epoch: epoch) else { return .answer(telling(view, underWay(.unknown, challengeID), presented)) }
      return .awaitSettlement(order)
    case .settled:
      guard isSameClient || now >= view.since + Self.clientGrace else {
        return .answer(problem(.paymentInFlight, challengeID: challengeID, retryAfter: Self.pendingRetry))
      }
      return serve(request, index, view, presented, digest, at: now)
    case .serving: return .answer(telling(view, problem(.paymentInFlight, challengeID: challengeID, retryAfter: 1), presented))
    case .served:
      guard isSameClient, let stored = storedOutcome(of: view.id, digest) else {
        return .answer(telling(view, alreadyPaid(view.reference, challengeID), presented))
      }
      let answer = replay(stored)
      return .answer(stored.body == nil || answer.isMessage ? telling(view, answer, presented) : answer)
    case .writtenOff: return .answer(telling(view, alreadyPaid(view.reference, challengeID), presented))
    }
  }

  /// Answers a payment that is not claimed, after the desk's word.
  private mutating func unclaimed(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ word: SettlementWord, _ presented: PresentedPayment, at now: Timestamp
  ) -> Answer {
    switch word {
    case .unknown:
      // What nobody has claimed and no node knows costs questions.
      admission.failed(request.client, at: request.monotonic)
      return underWay(word, presented.credential?.challenge.id)
    case .refused(let refusal): return refused(request, index, refusal, presented.dialect, at: now)
    case .declined(let refusal): return answer(refusal, request, index, presented.credential, nil, at: now)
    case .settled, .unavailable: return underWay(word, presented.credential?.challenge.id)
    }
  }

  /// Answers a payment of which more cannot be said now; nothing invites to pay again.
  func underWay(_ word: SettlementWord, _ challengeID: String?) -> Answer {
    switch word {
    case .unavailable: problem(.railUnavailable, challengeID: challengeID, retryAfter: Self.pendingRetry)
    case .settled, .refused, .declined, .unknown: problem(.paymentPending, challengeID: challengeID, retryAfter: Self.pendingRetry)
    }
  }

  /// Claims a payment that passed every check that needs no network, and has it settled.
  mutating func claim(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ offer: RouteRails.Offer, _ charge: ChainCharge, _ presented: PresentedPayment,
    _ facilitated: [UInt8]?, at now: Timestamp
  ) -> Verdict {
    guard let ledger, let chains, let route = routes[Int(index)] else { return .answer(unavailable()) }
    guard let digest = requestDigest(request) else { return .collectBody(limit: route.digestLimit) }
    guard isSelling else { return .answer(unavailable()) }
    let credential = presented.credential
    guard isReachable(offer), chains.hasPlace(for: request.client) else {
      return .answer(problem(.railUnavailable, challengeID: credential?.challenge.id, retryAfter: Self.pendingRetry))
    }
    let proof = SettlementOrder.proof(chain: offer.chain, charge: charge, facilitated: facilitated, since: chains.block(offer.chain))
    guard proof.count <= LedgerLimit.proofOctets.most else {
      admission.failed(request.client, at: request.monotonic)
      return .answer(problem(.badRequest, detail: "The payment's signature or transaction is too long.", challengeID: credential?.challenge.id))
    }
    let payment = ChainPaymentOrder(
      id: charge.id, request: digest, payer: charge.payer.lowercase, recipient: offer.recipient.checksummed, presented: presented.digest,
      name: identifier, amount: offer.own, splits: offer.splits, currency: offer.account, merchant: route.merchant, route: route.label, client: request.client, expires: charge.expires,
      challengeID: credential?.challengeID, proof: proof)
    var order = SettlementOrder(payment: payment, chain: offer.chain, charge: charge, facilitated: facilitated, since: chains.block(offer.chain), entry: nil)
    // A contract's signature is judged by the contract first: nothing is claimed for what may be rubbish.
    if charge.signatureCheck != .recovered { return .awaitSettlement(order) }
    do throws(Refusal) {
      order.entry = try ledger.awaited { () throws(Refusal) in try ledger.claim(payment, at: now) }
      return .awaitSettlement(order)
    } catch {
      return .answer(answer(error, request, index, credential, nil, at: now))
    }
  }

  private mutating func serve(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ view: ChainPaymentView, _ presented: PresentedPayment, _ digest: Digest32,
    at now: Timestamp
  ) -> Verdict {
    guard let ledger, let route = routes[Int(index)] else { return .answer(unavailable()) }
    var key = outcomeKey(view.id, digest)
    let hold: Hold
    do throws(Refusal) {
      do throws(Refusal) {
        hold = try ledger.serve(view.id, request: digest, idempotency: key, route: route.label, client: request.client, at: now)
      } catch {
        guard error == .outcomeInFlight || error == .outcomeMismatch, key.key != view.id else { throw error }
        // Its payer has used the name for something else, and has paid all the same: it is served under its own.
        key = OutcomeKey(key: view.id, request: digest)
        hold = try ledger.serve(view.id, request: digest, idempotency: key, route: route.label, client: request.client, at: now)
      }
    } catch { return .answer(telling(view, answer(error, request, index, presented.credential, nil, at: now), presented)) }
    let place = exchanges.take()
    remember(request, index, at: place)
    exchanges[place].payment = .held(hold)
    exchanges[place].amount = view.splits.reduce(view.amount) { $0.addingReportingOverflow($1.amount).partialValue }
    exchanges[place].wallet = Digest32()
    exchanges[place].reference = view.reference
    exchanges[place].currency = view.currency
    exchanges[place].recipient = view.recipient
    exchanges[place].challengeID = presented.credential?.challenge.id ?? ""
    exchanges[place].idempotency = key
    if case .x402 = presented.dialect, route.signIn != nil, let payer = Address(view.payer) { exchanges[place].signInKey = Self.signInKey(payer, digest) }
    exchanges[place].chain = ChainReceipt(
      dialect: presented.dialect, chain: view.chainID, payer: Address(view.payer) ?? .zero, transaction: view.transaction)
    return .paid(PaidExchange(forwardAfter: hold.lsn, replyAfter: hold.lsn, epoch: hold.epoch, place: place))
  }

  /// What a payment buys: method, host, path, query and content; nil while the content is still to come.
  func requestDigest(_ request: borrowing PaidRequest) -> Digest32? {
    let content: Digest32
    switch request.content {
    case .none: content = SHA256.hash([UInt8]())
    case .buffered(let octets): content = request.question.map { SHA256.hash($0) } ?? SHA256.hash(octets)
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
  mutating func refused(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ refusal: SettlementRefusal, _ dialect: ChainReceipt.Dialect, at now: Timestamp
  ) -> Answer {
    switch dialect {
    case .mpp: return failed(request, index, .verificationFailed, detail: "The payment did not settle: \(refusal.reason.rawValue).", at: now)
    case .x402(let version):
      chainReason = refusal.reason
      var answer = failed(request, index, .verificationFailed, at: now)
      var lines = ByteBuffer()
      let response = SettlementResponse(
        isSuccess: false, reason: refusal.reason, payer: refusal.payer.checksummed, transaction: refusal.transaction,
        network: X402Network(chainID: refusal.chain))
      response.appendField(version, to: &lines)
      answer.fields += lines.array()
      return answer
    }
  }

  /// Adds to an answer that is no success what became of its payment, where x402 has a field for that: that money has moved must not be
  /// hidden by what failed afterwards.
  private func telling(_ view: ChainPaymentView, _ answer: Answer, _ presented: PresentedPayment) -> Answer {
    guard case .x402(let version) = presented.dialect else { return answer }
    let hasMoved: Bool
    switch view.state {
    case .claimed, .submitted: hasMoved = false
    case .settled, .serving, .served, .writtenOff: hasMoved = true
    }
    var answer = answer
    var lines = ByteBuffer()
    SettlementResponse(
      isSuccess: hasMoved, reason: hasMoved ? nil : .settlementPending, payer: (Address(view.payer) ?? .zero).checksummed,
      transaction: view.transaction, network: X402Network(chainID: view.chainID), amount: hasMoved ? .units(view.amount) : .unsaid
    ).appendField(version, to: &lines)
    answer.fields += lines.array()
    return answer
  }

  /// Appends what became of an exchange's payment to an answer that is no success; MPP's receipts say nothing of failures.
  func appendSettlement(_ place: UInt32, to fields: inout ByteBuffer, at now: Timestamp) {
    // Of a promise nothing has moved.
    guard let chain = exchanges[place].chain, case .x402 = chain.dialect, exchanges[place].promise == nil, exchanges[place].withheld == nil else { return }
    appendChainReceipt(place, chain, to: &fields, at: now)
  }

  /// Appends the receipt of a payment on a chain: x402's field, or MPP's.
  func appendChainReceipt(_ place: UInt32, _ chain: ChainReceipt, to fields: inout ByteBuffer, at now: Timestamp) {
    guard exchanges[place].promise == nil, exchanges[place].withheld == nil else { return }
    switch chain.dialect {
    case .x402(let version):
      SettlementResponse(
        isSuccess: true, payer: chain.payer.checksummed, transaction: chain.transaction, network: X402Network(chainID: chain.chain),
        amount: .units(exchanges[place].amount), extensions: signedReceipt(place, chain, version, at: now)
      ).appendField(version, to: &fields)
    case .mpp(let method):
      guard let ledger else { return }
      let log = ledger.lastCheckpoint
      let record = exchanges[place]
      // What moved nothing is named by its challenge (draft-tempo-charge-00 "Proof Receipt").
      let reference = record.amount == 0 ? record.challengeID : chain.transaction.map { HexData.text($0) } ?? String(record.reference)
      let receipt = Receipt(
        method: method, intent: "charge", timestamp: now, reference: reference, challengeID: record.challengeID,
        amount: record.amount, currency: record.currency, recipient: record.recipient, resource: record.resourceValue,
        chainID: chain.chain)
      fields.append("Payment-Receipt: ")
      fields.append(receipt.signed(by: keys.signer, log: Receipt.LogPosition(size: log.size, root: log.root)).encoded)
      fields.append("\r\n")
    }
  }
}

extension ChainPaymentView {
  /// The chain's number: the account's code ends with it.
  var chainID: UInt64 { Self.chainID(of: currency) }

  static func chainID(of currency: String) -> UInt64 { currency.split(separator: ":").last.flatMap { UInt64($0) } ?? 0 }
}
