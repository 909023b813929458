import Bytes
import Encoding
import Synchronization

/// What metrics say of the process: since when it runs, and by which configuration.
final class ProcessFigures: Sendable {
  private let started = Timestamp.now()
  private let loaded = Mutex(Timestamp.now())
  private let reloads = Atomic<UInt64>(0)
  private let failures = Atomic<UInt64>(0)
  private let hasFailed = Atomic<Bool>(false)

  /// Another configuration is used from now on.
  func reloaded() {
    loaded.withLock { $0 = .now() }
    reloads.add(1, ordering: .relaxed)
    hasFailed.store(false, ordering: .relaxed)
  }

  /// One was refused, and the former one stays.
  func reloadFailed() {
    failures.add(1, ordering: .relaxed)
    hasFailed.store(true, ordering: .relaxed)
  }

  /// Appends Prometheus text.
  func append(to text: inout ByteBuffer) {
    let seconds = { (time: Timestamp) in UInt64(time.seconds) }
    let rows: [(StaticString, StaticString, StaticString, UInt64)] = [
      ("process_start_time_seconds", "gauge", "When this process was started, in seconds since 1970.", seconds(started)),
      ("configuration_loaded_time_seconds", "gauge", "When the configuration in use was read, in seconds since 1970.", seconds(loaded.withLock { $0 })),
      ("configuration_reload_failed", "gauge", "1 where the last reload was refused: the former configuration is in use.", hasFailed.load(ordering: .relaxed) ? 1 : 0),
      ("configuration_reloads_total", "counter", "Times that another configuration was gone over to.", reloads.load(ordering: .relaxed)),
      ("configuration_reload_failures_total", "counter", "Times that a configuration was refused.", failures.load(ordering: .relaxed)),
    ]
    MetricsText.append(rows, to: &text)
  }
}

extension MetricsText {
  /// Appends figures: name, kind, help and value of each.
  static func append(_ rows: [(StaticString, StaticString, StaticString, UInt64)], to text: inout ByteBuffer) {
    for (name, kind, help, value) in rows {
      for piece in ["# HELP farebox_", name, " ", help, "\n# TYPE farebox_", name, " ", kind, "\nfarebox_", name, " "] as [StaticString] {
        text.append(piece)
      }
      text.append(decimal: value)
      text.append("\n" as StaticString)
    }
  }
}
