import Bytes
import Encoding
import IO

/// A request that waits for the price that somebody was asked for.
struct PriceTicket {
  let number: UInt64
  let key: Digest32
  let attempts: Int
}

// Requests whose price is asked for: they are kept, and looked at again when the answer has come.
extension Worker {
  /// How often one request is asked about: another configuration may ask other questions, and content tells more.
  private static var attemptLimit: Int { 4 }
  /// Nanoseconds beyond the question's own time after which a word that never came is given up.
  private static var patience: Int64 { 1_000_000_000 }

  /// Keeps a request whose head is `octets`, and asks what it costs.
  mutating func awaitPrice(_ index: Int, _ octets: UnsafeRawBufferPointer, _ question: PriceQuestion) {
    let connection = downstreams.pointer(index)
    let attempts = (cashier.offered?.attempts ?? 0) + 1
    // Without end it would ask again and again, should an answer never fit its question.
    guard attempts <= Self.attemptLimit, let prices = control.prices else { return fail(index, .priceUnknown) }
    keepHead(index, octets)
    ticketCount &+= 1
    let waiter = PriceDesk.Waiter(control: control, connection: index, ticket: ticketCount)
    switch prices.ask(question, waiter, at: Instant(nanoseconds: now)) {
    case .known(let answer): resume(index, OfferedPrice(key: question.key, answer: answer, attempts: attempts))
    case .refused: resume(index, OfferedPrice(key: question.key, answer: .failed, attempts: attempts))
    case .asked:
      metrics.pricesAsked.add()
      priceTickets[index] = PriceTicket(number: ticketCount, key: question.key, attempts: attempts)
      connection.pointee.state = .pendingAnswer
      setDeadline(index, now &+ question.timeout &+ Self.patience)
    }
  }

  /// A pricer has answered, or has failed.
  mutating func priced(_ index: Int, ticket: UInt64, key: Digest32, _ answer: PriceAnswer) {
    guard let known = priceTickets[index], known.number == ticket else { return }
    priceTickets[index] = nil
    guard downstreams.isInUse(index), downstreams.pointer(index).pointee.state == .pendingAnswer, downstreams.pointer(index).pointee.pending == nil
    else { return }
    resume(index, OfferedPrice(key: key, answer: answer, attempts: known.attempts))
  }

  /// The word never came; false where none was awaited.
  mutating func priceOverdue(_ index: Int) -> Bool {
    guard let known = priceTickets.removeValue(forKey: index) else { return false }
    resume(index, OfferedPrice(key: known.key, answer: .failed, attempts: known.attempts))
    return true
  }

  /// Goes on with a request that was kept.
  private mutating func resume(_ index: Int, _ offered: OfferedPrice) {
    if case .failed = offered.answer { metrics.pricesFailed.add() }
    let outer = cashier.offered
    cashier.offered = offered
    routeKept(index)
    cashier.offered = outer
    goOn(index)
  }
}
