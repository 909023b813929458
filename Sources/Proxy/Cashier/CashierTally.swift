import Bytes
import Coding
import Encoding
import Gateway
import HTTP
import Ledger
import Metering
import Payments
import Usage

// Exchanges whose price is one sum over several counts: what is held, what may pass, and what the upstream reports.
extension ResponseHead {
  /// What was done to the content before it was sent.
  func contentCoding(_ octets: UnsafeRawBufferPointer) -> ContentCoding {
    var coding = ContentCoding.identity
    guard has(.contentEncoding) else { return coding }
    for field in fields where field.name == .contentEncoding { coding.add(ContentCoding(field.value(in: octets).bytes)) }
    return coding
  }
}

extension Cashier {
  // MARK: the request

  /// Reads a request's content where its price depends on it; nil where the request may go on. Asked for only when the payer is known,
  /// since content is kept for it.
  mutating func read(_ request: borrowing PaidRequest, _ index: RouteIndex) -> Verdict? {
    facts = nil
    guard let route = routes[Int(index)], route.readsContent, !request.isUpgrade else { return nil }
    if case .streaming = request.content { return .collectBody(limit: route.usage.bodyLimit) }
    let facts = RequestFacts(request, usage: route.usage)
    guard !facts.isAmbiguous else {
      return .answer(
        problem(.badRequest, detail: "A member that decides over the price is there twice, or in a spelling that not every server takes."))
    }
    guard !facts.isUnreadable else {
      return .answer(problem(.badRequest, detail: "The content decides over the price: it has to be a JSON object as the route's servers take it, not compressed."))
    }
    self.facts = facts
    return nil
  }

  /// Debits the beginning of a request and holds what it may come to cost, so that its upstream is asked for nothing that cannot be paid.
  mutating func beginTallied(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ session: ResolvedSession, key: OutcomeKey?, at now: Timestamp
  ) throws(Refusal) -> PaidExchange {
    guard let ledger, let route = routes[Int(index)] else { throw .unavailable }
    let facts = self.facts.take() ?? (session.price.countsTokens ? RequestFacts(request, usage: route.usage) : RequestFacts())
    let content = Self.contentOctets(request)
    guard let least = session.price.cost(of: Self.least(facts, content)),
      let most = session.price.cost(of: Self.most(facts, content, units: route.usage.mostUnits)), least <= most
    else { throw .overflow }
    let context = DebitContext(route: route.label, client: request.client, writesLine: false, units: 1)
    let epoch = ledger.epoch
    if let key { try ledger.reserve(key) }
    let rest = most.subtracting(least) ?? .zero
    var held = route.usage.refusesBeyondBudget ? rest : .zero
    let last: LSN
    do throws(Refusal) {
      last = try debit(ledger, session.handle, cost: least, hold: held, context: context, at: now)
    } catch {
      if let key { ledger.release(key) }
      throw error
    }
    // The budget is the ceiling: as much of the rest is held as it has.
    if !route.usage.refusesBeyondBudget { held = (try? ledger.hold(session.handle, rest)) ?? .zero }
    let place = exchanges.take()
    remember(request, index, at: place)
    exchanges[place].begin(session, context, key)
    exchanges[place].isMetered = true
    exchanges[place].tally = Tally(
      session.price, facts, octetsPerToken: route.usage.octetsPerToken, octets: content.buffered,
      tab: ExchangeTab(debited: least, held: held, entry: last, at: now))
    var exchange = PaidExchange(
      forwardAfter: Self.waitsForDisk(request.head.pointee.method) ? last : 0, replyAfter: last, epoch: epoch, place: place)
    exchange.isTallied = true
    exchange.metersRequest = content.isStreaming && session.price.requestRate != nil
    exchange.metersResponse = true
    exchange.changesContent = facts.change != nil
    exchange.wantsTrailer = request.head.pointee.acceptsTrailers
    exchange.holdTimeout = route.holdTimeout
    exchanges[place].wantsTrailer = exchange.wantsTrailer
    return exchange
  }

  /// How much content a request has: here already, and announced.
  static func contentOctets(_ request: borrowing PaidRequest) -> (buffered: UInt64, announced: UInt64, isStreaming: Bool) {
    switch request.content {
    case .none: (0, 0, false)
    case .buffered(let octets): (UInt64(octets.count), 0, false)
    case .streaming(let length): (0, length ?? 1, true)
    }
  }

  /// What must be paid at the start: the request, and one of each unit.
  static func least(_ facts: RequestFacts, _ content: (buffered: UInt64, announced: UInt64, isStreaming: Bool)) -> Quantities {
    Quantities(
      requestOctets: content.buffered + (content.isStreaming ? 1 : 0), responseOctets: 1, events: 1, seconds: 1,
      inputTokens: facts.estimatedInput, outputTokens: min(1, facts.heldOutput), units: 1)
  }

  /// The worst case, as far as it is known.
  static func most(
    _ facts: RequestFacts, _ content: (buffered: UInt64, announced: UInt64, isStreaming: Bool), units: UInt64
  ) -> Quantities {
    Quantities(
      requestOctets: content.buffered.addingReportingOverflow(content.announced).partialValue, responseOctets: 1, events: 1, seconds: 1,
      inputTokens: facts.heldInput, outputTokens: facts.heldOutput, units: max(1, units))
  }

  /// Changes the request's content into what the upstream gets.
  func changeContent(of exchange: PaidExchange, _ content: inout ByteBuffer) {
    guard exchange.place != PaidExchange.none, let change = exchanges[exchange.place].tally?.change else { return }
    var changed = ByteBuffer()
    content.withUnsafeBytes { change.append($0, to: &changed) }
    content = changed
  }

  /// Tells whether request content may go upstream, all of it or nothing, and counts it.
  mutating func sentTallied(_ exchange: borrowing PaidExchange, _ octets: UInt64, at now: Timestamp) -> GrantResult {
    guard exchange.place != PaidExchange.none, let tally = exchanges[exchange.place].tally else { return .stop }
    let result = cover(exchange, tally, tally.cost(withRequest: octets), at: now)
    guard case .granted = result else { return result }
    tally.sent(octets)
    return .granted(octets)
  }

  // MARK: the response

  /// Takes the response's head, before `answered`.
  mutating func read(_ exchange: borrowing PaidExchange, head: borrowing ResponseHead, _ octets: UnsafeRawBufferPointer) {
    guard exchange.place != PaidExchange.none, let tally = exchanges[exchange.place].tally,
      let route = routes[Int(exchanges[exchange.place].route)]
    else { return }
    let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
    tally.answered(
      contentType: head.first(.contentType)?.value(in: octets) ?? nothing, coding: head.contentCoding(octets),
      isEventStream: head.mayBeEventStream(octets), removesUsage: exchange.changesContent && !route.usage.keepsUsageChunk)
    guard tally.price.countsUnits else { return }
    var report = UpstreamReport()
    for field in head.fields where field.name == .other {
      report.take(UnsafeRawBufferPointer(rebasing: octets[field.nameRange]), field.value(in: octets), route, tally.price.currency)
    }
    tally.report(report)
  }

  /// Takes the response's trailer lines.
  mutating func readTrailers(_ exchange: borrowing PaidExchange, _ lines: UnsafeRawBufferPointer) {
    guard exchange.place != PaidExchange.none, let tally = exchanges[exchange.place].tally, tally.price.countsUnits,
      let route = routes[Int(exchanges[exchange.place].route)]
    else { return }
    var report = UpstreamReport()
    for line in lines.split(separator: UInt8(ascii: "\n")) {
      guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { continue }
      var value = line[(colon + 1)...]
      while let first = value.first, first == 0x20 || first == 0x09 { value = value.dropFirst() }
      while let last = value.last, last == 0x0D || last == 0x20 || last == 0x09 { value = value.dropLast() }
      report.take(UnsafeRawBufferPointer(rebasing: line[..<colon]), UnsafeRawBufferPointer(rebasing: value), route, tally.price.currency)
    }
    tally.reportAtEnd(report)
  }

  /// Tells whether a portion of the response's content may leave; what of it does, `appendPortion` tells then. A portion that may
  /// not is shown again by the next call, with more octets behind it or without: what is granted is what was shown first.
  mutating func grantPortion(_ exchange: borrowing PaidExchange, _ portion: UnsafeRawBufferPointer, at now: Timestamp) -> GrantResult {
    guard exchange.place != PaidExchange.none, let tally = exchanges[exchange.place].tally else { return .stop }
    tally.show(portion, at: clock)
    let result = cover(exchange, tally, tally.shownCost, at: now)
    guard case .granted = result else { return result }
    tally.grant(at: clock)
    return .granted(UInt64(tally.shownCount))
  }

  /// Whether the response's content is decoded to be looked at.
  func decodes(_ exchange: borrowing PaidExchange) -> Bool {
    guard exchange.place != PaidExchange.none else { return false }
    return exchanges[exchange.place].tally?.isDecoding ?? false
  }

  /// How many octets have been decoded to be looked at.
  func decodedCount(_ exchange: borrowing PaidExchange) -> UInt64 {
    exchange.place == PaidExchange.none ? 0 : exchanges[exchange.place].tally?.decodedCount ?? 0
  }

  /// Appends what of a granted portion goes to the client.
  func appendPortion(_ exchange: borrowing PaidExchange, to out: inout ByteBuffer) {
    guard exchange.place != PaidExchange.none, let tally = exchanges[exchange.place].tally else { return }
    out.append(tally.output)
  }

  /// Counts what was granted as handed to the client's connection.
  func deliveredPortions(_ exchange: borrowing PaidExchange) {
    guard exchange.place != PaidExchange.none else { return }
    exchanges[exchange.place].tally?.pass()
  }

  /// Pays for the seconds that have begun.
  mutating func grantTime(_ exchange: borrowing PaidExchange, at now: Timestamp) -> GrantResult {
    guard exchange.place != PaidExchange.none, let tally = exchanges[exchange.place].tally else { return .stop }
    tally.showTime(at: clock)
    let result = cover(exchange, tally, tally.shownCost, at: now)
    switch result {
    // What is debited need not be on disk for time to go by.
    case .granted, .waitDurable:
      tally.resume(at: clock)
      tally.grantTime()
    case .dry, .stop: break
    }
    return result
  }

  /// When the exchange's next second begins, on the loop's clock; `Int64.max` where none does.
  func nextSecond(_ exchange: borrowing PaidExchange) -> Int64 {
    guard exchange.place != PaidExchange.none else { return .max }
    return exchanges[exchange.place].tally?.nextSecond ?? .max
  }

  /// The response came whole, and all of it was handed over: what the upstream reported settles the exchange.
  ///
  /// Appends the rest of the content; returns whether a report that was expected did not come.
  mutating func completePortions(_ exchange: borrowing PaidExchange, into out: inout ByteBuffer) -> Bool {
    guard exchange.place != PaidExchange.none, let tally = exchanges[exchange.place].tally, exchanges[exchange.place].isCharged else {
      return false
    }
    tally.complete(at: clock, into: &out)
    return tally.isUnreported
  }

  /// Debits what the exchange has used beyond its debits, out of what is held for it.
  mutating func coverUsed(_ place: UInt32, at now: Timestamp) {
    guard let ledger, let tally = exchanges[place].tally, case .debited(let handle) = exchanges[place].payment else { return }
    let missing = tally.missingAtEnd
    guard missing > .zero, let entry = try? ledger.extend(handle, fromHeld: missing, held: tally.tab.held, at: now) else { return }
    tally.tab.debit(missing, entry: entry, at: now)
  }

  /// Sees that the exchange's cost may come to `cost`, and debits the next step where it is time for that.
  private mutating func cover(_ exchange: borrowing PaidExchange, _ tally: Tally, _ cost: ExactCost?, at now: Timestamp) -> GrantResult {
    if let seat = exchanges[exchange.place].promise { return coverPromised(exchange, tally, seat, cost, at: now) }
    guard let ledger, case .debited(let handle) = exchanges[exchange.place].payment, let cost else { return .stop }
    tally.tab.publish(durable: ledger.durable)
    // Looked at after the number: with another epoch the numbers of this exchange's debits mean nothing, and the relay ends it.
    guard ledger.epoch == exchange.epoch else { return .waitDurable(Self.never) }
    switch tally.tab.standing(for: cost) {
    case .covered:
      if let step = tally.tab.stepAhead(of: cost), !exchanges[exchange.place].isExhausted {
        do throws(Refusal) {
          let (debited, entry) = try ledger.extend(handle, cost: step, atLeast: step, held: tally.tab.held, at: now)
          tally.tab.debit(debited, entry: entry, at: now)
        } catch {
          exchanges[exchange.place].isExhausted = true
        }
      }
      exchanges[exchange.place].isAnnounced = false
      tally.resume(at: clock)
      return .granted(0)
    case .awaits(let entry): return .waitDurable(entry)
    case .short(let missing): return extend(exchange, tally, handle, missing, at: now)
    }
  }

  private mutating func extend(
    _ exchange: borrowing PaidExchange, _ tally: Tally, _ handle: SessionHandle, _ missing: ExactCost, at now: Timestamp
  ) -> GrantResult {
    guard let ledger else { return .stop }
    let place = exchange.place
    do throws(Refusal) {
      let (debited, entry) = try ledger.extend(
        handle, cost: tally.tab.step(for: missing), atLeast: missing, held: tally.tab.held, at: now)
      tally.tab.debit(debited, entry: entry, at: now)
      exchanges[place].isExhausted = false
      return .waitDurable(entry)
    } catch {
      switch error {
      case .insufficientBudget(let required):
        exchanges[place].required = required
        exchanges[place].isExhausted = true
        tally.pause(at: clock)
        return .dry(Dry(event: announcement(place, handle)))
      // The disk is nearly full: nothing more is debited before there is room.
      case .unavailable:
        tally.pause(at: clock)
        return .dry(Dry(event: []))
      default: return .stop
      }
    }
  }
}
