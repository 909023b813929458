import Encoding

/// A channel that could not be read though its chain can be asked. It is set apart: nothing is sold on it, all others go on, and it is looked at
/// again, ever more seldom.
struct UnreadChannel {
  /// What the looks that have missed it would have had to take into account.
  struct Miss: Equatable {
    /// Blocks were taken back.
    var isReorganised = false
    /// They may have been before this program began.
    var mayHaveFallen = false

    mutating func add(_ other: Miss) {
      isReorganised = isReorganised || other.isReorganised
      mayHaveFallen = mayHaveFallen || other.mayHaveFallen
    }
  }

  /// So many answers that say nothing are no accident, as those of a node that lags.
  static let answerLimit = 3
  private static let shortestPause = Duration.seconds(5)
  private static let longestPause = Duration.seconds(60)

  /// Since when it could not be read.
  let since: Instant
  /// Whether it was there before this program began, and nothing is known of it since.
  let isUnseen: Bool
  var miss = Miss()
  private(set) var answers = 0
  private var failures = 0
  /// When it is looked at again.
  private(set) var until: Instant

  init(since: Instant, isUnseen: Bool) {
    self.since = since
    self.isUnseen = isUnseen
    until = since
  }

  /// A look at it has failed.
  ///
  /// - Parameters:
  ///   - isAnswered: whether there was an answer that cannot be read, not merely none.
  ///   - limit: the longest pause.
  mutating func fail(_ miss: Miss, isAnswered: Bool, at now: Instant, limit: Duration) {
    self.miss.add(miss)
    if isAnswered { answers += 1 }
    until = now + min(Self.shortestPause * (1 << min(failures, 8)), Self.longestPause, limit)
    failures += 1
  }

  /// Whether nothing is sold on it: a forced close could have begun unseen.
  func isApart(at now: Instant, _ freshness: Duration) -> Bool { isUnseen || answers >= Self.answerLimit || now - since >= freshness }
}
