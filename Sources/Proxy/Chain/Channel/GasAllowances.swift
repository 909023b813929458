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
  /// The most payers that are counted; where there are more, all are forgotten.
  static let payerLimit = 65_536

  private struct Account {
    var day: Int64
    var taken = 0
    var requests = 0

    var isEmpty: Bool { taken >= GasAllowances.free + requests / GasAllowances.requestsForOne }
  }

  private let accounts = Mutex<[Address: Account]>([:])

  /// Takes one transaction; false where a payer has none left today.
  func take(_ payer: Address, at now: Timestamp) -> Bool {
    change(payer, at: now) { account in
      guard !account.isEmpty else { return false }
      account.taken += 1
      return true
    }
  }

  /// Whether a payer has one left.
  func hasLeft(_ payer: Address, at now: Timestamp) -> Bool { change(payer, at: now) { !$0.isEmpty } }

  /// A request of a payer's was charged.
  func charged(_ payer: Address, at now: Timestamp) { change(payer, at: now) { $0.requests += 1 } }

  private func change<Value>(_ payer: Address, at now: Timestamp, _ body: (inout Account) -> Value) -> Value where Value: Sendable {
    let day = now.seconds / 86_400
    return accounts.withLock { accounts in
      if accounts[payer] == nil, accounts.count >= Self.payerLimit { accounts = accounts.filter { $0.value.day == day } }
      if accounts[payer] == nil, accounts.count >= Self.payerLimit { accounts = [:] }
      var account = accounts[payer] ?? Account(day: day)
      if account.day != day { account = Account(day: day) }
      defer { accounts[payer] = account }
      return body(&account)
    }
  }
}
