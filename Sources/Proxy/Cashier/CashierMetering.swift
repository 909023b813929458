import Encoding
import Gateway
import Ledger
import Metering
import Methods

// Metered content: what may pass, and what passed.
extension Cashier {
  /// Tells how many octets of response content may leave now.
  ///
  /// - Parameter atLeast: fewer are of no use (the first event of an event stream).
  mutating func grant(_ exchange: inout PaidExchange, wanted: UInt64, atLeast: UInt64, at now: Timestamp) -> GrantResult {
    guard exchange.metersResponse else { return .granted(wanted) }
    return allow(exchange, .response, wanted: wanted, atLeast: atLeast, at: now)
  }

  /// Counts response octets that were handed to the client's connection.
  mutating func delivered(_ exchange: inout PaidExchange, _ octets: UInt64) {
    guard exchange.place != PaidExchange.none, exchanges[exchange.place].isMetered else { return }
    exchanges[exchange.place].responseMeter?.pass(octets)
  }

  /// Tells how many octets of request content may go upstream now, and counts them.
  mutating func sent(_ exchange: inout PaidExchange, _ octets: UInt64, at now: Timestamp) -> GrantResult {
    guard exchange.metersRequest else { return .granted(octets) }
    if exchange.isTallied { return sentTallied(exchange, octets, at: now) }
    let result = allow(exchange, .request, wanted: octets, atLeast: 1, at: now)
    if case .granted(let granted) = result { exchanges[exchange.place].requestMeter?.pass(granted) }
    return result
  }

  /// Whether an exchange has to end because its session is closing or its wallet frozen.
  func mustStop(_ exchange: borrowing PaidExchange) -> Bool {
    // With another epoch nothing can be told by its handle: the relay has looked at it already.
    guard exchange.place != PaidExchange.none, let ledger, ledger.epoch == exchange.epoch else { return false }
    switch exchanges[exchange.place].payment {
    // A charge's money is aside already.
    case .vacant, .held, .ended: return false
    case .debited(let handle): return ledger.figures(handle)?.isOpen != true
    }
  }

  /// Finds what may pass of what one meter counts, and debits the next step where it is time for that.
  mutating func allow(
    _ exchange: borrowing PaidExchange, _ direction: MeterPlace, wanted: UInt64, atLeast: UInt64, at now: Timestamp
  ) -> GrantResult {
    let place = exchange.place
    guard place != PaidExchange.none, let ledger, case .debited(let handle) = exchanges[place].payment,
      var meter = exchanges[place][meter: direction]
    else { return .stop }
    meter.publish(durable: ledger.durable)
    // Looked at after the number: with another epoch the numbers of this exchange's debits mean nothing, and the relay ends it.
    guard ledger.epoch == exchange.epoch else { return .waitDurable(Self.never) }
    let least = max(1, atLeast)
    var refusal: Refusal?
    if let step = meter.nextStep(wanted: wanted), meter.left < wanted || !exchanges[place].isExhausted {
      do throws(Refusal) {
        // What is not enough is not taken: others may need it.
        let missing = least > meter.left ? least - meter.left : 1
        let (units, entry) = try ledger.extend(handle, rate: meter.rate, wanted: step, atLeast: missing, at: now)
        meter.debit(units, entry: entry, at: now)
        exchanges[place].isExhausted = false
      } catch {
        exchanges[place].isExhausted = true
        if meter.left < wanted { refusal = error }
      }
    }
    if refusal != nil, meter.left < least { borrow(place, direction, &meter, missing: least - meter.left) }
    exchanges[place][meter: direction] = meter
    if meter.available >= min(wanted, least) {
      exchanges[place].isAnnounced = false
      return .granted(min(wanted, meter.available))
    }
    if let entry = meter.awaited { return .waitDurable(entry) }
    guard let refusal else { return .waitDurable(exchange.replyAfter) }
    reclaim(place, for: direction, handle, at: now)
    return dry(place, direction, handle, meter, refusal, missing: least - min(meter.left, least), at: now)
  }

  /// Gives back what the exchange's other meters took ahead and have not used. Large steps are for comfort: none of them may make
  /// another meter wait for money that is there.
  private mutating func reclaim(_ place: UInt32, for direction: MeterPlace, _ handle: SessionHandle, at now: Timestamp) {
    guard let ledger else { return }
    for other in MeterPlace.allCases where other != direction {
      guard var meter = exchanges[place][meter: other], meter.left > 0, let before = meter.debitedCost else { continue }
      meter.release()
      guard let rest = meter.debitedCost.flatMap({ before.subtracting($0) }) else { continue }
      do throws(Refusal) { try ledger.retract(handle, rest, at: now) } catch { return }
      exchanges[place][meter: other] = meter
    }
  }

  /// Says what a stream that the budget cannot pay is to do.
  private mutating func dry(
    _ place: UInt32, _ direction: MeterPlace, _ handle: SessionHandle, _ meter: Meter, _ refusal: Refusal, missing: UInt64, at now: Timestamp
  ) -> GrantResult {
    guard let ledger else { return .stop }
    switch refusal {
    case .insufficientBudget(let least):
      exchanges[place].required = least
      // The ledger learns what the waiting stream needs, so that `status` tells it.
      do throws(Refusal) {
        let (units, entry) = try ledger.extend(handle, rate: meter.rate, wanted: missing, atLeast: missing, at: now)
        // A top-up, or what another exchange gave back, came in between: this is a step like any other.
        var meter = meter
        meter.debit(units, entry: entry, at: now)
        exchanges[place].isExhausted = false
        exchanges[place][meter: direction] = meter
        return .waitDurable(entry)
      } catch {
        if case .insufficientBudget(let required) = error { exchanges[place].required = required }
      }
      return .dry(Dry(event: announcement(place, handle)))
    // The disk is nearly full: nothing more is debited before there is room.
    case .unavailable: return .dry(Dry(event: []))
    default: return .stop
    }
  }

  /// The event that tells a stream's client once that it waits.
  mutating func announcement(_ place: UInt32, _ handle: SessionHandle) -> [UInt8] {
    guard exchanges[place].isEventStream, !exchanges[place].isAnnounced, let session = exchanges[place].session,
      let figures = ledger?.figures(handle)
    else { return [] }
    exchanges[place].isAnnounced = true
    if let seat = session.channel { return needVoucher(seat, accepted: figures.deposit, missing: exchanges[place].required) }
    return SessionEvent.needTopUp(session: session.id, spent: figures.spent, required: exchanges[place].required).octets
  }
}
