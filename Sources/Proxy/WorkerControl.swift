import IO
import Synchronization

/// What other threads hold of a worker.
final class WorkerControl: Sendable {
  let waker: Waker
  let mailbox: Mailbox<WorkerMessage>
  let metrics = WorkerMetrics()
  let resolver: UpstreamResolver
  let board: UpstreamBoard
  let notices: NoticeBoard
  let clients: ClientConnections
  /// What the worker has gone over to last.
  let adoption = Mutex(Adoption())
  /// The last sign of life that was asked for and given.
  let beat = Atomic<UInt64>(0)
  let accessLog: AccessLog?
  let prices: PriceDesk?
  let chains: ChainDesk?
  let calls: CallsInFlight

  /// Differs from worker to worker.
  let seed: UInt64

  init(
    seed: UInt64, resolver: UpstreamResolver, board: UpstreamBoard, notices: NoticeBoard, clients: ClientConnections,
    accessLog: AccessLog? = nil, prices: PriceDesk? = nil, chains: ChainDesk? = nil, calls: CallsInFlight = CallsInFlight()
  ) throws(IOError) {
    self.prices = prices
    self.chains = chains
    self.calls = calls
    self.accessLog = accessLog
    waker = try Waker()
    mailbox = Mailbox(waker: waker)
    self.seed = seed
    self.resolver = resolver
    self.board = board
    self.notices = notices
    self.clients = clients
  }
}
