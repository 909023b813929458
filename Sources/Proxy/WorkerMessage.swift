import Bytes
import IO

/// What other threads tell a worker.
enum WorkerMessage: Sendable {
  /// Accept nothing more, finish what runs, then end.
  case drain
  /// End now.
  case stop
  /// The addresses of a server were looked up again.
  case resolved(server: Int, addresses: [SocketAddress])
  /// A pricer has answered the question that a connection waits for, or has failed.
  case priced(connection: Int, ticket: UInt64, key: Digest32, PriceAnswer)
  /// What became of the payment that a connection waits for.
  case paymentTold(connection: Int, ticket: UInt64, payment: Digest32, SettlementWord)
  /// Use another configuration for what begins from now on.
  case reload(Reload)
  /// Hand connections over to another process, finish what runs, then end.
  case handOver(MessageChannel)
  /// Tell that the loop has come round.
  case beat(UInt64)
}

extension Worker {
  /// Does what another thread asks for.
  mutating func receive(_ message: WorkerMessage) {
    switch message {
    case .drain:
      // Nobody takes this process's place any more.
      successor = nil
      startDraining()
    case .stop: isStopped = true
    case .resolved(let server, let found): addressesChanged(server, found)
    case .priced(let connection, let ticket, let key, let answer): priced(connection, ticket: ticket, key: key, answer)
    case .paymentTold(let connection, let ticket, let payment, let word): paymentTold(connection, ticket: ticket, payment: payment, word)
    case .reload(let reload): adopt(reload)
    case .handOver(let channel): startHandover(channel)
    case .beat(let number): control.beat.store(number, ordering: .relaxed)
    }
  }
}
