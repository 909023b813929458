public import Bytes
public import Configuration
import Encoding
import HTTP
import IO
public import Ledger
import Synchronization

/// The running proxy: its listeners and event loops. Starting and stopping are the caller's; nothing here blocks but
/// ``join()`` and the look-up of upstream names in ``start()``.
public final class Server: Sendable {
  private struct Running {
    var controls: [WorkerControl] = []
    var threads: [LoopThread] = []
    var isDraining = false
  }

  private let settings: Settings
  private let ledger: Ledger?
  private let keys: KeyRing
  private let plan: RelayPlan
  private let running = Mutex(Running())
  private let listening = Mutex<[UInt16]>([])
  private let notices: NoticeBoard

  /// Prepares a server. Without a ledger, priced routes answer 503. `notify` is called on any loop's thread, and must be
  /// quick.
  public convenience init(
    settings: Settings, ledger: Ledger?, keys: KeyRing, notify: @escaping @Sendable (ServerNotice) -> Void = { _ in }
  ) throws(ServerError) {
    self.init(settings: settings, plan: try RelayPlan(settings), ledger: ledger, keys: keys, notify: notify)
  }

  /// Prepares a server with a plan of the caller's, whose times may differ from what settings can say.
  init(
    settings: Settings, plan: RelayPlan, ledger: Ledger?, keys: KeyRing, notify: @escaping @Sendable (ServerNotice) -> Void = { _ in }
  ) {
    self.settings = settings
    self.plan = plan
    self.ledger = ledger
    self.keys = keys
    notices = NoticeBoard(upstreams: settings.upstreams.map(\.name), report: notify)
  }

  /// The port of each listener in the settings' order, once started; 0 for a Unix socket.
  public var ports: [UInt16] { listening.withLock { $0 } }

  /// Opens the listeners and starts the loops. Call it once.
  public func start() throws(ServerError) {
    let descriptors = Syscalls.raiseDescriptorLimit()
    Syscalls.tuneAllocator()
    let count = settings.workers > 0 ? settings.workers : Syscalls.coreCount
    let plan = plan.share(of: count, descriptors: descriptors)
    let resolver = UpstreamResolver(plan.upstreams)
    let addresses = plan.upstreams.indices.map { resolver.lookUp($0) }
    let clients = ClientConnections(limit: plan.connectionsPerClient)
    var controls: [WorkerControl] = []
    var boxes: [WorkerBox] = []
    do {
      for _ in 0..<count {
        let control = try WorkerControl(resolver: resolver, notices: notices, clients: clients)
        controls.append(control)
        boxes.append(WorkerBox(try makeWorker(plan, control, addresses)))
      }
    } catch let error as IOError {
      throw .system(error)
    } catch {
      throw .offersInvalid
    }
    resolver.serve(controls)
    try open(boxes)
    for control in controls { ledger?.register(control.waker) }
    let threads = try launch(boxes)
    running.withLock { $0 = Running(controls: controls, threads: threads) }
  }

  private func makeWorker(_ plan: RelayPlan, _ control: WorkerControl, _ addresses: [[SocketAddress]]) throws -> Worker {
    let cashier = try Cashier(settings: settings, ledger: ledger, keys: keys)
    let epoll = try Worker.makeEpoll(control)
    return Worker(plan: plan, control: control, ledger: ledger, cashier: cashier, addresses: addresses, epoll: epoll)
  }

  /// Refuses settings whose listeners another process has or this one may not open. Asked before the ledger is opened,
  /// so that a second start by mistake touches nothing; ``start()`` refuses as well.
  public static func checkListeners(_ settings: Settings) throws(ServerError) {
    for (number, listener) in settings.listeners.enumerated() {
      switch listener.endpoint {
      case .unix(let path):
        do { try Listener.checkUnused(unixPath: path) } catch { throw .cannotListen(listener: number, error) }
      case .address(let text, let port):
        let socket = try address(text, port: port, listener: number)
        guard port != 0 else { continue }
        do { try Listener.checkUnused(socket) } catch { throw .cannotListen(listener: number, error) }
      }
    }
  }

  private static func address(_ text: String, port: UInt16, listener number: Int) throws(ServerError) -> SocketAddress {
    guard let address = ClientAddress(text) else { throw .addressInvalid(listener: number) }
    return SocketAddress(family: address.isIPv4 ? .inet : .inet6, high: address.high, low: address.low, port: port)
  }

  /// Opens each listener once for every loop.
  private func open(_ boxes: [WorkerBox]) throws(ServerError) {
    var ports: [UInt16] = []
    for (number, listener) in settings.listeners.enumerated() {
      do {
        switch listener.endpoint {
        case .unix(let path):
          let first = try Listener(unixPath: path)
          for box in boxes.dropFirst() { try box.add(first.duplicate()) }
          try boxes[0].add(first)
          ports.append(0)
        case .address(let text, let wanted):
          var socket = try Self.address(text, port: wanted, listener: number)
          if wanted != 0 { try Listener.checkUnused(socket) }
          for box in boxes {
            let opened = try Listener(address: socket)
            socket.port = opened.port
            try box.add(opened)
          }
          ports.append(socket.port)
        }
      } catch let error as ServerError {
        throw error
      } catch let error as IOError {
        throw .cannotListen(listener: number, error)
      } catch {
        throw .addressInvalid(listener: number)
      }
    }
    listening.withLock { $0 = ports }
  }

  private func launch(_ boxes: [WorkerBox]) throws(ServerError) -> [LoopThread] {
    var threads: [LoopThread] = []
    for (number, box) in boxes.enumerated() {
      do { threads.append(try LoopThread(name: "worker-\(number)") { box.run() }) } catch { throw .system(error) }
    }
    return threads
  }

  /// Accepts nothing more and lets what runs finish, for the drain time at most. Returns at once.
  public func drain() {
    for control in running.withLock({ $0.controls }) { control.mailbox.send(.drain) }
  }

  /// Ends every exchange now. Returns at once.
  public func stop() {
    for control in running.withLock({ $0.controls }) { control.mailbox.send(.stop) }
  }

  /// Waits until all loops have ended.
  public func join() {
    let threads = running.withLock { state in
      let threads = state.threads
      state.threads = []
      return threads
    }
    for thread in threads { thread.join() }
  }

  /// Appends what the loops have counted as Prometheus text.
  public func appendMetrics(to text: inout ByteBuffer) {
    MetricsText.append(running.withLock { $0.controls.map(\.metrics) }, to: &text)
  }
}

/// Carries a worker to its thread: filled by the starting thread, then used by the loop's alone.
final class WorkerBox: @unchecked Sendable {
  // Safe because: the thread that starts a worker does not touch it after the worker's thread was started.
  private var worker: Worker

  init(_ worker: consuming Worker) { self.worker = worker }

  func add(_ listener: consuming Listener) throws(IOError) { try worker.add(listener) }

  func run() { worker.run() }
}
