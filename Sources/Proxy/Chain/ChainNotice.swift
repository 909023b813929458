import Encoding
import Synchronization

/// What operators should read about a chain; each kind at most once a minute and chain, however often it happens.
public enum ChainNotice: Sendable, Equatable {
  /// Nothing can be settled on it, so that nothing is offered; why, in words.
  case unusable(cause: String)
  /// It can again.
  case usable
  /// The account that pays for gas has enough for so many payments only.
  case gasMoneyLow(signer: String, payments: UInt64)
  /// A transaction was in no block for too long: a version with a higher fee was made, the `versions`-th.
  case transactionReplaced(nonce: UInt64, transaction: String, versions: Int)
  /// A transaction is in no block, and was not replaced: the limit of the fee or of versions is reached, or no node says what is asked.
  case transactionStuck(nonce: UInt64, transaction: String)
  /// Another program has used the nonce of a transaction of ours, hence the key.
  case nonceTaken(nonce: UInt64, transaction: String)
  /// The facilitator does not answer, or not with what can be read.
  case facilitatorFails
  /// A payment was sent, its time has passed, and nobody says what became of it.
  case paymentUnresolved(payment: String)
  /// No sessions are sold, since the escrow cannot be used; why, in words.
  case escrowFails(escrow: String, cause: String)
  /// A payer has begun to close a channel by force: it is closed with what was signed.
  case channelForced(channel: String)
  /// A channel could not be settled or closed, and is tried again; why, in words.
  case channelStuck(channel: String, cause: String)
  /// The chain has taken a channel's opening back: nothing is sold on it until it is there again.
  case channelVanished(channel: String)
  /// A channel cannot be read though the chain can be asked: nothing is sold on it until it can be.
  case channelUnreadable(channel: String)
  /// A channel was closed with less than was spent, by so many base units.
  case channelLost(channel: String, amount: String)
}

/// Passes on what is news about one chain.
final class ChainNotices: Sendable {
  /// Between two notices of one kind.
  static let interval = Duration.seconds(60)

  /// What is counted apart.
  enum Kind: Hashable {
    case unusable, usable, gasMoneyLow, transactionReplaced, transactionStuck, nonceTaken, facilitatorFails, paymentUnresolved
    case escrowFails, channelForced, channelStuck, channelVanished, channelUnreadable, channelLost
  }

  private struct State {
    var last: [Kind: Instant] = [:]
    /// Why nothing can be settled, as it was told last.
    var cause: String?

    func isDue(_ kind: Kind, at now: Instant) -> Bool { last[kind].map { now - $0 >= ChainNotices.interval } ?? true }
  }

  private let report: @Sendable (ChainNotice) -> Void
  private let state = Mutex(State())

  init(report: @escaping @Sendable (ChainNotice) -> Void) {
    self.report = report
  }

  /// Whether a notice of the kind would be passed on.
  func isDue(_ kind: Kind, at now: Instant = .now()) -> Bool {
    state.withLock { $0.isDue(kind, at: now) }
  }

  /// Something happened.
  func tell(_ notice: ChainNotice, at now: Instant = .now()) {
    let isNews = state.withLock { state in
      guard state.isDue(notice.kind, at: now) else { return false }
      state.last[notice.kind] = now
      return true
    }
    if isNews { report(notice) }
  }

  /// The chain was looked at. What could not be told yet is told by a later look, so that the last word is never missing.
  ///
  /// - Parameter cause: why nothing can be settled; nil: it can be.
  func looked(_ cause: String?, at now: Instant = .now()) {
    let news = state.withLock { state -> ChainNotice? in
      let notice = cause.map { ChainNotice.unusable(cause: $0) } ?? .usable
      guard state.cause != cause, state.isDue(notice.kind, at: now) else { return nil }
      state.cause = cause
      state.last[notice.kind] = now
      return notice
    }
    if let news { report(news) }
  }
}

extension ChainNotice {
  var kind: ChainNotices.Kind {
    switch self {
    case .unusable: .unusable
    case .usable: .usable
    case .gasMoneyLow: .gasMoneyLow
    case .transactionReplaced: .transactionReplaced
    case .transactionStuck: .transactionStuck
    case .nonceTaken: .nonceTaken
    case .facilitatorFails: .facilitatorFails
    case .paymentUnresolved: .paymentUnresolved
    case .escrowFails: .escrowFails
    case .channelForced: .channelForced
    case .channelStuck: .channelStuck
    case .channelVanished: .channelVanished
    case .channelUnreadable: .channelUnreadable
    case .channelLost: .channelLost
    }
  }
}
