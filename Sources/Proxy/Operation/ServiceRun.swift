import Configuration
import Encoding
import IO
import Ledger
import Synchronization

/// One process that serves, from its start or from the process that it takes the place of, to its end or to the one that takes its own.
final class ServiceRun: Sendable {
  /// What serves at the moment.
  struct Current {
    let server: Server
    let ledger: Ledger
    var isDraining = false
    /// The new program is ready, and everything goes over to it.
    var upgrade: Upgrade?
  }

  private let load: @Sendable () -> Result<LoadedConfiguration, ReloadFailure>
  private let report: @Sendable (Service.Event) -> Void
  private let notifier = ServiceNotifier()
  /// The program and its arguments, as they were at the start: the file may be replaced since.
  private let executable = ProcessControl.executable(startedAs: CommandLine.arguments.first ?? "")
  private let current = Mutex<Current?>(nil)
  /// How often the end was asked for, also before anything served.
  private let terminations = Atomic<Int>(0)
  private var isAskedToEnd: Bool { terminations.load(ordering: .sequentiallyConsistent) > 0 }
  /// The new program is being started.
  private let isUpgrading = Atomic<Bool>(false)
  private let figures = ProcessFigures()

  init(load: @escaping @Sendable () -> Result<LoadedConfiguration, ReloadFailure>, report: @escaping @Sendable (Service.Event) -> Void) {
    self.load = load
    self.report = report
  }

  // MARK: The life of the process

  func run(_ loaded: LoadedConfiguration, _ inheritance: Inheritance) throws(Service.Failure) {
    var settings = loaded.settings
    let workers = Server.workerCount(settings)
    var sockets: [ListeningSockets]
    do { sockets = try ListeningSockets.open(settings, workers: workers, inheritance: inheritance) } catch { throw .server(error) }
    let unclaimed = inheritance.closeOthers(settings)
    if unclaimed > 0 { report(.socketsUnclaimed(count: unclaimed)) }
    let pidFile = try StartingRights.prepare(settings)
    // What root could read and the user cannot would be missed at the first reload, at night.
    if settings.process.user != nil, case .failure(let failure) = load() { throw .unreadable(failure) }
    var keys = try openKeys(settings)

    var legacy: [Handover.Connection] = []
    if let channel = inheritance.channel {
      legacy = awaitLedger(channel)
      // The former process may have rotated them while it ended.
      keys = try openKeys(settings)
    }
    var predecessor = inheritance.channel
    try startSignals()
    startWatchdog()
    defer { pidFile?.remove() }
    var isTakingOver = predecessor != nil
    while true {
      let ledger = try openLedger(settings, keys, isTakingOver: isTakingOver)
      record(loaded, in: ledger)
      report(.ledgerOpened(ledger.availability))
      do throws(Service.Failure) {
        try serve(settings, keys, ledger, sockets, legacy, predecessor, pidFile)
      } catch {
        ledger.close()
        throw error
      }
      ledger.close()
      // A program that is being started would take this one's end for a death, and serve: it is ended first.
      while isUpgrading.load(ordering: .sequentiallyConsistent) { AdministrationPause.briefly() }
      guard let ended = current.withLock({ $0.take() }), let upgrade = ended.upgrade else { return }
      if !isAskedToEnd, upgrade.finish() {
        ended.server.leaveFiles()
        notifier.send("MAINPID=\(upgrade.process)")
        report(.handedOver(process: upgrade.process))
        // Who asked this process to end wanted no proxy to go on.
        if isAskedToEnd { upgrade.passOnTermination() }
        return
      }
      upgrade.end()
      if isAskedToEnd { return }
      report(.upgradeFailed(ReloadFailure("not-serving", "the new program was ready, and then did not serve; this one goes on")))
      settings = ended.server.settings
      sockets = ended.server.listeners.enumerated().map { ListeningSockets($1, number: $0) }
      (legacy, predecessor, isTakingOver) = ([], nil, true)
    }
  }

  private func openKeys(_ settings: Settings) throws(Service.Failure) -> KeyRing {
    do { return try KeyRing.open(settings.keys.directory, at: .now()) } catch { throw .keys(error) }
  }

  /// Says that this process is ready to take over, and takes over what it is given until the ledger is free.
  private func awaitLedger(_ channel: MessageChannel) -> [Handover.Connection] {
    _ = Handover.tell(.ready, channel)
    report(.awaitingLedger)
    switch Handover.awaitRelease(channel) {
    case .released(let connections), .orphaned(let connections): return connections
    }
  }

  private func serve(
    _ settings: Settings, _ keys: KeyRing, _ ledger: Ledger, _ sockets: [ListeningSockets], _ legacy: [Handover.Connection],
    _ predecessor: MessageChannel?, _ pidFile: PIDFile?
  ) throws(Service.Failure) {
    // The file names the process before its first answer.
    do throws(IOError) { try pidFile?.write() } catch { throw .pidFile(error) }
    let server: Server
    do { server = try Server(settings: settings, ledger: ledger, keys: keys) { [report] in report(.relay($0)) } } catch { throw .server(error) }
    // Whoever has been answered by the proxy finds the operators' socket as well.
    let socket: AdministrationServer
    do throws(IOError) {
      socket = try AdministrationServer.start(socketPath: settings.admin.socketPath, source: source(server, ledger, keys))
    } catch { throw .socket(error) }
    do throws(ServerError) { try server.start(sockets, legacy) } catch {
      socket.stop()
      throw .server(error)
    }
    current.withLock { $0 = Current(server: server, ledger: ledger) }
    if isAskedToEnd { drain(server) }
    if let predecessor { _ = Handover.tell(.serving, predecessor) }
    notifier.send("MAINPID=\(ProcessControl.identifier)", "READY=1", "STATUS=Serving \(settings.routes.count) routes.")
    report(.running(ports: server.ports))
    server.join()
    socket.stop()
    report(.closing)
  }

  /// How often the ledger's lock is tried again while another process holds it, every two milliseconds: by whoever starts …
  private static let lockAttempts = 1000
  /// … and by whoever takes a running proxy's place, or takes it back: nobody serves meanwhile, but giving up would be worse.
  private static let takeoverAttempts = 15_000

  private func openLedger(_ settings: Settings, _ keys: KeyRing, isTakingOver: Bool) throws(Service.Failure) -> Ledger {
    var options = LedgerOptions(settings, checkpointKey: keys.checkpointKey)
    options.sweeps = true
    options.notify = { [report] in report(.ledger($0)) }
    if settings.audit.shipsCheckpoints { options.ship = { [report] in report(.checkpoint($0)) } }
    var attempt = 0
    while true {
      do throws(LedgerError) { return try Ledger.open(options, at: .now()) } catch {
        // An operators' command may be at work on the ledger itself, since they use it where no proxy runs.
        guard case .locked = error, attempt < (isTakingOver ? Self.takeoverAttempts : Self.lockAttempts) else { throw .ledger(error) }
        attempt += 1
        AdministrationPause.briefly()
      }
    }
  }

  private func record(_ loaded: LoadedConfiguration, in ledger: Ledger) {
    var event = AuditEvent(.configurationLoaded)
    event.cause = loaded.digest
    ledger.record(event, at: .now())
  }

  // MARK: What operators ask for

  private func source(_ server: Server, _ ledger: Ledger, _ keys: KeyRing) -> AdministrationServer.Source {
    var source = AdministrationServer.Source(
      administration: { Administration(settings: server.settings, ledger: ledger, keys: keys, chains: server.chainDesk) },
      metrics: { [figures] text in
        figures.append(to: &text)
        server.appendMetrics(to: &text)
        Service.append(ledger, to: &text)
      },
      isReady: { ledger.availability == .selling })
    source.operate = { [self] operation in
      switch operation {
      case .reload: reload().map { ["warnings": .array($0.map { .string($0) })] }
      case .upgrade: upgrade().map { ["process": .integer(Int($0))] }
      case .process: .success(["process": .integer(Int(ProcessControl.identifier)), "state": .string(stateWords)])
      }
    }
    return source
  }

  private var stateWords: String {
    current.withLock { current in
      guard let current else { return "starting" }
      return current.upgrade != nil ? "handing over" : current.isDraining ? "draining" : "serving"
    }
  }

  /// How often it is looked whether the loops have been started, every two milliseconds.
  private static let servingLooks = 1000

  /// Waits for a moment while this process is still starting: operators may ask before the loops are there.
  private func awaitServing() {
    for _ in 0..<Self.servingLooks {
      guard current.withLock({ $0 == nil }), !isAskedToEnd else { return }
      AdministrationPause.briefly()
    }
  }

  /// Reads the configuration anew and goes over to it; the warnings of its check, or why nothing has changed.
  private func reload() -> Result<[String], ReloadFailure> {
    awaitServing()
    let now = Instant.now().nanoseconds / 1000
    notifier.send("RELOADING=1", "MONOTONIC_USEC=\(now)", "STATUS=Reading the configuration.")
    defer { notifier.send("READY=1", "STATUS=Serving.") }
    let result = load().flatMap { loaded -> Result<[String], ReloadFailure> in
      guard let (server, ledger) = current.withLock({ $0.map { ($0.server, $0.ledger) } }) else {
        return .failure(ReloadFailure(.ending, loaded.settings))
      }
      do throws(ReloadError) {
        try server.reload(loaded.settings, at: .now())
        record(loaded, in: ledger)
        return .success(loaded.warnings)
      } catch {
        return .failure(ReloadFailure(error, loaded.settings))
      }
    }
    switch result {
    case .success(let warnings):
      figures.reloaded()
      report(.reloaded(warnings: warnings))
    case .failure(let failure):
      figures.reloadFailed()
      report(.reloadFailed(failure))
    }
    return result
  }

  /// Starts the program anew and hands everything over to it; the new process, or why this one goes on.
  private func upgrade() -> Result<Int32, ReloadFailure> {
    awaitServing()
    let server = current.withLock { current -> Server? in
      guard !isAskedToEnd, let now = current, !now.isDraining, now.upgrade == nil else { return nil }
      return isUpgrading.compareExchange(expected: false, desired: true, ordering: .sequentiallyConsistent).exchanged ? now.server : nil
    }
    guard let server else {
      return .failure(ReloadFailure("busy", "the proxy is ending, or hands over already", status: 503))
    }
    defer { isUpgrading.store(false, ordering: .sequentiallyConsistent) }
    do throws(ReloadFailure) {
      guard let executable else { throw ReloadFailure("cannot-start", "the program's own file is not known", status: 503) }
      guard ProcessControl.identifier != 1 else {
        throw ReloadFailure(
          "first-process", "this is the first process of its container, which would end with it", advice: "start a container of the new image instead",
          status: 503)
      }
      let upgrade = try server.handOver { (listeners) throws(ReloadFailure) in
        try Upgrade.start(executable, arguments: CommandLine.arguments, listeners: listeners) { isAskedToEnd }
      } adopting: { upgrade in
        current.withLock { $0?.upgrade = upgrade }
      }
      notifier.send("STATUS=Handing over to process \(upgrade.process).")
      report(.handingOver(process: upgrade.process))
      return .success(upgrade.process)
    } catch {
      report(.upgradeFailed(error))
      return .failure(error)
    }
  }

  // MARK: Signals and the watchdog

  /// Starts the thread that waits for signals; it ends with the process.
  private func startSignals() throws(Service.Failure) {
    do throws(IOError) {
      _ = try LoopThread(name: "signals") { [self] in
        while true {
          switch Signals.wait() {
          case .reload: _ = reload()
          // A program that does not come up must not keep the signals behind it waiting.
          case .upgrade: if (try? LoopThread(name: "upgrade") { [self] in _ = upgrade() }) == nil { _ = upgrade() }
          case .rotate: rotate()
          case .terminate: terminate()
          }
        }
      }
    } catch { throw .signals(error) }
  }

  private func rotate() {
    report(.rotating)
    guard let (server, ledger) = current.withLock({ $0.map { ($0.server, $0.ledger) } }) else { return }
    ledger.rotate()
    server.reopenLogs()
  }

  private func terminate() {
    let isSecond = terminations.add(1, ordering: .sequentiallyConsistent).newValue > 1
    notifier.send("STOPPING=1", "STATUS=Finishing what is in flight.")
    report(isSecond ? .ending : .draining)
    guard let server = current.withLock({ $0?.server }) else { return }
    if isSecond { server.stop() } else { drain(server) }
  }

  private func drain(_ server: Server) {
    current.withLock { $0?.isDraining = true }
    server.drain()
  }

  /// Tells systemd, where it wants to know, that the loops turn.
  private func startWatchdog() {
    guard let period = notifier.watchdog else { return }
    _ = try? LoopThread(name: "watchdog") { [self] in
      while true {
        AdministrationPause.nanoseconds(period / 4)
        let isAlive = current.withLock { $0?.server }?.loopsTurn(within: period / 4) ?? true
        if isAlive { notifier.send("WATCHDOG=1") }
      }
    }
  }
}
