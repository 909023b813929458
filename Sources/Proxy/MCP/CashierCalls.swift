import Bytes
import Encoding
import Gateway
import HTTP
import Ledger
import MCP
import Methods
import Payments

// Calls of tools, resources and prompts: their credentials come in messages, and their responses decide what they cost.
extension Cashier {
  /// What the cashier decides about a call.
  struct CallVerdict {
    var verdict: Verdict
    /// The credential manages a session: the answer is the call's result.
    var manages = false
  }

  /// Decides about a call at `request.route` whose credential, as `Authorization` would carry it, is `object`; nil: it has none.
  mutating func admitCall(_ request: borrowing PaidRequest, _ object: JSONObject?, at now: Timestamp) -> CallVerdict {
    guard let index = request.route, Int(index) < routes.count, routes[Int(index)] != nil else { return CallVerdict(verdict: .free) }
    renewKeys()
    let decided = decideCall(request, index, object, at: now)
    guard !cors.origins.isEmpty, request.head.pointee.has(.origin) else { return decided }
    return CallVerdict(verdict: withCORS(decided.verdict, request), manages: decided.manages)
  }

  private mutating func decideCall(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ object: JSONObject?, at now: Timestamp
  ) -> CallVerdict {
    guard let object else {
      if isFreeForAddress(request, index, at: now) { return CallVerdict(verdict: .free) }
      guard isSelling else { return CallVerdict(verdict: .answer(unavailable())) }
      return CallVerdict(verdict: .answer(challenge(request, index, .paymentRequired, at: now)))
    }
    guard isAvailable else { return CallVerdict(verdict: .answer(unavailable())) }
    if let refused = refusedByRate(request, index) { return CallVerdict(verdict: .answer(refused)) }
    do throws(PaymentError) {
      let credential = try Credential(reading: object, field: nil)
      if Self.isOfChannel(credential) {
        let manages = Self.managesChannel(credential)
        return CallVerdict(verdict: resolve(request, index, credential, isAlone: manages, at: now), manages: manages)
      }
      let payload = try? PrepaidPayload(parsing: credential.payload, intent: credential.challenge.intent, source: credential.source)
      let manages = payload?.isManagement ?? false
      return CallVerdict(verdict: resolve(request, index, credential, isAlone: manages, at: now), manages: manages)
    } catch {
      return CallVerdict(verdict: .answer(failed(request, index, error.problem, detail: error.detail, at: now)))
    }
  }

  /// Whether what pays for a call is a credential of a session over channels: `object`, or where that is nil what stands in the request's fields.
  func isPaidByChannel(_ request: borrowing PaidRequest, _ object: JSONObject?) -> Bool {
    if let object { return (try? Credential(reading: object, field: nil)).map { Self.isOfChannel($0) } ?? false }
    guard case .token(let range, let field) = PresentedCredential(request.octets, request.head) else { return false }
    return (try? Credential.parse(UnsafeRawBufferPointer(rebasing: request.octets[range]), field: field)).map { Self.isOfChannel($0) } ?? false
  }

  /// Decides about a call that carries a payment of x402.
  mutating func admitCall(_ request: borrowing PaidRequest, paying payment: UnsafeRawBufferPointer, at now: Timestamp) -> Verdict {
    guard let index = request.route, Int(index) < routes.count, routes[Int(index)] != nil else { return .free }
    renewKeys()
    let verdict = x402(request, index, paying: payment, at: now)
    guard !cors.origins.isEmpty, request.head.pointee.has(.origin) else { return verdict }
    return withCORS(verdict, request)
  }

  /// Answers a credential that could not even be read as one.
  mutating func malformedCredential(_ request: borrowing PaidRequest, _ index: RouteIndex, _ detail: String, at now: Timestamp) -> Answer {
    failed(request, index, .malformedCredential, detail: detail, at: now)
  }

  // MARK: What lists tell

  /// What a place is sold for, in the words of the discovery documents: `{"offers":[…]}`.
  func information(of place: RouteIndex) -> [UInt8]? {
    guard Int(place) < routes.count, let route = routes[Int(place)] else { return nil }
    let offers = route.printer.offers.map { offer -> JSONValue in
      [
        "intent": .string(offer.intent), "method": .string(offer.method), "amount": .string(String(offer.amount)),
        "currency": .string(offer.currency), "description": .string(route.price.words),
      ]
    }
    return JSON.serialize(["offers": .array(offers)])
  }

  /// The methods by which some places can be paid, as `capabilities.experimental.payment` tells them.
  func capability(of places: [RouteIndex]) -> [UInt8] {
    var methods = JSONObject()
    for place in places where Int(place) < routes.count {
      for offer in routes[Int(place)]?.printer.offers ?? [] {
        var intents = methods[offer.method]?["intents"]?.arrayValue ?? []
        if !intents.contains(.string(offer.intent)) { intents.append(.string(offer.intent)) }
        methods.set(offer.method, ["intents": .array(intents)])
      }
    }
    return JSON.serialize(["methods": .object(methods)])
  }

  // MARK: What a response decides

  /// The head of a successful answer has come: the call costs something unless its response says otherwise, also where the client
  /// leaves before that.
  mutating func beginCall(_ exchange: PaidExchange, status: UInt16) {
    guard exchange.place != PaidExchange.none else { return }
    exchanges[exchange.place].status = status
    exchanges[exchange.place].isCharged = true
    exchanges[exchange.place].isWithheld = true
  }

  /// The client has got what leads to the response elsewhere: the call costs something even where the stream breaks.
  mutating func keepCharge(_ exchange: PaidExchange) {
    guard exchange.place != PaidExchange.none else { return }
    exchanges[exchange.place].isWithheld = false
  }

  /// What a client is told of a call's payment.
  enum CallReceipt {
    case none
    /// MPP's, encoded.
    case receipt([UInt8])
    /// x402's: the field line that HTTP has for it.
    case settlement([UInt8])
  }

  /// Settles a call, or gives everything back; returns the entry that its response waits for, and the receipt.
  mutating func settleCall(_ exchange: PaidExchange, isCharged: Bool, at now: Timestamp) -> (after: LSN, receipt: CallReceipt) {
    let place = exchange.place
    guard place != PaidExchange.none else { return (Self.never, .none) }
    exchanges[place].isWithheld = false
    var settlement: CallReceipt?
    if let chain = exchanges[place].chain {
      // Money that has moved is told of, also where the call has failed: the same payment buys it again.
      var line = ByteBuffer()
      appendChainReceipt(place, chain, to: &line, at: now)
      settlement = .settlement(line.array())
    }
    guard isCharged else {
      exchanges[place].isCharged = false
      giveBack(place, cause: .upstreamStatus, at: now)
      return (0, settlement ?? .none)
    }
    exchanges[place].copiedKey = exchanges[place].idempotency
    if let settlement { return (settle(place, outcome: keptOutcome(place, head: [], body: nil), at: now), settlement) }
    var receipt = ByteBuffer()
    guard printReceipt(place, to: &receipt, at: now) else { return (Self.never, .none) }
    exchanges[place].receipt = receipt.array()
    let after = settle(place, outcome: keptOutcome(place, head: [], body: nil), at: now)
    return (after, .receipt(receipt.array()))
  }

  /// Keeps the response that a call got, as a message, for the same call with the same payment. It is marked by the status 0: the answer's own
  /// status and fields are made anew.
  mutating func keepCall(_ exchange: PaidExchange, _ text: UnsafeRawBufferPointer, at now: Timestamp) {
    let place = exchange.place
    guard place != PaidExchange.none, let ledger, let key = exchanges[place].copiedKey, ledger.epoch == exchange.epoch else { return }
    exchanges[place].copiedKey = nil
    guard text.count <= settings.limits.outcomeBytes else { return }
    // Where it cannot be kept, its payment is used up nevertheless.
    _ = try? ledger.store(StoredOutcome(status: 0, head: [], body: Array(text), receipt: exchanges[place].receipt), for: key, at: now)
  }

  /// The field lines by which a page of another origin may read the answer of a paid exchange.
  func corsLines(of exchange: PaidExchange) -> [UInt8] {
    exchange.place == PaidExchange.none ? [] : exchanges[exchange.place].corsLines
  }
}
