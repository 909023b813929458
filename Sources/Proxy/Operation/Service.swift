import Bytes
import Configuration
import Encoding
import IO
import Ledger
import Synchronization

/// Runs a proxy from settings: keys, ledger, event loops, operators' socket and signals, begun in this order and ended in the reverse one.
/// Whether the listeners are to be had is asked before all of them.
public enum Service {
  /// What the process's log should say.
  public enum Event: Sendable {
    /// The ledger is open and read.
    case ledgerOpened(Availability)
    /// Everything runs; the port of each listener, 0 for Unix sockets.
    case running(ports: [UInt16])
    /// What the ledger notices while it runs.
    case ledger(LedgerNotice)
    /// What the relay notices while it runs.
    case relay(ServerNotice)
    /// A checkpoint's signed note, to be kept elsewhere.
    case checkpoint(String)
    /// SIGUSR1: the audit log is rotated.
    case rotating
    /// The configuration was read anew and is used from now on; what `farebox check` would warn of.
    case reloaded(warnings: [String])
    /// It was not: nothing has changed.
    case reloadFailed(ReloadFailure)
    /// The first SIGTERM or SIGINT: nothing more is accepted.
    case draining
    /// A second one: everything ends now.
    case ending
    /// The loops have ended; the ledger is being closed.
    case closing
  }

  /// Why the proxy could not be started.
  public enum Failure: Error, Sendable, Equatable {
    case keys(KeyRingError)
    case ledger(LedgerError)
    case server(ServerError)
    /// The operators' socket.
    case socket(IOError)
    /// The thread that waits for signals.
    case signals(IOError)
  }

  /// Runs until SIGTERM or SIGINT has drained it. Call it from the first thread, before any other was started.
  ///
  /// - Parameters:
  ///   - loaded: the configuration to begin with.
  ///   - load: reads the configuration anew; called on any thread, one call after another.
  ///   - report: called on any thread.
  public static func run(
    _ loaded: LoadedConfiguration, load: @escaping @Sendable () -> Result<LoadedConfiguration, ReloadFailure>,
    report: @escaping @Sendable (Event) -> Void
  ) throws(Failure) {
    let settings = loaded.settings
    Signals.block()
    do { try Server.checkListeners(settings) } catch { throw .server(error) }
    let keys: KeyRing
    do { keys = try KeyRing.open(settings.keys.directory, at: .now()) } catch { throw .keys(error) }
    let ledger = try openLedger(settings, keys, report)
    defer { ledger.close() }
    record(loaded, in: ledger)
    report(.ledgerOpened(ledger.availability))
    let server: Server
    do {
      server = try Server(settings: settings, ledger: ledger, keys: keys) { report(.relay($0)) }
      try server.start()
    } catch { throw .server(error) }
    do throws(Failure) {
      let reload: @Sendable () -> Result<[String], ReloadFailure> = { Self.reload(server, ledger, load, report) }
      try serve(server, settings, ledger, keys, reload, report)
    } catch {
      server.stop()
      server.join()
      throw error
    }
  }

  private static func record(_ loaded: LoadedConfiguration, in ledger: Ledger) {
    var event = AuditEvent(.configurationLoaded)
    event.cause = loaded.digest
    ledger.record(event, at: .now())
  }

  /// Reads the configuration anew and goes over to it; the warnings of its check, or why nothing has changed.
  private static func reload(
    _ server: Server, _ ledger: Ledger, _ load: @Sendable () -> Result<LoadedConfiguration, ReloadFailure>,
    _ report: @Sendable (Event) -> Void
  ) -> Result<[String], ReloadFailure> {
    let result = load().flatMap { loaded -> Result<[String], ReloadFailure> in
      do throws(ReloadError) {
        try server.reload(loaded.settings, at: .now())
        record(loaded, in: ledger)
        return .success(loaded.warnings)
      } catch {
        return .failure(ReloadFailure(error, loaded.settings))
      }
    }
    switch result {
    case .success(let warnings): report(.reloaded(warnings: warnings))
    case .failure(let failure): report(.reloadFailed(failure))
    }
    return result
  }

  private static func openLedger(
    _ settings: Settings, _ keys: KeyRing, _ report: @escaping @Sendable (Event) -> Void
  ) throws(Failure) -> Ledger {
    var options = LedgerOptions(settings, checkpointKey: keys.checkpointKey)
    options.sweeps = true
    options.notify = { report(.ledger($0)) }
    if settings.audit.shipsCheckpoints { options.ship = { report(.checkpoint($0)) } }
    var attempt = 0
    while true {
      do throws(LedgerError) { return try Ledger.open(options, at: .now()) } catch {
        // An operators' command may be at work on the ledger itself, since they use it where no proxy runs.
        guard case .locked = error, attempt < lockAttempts else { throw .ledger(error) }
        attempt += 1
        AdministrationPause.briefly()
      }
    }
  }

  /// How often the ledger's lock is tried again while another process holds it, every two milliseconds.
  private static let lockAttempts = 1000

  private static func serve(
    _ server: Server, _ settings: Settings, _ ledger: Ledger, _ keys: KeyRing,
    _ reload: @escaping @Sendable () -> Result<[String], ReloadFailure>, _ report: @escaping @Sendable (Event) -> Void
  ) throws(Failure) {
    var source = AdministrationServer.Source(
      administration: { Administration(settings: server.settings, ledger: ledger, keys: keys) },
      metrics: { text in
        server.appendMetrics(to: &text)
        append(ledger, to: &text)
      },
      isReady: { ledger.availability == .selling })
    source.operate = { operation in
      switch operation {
      case .reload: reload().map { ["warnings": .array($0.map { .string($0) })] }
      }
    }
    let socket: AdministrationServer
    do { socket = try AdministrationServer.start(socketPath: settings.admin.socketPath, source: source) } catch { throw .socket(error) }
    defer { socket.stop() }
    do { try waitForSignals(server, ledger, reload, report) } catch { throw .signals(error) }
    report(.running(ports: server.ports))
    server.join()
    report(.closing)
  }

  /// Starts the thread that waits for signals; it ends with the process.
  private static func waitForSignals(
    _ server: Server, _ ledger: Ledger, _ reload: @escaping @Sendable () -> Result<[String], ReloadFailure>,
    _ report: @escaping @Sendable (Event) -> Void
  ) throws(IOError) {
    _ = try LoopThread(name: "signals") {
      var isDraining = false
      while true {
        switch Signals.wait() {
        case .reload: _ = reload()
        case .rotate:
          report(.rotating)
          ledger.rotate()
          server.reopenLogs()
        case .terminate:
          report(isDraining ? .ending : .draining)
          if isDraining { server.stop() } else { server.drain() }
          isDraining = true
        }
      }
    }
  }

  /// Appends the ledger's part of the metrics.
  private static func append(_ ledger: Ledger, to text: inout ByteBuffer) {
    let state: UInt64
    switch ledger.availability {
    case .selling: state = 2
    case .closingOnly: state = 1
    case .unavailable: state = 0
    }
    let rows: [(StaticString, StaticString, StaticString, UInt64)] = [
      ("ledger_availability", "gauge", "2 sells, 1 closes and refunds only (disk nearly full), 0 is not available.", state),
      ("ledger_entries_total", "counter", "Entries applied to the ledger since it was made.", ledger.applied),
      ("ledger_entries_durable_total", "counter", "Entries of it that are on the disk.", ledger.durable),
      ("ledger_reopened_total", "counter", "Times that the ledger was read back after a failed commit.", UInt64(ledger.epoch) - 1),
    ]
    for (name, kind, help, value) in rows {
      for piece in ["# HELP farebox_", name, " ", help, "\n# TYPE farebox_", name, " ", kind, "\nfarebox_", name, " "] as [StaticString] {
        text.append(piece)
      }
      text.append(decimal: value)
      text.append("\n" as StaticString)
    }
  }
}
