public import Bytes
public import Configuration
import Encoding
import Gateway
import HTTP
import IO
public import Ledger
import Synchronization

/// The running proxy: its listeners and event loops. Starting and stopping are the caller's; nothing here blocks but
/// ``join()``, ``reload(_:at:)`` and the look-up of upstream names in ``start()``.
public final class Server: Sendable {
  /// What runs, and by which configuration.
  struct State {
    var settings: Settings
    /// The plan of all workers together.
    var plan: RelayPlan
    var places: PlanPlaces
    var former = FormerOffers()
    /// Counts configurations.
    var number: UInt64 = 0
    /// In the settings' order.
    var listeners: [ListeningSockets] = []
    /// Numbers that listeners have had.
    var listenerCount = 0
    var controls: [WorkerControl] = []
    var threads: [LoopThread] = []
    var watch: UpstreamWatch?
    var services: ServiceClient?
    var chains: ChainDesk?
    var descriptorLimit = 0
    /// Counts signs of life that were asked for.
    var beat: UInt64 = 0
    var isDraining = false
  }

  let ledger: Ledger?
  let keys: KeyRing
  let state: Mutex<State>
  let notices: NoticeBoard
  let clients: ClientConnections
  let resolver: UpstreamResolver
  let board: UpstreamBoard
  /// Held while a configuration is changed: one after another.
  let changing = Mutex<Void>(())
  let accessLog: AccessLog
  let contexts: TLSContexts
  /// Counts rates for all workers.
  let rates: RateTable
  /// Counts what clients' addresses have free, for all workers.
  let addressVolumes = AddressVolumes()

  /// Prepares a server. Without a ledger, priced routes answer 503. `notify` is called on any loop's thread, and must be
  /// quick.
  public convenience init(
    settings: Settings, ledger: Ledger?, keys: KeyRing, notify: @escaping @Sendable (ServerNotice) -> Void = { _ in }
  ) throws(ServerError) {
    self.init(settings: settings, plan: try RelayPlan(settings), ledger: ledger, keys: keys, notify: notify)
  }

  /// Prepares a server with a plan of the caller's, whose times may differ from what settings can say, and with name servers of
  /// the caller's.
  init(
    settings: Settings, plan: RelayPlan, ledger: Ledger?, keys: KeyRing, notify: @escaping @Sendable (ServerNotice) -> Void = { _ in },
    resolve: @escaping UpstreamResolver.Resolve = UpstreamResolver.bySystem
  ) {
    self.ledger = ledger
    self.keys = keys
    state = Mutex(State(settings: settings, plan: plan, places: PlanPlaces(settings)))
    notices = NoticeBoard(upstreams: plan.serverNames, report: notify)
    board = UpstreamBoard(notices: notices)
    board.adopt(plan)
    clients = ClientConnections(limit: plan.connectionsPerClient)
    resolver = UpstreamResolver(plan.servers, resolve: resolve)
    accessLog = AccessLog(report: notify)
    contexts = TLSContexts(report: notify)
    rates = Cashier.rateTable(settings)
  }

  /// The settings that new requests are served by.
  public var settings: Settings { state.withLock { $0.settings } }

  /// The port of each listener in the settings' order, once started; 0 for a Unix socket.
  public var ports: [UInt16] { state.withLock { $0.listeners.map(\.port) } }

  /// Opens the listeners and starts the loops. Call it once.
  public func start() throws(ServerError) {
    let settings = self.settings
    let sockets = try ListeningSockets.open(settings, workers: Self.workerCount(settings), inheritance: Inheritance())
    try start(sockets, [])
  }

  /// How many loops settings ask for.
  static func workerCount(_ settings: Settings) -> Int { settings.workers > 0 ? settings.workers : Syscalls.coreCount }

  /// Starts the loops over listeners that are open, with connections that another process has passed on.
  func start(_ listeners: [ListeningSockets], _ connections: [Handover.Connection]) throws(ServerError) {
    let descriptors = Syscalls.raiseDescriptorLimit()
    Syscalls.forbidCoreDumps()
    Syscalls.tuneAllocator()
    let (settings, planned) = state.withLock { ($0.settings, $0.plan) }
    let prepared = try prepareContexts(settings)
    var whole = planned
    if settings.listeners.contains(where: { $0.tls != nil }) {
      whole.put(settings.listeners, numbers: Array(settings.listeners.indices), prepared.plan)
    }
    for (place, context) in prepared.plan.upstreams.enumerated() where context != nil { whole.upstreams[place].tls = context }
    let count = Self.workerCount(settings)
    let plan = whole.share(of: count, descriptors: descriptors)
    let addresses = plan.servers.indices.map { resolver.lookUp($0) }
    var controls: [WorkerControl] = []
    var boxes: [WorkerBox] = []
    let services: ServiceClient
    let calls = CallsInFlight()
    let chains: ChainDesk?
    let chainPlans = try ChainPlan.plans(settings, places: state.withLock { $0.places.layout.upstreams })
    do {
      services = try ServiceClient(resolver: resolver)
      services.adopt(plan)
      let prices = PriceDesk(services: services, notices: notices)
      chains = ledger.map { ChainDesk(ledger: $0, services: services, notices: notices) }
      for number in 0..<count {
        let control = try WorkerControl(
          seed: UInt64(number), resolver: resolver, board: board, notices: notices, clients: clients, accessLog: accessLog,
          prices: prices, chains: chains, calls: calls)
        controls.append(control)
        boxes.append(WorkerBox(try makeWorker(plan, settings, control, addresses)))
      }
    } catch let error as IOError {
      throw .system(error)
    } catch {
      throw .offersInvalid
    }
    do throws(IOError) { try accessLog.adopt(try AccessLog.open(settings.accessLog)) } catch { throw .accessLog(error) }
    resolver.serve(controls)
    try share(listeners, boxes)
    for (position, connection) in connections.enumerated() { boxes[position % boxes.count].add(connection) }
    for control in controls { ledger?.register(control.waker) }
    let threads = try launch(boxes)
    let watch = try startWatch(plan, Array(plan.upstreams.indices))
    contexts.adopt(prepared)
    contexts.watch()
    chains?.adopt(chainPlans)
    state.withLock { state in
      state.plan = whole
      state.watch = watch
      state.services = services
      state.chains = chains
      state.listeners = listeners
      state.listenerCount = (listeners.map(\.number).max() ?? -1) + 1
      state.controls = controls
      state.threads = threads
      state.descriptorLimit = descriptors
    }
  }

  /// Reads the certificates that the settings name.
  func prepareContexts(_ settings: Settings) throws(ServerError) -> TLSContexts.Prepared {
    do throws(CertificateFileError) { return try contexts.prepare(settings, at: Timestamp.now()) } catch { throw .certificates(error) }
  }

  private func makeWorker(
    _ plan: RelayPlan, _ settings: Settings, _ control: WorkerControl, _ addresses: [[SocketAddress]]
  ) throws -> Worker {
    let cashier = try Cashier(settings: settings, ledger: ledger, keys: keys, rates: rates, prices: control.prices, chains: control.chains, addresses: addressVolumes)
    let epoll = try Worker.makeEpoll(control)
    return Worker(plan: plan, control: control, ledger: ledger, cashier: cashier, addresses: addresses, epoll: epoll)
  }

  /// Gives every loop its share of each listener.
  private func share(_ listeners: [ListeningSockets], _ boxes: [WorkerBox]) throws(ServerError) {
    for sockets in listeners {
      do {
        for (worker, box) in boxes.enumerated() {
          for parcel in try sockets.share(worker: worker, of: boxes.count) { try box.add(parcel, number: sockets.number) }
        }
      } catch {
        throw .cannotListen(listener: sockets.number, error)
      }
    }
  }

  private func launch(_ boxes: [WorkerBox]) throws(ServerError) -> [LoopThread] {
    var threads: [LoopThread] = []
    for (number, box) in boxes.enumerated() {
      do { threads.append(try LoopThread(name: "worker-\(number)") { box.run() }) } catch { throw .system(error) }
    }
    return threads
  }

  private func startWatch(_ plan: RelayPlan, _ upstreams: [Int]) throws(ServerError) -> UpstreamWatch {
    do {
      let watch = try UpstreamWatch(board: board, resolver: resolver)
      try watch.adopt(UpstreamWatch.Orders(plan: plan, upstreams: upstreams))
      return watch
    } catch { throw .system(error) }
  }

  /// Accepts nothing more and lets what runs finish, for the drain time at most. Returns at once.
  public func drain() {
    let (controls, listeners) = state.withLock { state in
      state.isDraining = true
      return (state.controls, state.listeners)
    }
    contexts.stop()
    for control in controls { control.mailbox.send(.drain) }
    for sockets in listeners { sockets.close() }
  }

  /// Ends every exchange now. Returns at once.
  public func stop() {
    let (controls, listeners) = state.withLock { state in
      state.isDraining = true
      return (state.controls, state.listeners)
    }
    contexts.stop()
    for control in controls { control.mailbox.send(.stop) }
    for sockets in listeners { sockets.close() }
  }

  /// Waits until all loops have ended.
  public func join() {
    let (threads, watch, services, chains) = state.withLock { state in
      let threads = state.threads
      state.threads = []
      return (threads, state.watch, state.services, state.chains)
    }
    for thread in threads { thread.join() }
    watch?.stop()
    chains?.stop()
    services?.stop()
    contexts.stop()
    accessLog.end()
  }

  /// Who settles payments on chains; nil before the start, and without a ledger.
  var chainDesk: ChainDesk? { state.withLock { $0.chains } }

  /// Opens the access log's file anew, after it was moved away.
  public func reopenLogs() { accessLog.reopen() }

  /// Appends what the loops have counted as Prometheus text.
  public func appendMetrics(to text: inout ByteBuffer) {
    let (plan, places, metrics) = state.withLock { ($0.plan, $0.places.layout.upstreams, $0.controls.map(\.metrics)) }
    MetricsText.append(metrics, to: &text)
    ServerMetricsText.append(plan, places, board, metrics, to: &text)
    if let ledger, let chains = chainDesk { ChainMetricsText.append(chains, ledger, to: &text) }
    MetricsText.append("access_log_lines_total", "Lines of the access log that were written.", accessLog.writtenCount, to: &text)
    MetricsText.append("access_log_dropped_total", "Lines of the access log that were lost.", accessLog.droppedCount, to: &text)
  }
}

/// Carries a worker to its thread: filled by the starting thread, then used by the loop's alone.
final class WorkerBox: @unchecked Sendable {
  // Safe because: the thread that starts a worker does not touch it after the worker's thread was started.
  private var worker: Worker

  init(_ worker: consuming Worker) { self.worker = worker }

  func add(_ parcel: ListenerParcel, number: Int) throws(IOError) {
    if let listener = parcel.open() { try worker.add(listener, number: number) }
  }

  func add(_ connection: Handover.Connection) { worker.takeOver(connection) }

  func run() { worker.run() }
}
