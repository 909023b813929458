import Bytes
import Crypto
import Encoding
import Ethereum
import Gateway
import HTTP
import Ledger
import Methods
import Payments

// The extensions of x402: a payment's own name, signed offers and receipts, and who comes back for what he has paid.
extension Cashier {
  // MARK: payment-identifier

  /// Reads what a payer calls his payment, and answers where the name was used; nil where the payment goes on. The payer is known by then.
  mutating func identify(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ payload: PaymentPayload, _ charge: ChainCharge, _ presented: PresentedPayment, at now: Timestamp
  ) -> Verdict? {
    guard let ledger, settings.x402.identifier != .none, let route = routes[Int(index)] else { return nil }
    let name: String?
    do throws(X402Error) { name = try PaymentIdentifier.read(payload) } catch {
      return .answer(problem(.badRequest, detail: "A payment-identifier is 16 to 128 of A-Z a-z 0-9 _ and -."))
    }
    guard name != nil, let key = paymentName(payload) else {
      guard settings.x402.identifier == .required, payload.version == .v2 else { return nil }
      return .answer(problem(.badRequest, detail: "A payment-identifier is required here."))
    }
    guard let digest = requestDigest(request) else { return .collectBody(limit: route.digestLimit) }
    identifier = key
    // Who brings the very payment again goes on with that. Who has not signed with a key is not known before a contract was asked: a name of
    // his gets no answer, and the ledger claims nothing twice by it.
    guard ledger.payment(charge.id) == nil, ledger.promise(charge.id) == nil, charge.signatureCheck == .recovered else { return nil }
    let (epoch, other) = (ledger.epoch, ledger.payment(named: key))
    if let other, let promise = ledger.promise(other) { return goOn(request, index, named: promise, key, digest, presented, at: now) }
    if let other, let view = ledger.payment(other) {
      // He has signed just now: it is the payer who asks.
      return view.request == digest ? goOn(request, index, view, epoch: epoch, presented, isClient: true, at: now) : .answer(problem(.paymentMismatch))
    }
    switch ledger.outcome(OutcomeKey(key: key, request: digest)) {
    case .stored(let stored)?: return .answer(replay(stored))
    case .mismatch?: return .answer(problem(.paymentMismatch))
    case .inFlight?: return .answer(problem(.idempotencyInFlight, retryAfter: 1))
    case nil: return nil
    }
  }

  /// Goes on with a promise by the name that its payer has for it, who has signed another one for the same; nil where the other one takes its
  /// place, since nothing was served for the first.
  private mutating func goOn(
    _ request: borrowing PaidRequest, _ index: RouteIndex, named promise: ChainPromiseView, _ key: Digest32, _ digest: Digest32,
    _ presented: PresentedPayment, at now: Timestamp
  ) -> Verdict? {
    guard let ledger else { return .answer(unavailable()) }
    guard promise.request == digest else { return .answer(problem(.paymentMismatch)) }
    switch promise.state {
    case .promised: return ledger.forget(promise: promise.id, at: now) ? nil : .answer(problem(.paymentInFlight, retryAfter: Self.pendingRetry))
    case .serving: return .answer(problem(.paymentInFlight, retryAfter: 1))
    case .owed, .kept, .lost: break
    }
    if promise.isWithheld { return goOn(request, index, withheld: promise, presented, isClient: true, at: now) }
    let payer = Address(promise.payer) ?? .zero
    guard case .stored(var stored)? = ledger.outcome(OutcomeKey(key: key, request: digest)) else {
      return .answer(telling(promise, alreadyPaid(promise.reference, nil), payer: payer))
    }
    stored.receipt = []
    return .answer(telling(promise, replay(stored), payer: payer))
  }

  /// The answer that was kept for a payment: under its own name, or under what its payer calls it.
  func storedOutcome(of id: Digest32, _ digest: Digest32) -> StoredOutcome? {
    for key in [id, identifier ?? id] {
      if case .stored(let stored)? = ledger?.outcome(OutcomeKey(key: key, request: digest)) { return stored }
    }
    return nil
  }

  /// What a payer calls his payment, together with who he says that he is; nil where he says nothing, or nothing that is a name.
  func paymentName(_ payload: PaymentPayload) -> Digest32? {
    guard settings.x402.identifier != .none, let name = try? PaymentIdentifier.read(payload) else { return nil }
    return Self.name("payment-identifier", payload.payer, Array(name.utf8))
  }

  /// Under what the outcome of a payment is kept: its own name, or what its payer calls it.
  func outcomeKey(_ id: Digest32, _ digest: Digest32) -> OutcomeKey { OutcomeKey(key: identifier ?? id, request: digest) }

  private static func name(_ purpose: StaticString, _ payer: Address, _ octets: [UInt8]) -> Digest32 {
    var hash = SHA256()
    purpose.withUTF8Buffer { hash.update(UnsafeRawBufferPointer($0)) }
    hash.update(byte: 0)
    payer.withUnsafeBytes { hash.update($0) }
    octets.withUnsafeBytes { hash.update($0) }
    return hash.finalize()
  }

  // MARK: offer-receipt

  /// Signs by the key of receipts, under its `did:key`.
  var offerReceipt: OfferReceipt? {
    let did = DIDKey.encode(keys.signer.key.publicKey)
    return try? OfferReceipt(keys.signer.key, kid: "\(did)#\(did.dropFirst("did:key:".count))")
  }

  /// The signed receipt of an exchange, as an extension of its settlement; empty where nothing is signed.
  func signedReceipt(_ place: UInt32, _ chain: ChainReceipt, _ version: X402Version, at now: Timestamp) -> JSONObject {
    guard settings.x402.signs, version == .v2, (200...299).contains(exchanges[place].status), let signer = offerReceipt else { return [:] }
    let receipt = signer.receipt(
      url: exchanges[place].resourceValue.url, network: X402Network(chainID: chain.chain), payer: chain.payer.checksummed, issuedAt: now,
      transaction: chain.transaction)
    return JSONObject([(OfferReceipt.key, OfferReceipt.entry(receipt: receipt))])
  }

  // MARK: sign-in-with-x

  /// A nonce of ours: eight random octets, and as many that prove it.
  func signInNonce(_ random: UInt64) -> (UInt64, UInt64) { (random, proof(random, keys.challengeSecrets.current)) }

  /// Holds for this process only: which nonces were used is not known after a restart.
  private func proof(_ random: UInt64, _ key: HMACKey) -> UInt64 {
    let text = Array("sign-in-with-x".utf8) + [random, chains?.signIns.salt ?? 0].flatMap { withUnsafeBytes(of: $0.littleEndian) { Array($0) } }
    return key.authenticate(text).withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
  }

  /// Whether a nonce was made by us.
  private func isOwn(_ nonce: String) -> Bool {
    guard nonce.utf8.count == 32, let octets = Hex.decode(nonce), octets.count == 16 else { return false }
    let (random, proof) = octets.withUnsafeBytes { ($0.loadUnaligned(as: UInt64.self), $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self)) }
    return ([keys.challengeSecrets.current] + keys.challengeSecrets.previous).contains { self.proof(random, $0) == proof }
  }

  static func signInKey(_ payer: Address, _ digest: Digest32) -> OutcomeKey {
    OutcomeKey(key: name("sign-in-with-x", payer, digest.bytes), request: digest)
  }

  /// Remembers who was served, where he may come back.
  mutating func rememberPayer(_ place: UInt32, at now: Timestamp) {
    guard let key = exchanges[place].signInKey, let ledger else { return }
    exchanges[place].signInKey = nil
    // Where that cannot be kept, he pays again.
    _ = try? ledger.store(StoredOutcome(status: 0, head: [], body: nil, receipt: Array(String(now.microseconds).utf8)), for: key, at: now)
  }

  /// Serves who proves by his wallet that he has paid for the same before; nil where no proof is presented, or none is asked for.
  mutating func signIn(_ request: borrowing PaidRequest, _ index: RouteIndex, at now: Timestamp) -> Verdict? {
    guard let route = routes[Int(index)], let span = route.signIn, let declared = route.rails.printer?.signIn, let ledger, let chains,
      let field = request.head.pointee.first(.signInWithX)
    else { return nil }
    guard isAvailable else { return .answer(unavailable()) }
    if let refused = refusedByRate(request, index) { return .answer(refused) }
    guard !request.head.pointee.repeated.has(.signInWithX) else {
      return .answer(problem(.badRequest, detail: "The request carries more than one proof of who signs in."))
    }
    guard let digest = requestDigest(request) else { return .collectBody(limit: route.digestLimit) }
    let proof: SignInProof
    do throws(X402Error) { proof = try SignInProof(fieldValue: field.value(in: request.octets)) } catch {
      admission.failed(request.client, at: request.monotonic)
      return .answer(problem(.badRequest, detail: "The proof of who signs in cannot be read."))
    }
    if let fault = fault(proof, declared, at: now) {
      return .answer(failed(request, index, .verificationFailed, detail: "The sign-in does not hold: \(fault.rawValue).", at: now))
    }
    guard case .stored(let stored) = ledger.outcome(Self.signInKey(proof.address, digest)),
      let paid = Int64(String(decoding: stored.receipt, as: UTF8.self)), now <= Timestamp(microseconds: paid) + span
    else { return .answer(challenge(request, index, .paymentRequired, detail: "The wallet has not paid for this, or too long ago.", at: now)) }
    let nonce = Array(proof.nonce.lowercased().utf8).withUnsafeBytes { SHA256.hash($0) }
    guard chains.signIns.use(nonce, at: now) else {
      return .answer(
        failed(request, index, .verificationFailed, detail: "The sign-in does not hold: \(SignInProof.Fault.nonce.rawValue).", at: now))
    }
    return .free
  }

  /// What is wrong with a proof; nil where nothing is. A used nonce is found afterwards.
  private func fault(_ proof: SignInProof, _ declared: SignInWithX, at now: Timestamp) -> SignInProof.Fault? {
    if let fault = proof.fault(declared, now: now) { return fault }
    guard isOwn(proof.nonce) else { return .nonce }
    guard let signature = try? ECDSASignature(bytes: proof.signature),
      signature.recover(TypedData.personalMessage(proof.message)) == proof.address
    else { return .signature }
    return nil
  }
}
