import Bytes
import Encoding
import Ethereum
import Gateway
import HTTP
import Ledger
import Metering
import Methods
import Payments

// Sessions over payment channels: the methods `evm` and `tempo`, intent `session`.
extension Cashier {
  /// Seconds after which a request may be repeated while its chain cannot be asked, or has not answered.
  static var channelRetry: UInt32 { 5 }

  /// Whether a credential is of a session over channels.
  static func isOfChannel(_ credential: Credential) -> Bool {
    (credential.challenge.method == ChannelProtocol.evm.method || credential.challenge.method == ChannelProtocol.tempoV2.method)
      && credential.challenge.intent == ChannelProtocol.intent
  }

  /// Whether a request asks for nothing but that its credential is taken, as the reference client means it: HEAD, and POST with neither
  /// content nor query.
  static func asksForNothing(_ request: borrowing PaidRequest) -> Bool {
    guard !request.isCall, request.content.isNone else { return false }
    switch request.head.pointee.method {
    case .head: return true
    case .post: return request.query == nil
    case .get, .options, .query, .put, .patch, .delete, .trace, .connect, .other: return false
    }
  }

  /// Whether a request without content manages a channel, by its credential's action.
  func managesChannel(_ request: borrowing PaidRequest, _ credential: Credential) -> Bool {
    switch credential.payload["action"]?.stringValue {
    case "open", "voucher": Self.asksForNothing(request)
    default: Self.managesChannel(credential)
    }
  }

  /// Whether a credential manages a channel, whatever its request is.
  static func managesChannel(_ credential: Credential) -> Bool {
    switch credential.payload["action"]?.stringValue {
    case "topUp", "close": true
    default: false
    }
  }

  /// A credential of a session over channels, and what its challenge asked for.
  struct ChannelCredential {
    let credential: Credential
    let quote: ChannelSession
  }

  /// Resolves a credential of a session over channels.
  mutating func channel(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ credential: Credential, isAlone: Bool, at now: Timestamp
  ) -> Verdict {
    guard isAvailable else { return .answer(unavailable()) }
    guard credential.isAuthentic(keys.challengeSecrets), credential.challenge.realm == settings.realm else {
      return .answer(failed(request, index, .invalidChallenge, detail: "The challenge was altered or not issued here.", at: now))
    }
    let presented: ChannelCredential
    let payload: ChannelPayload
    do throws(ChainChargeError) {
      let quote = try ChannelSession(parsing: credential.request, method: credential.challenge.method)
      presented = ChannelCredential(credential: credential, quote: quote)
      payload = try ChannelPayload(parsing: credential.payload, rules: quote.rules)
    } catch {
      return .answer(failed(request, index, error.problem, detail: error.detail, at: now))
    }
    guard isAlone || !payload.isManagement else {
      return .answer(problem(.badRequest, detail: "A request that manages a session has no content."))
    }
    switch payload {
    case .open, .topUp:
      if isFenced(credential) { return .answer(failed(request, index, .invalidChallenge, detail: Self.beforeRestoration, at: now)) }
    case .voucher, .close: break
    }
    switch payload {
    case .open(let opening): return open(request, index, presented, opening, at: now)
    case .topUp(let topUp): return self.topUp(request, index, presented, topUp, at: now)
    case .voucher(let voucher, let descriptor, let topUp):
      if let topUp, let verdict = deposit(request, index, presented, topUp, at: now) { return verdict }
      return self.voucher(request, index, presented, voucher, descriptor: descriptor, at: now)
    case .close(let voucher, let descriptor): return close(request, index, presented, voucher, descriptor: descriptor, at: now)
    }
  }

  // MARK: the channel

  /// A channel that a credential is about, or why it is of no use.
  enum FoundChannel {
    case channel(ChannelView, StoredChannel)
    case answer(Answer)
  }

  /// Finds a channel, and compares it with what the credential's challenge asked for.
  mutating func find(
    _ id: Digest32, _ request: borrowing PaidRequest, _ index: RouteIndex, _ presented: ChannelCredential, descriptor: ChannelDescriptor?,
    at now: Timestamp
  ) -> FoundChannel {
    guard let ledger else { return .answer(unavailable()) }
    guard let view = ledger.channel(id) else {
      let gone = ledger.closeResult(id) == nil ? PaymentProblem.sessionNotFound : .sessionFinalized
      admission.failed(request.client, at: request.monotonic)
      return .answer(problem(gone, members: ["channelId": .string(HexData.text(id))], challengeID: presented.credential.challenge.id))
    }
    guard let stored = StoredChannel(view.descriptor) else {
      return .answer(problem(.internalPaymentError, challengeID: presented.credential.challenge.id))
    }
    let quote = presented.quote
    guard view.terms.realm == settings.realm, stored.escrow.rules == quote.rules, stored.escrow.chain == quote.details.chainID,
      stored.escrow.address == quote.details.escrow, stored.channel.token == quote.currency, stored.channel.payee == quote.recipient
    else {
      return .answer(failed(request, index, .invalidChallenge, detail: "The challenge was issued for another session.", at: now))
    }
    guard descriptor ?? stored.channel == stored.channel else {
      return .answer(refused(.descriptorMismatch, request, index, view, stored, presented, at: now))
    }
    return .channel(view, stored)
  }

  /// What is sold by sessions on a route now, and what was when challenges that still hold were issued, with its price.
  func soldSessions(_ route: PricedRoute, at now: Timestamp) -> [(offer: RouteRails.SessionOffer, price: Price)] {
    var sold = route.rails.sessions.map { ($0, route.price) }
    for former in route.former where former.until > now {
      sold += (former.rails?.sessions ?? []).map { ($0, former.price) }
    }
    return sold
  }

  // MARK: answers

  /// Answers a credential that broke a rule. What a signature was checked for counts as a failure; sums that do not fit are what clients ask
  /// for again with others.
  mutating func refused(
    _ error: ChannelError, _ request: borrowing PaidRequest, _ index: RouteIndex, _ view: ChannelView, _ stored: StoredChannel,
    _ presented: ChannelCredential?, at now: Timestamp
  ) -> Answer {
    var hint = ChannelHint(view, stored, required: view.budget)
    let problem = error.problem
    guard problem.status == 402 else {
      return self.problem(problem, detail: error.detail, members: hint.members, challengeID: presented?.credential.challenge.id)
    }
    let cost = (Int(index) < routes.count ? routes[Int(index)]?.price.requestCost.ceiling : nil) ?? 0
    hint.required = max(view.budget, view.spent + min(cost, .max - view.spent))
    self.hint = hint
    defer { self.hint = nil }
    switch error {
    case .deltaTooSmall, .amountExceedsDeposit, .amountNotIncreasing, .amountBelowSpent, .insufficientBalance:
      return challenge(request, index, problem, detail: error.detail, members: hint.members, at: now)
    default: return failed(request, index, problem, detail: error.detail, members: hint.members, at: now)
    }
  }

  /// 402 where what was signed does not pay for the request: what the next voucher has to say, in the words of both drafts.
  ///
  /// - Parameters:
  ///   - missing: base units.
  ///   - isProven: whether the client has shown that it is the payer's.
  ///   - after: the entry by which a voucher of the request was accepted.
  mutating func short(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ seat: ChannelSeat, missing: UInt128, isProven: Bool = true, after: LSN,
    at now: Timestamp
  ) -> Answer {
    guard let view = ledger?.channel(seat.id) else { return problem(.sessionFinalized) }
    let required = Self.nextVoucher(seat, accepted: view.budget, missing: missing)
    var hint = ChannelHint(view, StoredChannel(escrow: seat.escrow, channel: seat.channel), required: required)
    hint.isProven = isProven
    self.hint = hint
    defer { self.hint = nil }
    var members = hint.members
    members.set("requiredTopUp", .string(String(missing)))
    members.set("requiredCumulative", .string(String(required)))
    var answer = challenge(request, index, .sessionInsufficientBalance, members: members, at: now)
    answer.after = max(answer.after, after)
    return answer
  }

  /// What the next voucher has to say at least.
  static func nextVoucher(_ seat: ChannelSeat, accepted: UInt128, missing: UInt128) -> UInt128 {
    let step = max(missing, seat.minimumDelta, 1)
    return accepted + min(step, .max - accepted)
  }

  /// The event that tells a stream's client which voucher it waits for.
  func needVoucher(_ seat: ChannelSeat, accepted: UInt128, missing: UInt128) -> [UInt8] {
    ChannelStreamEvent.needVoucher(
      channelID: seat.id, requiredCumulative: Self.nextVoucher(seat, accepted: accepted, missing: missing), acceptedCumulative: accepted,
      deposit: ledger?.channel(seat.id)?.account.deposit ?? accepted
    ).octets
  }

  /// The last event of a session's stream: the receipt, as clients of what pays read it.
  func receiptEvent(_ place: UInt32) -> [UInt8] {
    let receipt = exchanges[place].receipt
    guard exchanges[place].session?.channel != nil, let text = Base64URL.decode(receipt) else {
      return SessionEvent.receipt(encoded: receipt).octets
    }
    return ChannelStreamEvent.receipt(text: text).octets
  }

  /// 204: the credential was taken. The client has shown that it holds the last voucher, or signed it.
  ///
  /// - Parameter after: the entry that it rests on.
  func managed(_ seat: ChannelSeat, _ handle: SessionHandle, isProven: Bool, after: LSN, at now: Timestamp) -> Answer {
    guard let ledger, let figures = ledger.figures(handle) else { return unavailable() }
    var text = ByteBuffer()
    seat.receipt.append(acceptedCumulative: figures.deposit, spent: figures.debited, timestamp: now, to: &text)
    var lines = managementLines(seat.id, receipt: text)
    if seat.rules == .tempoV2, let view = ledger.channel(seat.id) {
      var hint = ChannelHint(view, StoredChannel(escrow: seat.escrow, channel: seat.channel), required: view.budget)
      hint.isProven = isProven
      lines.append("\(ChannelSnapshot.field): \(hint.snapshot.fieldValue)\r\n")
    }
    return Answer(status: 204, fields: lines.array(), body: [], after: after)
  }

  func managementLines(_ channel: Digest32, receipt: borrowing ByteBuffer) -> ByteBuffer {
    var lines = ByteBuffer()
    lines.append("Cache-Control: no-store\r\nPayment-Receipt: ")
    Base64URL.append(receipt, to: &lines)
    lines.append("\r\n\(ChannelSnapshot.sessionField): \(HexData.text(channel))\r\n")
    return lines
  }

  /// Answers a refusal of the ledger about a channel.
  mutating func answer(
    _ refusal: Refusal, _ request: borrowing PaidRequest, _ index: RouteIndex, _ seat: ChannelSeat, after: LSN = 0, at now: Timestamp
  ) -> Answer {
    let members: JSONObject = ["channelId": .string(HexData.text(seat.id))]
    switch refusal {
    case .insufficientBudget(let missing): return short(request, index, seat, missing: missing, after: after, at: now)
    case .channelSuspended, .unknownSession: return problem(.sessionNotFound, members: members, challengeID: seat.challengeID)
    case .sessionClosing, .sessionClosed: return problem(.sessionFinalized, members: members, challengeID: seat.challengeID)
    case .beyondDeposit:
      guard let view = ledger?.channel(seat.id) else { return problem(.sessionFinalized, members: members, challengeID: seat.challengeID) }
      let stored = StoredChannel(escrow: seat.escrow, channel: seat.channel)
      return refused(.amountExceedsDeposit, request, index, view, stored, nil, at: now)
    default:
      var answer = answer(refusal, request, index, nil, nil, at: now)
      answer.after = max(answer.after, after)
      return answer
    }
  }
}
