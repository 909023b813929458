internal import Glibc

/// The signals that a server takes, delivered to one thread that waits for them.
public enum Signals {
  /// What a signal asks for.
  public enum Request: Sendable, Equatable {
    /// SIGTERM or SIGINT: finish what runs, then end.
    case terminate
    /// SIGHUP: read the configuration again.
    case reload
    /// SIGUSR1: rotate the audit log and open the access log anew.
    case rotate
    /// SIGUSR2: start the program anew, and hand everything over to it.
    case upgrade
  }

  private static func set() -> sigset_t {
    var signals = sigset_t()
    sigemptyset(&signals)
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2] { sigaddset(&signals, signal) }
    return signals
  }

  /// Keeps the signals from ending the process, for this thread and those started after. SIGPIPE is ignored.
  public static func block() {
    var signals = set()
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    signal(SIGPIPE, SIG_IGN)
  }

  /// Waits for the next signal.
  public static func wait() -> Request {
    var signals = set()
    while true {
      var number: Int32 = 0
      guard sigwait(&signals, &number) == 0 else { continue }
      switch number {
      case SIGHUP: return .reload
      case SIGUSR1: return .rotate
      case SIGUSR2: return .upgrade
      default: return .terminate
      }
    }
  }

  /// Sends SIGTERM to this process: ends a thread's ``wait()`` from another thread.
  public static func raiseTermination() { kill(getpid(), SIGTERM) }
}
