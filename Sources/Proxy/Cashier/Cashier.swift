import Bytes
import Configuration
import Crypto
import Encoding
import Gateway
import HTTP
import Ledger
import Methods
import Payments

/// The paid part of exchanges: decides about requests of priced routes, moves money through the ledger, meters, and writes
/// receipts. Each worker has its own; it never blocks and moves no octets of connections.
///
/// Checks go from cheap to dear: count, size, form, HMAC, binding, what the claim was used for, age, the client's rate, and
/// the signature last. What is refused before a valid signature changes nothing that is stored.
struct Cashier: ~Copyable {
  private(set) var settings: Settings
  let ledger: Ledger?
  let keyRing: KeyRing
  /// Asks what requests cost, where prices are asked for.
  let prices: PriceDesk?
  /// Settles payments on chains; nil where there are none.
  let chains: ChainDesk?
  /// What the request that is being decided about was told of its payment.
  var told: ToldPayment?
  /// Why the payment that was presented did not hold, as x402 names it.
  var chainReason: X402Reason?
  /// What its payer is told who has lost count of his channel (batch-settlement).
  var correction: ChannelCorrection?
  /// What the payer of the request that is being decided about calls his payment, with who he is; nil where he says nothing.
  var identifier: Digest32?
  /// What is known of the price of the request that is being decided about.
  var pricing = RequestPricing()
  /// The answer that the request which is being decided about waited for.
  var offered: OfferedPrice?
  /// Routes at prices that were asked for.
  var quotedRoutes: [QuotedRouteKey: PricedRoute] = [:]
  /// A copy of the key ring's keys, and the generation that it was made at.
  private(set) var keys: KeyRing.Keys
  private var keyGeneration: UInt64
  private(set) var discovery: Discovery
  private(set) var cors: CORS
  /// Scheme and `://` of the URLs in challenges and receipts.
  private(set) var scheme: [UInt8]
  /// The settings' origin, for requests that name no host.
  private(set) var ownOrigin: [UInt8]
  /// By route index; nil where a route is free. Routes of former configurations stay while exchanges refer to them.
  var routes: [PricedRoute?]
  /// By route index, the routes that have several prices; nil elsewhere, and at the places of their variants.
  private(set) var variants: [VariantTable?]
  /// What discovery lists, in the settings' order.
  private var offers: [RouteOffers]
  private(set) var admission: Admission
  let addressVolumes: AddressVolumes
  var cache: CredentialCache
  /// What came last of the vouchers of each channel.
  var vouchers: VoucherCache
  /// Signatures of vouchers that did not verify.
  var channelFailures = ChannelFailures()
  /// The same of those that came with a challenge by which a voucher was accepted before: strangers' failures are not theirs.
  var knownFailures = ChannelFailures()
  /// The voucher that is accepted with the debit which is about to be made.
  var accepting: AcceptedVoucher?
  /// The channel that the challenge which is about to be printed tells its client to go on with.
  var hint: ChannelHint?
  var exchanges = ExchangeTable()
  var scratch = ChallengeScratch()
  var fields = ByteBuffer()
  var body = ByteBuffer()
  var receiptScratch = ByteBuffer()
  /// Whether the access log wants to know what exchanges cost.
  private(set) var keepsSummaries: Bool
  /// What the exchange that ended last has cost.
  var summary: PaidSummary?
  /// What the request's content tells of its price, between its reading and its debit.
  var facts: RequestFacts?
  /// The loop's clock at this turn, in nanoseconds: time that is sold goes by it.
  var clock: Int64 = 0
  /// Challenges since the last report to the audit log.
  private var challengeCount: UInt64 = 0
  /// What was counted for the request that is being decided about.
  var freeRequests: [AddressVolumes.Counted] = []

  /// Makes a worker's cashier; without a ledger priced routes answer 503.
  ///
  /// - Throws: where a name of the settings cannot be sent or bound, which `farebox check` reports better.
  ///
  /// - Parameters:
  ///   - rates: counts for all workers; nil: for this cashier alone.
  ///   - prices: who asks what requests cost; nil: nobody is asked.
  ///   - chains: settles payments on chains; nil: nothing is sold for them.
  ///   - addresses: counts the requests that addresses have free, for all workers.
  init(
    settings: Settings, ledger: Ledger?, keys: KeyRing, rates: RateTable? = nil, prices: PriceDesk? = nil,
    chains: ChainDesk? = nil, addresses: AddressVolumes = AddressVolumes()
  ) throws(PaymentError) {
    self.settings = settings
    self.ledger = ledger
    keyRing = keys
    self.prices = prices
    self.chains = chains
    keyGeneration = keys.generation
    self.keys = keys.keys
    cors = CORS(origins: settings.cors.origins, exposed: settings.cors.exposedFields)
    scheme = Array((settings.origin.hasPrefix("http://") ? "http://" : "https://").utf8)
    ownOrigin = Array(settings.origin.utf8)
    let sale = try Sale(settings, ledger: ledger)
    routes = sale.routes.map(\.route)
    variants = sale.routes.map(\.variants)
    offers = sale.offers
    discovery = Discovery(settings: settings, offers: sale.offers, keys: keys.publicKeys)
    admission = Admission(limits: AdmissionLimits(settings), table: rates ?? Self.rateTable(settings))
    addressVolumes = addresses
    cache = CredentialCache(seed: Self.randomSeed())
    vouchers = VoucherCache(seed: Self.randomSeed())
    keepsSummaries = settings.accessLog.target != .none
  }

  /// Takes out what the exchange that ended last has cost; nil where nobody wants to know.
  mutating func takeSummary() -> PaidSummary? {
    guard keepsSummaries else { return nil }
    return summary.take()
  }

  /// What was counted since the last report is not lost.
  deinit {
    guard let ledger, challengeCount > 0 else { return }
    var event = AuditEvent(.challenges)
    event.count = challengeCount
    ledger.record(event)
  }

  /// Counts a challenge; the audit log gets lines with the count, whatever comes, as often as the worker reports it.
  mutating func countChallenge() {
    challengeCount += 1
  }

  /// Whether challenges were counted that the audit log does not know.
  var hasUnreportedChallenges: Bool { challengeCount > 0 }

  /// Writes the count of challenges into the audit log, where there were any.
  mutating func reportChallenges(at now: Timestamp) {
    guard let ledger, challengeCount > 0, isAvailable else { return }
    var event = AuditEvent(.challenges)
    event.count = challengeCount
    ledger.record(event, at: now)
    challengeCount = 0
  }

  /// Goes over to another configuration; exchanges in flight go on with the routes that they began with.
  mutating func adopt(_ sale: Sale) {
    settings = sale.settings
    cors = CORS(origins: settings.cors.origins, exposed: settings.cors.exposedFields)
    scheme = Array((settings.origin.hasPrefix("http://") ? "http://" : "https://").utf8)
    ownOrigin = Array(settings.origin.utf8)
    for (place, route, table) in sale.routes {
      RelayPlan.put(route, at: Int(place), in: &routes)
      RelayPlan.put(table, at: Int(place), in: &variants)
    }
    offers = sale.offers
    admission.limits = AdmissionLimits(settings)
    keepsSummaries = settings.accessLog.target != .none
    quotedRoutes.removeAll()
    // An entry names its route by its place, which may be another's now.
    cache = CredentialCache(seed: Self.randomSeed())
    vouchers = VoucherCache(seed: Self.randomSeed())
    discovery = Discovery(settings: settings, offers: offers, keys: keys.publicKeys)
  }

  /// Takes over rotated keys.
  mutating func renewKeys() {
    let generation = keyRing.generation
    guard generation != keyGeneration else { return }
    keyGeneration = generation
    keys = keyRing.keys
    discovery = Discovery(settings: settings, offers: offers, keys: keys.publicKeys)
  }

  /// Makes the table that counts rates: with room for four kinds of each client that may be connected.
  static func rateTable(_ settings: Settings) -> RateTable {
    RateTable(places: 4 * min(settings.limits.connections, 1 << 20), seed: randomSeed())
  }

  private static func randomSeed() -> UInt64 {
    Random.digest32().withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
  }

  /// Decides about a request on a priced route once its head is complete.
  mutating func admit(_ request: borrowing PaidRequest, at now: Timestamp) -> Verdict {
    guard let index = request.route, Int(index) < routes.count, routes[Int(index)] != nil || variants[Int(index)] != nil else { return .free }
    if isFree(request, index) { return .free }
    renewKeys()
    if let preflight = preflight(request) { return preflight }
    let verdict: Verdict
    switch choose(request, index, at: now) {
    case .route(let chosen):
      if let route = routes[Int(chosen)], let pricing = route.pricing {
        verdict = decideByPricer(request, chosen, route, pricing, at: now)
      } else {
        verdict = decide(request, chosen, at: now)
      }
    case .free: return .free
    case .collect(let limit): return .collectBody(limit: limit)
    case .answer(let answer): verdict = .answer(answer)
    }
    guard !cors.origins.isEmpty, request.head.pointee.has(.origin) else { return verdict }
    return withCORS(verdict, request)
  }

  mutating func decide(_ request: borrowing PaidRequest, _ index: RouteIndex, at now: Timestamp) -> Verdict {
    if let value = PresentedCredential.only(request.octets, request.head), let verdict = cached(request, index, value, at: now) {
      return verdict
    }
    switch PresentedCredential(request.octets, request.head) {
    case .none: return signIn(request, index, at: now) ?? unpaid(request, index, at: now)
    case .several: return .answer(problem(.badRequest, detail: "The request carries more than one payment credential."))
    case .short(let range): return short(request, index, range, at: now)
    case .token(let range, let field): return token(request, index, range, field, at: now)
    case .x402(let range, let field): return x402(request, index, range, field, at: now)
    }
  }

  /// Whether the route lists the method as free.
  private func isFree(_ request: borrowing PaidRequest, _ index: RouteIndex) -> Bool {
    guard let methods = routes[Int(index)]?.freeMethods ?? variants[Int(index)]?.freeMethods else { return true }
    return !methods.isEmpty && methods.allows(request.head.pointee.method) && request.head.pointee.method != .other
  }

  /// Answers a preflight where pages may pay; elsewhere the upstream has its own opinion of it.
  func preflight(_ request: borrowing PaidRequest) -> Verdict? {
    let head = request.head
    guard head.pointee.method == .options, let origin = head.pointee.first(.origin),
      let method = head.pointee.first(.accessControlRequestMethod), case .none = request.content
    else { return nil }
    guard !cors.origins.isEmpty else { return .free }
    var lines = ByteBuffer()
    cors.appendPreflight(
      origin: origin.value(in: request.octets), method: method.value(in: request.octets),
      fields: head.pointee.first(.accessControlRequestHeaders)?.value(in: request.octets), to: &lines)
    return .answer(Answer(status: 204, fields: lines.array(), body: []))
  }

  /// Lets a page of another origin read the verdict's answer, or the response that it will lead to.
  mutating func withCORS(_ verdict: consuming Verdict, _ request: borrowing PaidRequest) -> Verdict {
    switch consume verdict {
    case .answer(var answer):
      answer.fields += corsLines(request)
      return .answer(answer)
    case .pending(var pending):
      pending.corsLines = corsLines(request)
      return .pending(pending)
    case .paid(let exchange):
      exchanges[exchange.place].corsLines = corsLines(request)
      return .paid(exchange)
    case .free: return .free
    case .collectBody(let limit): return .collectBody(limit: limit)
    case .awaitPrice(let question): return .awaitPrice(question)
    case .awaitSettlement(let order): return .awaitSettlement(order)
    }
  }

  /// The field lines by which a page of another origin may read an answer; empty where it may not, or is none.
  func corsLines(_ request: borrowing PaidRequest) -> [UInt8] {
    guard !cors.origins.isEmpty, let origin = request.head.pointee.first(.origin) else { return [] }
    var lines = ByteBuffer()
    cors.appendFields(origin: origin.value(in: request.octets), to: &lines)
    return lines.array()
  }

  /// Answers a request without a credential.
  private mutating func unpaid(_ request: borrowing PaidRequest, _ index: RouteIndex, at now: Timestamp) -> Verdict {
    if let verdict = readForAddress(request, index) { return verdict }
    if isFreeForAddress(request, index, at: now) { return .free }
    guard isSelling else { return .answer(unavailable()) }
    // A client that waits for 100 (Continue) is told the price first; its digest is bound when it comes again.
    if let limit = digestLimit(request, index), !request.head.pointee.expectsContinue {
      // Counted before an octet is kept: content that never ends would otherwise cost its sender nothing.
      switch admission.challenge(request.client, at: request.monotonic) {
      case .admitted: return .collectBody(limit: limit)
      case .refused(let seconds): return .answer(problem(.rateLimited, retryAfter: seconds))
      }
    }
    hint = namedChannel(request, index)
    defer { hint = nil }
    return .answer(challenge(request, index, .paymentRequired, isCounted: isCollected(request, index), at: now))
  }

  /// How much content has to be collected before the route's challenge or credential can be bound to it; nil where none.
  func digestLimit(_ request: borrowing PaidRequest, _ index: RouteIndex) -> Int? {
    guard let route = routes[Int(index)], route.bindsDigest, case .streaming = request.content else { return nil }
    return route.digestLimit
  }

  /// Whether the content was collected for the route's digest, or because it decides over the price.
  private func isCollected(_ request: borrowing PaidRequest, _ index: RouteIndex) -> Bool {
    guard case .buffered = request.content else { return false }
    if let own = request.route, variants[Int(own)] != nil { return true }
    if routes[Int(index)]?.volume?.address != nil, routes[Int(index)]?.readsContent == true { return true }
    return routes[Int(index)]?.bindsDigest ?? false
  }

  /// Resolves a session's short form.
  private mutating func short(_ request: borrowing PaidRequest, _ index: RouteIndex, _ range: Range<Int>, at now: Timestamp) -> Verdict {
    let octets = UnsafeRawBufferPointer(rebasing: request.octets[range])
    guard isSelling else { return .answer(unavailable()) }
    if let refused = refusedByRate(request, index) { return .answer(refused) }
    do throws(PrepaidError) {
      let (session, secret) = try PrepaidSessionField.parse(octets)
      return bearer(request, index, session: session, secret: secret, credential: nil, at: now)
    } catch {
      return .answer(failed(request, index, .malformedCredential, detail: "Prepaid-Session is not \"<id>; key=<preimage>\".", at: now))
    }
  }

  /// Resolves a Payment credential.
  private mutating func token(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ range: Range<Int>, _ field: CredentialField, at now: Timestamp
  ) -> Verdict {
    let octets = UnsafeRawBufferPointer(rebasing: request.octets[range])
    guard isAvailable else { return .answer(unavailable()) }
    if let refused = refusedByRate(request, index) { return .answer(refused) }
    let credential: Credential
    do throws(PaymentError) {
      credential = try Credential.parse(octets, field: field)
    } catch {
      return .answer(failed(request, index, error.problem, detail: error.detail, at: now))
    }
    return resolve(request, index, credential, isAlone: request.content.isNone, at: now)
  }

  /// Verifies a credential, wherever it came in. `isAlone` says that the request asks for nothing besides.
  mutating func resolve(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ credential: Credential, isAlone: Bool, at now: Timestamp
  ) -> Verdict {
    if credential.challenge.method == EVMCharge.method || credential.challenge.method == TempoCharge.method {
      if Self.isOfChannel(credential) { return channel(request, index, credential, isAlone: isAlone, at: now) }
      return chainCharge(request, index, credential, at: now)
    }
    guard credential.challenge.method == Prepaid.method,
      credential.challenge.intent == "charge" || credential.challenge.intent == "session"
    else { return .answer(failed(request, index, .methodUnsupported, at: now)) }
    guard credential.isAuthentic(keys.challengeSecrets) else {
      return .answer(failed(request, index, .invalidChallenge, detail: "The challenge was altered or not issued here.", at: now))
    }
    let payload: PrepaidPayload
    do throws(PrepaidError) {
      payload = try PrepaidPayload(parsing: credential.payload, intent: credential.challenge.intent, source: credential.source)
    } catch {
      return .answer(failed(request, index, .invalidPayload, detail: error.detail, at: now))
    }
    switch payload {
    case .transfer, .open, .topUp:
      if isFenced(credential) { return .answer(failed(request, index, .invalidChallenge, detail: Self.beforeRestoration, at: now)) }
    case .bearer, .status, .close: break
    }
    return dispatch(request, index, credential, payload, isAlone: isAlone, at: now)
  }

  /// Whether a challenge is from before the ledger was restored from a backup, and the backup does not know whether it was paid with.
  func isFenced(_ credential: Credential) -> Bool {
    guard let paying = keys.challengeSecrets.paying, ledger?.claimState(credential.challengeID) == nil else { return false }
    return !credential.isAuthentic(paying)
  }

  static let beforeRestoration = "The challenge was issued before the ledger was restored from a backup."

  private mutating func dispatch(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ credential: Credential, _ payload: PrepaidPayload, isAlone: Bool,
    at now: Timestamp
  ) -> Verdict {
    switch payload {
    case .transfer(let wallet, let signature):
      return charge(request, index, credential, wallet: wallet, signature: signature, at: now)
    case .open(let wallet, let deposit, let session, let signature):
      let open = OpenPayload(wallet: wallet, deposit: deposit, session: session, signature: signature)
      return self.open(request, index, credential, open, at: now)
    case .bearer(let session, let secret):
      return bearer(request, index, session: session, secret: secret, credential: credential, at: now)
    case .topUp, .status, .close:
      guard isAlone else {
        return .answer(problem(.badRequest, detail: "A request that manages a session has no content."))
      }
      return manage(request, index, credential, payload, at: now)
    }
  }
}

extension AdmissionLimits {
  /// The cashier's share of the settings: what clients may do that costs nothing. Connections are the relay's to count.
  fileprivate init(_ settings: Settings) {
    func limit(_ perSecond: Int, _ burst: Int) -> RateLimit {
      // Zero switches a limit off.
      guard perSecond > 0 else { return RateLimit(perSecond: .max, burst: .max) }
      return RateLimit(perSecond: UInt32(clamping: perSecond), burst: UInt32(clamping: max(1, burst)))
    }
    let rates = settings.rates
    self.init(
      challenges: limit(rates.challengesPerSecond, rates.challengeBurst), failures: limit(rates.failuresPerSecond, rates.failureBurst))
    requests = rates.address
    wallet = rates.wallet
    session = rates.session
  }
}
