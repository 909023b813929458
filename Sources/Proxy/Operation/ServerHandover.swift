import Configuration
import Encoding
import IO
import Synchronization

extension Server {
  /// The sockets that are listened on, in the settings' order.
  var listeners: [ListeningSockets] { state.withLock { $0.listeners } }

  /// Has `start` start the program that takes over, and when it is ready hands every connection to it; nothing has changed where
  /// it is not. The listeners stay open here until this process ends, in case they are needed again.
  func handOver(
    _ start: ([ListeningSockets]) throws(ReloadFailure) -> Upgrade, adopting: (Upgrade) -> Void
  ) throws(ReloadFailure) -> Upgrade {
    try changing.withLock { (_) throws(ReloadFailure) in
      let (listeners, isDraining) = state.withLock { ($0.listeners, $0.isDraining) }
      guard !isDraining else { throw .ending }
      let upgrade = try start(listeners)
      // Whoever has asked for the end meanwhile wants no other process to go on.
      let controls = state.withLock { state -> [WorkerControl]? in
        guard !state.isDraining else { return nil }
        state.isDraining = true
        return state.controls
      }
      guard let controls else {
        upgrade.end()
        throw .ending
      }
      adopting(upgrade)
      for control in controls { control.mailbox.send(.handOver(upgrade.channel)) }
      return upgrade
    }
  }

  /// Leaves the files of Unix sockets to the process that listens on them now.
  func leaveFiles() {
    for sockets in listeners { sockets.leaveFile() }
  }

  /// Whether every loop comes round within a time, in nanoseconds.
  func loopsTurn(within limit: Int64) -> Bool {
    let (controls, number) = state.withLock { state in
      state.beat += 1
      return (state.controls, state.beat)
    }
    for control in controls { control.mailbox.send(.beat(number)) }
    let deadline = Instant.now().nanoseconds &+ limit
    while Instant.now().nanoseconds < deadline {
      let isDone = controls.allSatisfy { control in
        control.beat.load(ordering: .relaxed) >= number || control.adoption.withLock { $0.isEnded }
      }
      if isDone { return true }
      AdministrationPause.nanoseconds(10_000_000)
    }
    return false
  }
}
