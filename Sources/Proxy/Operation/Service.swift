import Bytes
import Configuration
import Encoding
import IO
import Ledger

/// Runs a proxy from settings: listeners, keys, ledger, event loops, operators' socket and signals, begun in this order and ended in
/// the reverse one.
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
    /// Sockets were passed to this process that no `[[listen]]` names; they are closed.
    case socketsUnclaimed(count: Int)
    /// This process is the new one: it takes the other's connections over and waits for the ledger.
    case awaitingLedger
    /// The new program is ready, and everything goes over to it.
    case handingOver(process: Int32)
    /// It serves; this process ends.
    case handedOver(process: Int32)
    /// It does not: this process goes on.
    case upgradeFailed(ReloadFailure)
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
    /// The user that `user` names cannot be become.
    case privileges(IOError)
    /// Only root can become another user.
    case notRoot
    /// A folder that the proxy writes to belongs to somebody else than `user`.
    case folderNotOwned(path: String)
    /// The PID file cannot be written.
    case pidFile(IOError)
    /// As the user that `user` names, the configuration and what it names cannot be read.
    case unreadable(ReloadFailure)
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
    Signals.block()
    try ServiceRun(load: load, report: report).run(loaded, Inheritance.take())
  }

  /// Appends the ledger's part of the metrics.
  static func append(_ ledger: Ledger, to text: inout ByteBuffer) {
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
    MetricsText.append(rows, to: &text)
  }
}
