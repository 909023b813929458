public import Configuration
public import Encoding
import IO
import Ledger
import Synchronization

/// Why a configuration was not gone over to. Nothing has changed then.
public enum ReloadError: Error, Equatable, Sendable {
  /// These keys cannot change while the program runs: what they name is open.
  case fixed([String])
  /// It cannot be served, or a listener of it cannot be opened.
  case server(ServerError)
  /// Exchanges in flight refer to so many former routes that there is no place for the new ones.
  case tooManyRoutes
  /// The server is ending.
  case ending
}

extension Server {
  /// Milliseconds that workers are given to go over to a configuration before the caller is let go.
  private static let patience = 5000
  private static let pauseMilliseconds = 2

  /// Goes over to another configuration, whole or not at all. Requests that begin from now on are served by it; exchanges
  /// in flight go on with the routes that they began with, sessions with the terms that they were opened with, and
  /// challenges that were issued before can be paid until they expire. Returns when the workers have gone over.
  public func reload(_ settings: Settings, at now: Timestamp) throws(ReloadError) {
    try changing.withLock { (_) throws(ReloadError) in
      let before = state.withLock { $0.isDraining ? nil : $0.settings }
      guard let before else { throw .ending }
      let fixed = Self.fixedKeys(before, settings)
      guard fixed.isEmpty else { throw .fixed(fixed) }
      try change(before, settings, at: now)
    }
  }

  /// Names the keys that differ and cannot change at run time.
  static func fixedKeys(_ before: Settings, _ after: Settings) -> [String] {
    var keys: [String] = []
    func compare<Value: Equatable>(_ name: String, _ value: (Settings) -> Value) {
      if value(before) != value(after) { keys.append(name) }
    }
    compare("realm") { $0.realm }
    compare("workers") { $0.workers }
    compare("[[currency]]") { $0.currencies }
    // The books have an account for each.
    compare("[[chain.token]] currency") { Set($0.chainAccounts) }
    compare("[ledger]") { $0.ledger }
    compare("[audit]") { $0.audit }
    compare("[keys] directory") { $0.keys }
    compare("[admin] socket") { $0.admin }
    compare("user, group, pid-file") { $0.process }
    return keys
  }

  private func change(_ before: Settings, _ settings: Settings, at now: Timestamp) throws(ReloadError) {
    var (next, controls) = state.withLock { ($0, $0.controls) }
    reclaim(&next.places, controls, next.number)
    guard next.places.replace(settings, before: before) else { throw .tooManyRoutes }
    let known = next.plan.servers.count
    next.former.replace(before, with: settings, at: now)
    next.number += 1
    next.settings = settings

    let sales: [Sale]
    do throws(ServerError) {
      next.plan = try RelayPlan(settings, layout: next.places.layout, over: next.plan)
      sales = try prepareSales(settings, next, count: controls.count)
    } catch { throw .server(error) }
    let chainPlans: [ChainPlan]
    do throws(ServerError) { chainPlans = try ChainPlan.plans(settings, places: next.places.layout.upstreams) } catch { throw .server(error) }
    let contexts: TLSContexts.Prepared
    do throws(ServerError) { contexts = try prepareContexts(settings) } catch { throw .server(error) }
    let closed = next.listeners.filter { open in !settings.listeners.contains { $0.endpoint == open.endpoint } }
    let opened = try openListeners(settings, &next)
    let log: AccessLog.Opened
    do throws(IOError) { log = try AccessLog.open(settings.accessLog) } catch {
      for sockets in opened { sockets.close() }
      throw .server(.accessLog(error))
    }
    next.plan.put(settings.listeners, numbers: next.listeners.map(\.number), contexts.plan)
    next.plan.put(contexts.plan.upstreams, at: next.places.layout.upstreams)
    do {
      var parcels: [[(number: Int, listener: ListenerParcel)]] = []
      for worker in controls.indices {
        parcels.append([])
        for sockets in opened {
          for parcel in try sockets.share(worker: worker, of: controls.count) { parcels[worker].append((sockets.number, parcel)) }
        }
      }
      try accessLog.adopt(log)
      // From here on nothing can fail.
      let plan = next.plan.share(of: controls.count, descriptors: next.descriptorLimit)
      resolver.adopt(plan.servers)
      notices.adopt(plan.serverNames)
      clients.adopt(limit: plan.connectionsPerClient)
      let addresses = (known..<plan.servers.count).map { resolver.lookUp($0) }
      var reloads: [Reload] = []
      for (worker, sale) in sales.enumerated() {
        reloads.append(
          Reload(number: next.number, plan: plan, sale: sale, addresses: addresses, opened: parcels[worker], closed: closed.map(\.number)))
      }
      self.contexts.adopt(contexts)
      state.withLock { state in
        let (isDraining, threads, beat) = (state.isDraining, state.threads, state.beat)
        state = next
        (state.isDraining, state.threads, state.beat) = (isDraining, threads, beat)
      }
      board.adopt(plan)
      next.services?.adopt(plan)
      next.chains?.adopt(chainPlans)
      for (control, reload) in zip(controls, reloads) { control.mailbox.send(.reload(reload)) }
      // Without a thread for it nothing is watched, and every server counts as up.
      let orders = UpstreamWatch.Orders(plan: plan, upstreams: next.places.layout.upstreams)
      do { try next.watch?.adopt(orders) } catch { notices.exhausted(.descriptorsExhausted, at: Instant.now().nanoseconds) }
    } catch {
      for sockets in opened { sockets.close() }
      log.close()
      throw .server(.system(error))
    }
    awaitAdoption(controls, next.number)
    for sockets in closed { sockets.close() }
    for listener in settings.listeners {
      guard case .unix(let path) = listener.endpoint, before.listeners.contains(where: { $0.endpoint == listener.endpoint && $0.mode != listener.mode })
      else { continue }
      Listener.setMode(listener.mode, unixPath: path)
    }
  }

  /// Takes the places back that no worker used when it went over to the present configuration.
  private func reclaim(_ places: inout PlanPlaces, _ controls: [WorkerControl], _ number: UInt64) {
    guard number > 0 else { return }
    var inUse: Set<UInt16> = []
    for control in controls {
      let adoption = control.adoption.withLock { $0 }
      guard adoption.number == number else { return }
      inUse.formUnion(adoption.routes)
    }
    places.reclaim(unless: inUse)
  }

  private func prepareSales(_ settings: Settings, _ next: State, count: Int) throws(ServerError) -> [Sale] {
    var sales: [Sale] = []
    for _ in 0..<count {
      do { sales.append(try Sale(settings, layout: next.places.layout, former: next.former, ledger: ledger)) } catch {
        throw .offersInvalid
      }
    }
    return sales
  }

  /// Opens the listeners that were not there before, all or none.
  private func openListeners(_ settings: Settings, _ next: inout State) throws(ReloadError) -> [ListeningSockets] {
    var all: [ListeningSockets] = []
    var opened: [ListeningSockets] = []
    for (position, listener) in settings.listeners.enumerated() {
      if let open = next.listeners.first(where: { $0.endpoint == listener.endpoint }) {
        all.append(open)
        continue
      }
      do throws(ServerError) {
        let sockets = try ListeningSockets(listener, number: next.listenerCount, workers: next.controls.count)
        next.listenerCount += 1
        all.append(sockets)
        opened.append(sockets)
      } catch {
        for sockets in opened { sockets.close() }
        guard case .cannotListen(_, let cause) = error else { throw .server(error) }
        throw .server(.cannotListen(listener: position, cause))
      }
    }
    next.listeners = all
    return opened
  }

  private func awaitAdoption(_ controls: [WorkerControl], _ number: UInt64) {
    for _ in 0..<Self.patience / Self.pauseMilliseconds {
      let isDone = controls.allSatisfy { control in control.adoption.withLock { $0.number >= number || $0.isEnded } }
      if isDone { return }
      AdministrationPause.briefly()
    }
  }
}
