import Bytes
import HTTP
import IO

// Responses that are withheld until their payment has settled: when one is whole, the exchange with the upstream is over, and what is left is an
// answer that waits for its payment.
extension Worker {
  /// A response that was to be withheld is longer than that: nothing of it has left, and it costs nothing.
  mutating func giveUpWithheld(_ index: Int) {
    releaseWithheldContent(index)
    breakExchange(index, .upstreamTooLong)
  }

  private mutating func releaseWithheldContent(_ index: Int) {
    let connection = downstreams.pointer(index)
    connection.pointee.flags.subtract([.withheld, .headSeen])
    connection.pointee.held.release()
    connection.pointee.keptHead.release()
    connection.pointee.keptFields.release()
    connection.pointee.trailers.removeAll()
  }

  /// Has a withheld response settled that is here whole.
  mutating func settleWithheld(_ index: Int) {
    let connection = downstreams.pointer(index)
    // Safe because: `keptHead` and `held` stay as they are until the cashier has copied them.
    let octets = connection.pointee.keptHead.withUnsafeBytes { $0 }
    let content = connection.pointee.held.withUnsafeBytes { $0 }
    responseHead.pointee.reset()
    guard
      (try? ResponseDecoder.decode(
        octets, limits: plan.responseHeadLimits, requestMethod: connection.pointee.method, into: &responseHead.pointee)) == true
    else {
      releaseWithheldContent(index)
      return breakExchange(index, .upstreamMalformed)
    }
    fields.removeAll()
    fields.append(connection.pointee.keptFields)
    let lines = linesOfClient(index, octets)
    let owed = lines.withUnsafeBytes { lines in
      cashier.withheld(connection.pointee.exchange, status: responseHead.pointee.status, fields: lines, body: content, at: wall)
    }
    releaseWithheldContent(index)
    guard let owed else { return fail(index, .ledgerUnavailable) }
    _ = finishPaid(index, .complete)
    ticketCount &+= 1
    let waiter = ChainDesk.Waiter(control: control, connection: index, ticket: ticketCount)
    guard let order = owed.order, let chains = control.chains, chains.settle(order, waiter) else {
      // What is owed is settled without anybody who waits for it.
      return answer(index, cashier.answer(owed.payment, .unknown, at: wall))
    }
    awaitPayment(index, PaymentTicket(number: ticketCount, payment: owed.payment.id, withheld: owed.payment))
  }
}
