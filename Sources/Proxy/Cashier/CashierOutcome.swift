import Bytes
import Encoding
import Gateway
import Ledger
import Metering
import Methods
import Payments

// What becomes of the money once the upstream has answered, or has not.
extension Cashier {
  /// An entry that never comes: what waits for it leaves only as the 503 of a ledger that was read back.
  static var never: LSN { .max }
  /// What a cache has to compare before it takes an answer for another request's, whatever else it was told.
  static var vary: StaticString {
    "Vary: Authorization, Payment-Authorization, Prepaid-Session, PAYMENT-SIGNATURE, X-PAYMENT, SIGN-IN-WITH-X\r\n"
  }

  // MARK: the upstream's head

  /// Settles or gives back by the upstream's status, and appends the response's field lines.
  mutating func answered(
    _ exchange: inout PaidExchange, status: UInt16, isEventStream: Bool, contentLength: UInt64?, fields: inout ByteBuffer,
    at now: Timestamp
  ) -> AnswerGate {
    let place = exchange.place
    guard place != PaidExchange.none else { return .reply(after: Self.never) }
    exchanges[place].status = status
    exchanges[place].isEventStream = isEventStream
    // A switch to another protocol is what was asked for, whatever else the route charges for.
    exchanges[place].isCharged = status == 101 || routes[Int(exchanges[place].route)]?.chargeStatus.contains(status) ?? false
    fields.append("Cache-Control: private\r\n")
    fields.append(Self.vary)
    fields.append(exchanges[place].corsLines)
    if let seat = exchanges[place].batch { return .reply(after: answered(place, seat, to: &fields, at: now)) }
    guard exchanges[place].isCharged else {
      appendSettlement(place, to: &fields, at: now)
      exchange.metersRequest = false
      exchange.metersResponse = false
      exchange.metersRequestMessages = false
      exchange.metersResponseMessages = false
      exchange.metersSeconds = false
      exchange.isTallied = false
      giveBack(place, cause: .upstreamStatus, at: now)
      return .reply(after: 0)
    }
    if exchanges[place].withheld != nil { return withhold(place, status: status, isEventStream: isEventStream, contentLength) }
    if let contentLength, exchanges[place].isMetered { exchanges[place].responseMeter?.expect(contentLength) }
    // Only a success carries a receipt, whatever statuses the route charges for.
    if (200...299).contains(status) || status == 101 {
      rememberPayer(place, at: now)
      appendReceipt(place, to: &fields, at: now)
    } else {
      appendSettlement(place, to: &fields, at: now)
    }
    exchanges[place].announcedLength = contentLength
    if let limit = withholds(place, exchange, status: status, isEventStream: isEventStream, contentLength) {
      exchanges[place].isWithheld = true
      return .withhold(limit: limit)
    }
    let limit = settings.limits.outcomeBytes
    // What is metered, and event streams, pass as they come, and are copied for their key. The key of a payment on a chain is the proxy's own
    // idea: nothing that streams is held up for it.
    let isPassed = isEventStream || exchange.metersResponse || (exchanges[place].chain != nil && contentLength == nil)
    if isPassed, status != 101, contentLength.map({ $0 <= UInt64(limit) }) ?? true, let key = exchanges[place].idempotency {
      exchange.keepsAnswer = true
      exchanges[place].copiedKey = key
    }
    if exchanges[place].idempotency != nil, !isPassed, status != 101, contentLength.map({ $0 <= UInt64(limit) }) ?? true {
      exchanges[place].isWithheld = true
      return .withhold(limit: limit)
    }
    return .reply(after: settle(place, outcome: keptOutcome(place, head: [], body: nil), at: now))
  }

  /// Whether the exchange's field lines say which pages may read the response, so that the upstream's must not say it too.
  func decidesSharing(_ exchange: PaidExchange) -> Bool {
    exchange.place != PaidExchange.none && !exchanges[exchange.place].corsLines.isEmpty
  }

  /// Settles a withheld response and keeps it as the outcome of its key; returns the entry that its first octet waits for.
  mutating func collected(
    _ exchange: inout PaidExchange, status: UInt16, fields: UnsafeRawBufferPointer, body: UnsafeRawBufferPointer?, at now: Timestamp
  ) -> LSN {
    let place = exchange.place
    guard place != PaidExchange.none else { return Self.never }
    exchanges[place].isWithheld = false
    let kept = body.flatMap { $0.count <= settings.limits.outcomeBytes ? Array($0) : nil }
    return settle(place, outcome: keptOutcome(place, head: Array(fields), body: kept), at: now)
  }

  /// How many octets of a response are copied as it passes.
  var keptLimit: Int { settings.limits.outcomeBytes }

  /// Keeps a response that was copied as it passed, for the repetition of its request: what was paid for on a chain may be asked for again.
  mutating func keep(_ exchange: borrowing PaidExchange, fields: UnsafeRawBufferPointer, body: UnsafeRawBufferPointer, at now: Timestamp) {
    let place = exchange.place
    guard place != PaidExchange.none, let ledger, let key = exchanges[place].copiedKey, ledger.epoch == exchange.epoch else { return }
    exchanges[place].copiedKey = nil
    let outcome = StoredOutcome(status: exchanges[place].status, head: Array(fields), body: Array(body), receipt: exchanges[place].receipt)
    // Where it cannot be kept, its payment is used up nevertheless.
    _ = try? ledger.store(outcome, for: key, at: now)
  }

  func keptOutcome(_ place: UInt32, head: [UInt8], body: [UInt8]?) -> StoredOutcome? {
    guard exchanges[place].idempotency != nil else { return nil }
    return StoredOutcome(status: exchanges[place].status, head: head, body: body, receipt: exchanges[place].receipt)
  }

  /// Moves a charge's money to the merchant, or keeps the outcome of a session's request; its debit stands already.
  mutating func settle(_ place: UInt32, outcome: StoredOutcome?, at now: Timestamp) -> LSN {
    guard let ledger else { return Self.never }
    do throws(Refusal) {
      switch exchanges[place].payment {
      case .held(let hold):
        // What is whole already is not to be given back.
        let staysOpen = mayRefund(place) && exchanges[place].status != 0
        let entry = try ledger.settle(hold, outcome: outcome, staysOpen: staysOpen, at: now)
        exchanges[place].openCharge = staysOpen ? hold : nil
        exchanges[place].payment = .ended
        exchanges[place].idempotency = nil
        return entry
      case .debited:
        guard let key = exchanges[place].idempotency, let outcome else { return 0 }
        let entry = try ledger.store(outcome, for: key, at: now)
        exchanges[place].storedKey = key
        exchanges[place].idempotency = nil
        return entry
      case .vacant, .ended: return 0
      }
    } catch {
      // Whether the money moved is for the ledger to find out; nothing leaves before it has.
      return Self.never
    }
  }

  /// Gives everything back: the exchange costs nothing.
  mutating func giveBack(_ place: UInt32, cause: VoidCause, at now: Timestamp) {
    guard let ledger else { return }
    switch exchanges[place].payment {
    case .held(let hold):
      // The hold's key is freed with it.
      ledger.void(hold, cause: cause, at: now)
    case .debited(let handle):
      ledger.finish(
        handle, debited: exchanges[place].debited, used: .zero, held: exchanges[place].held, units: 0, context: exchanges[place].context, at: now)
      // A reservation of before the ledger was read back is gone; the key may be somebody else's by now.
      if let key = exchanges[place].idempotency, ledger.isCurrent(handle) { ledger.release(key) }
    case .vacant, .ended: return
    }
    uncount(place, at: now)
    exchanges[place].idempotency = nil
    exchanges[place].payment = .ended
  }

  // MARK: receipts

  /// Appends the receipt's field line; keeps the receipt where something later needs it.
  private mutating func appendReceipt(_ place: UInt32, to fields: inout ByteBuffer, at now: Timestamp) {
    if let chain = exchanges[place].chain { return appendChainReceipt(place, chain, to: &fields, at: now) }
    fields.append("Payment-Receipt: ")
    let start = fields.count
    guard printReceipt(place, to: &fields, at: now) else { return fields.truncate(to: start - 17) }
    if exchanges[place].idempotency != nil || exchanges[place].isEventStream {
      fields.withUnsafeBytes { exchanges[place].receipt = Array($0[start...]) }
    }
    fields.append("\r\n")
  }

  /// Prints the receipt of what has been paid so far: signed for charges and opens, by the session's prepared one else. False
  /// where the session is not known any more.
  mutating func printReceipt(_ place: UInt32, to out: inout ByteBuffer, at now: Timestamp) -> Bool {
    guard let ledger else { return false }
    guard let session = exchanges[place].session else {
      guard case .held(let hold) = exchanges[place].payment else { return false }
      out.append(chargeReceipt(place, hold, log: ledger.lastCheckpoint, at: now))
      return true
    }
    guard let figures = ledger.figures(session.handle) else { return false }
    if let stub = exchanges[place].opening {
      let log = ledger.lastCheckpoint
      var facts = ReceiptFacts(time: now, logSize: log.size, logRoot: log.root)
      facts.spent = figures.spent
      facts.remaining = figures.remaining
      facts.units = figures.units
      out.append(stub.encoded(facts))
      return true
    }
    switch session.source {
    case .wallet(let receipt): exchanges[place].print(receipt, figures, scratch: &receiptScratch, to: &out, at: now)
    case .channel(let seat):
      receiptScratch.removeAll()
      seat.receipt.append(
        acceptedCumulative: figures.deposit, spent: figures.debited, timestamp: now, units: exchanges[place].units, to: &receiptScratch)
      Base64URL.append(receiptScratch, to: &out)
    }
    return true
  }

  private func chargeReceipt(_ place: UInt32, _ hold: Hold, log: (size: UInt64, root: Digest32), at now: Timestamp) -> [UInt8] {
    let record = exchanges[place]
    return ReceiptStub(
      signer: keys.signer, intent: "charge", reference: String(hold.id), challengeID: record.challengeID, amount: record.amount,
      currency: record.currency, recipient: record.recipient, resource: record.resourceValue, session: nil
    ).encoded(ReceiptFacts(time: now, logSize: log.size, logRoot: log.root))
  }

  // MARK: the end

  /// Ends an exchange: what it used is settled, the rest goes back, and its place is free again.
  mutating func finish(_ exchange: inout PaidExchange, _ end: ExchangeEnd, at now: Timestamp) -> FinalParts {
    let place = exchange.place
    guard place != PaidExchange.none else { return FinalParts() }
    exchange.place = PaidExchange.none
    let refund = refund(place, exchange, end)
    var parts = FinalParts()
    switch end {
    case .complete:
      parts = settleUsed(place, at: now)
      finalReceipt(place, &parts, at: now)
    case .upstreamBroke:
      parts = endBroken(place, refund, at: now)
    case .sessionStopped:
      // Who closes the session while a response is withheld must not be served for nothing: the head has decided.
      parts = settleUsed(place, at: now)
    case .holdTimeout:
      parts = settleUsed(place, at: now)
      if exchanges[place].session?.channel != nil {
        // Clients of channels hand events that they do not know to their application: the last receipt says it all.
        finalReceipt(place, &parts, at: now)
      } else if exchanges[place].isEventStream, let session = exchanges[place].session, let figures = ledger?.figures(session.handle) {
        parts.event = SessionEvent.timeout(session: session.id, spent: figures.spent, required: exchanges[place].required).octets
      }
    case .upstreamFailed(let beforeHead):
      if beforeHead { giveBack(place, cause: .upstreamFailed, at: now) } else { parts = endBroken(place, refund, at: now) }
    case .clientLeft(let requestForwarded, let headSeen, let safe):
      if headSeen {
        parts = settleUsed(place, refund, at: now)
      } else if !requestForwarded {
        giveBack(place, cause: .notForwarded, at: now)
      } else {
        parts = endUnanswered(place, safe: safe, at: now)
      }
    case .abandoned(let safe):
      parts = endUnanswered(place, safe: safe, at: now)
    case .ledgerLost:
      // Numbers and handles are void, and the ledger decides by what it read back; what is not void yet, for the exchange began just
      // after that, costs nothing.
      giveBack(place, cause: .upstreamFailed, at: now)
    }
    endOpenCharge(place, refund, at: now)
    endPromise(place, exchange, end, &parts, at: now)
    endWithheld(place, exchange, at: now)
    parts.fieldLines = exchanges[place].corsLines
    if exchanges[place].chain != nil {
      var lines = ByteBuffer()
      appendSettlement(place, to: &lines, at: now)
      parts.fieldLines += lines.array()
    }
    if let seat = exchanges[place].batch, exchanges[place].status == 0 {
      var lines = ByteBuffer()
      seat.response.appendField(.v2, to: &lines)
      parts.fieldLines += lines.array()
    }
    if keepsSummaries { summary = PaidSummary(exchanges[place]) }
    exchanges.giveBack(place)
    return parts
  }

  /// Settles what was used, once the upstream's head has decided that it costs something; before that nothing is owed.
  private mutating func settleUsed(_ place: UInt32, _ refund: Refund = .none, at now: Timestamp) -> FinalParts {
    guard let ledger else { return FinalParts() }
    var parts = FinalParts()
    switch exchanges[place].payment {
    case .vacant, .ended: return parts
    case .held:
      // The response was withheld, and the client left before it was whole: that does not undo what the head decided.
      if exchanges[place].isCharged, refund == .none {
        parts.after = settle(place, outcome: keptOutcome(place, head: [], body: nil), at: now)
      } else {
        giveBack(place, cause: .upstreamFailed, at: now)
      }
      return parts
    case .debited(let handle):
      guard exchanges[place].isCharged else {
        giveBack(place, cause: .upstreamFailed, at: now)
        return parts
      }
      if exchanges[place].idempotency != nil {
        parts.after = settle(place, outcome: keptOutcome(place, head: [], body: nil), at: now)
      }
      coverUsed(place, at: now)
      let used = remainder(place, refund)
      let entry = ledger.finish(
        handle, debited: exchanges[place].debited, used: used, held: exchanges[place].held, units: refund == .all ? 0 : exchanges[place].units,
        context: exchanges[place].context, at: now)
      if refund == .all {
        if let key = exchanges[place].storedKey { ledger.forget(key, at: now) }
        uncount(place, at: now)
      }
      parts.after = max(parts.after, entry)
      exchanges[place].payment = .ended
      return parts
    }
  }

  /// The upstream broke off: what was delivered is paid for, and of a withheld response nothing was.
  private mutating func endBroken(_ place: UInt32, _ refund: Refund, at now: Timestamp) -> FinalParts {
    guard exchanges[place].isWithheld else { return settleUsed(place, refund, at: now) }
    giveBack(place, cause: .upstreamFailed, at: now)
    return FinalParts()
  }

  /// The request went upstream and no head came in time: what may have been changed is paid for.
  private mutating func endUnanswered(_ place: UInt32, safe: Bool, at now: Timestamp) -> FinalParts {
    guard !safe else {
      giveBack(place, cause: .clientLeft, at: now)
      return FinalParts()
    }
    exchanges[place].isCharged = true
    if let seat = exchanges[place].batch { return FinalParts(after: charge(place, seat, at: now)) }
    if case .held = exchanges[place].payment {
      return FinalParts(after: settle(place, outcome: keptOutcome(place, head: [], body: nil), at: now))
    }
    return settleUsed(place, at: now)
  }

  /// The final state of a session's stream: as an event where it is an event stream, as a trailer where the client takes some.
  private mutating func finalReceipt(_ place: UInt32, _ parts: inout FinalParts, at now: Timestamp) {
    let isStream = exchanges[place].isEventStream
    guard (200...299).contains(exchanges[place].status), isStream || exchanges[place].wantsTrailer else { return }
    if exchanges[place].session != nil {
      var out = ByteBuffer()
      if printReceipt(place, to: &out, at: now) { exchanges[place].receipt = out.array() }
    }
    guard !exchanges[place].receipt.isEmpty else { return }
    if isStream { parts.event = receiptEvent(place) }
    if exchanges[place].wantsTrailer {
      parts.trailer = Array("Payment-Receipt: ".utf8) + exchanges[place].receipt + Array("\r\n".utf8)
    }
  }
}
