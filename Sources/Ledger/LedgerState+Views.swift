import Bytes
import Encoding

/// One currency's accounts, in base units. Their sum is zero.
public struct CurrencyBalances: Sendable, Hashable {
  public let currency: String
  /// What wallets were funded with, less what was taken back.
  public let issued: UInt128
  public let wallets: UInt128
  /// What is left of the deposits of open sessions: deposits less what has been settled; of channels, what has arrived and is not spent.
  public let sessions: UInt128
  public let held: UInt128
  /// Negative when returns came after a payout.
  public let merchants: Int128
  public let paidOut: UInt128
  /// wallets + sessions + held + merchants + paidOut − issued; nil when it cannot be computed.
  public let sum: Int128?
}

/// What `Ledger.verify()` found.
public struct BooksReport: Sendable, Hashable {
  public let balances: [CurrencyBalances]
  /// Currencies whose accounts do not add up.
  public var unbalanced: [String] { balances.filter { $0.sum != 0 }.map(\.currency) }
  /// Whether every currency adds up to zero.
  public var isBalanced: Bool { unbalanced.isEmpty }
}

extension LedgerState {
  /// Adds every account up, from the accounts themselves.
  func books() -> BooksReport {
    BooksReport(
      balances: currencies.indices.map { (index: Int) -> CurrencyBalances in
        var walletSum: UInt128? = 0
        for wallet in wallets { walletSum = Self.add(walletSum, wallet.accounts[index].balance) }
        var sessionSum: UInt128? = 0
        for slot in balances.indices where balances[slot].phase != .vacant && Int(balances[slot].currency) == index {
          let balance = balances[slot]
          if balance.isChannel {
            sessionSum = Self.add(sessionSum, balance.arrived - balance.earned(spent: balance.settled.ceiling))
            continue
          }
          let (rest, isShort) = balance.deposit.subtractingReportingOverflow(balance.settled.ceiling)
          sessionSum = isShort ? nil : Self.add(sessionSum, rest)
        }
        var heldSum: UInt128? = 0
        for hold in holds.values where Int(hold.currency) == index { heldSum = Self.add(heldSum, hold.amount) }
        for id in unservedPayments {
          if let payment = payments[id], Int(payment.currency) == index { heldSum = Self.add(heldSum, payment.amount) }
        }
        var merchantSum: Int128? = 0
        for merchant in merchants { merchantSum = Self.add(merchantSum, merchant.balances[index]) }
        let accounts = currencies[index]
        var sum: Int128? = merchantSum
        for part in [walletSum, sessionSum, heldSum, accounts.paidOut] {
          sum = part.flatMap { Int128(exactly: $0) }.flatMap { Self.add(sum, $0) }
        }
        sum = Int128(exactly: accounts.issued).flatMap { Self.add(sum, -$0) }
        if heldSum != accounts.held { sum = nil }
        return CurrencyBalances(
          currency: accounts.code, issued: accounts.issued, wallets: walletSum ?? .max, sessions: sessionSum ?? .max,
          held: heldSum ?? .max, merchants: merchantSum ?? .min, paidOut: accounts.paidOut, sum: sum)
      })
  }

  private static func add<Value: FixedWidthInteger>(_ sum: Value?, _ part: Value) -> Value? {
    guard let sum else { return nil }
    let (next, overflows) = sum.addingReportingOverflow(part)
    return overflows ? nil : next
  }

  func view(_ index: Int) -> SessionView? {
    guard let more = details[index] else { return nil }
    let balance = balances[index]
    let spent = balance.committed.ceiling
    let channel = balance.isChannel ? channels[Int(balance.channel)] : nil
    let state: SessionState =
      switch balance.phase {
      case .open: .open
      case .suspended, .unconfirmed: .suspended
      case .closing, .vacant: .closing
      }
    return SessionView(
      id: more.id, state: state, wallet: channel == nil ? wallets[Int(balance.wallet)].key : Digest32(), payer: channel?.payer, terms: more.terms,
      deposit: balance.deposit, spent: spent, held: spent - balance.settled.ceiling, remaining: balance.deposit - min(spent, balance.deposit),
      required: balance.required, units: balance.units, inFlight: balance.inFlight,
      challengeID: channel?.challengeID ?? more.claims.first ?? more.id)
  }

  func view(wallet index: UInt32) -> WalletView {
    let wallet = wallets[Int(index)]
    let today = clock.day
    let accounts = currencies.indices.map { currency in
      let caps = wallet.policy.caps[currencies[currency].code] ?? Policy.Caps()
      let outflow = wallet.outflowed(on: today, currency: currency)
      return WalletView.Account(
        currency: currencies[currency].code, balance: wallet.accounts[currency].balance, outflowToday: outflow,
        leftToday: caps.daily.map { $0 - min(outflow, $0) }, caps: caps)
    }
    var sessions: [Digest32] = []
    if wallet.openSessions > 0 {
      for (id, slot) in sessionIndex where balances[Int(slot)].wallet == index { sessions.append(id) }
    }
    return WalletView(key: wallet.key, policy: wallet.policy, isFrozen: wallet.isFrozen, accounts: accounts, sessions: sessions)
  }
}
