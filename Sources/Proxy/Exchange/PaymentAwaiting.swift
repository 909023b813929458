import Bytes
import Encoding
import HTTP
import IO

/// A request that waits for its payment to settle on a chain.
struct PaymentTicket {
  let number: UInt64
  let payment: Digest32
  /// What is answered then, where the upstream has answered already.
  var withheld: WithheldPayment?
}

/// What a request that waited was told of its payment, on its way to the cashier.
struct ToldPayment {
  let id: Digest32
  let word: SettlementWord
}

// Requests whose payment settles on a chain: they are kept, and looked at again when the desk has said what became of it.
extension Worker {
  /// Nanoseconds that a request waits for its payment: paying clients give up after 35 seconds, and have to be told before that that
  /// it takes longer.
  private static var settlementPatience: Int64 { 25_000_000_000 }

  /// Keeps a request whose head is `octets`, and has its payment settled.
  mutating func awaitSettlement(_ index: Int, _ octets: UnsafeRawBufferPointer, _ order: SettlementOrder) {
    keepHead(index, octets)
    ticketCount &+= 1
    let waiter = ChainDesk.Waiter(control: control, connection: index, ticket: ticketCount)
    guard let chains = control.chains, chains.settle(order, waiter) else {
      // The claim stands; the same request again finds it.
      return resume(index, ToldPayment(id: order.id, word: .unknown))
    }
    awaitPayment(index, PaymentTicket(number: ticketCount, payment: order.id))
  }

  /// Waits for the desk's word on a payment.
  mutating func awaitPayment(_ index: Int, _ ticket: PaymentTicket) {
    metrics.paymentsAwaited.add()
    paymentTickets[index] = ticket
    downstreams.pointer(index).pointee.state = .pendingAnswer
    setDeadline(index, now &+ Self.settlementPatience)
  }

  /// The desk has said what became of a payment.
  mutating func paymentTold(_ index: Int, ticket: UInt64, payment: Digest32, _ word: SettlementWord) {
    guard let known = paymentTickets[index], known.number == ticket, known.payment == payment else { return }
    paymentTickets[index] = nil
    guard downstreams.isInUse(index), downstreams.pointer(index).pointee.state == .pendingAnswer, downstreams.pointer(index).pointee.pending == nil
    else { return }
    if let withheld = known.withheld { return answer(index, cashier.answer(withheld, word, at: wall)) }
    resume(index, ToldPayment(id: payment, word: word))
  }

  /// The word has not come in time; false where none was awaited.
  mutating func paymentOverdue(_ index: Int) -> Bool {
    guard let known = paymentTickets.removeValue(forKey: index) else { return false }
    if let withheld = known.withheld {
      answer(index, cashier.answer(withheld, .unknown, at: wall))
    } else {
      resume(index, ToldPayment(id: known.payment, word: .unknown))
    }
    return true
  }

  private mutating func resume(_ index: Int, _ told: ToldPayment) {
    let outer = cashier.told
    cashier.told = told
    routeKept(index)
    cashier.told = outer
    goOn(index)
  }
}
