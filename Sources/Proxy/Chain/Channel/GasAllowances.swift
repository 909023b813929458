import Encoding
import Ethereum
import Synchronization

/// Counts the transactions that payers have us pay the gas of by depositing to channels and asking for their money back (batch-settlement): some
/// are free each day, and more are for who buys something. In memory only: a restart begins anew.
final class GasAllowances: Sendable {
  /// Transactions that a payer has free in a day of UTC.
  static let free = 8
  /// Requests that were charged, for each of which many he has one more: a deposit pays for ten at least, and may be followed by a refund.
  static let requestsForOne = 5
  /// The most payers that are counted; where there are more, gas is paid for no other that day.
  static let payerLimit = 65_536

  private struct Account {
    var taken = 0
    var requests = 0

    var isEmpty: Bool { taken >= GasAllowances.free + requests / GasAllowances.requestsForOne }
  }

  private struct State {
    var day = Int64.min
    var accounts: [Address: Account] = [:]

    /// Begins another day; a clock that is set back begins none.
    mutating func turn(to now: Timestamp) {
      let today = now.seconds / 86_400
      guard today > day else { return }
      day = today
      accounts = [:]
    }
  }

  private let state = Mutex(State())

  /// Takes one transaction; false where a payer has none left today, or there is no place to count him.
  func take(_ payer: Address, at now: Timestamp) -> Bool {
    state.withLock { state in
      state.turn(to: now)
      if state.accounts[payer] == nil, state.accounts.count >= Self.payerLimit {
        // Who has taken nothing loses nothing but what he has bought a part of.
        state.accounts = state.accounts.filter { $0.value.taken > 0 }
        guard state.accounts.count < Self.payerLimit else { return false }
      }
      guard !state.accounts[payer, default: Account()].isEmpty else { return false }
      state.accounts[payer, default: Account()].taken += 1
      return true
    }
  }

  /// Gives one back for which nothing is sent.
  func giveBack(_ payer: Address, at now: Timestamp) {
    state.withLock { state in
      state.turn(to: now)
      guard let taken = state.accounts[payer]?.taken, taken > 0 else { return }
      state.accounts[payer]?.taken = taken - 1
    }
  }

  /// Whether a payer has one left; who only asks takes no place.
  func hasLeft(_ payer: Address, at now: Timestamp) -> Bool {
    state.withLock { state in
      state.turn(to: now)
      return state.accounts[payer].map { !$0.isEmpty } ?? true
    }
  }

  /// A request of a payer's was charged.
  func charged(_ payer: Address, at now: Timestamp) {
    state.withLock { state in
      state.turn(to: now)
      guard state.accounts[payer] != nil || state.accounts.count < Self.payerLimit else { return }
      state.accounts[payer, default: Account()].requests += 1
    }
  }
}
