public import Bytes
public import Encoding
import Synchronization

/// What a copy of the database holds: the ledger as it was at one commit.
public struct LedgerCopyPoint: Sendable, Equatable {
  /// The last entry.
  public let entry: LSN
  /// When it was committed, by the proxy's clock.
  public let time: Timestamp
  /// How many lines the audit log had, and the SHA-256 of the last one.
  public let lineCount: UInt64
  public let lastLine: Digest32

  public init(entry: LSN, time: Timestamp, lineCount: UInt64, lastLine: Digest32) {
    self.entry = entry
    self.time = time
    self.lineCount = lineCount
    self.lastLine = lastLine
  }
}

/// How far a copy is that the committer makes beside its work.
public enum LedgerCopyState: Sendable, Equatable {
  case none
  /// Pages that are copied, and all there are.
  case copying(done: Int, total: Int)
  case complete(LedgerCopyPoint)
  case failed(LedgerError)
}

/// The order for a copy, between whoever wants it and the committer.
final class LedgerCopyOrder: Sendable {
  private struct State {
    var path: String?
    var progress = LedgerCopyState.none
    var asked = Instant.now()
  }

  private let state = Mutex(State())
  /// A copy after which nobody has asked for so long is given up: whoever wanted it is gone.
  static let patience: Duration = .seconds(60)

  /// Orders a copy; false while another one is made.
  func begin(_ path: String) -> Bool {
    state.withLock { state in
      if case .copying = state.progress { return false }
      state = State(path: path, progress: .copying(done: 0, total: 0))
      return true
    }
  }

  /// Takes the path of a copy that was ordered.
  func take() -> String? {
    state.withLock { state in
      defer { state.path = nil }
      return state.path
    }
  }

  var progress: LedgerCopyState {
    state.withLock { state in
      state.asked = Instant.now()
      return state.progress
    }
  }

  func set(_ progress: LedgerCopyState) { state.withLock { $0.progress = progress } }

  /// Ends a copy that is not whole.
  func fail(_ error: LedgerError) {
    state.withLock { state in
      if case .copying = state.progress { state = State(path: nil, progress: .failed(error)) }
    }
  }

  var isForgotten: Bool { state.withLock { Instant.now() - $0.asked > Self.patience } }
}

extension Ledger {
  /// Has the committer copy the database into a file that must not be there yet, a little after each commit; false while another copy is made.
  ///
  /// `copyState` tells how far that is, and has to be asked for it to go on. When it is complete the audit file holds every line up to the copy's.
  public func beginCopy(to path: String) -> Bool {
    guard availability != .unavailable, copyOrder.begin(path) else { return false }
    signal.urge()
    return true
  }

  /// How far the last copy is.
  public var copyState: LedgerCopyState { copyOrder.progress }
}

/// The committer's side of a copy: a step at a time, as long as a commit takes at most.
struct LedgerCopying {
  let path: String
  private(set) var pages: Int32 = 16
  /// When the next step may be made: commits have as much time as steps.
  private(set) var next = Instant(nanoseconds: 0)
  private var slowSteps = 0

  /// What a step may take; one that took much less is followed by a longer one.
  private static let stepTime: Duration = .milliseconds(1)
  private static let pageBounds: ClosedRange<Int32> = 1...256

  /// What a step on a local disk never takes, and how many such steps in a row show that it is none, or a broken one.
  private static let slowStepTime: Duration = .milliseconds(250)
  private static let slowStepLimit = 3

  init(path: String) { self.path = path }

  /// Whether the copy is to be given up: whoever pays waits for each step.
  var isTooSlow: Bool { slowSteps >= Self.slowStepLimit }

  /// Learns how long a step took that has just ended.
  mutating func took(_ duration: Duration, until end: Instant) {
    next = end + duration
    slowSteps = duration > Self.slowStepTime ? slowSteps + 1 : 0
    if duration > Self.stepTime {
      pages = max(Self.pageBounds.lowerBound, pages / 2)
    } else if duration < Self.stepTime / 4 {
      pages = min(Self.pageBounds.upperBound, pages * 2)
    }
  }
}
