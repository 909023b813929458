import Encoding
import Synchronization

/// The tasks that wait until an entry is durable: the committer wakes them, and costs nobody anything who does not wait.
final class DurabilityWaits: Sendable {
  private struct Wait {
    let lsn: LSN
    let epoch: UInt32
    let end: Instant
    let continuation: CheckedContinuation<Bool, Never>
  }

  private struct State {
    var waits: [UInt64: Wait] = [:]
    var nextNumber: UInt64 = 0
    var isTimed = false
  }

  /// How often waits that have lasted too long are looked for; a commit that works wakes them long before.
  private static let round = Duration.seconds(1)

  private let state = Mutex(State())
  private let count = Atomic<Int>(0)

  /// As many as wait are hurried: more fill a batch by themselves, and cost less when it is one.
  private static let hurriedLimit = 2

  /// Whether so few wait that nothing is gained by letting a batch fill up.
  var areFew: Bool { count.load(ordering: .relaxed) <= Self.hurriedLimit }

  /// Whether anybody waits. Read after what they wait for was published, it misses nobody: a wait is counted before its last look.
  @inline(__always)
  var isEmpty: Bool { count.load(ordering: .sequentiallyConsistent) == 0 }

  /// Waits until an entry's fate is known: true where it is durable, false where it is void, or where `end` or a cancellation came first.
  ///
  /// - Parameter look: what has become of an entry by now; asked once more after the wait was counted, and every second.
  func wait(
    for lsn: LSN, epoch: UInt32, until end: Instant, look: @escaping @Sendable (LSN, UInt32) -> Ledger.Durability
  ) async -> Bool {
    let number = state.withLock { state in
      state.nextNumber += 1
      return state.nextNumber
    }
    return await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isTimed = state.withLock { state in
          state.waits[number] = Wait(lsn: lsn, epoch: epoch, end: end, continuation: continuation)
          defer { state.isTimed = true }
          return state.isTimed
        }
        count.add(1, ordering: .sequentiallyConsistent)
        wake(look)
        if Task.isCancelled { give(number, false) }
        if !isTimed { time(look) }
      }
    } onCancel: {
      give(number, false)
    }
  }

  /// Answers those whose entry's fate is known. Tells whether others go on waiting.
  @discardableResult
  func wake(_ look: (LSN, UInt32) -> Ledger.Durability) -> Bool {
    guard !isEmpty else { return false }
    var answers: [(continuation: CheckedContinuation<Bool, Never>, isDurable: Bool)] = []
    let isLeft = state.withLock { state in
      for (number, wait) in state.waits {
        switch look(wait.lsn, wait.epoch) {
        case .pending: continue
        case .durable: answers.append((wait.continuation, true))
        case .void: answers.append((wait.continuation, false))
        }
        state.waits[number] = nil
      }
      return !state.waits.isEmpty
    }
    count.subtract(answers.count, ordering: .sequentiallyConsistent)
    for answer in answers { answer.continuation.resume(returning: answer.isDurable) }
    return isLeft
  }

  /// Answers everybody who still waits that it was in vain: nothing is committed any more.
  func abandon() {
    for number in state.withLock({ Array($0.waits.keys) }) { give(number, false) }
  }

  private func give(_ number: UInt64, _ isDurable: Bool) {
    guard let wait = state.withLock({ $0.waits.removeValue(forKey: number) }) else { return }
    count.subtract(1, ordering: .sequentiallyConsistent)
    wait.continuation.resume(returning: isDurable)
  }

  /// Looks once a second for waits that have lasted too long, as long as anybody waits.
  private func time(_ look: @escaping @Sendable (LSN, UInt32) -> Ledger.Durability) {
    Task { [self] in
      while true {
        try? await Task.sleep(for: Self.round)
        wake(look)
        let now = Instant.now()
        let late = state.withLock { state in
          if state.waits.isEmpty { state.isTimed = false }
          return state.isTimed ? state.waits.filter { $0.value.end <= now }.map(\.key) : nil
        }
        guard let late else { return }
        for number in late { give(number, false) }
      }
    }
  }
}

extension Ledger {
  /// Waits until an entry that was made in `epoch` is durable, and hurries the commit where few wait; false where it never will be, did not become it
  /// within ten seconds, or the task was cancelled. The committer wakes whoever waits; no timer is set for it.
  public func becomesDurable(_ lsn: LSN, epoch: UInt32) async -> Bool {
    switch durability(of: lsn, epoch: epoch) {
    case .durable: return true
    case .void: return false
    case .pending:
      guard !Task.isCancelled else { return false }
      if waits.areFew { urge() }
      return await waits.wait(for: lsn, epoch: epoch, until: .now() + .seconds(10)) { [self] in durability(of: $0, epoch: $1) }
    }
  }

  /// Wakes the tasks that wait, after what they wait for was published; a few whose entries came later are hurried on.
  func wakeWaits() {
    if waits.wake({ durability(of: $0, epoch: $1) }), waits.areFew { urge() }
  }
}
