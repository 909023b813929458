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
    /// SIGHUP, which this version ignores.
    case reloadIgnored
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
  ///   - digest: names the configuration in the audit log.
  ///   - report: called on any thread.
  public static func run(
    _ settings: Settings, digest: String, report: @escaping @Sendable (Event) -> Void
  ) throws(Failure) {
    Signals.block()
    do { try Server.checkListeners(settings) } catch { throw .server(error) }
    let keys: KeyRing
    do { keys = try KeyRing.open(settings.keys.directory, at: .now()) } catch { throw .keys(error) }
    let ledger = try openLedger(settings, keys, report)
    defer { ledger.close() }
    var loaded = AuditEvent(.configurationLoaded)
    loaded.cause = digest
    ledger.record(loaded, at: .now())
    report(.ledgerOpened(ledger.availability))
    let server: Server
    do {
      server = try Server(settings: settings, ledger: ledger, keys: keys) { report(.relay($0)) }
      try server.start()
    } catch { throw .server(error) }
    do throws(Failure) {
      try serve(server, settings, ledger, keys, report)
    } catch {
      server.stop()
      server.join()
      throw error
    }
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
    _ server: Server, _ settings: Settings, _ ledger: Ledger, _ keys: KeyRing, _ report: @escaping @Sendable (Event) -> Void
  ) throws(Failure) {
    let source = AdministrationServer.Source(
      administration: Administration(settings: settings, ledger: ledger, keys: keys),
      metrics: { text in
        server.appendMetrics(to: &text)
        append(ledger, to: &text)
      },
      isReady: { ledger.availability == .selling })
    let socket: AdministrationServer
    do { socket = try AdministrationServer.start(socketPath: settings.admin.socketPath, source: source) } catch { throw .socket(error) }
    defer { socket.stop() }
    do { try waitForSignals(server, ledger, report) } catch { throw .signals(error) }
    report(.running(ports: server.ports))
    server.join()
    report(.closing)
  }

  /// Starts the thread that waits for signals; it ends with the process.
  private static func waitForSignals(
    _ server: Server, _ ledger: Ledger, _ report: @escaping @Sendable (Event) -> Void
  ) throws(IOError) {
    _ = try LoopThread(name: "signals") {
      var isDraining = false
      while true {
        switch Signals.wait() {
        case .reload: report(.reloadIgnored)
        case .rotate:
          report(.rotating)
          ledger.rotate()
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
