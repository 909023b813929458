public import Bytes
import Encoding

/// An isolated balance per currency that belongs to one Ed25519 key.
struct Wallet {
  /// What stands in one currency, and what left it on the last day that anything did.
  struct Account {
    var balance: UInt128 = 0
    var day: Int32 = .min
    var outflow: UInt128 = 0
  }

  /// What is asked to leave.
  enum Outflow {
    case charge
    /// The session's deposit after this one.
    case open(deposit: UInt128)
    case topUp(deposit: UInt128)
  }

  /// The number under which it is stored; the LSN of its creation.
  let number: UInt64
  /// The key's 32 octets.
  var key: Digest32
  /// The index of the key's text among the pieces of audit lines; a new key has a new one.
  var fragment: UInt32
  var policy: Policy
  var isFrozen = false
  var isDirty = false
  /// Open and closing sessions.
  var openSessions: UInt32 = 0
  /// By the ledger's currency index.
  var accounts: [Account]

  /// Finds the limit that forbids an outflow, in the order of PREPAID.md's cheapest explanation first; nil when none does.
  func limit(on outflow: Outflow, amount: UInt128, currency: Int, code: String, recipient: String, day: Int32, at now: Timestamp) -> PolicyLimit? {
    if isFrozen { return .frozen }
    if let expires = policy.expires, now > expires { return .expires }
    switch outflow {
    case .charge, .open:
      if let allowed = policy.allowed, !allowed.contains(recipient) { return .allow }
    case .topUp:
      break
    }
    let caps = policy.caps[code]
    switch outflow {
    case .charge:
      if let cap = caps?.payment, amount > cap { return .paymentCap }
    case .open(let deposit):
      if let most = policy.maximumSessions, openSessions >= most { return .maximumSessions }
      if let cap = caps?.session, deposit > cap { return .sessionCap }
    case .topUp(let deposit):
      if let cap = caps?.session, deposit > cap { return .sessionCap }
    }
    if let cap = caps?.daily {
      let (sum, overflows) = outflowed(on: day, currency: currency).addingReportingOverflow(amount)
      if overflows || sum > cap { return .dailyCap }
    }
    return nil
  }

  /// What has left on a day.
  func outflowed(on day: Int32, currency: Int) -> UInt128 {
    accounts[currency].day == day ? accounts[currency].outflow : 0
  }

  /// Takes money out on a day. The caller has checked the balance.
  mutating func withdraw(_ amount: UInt128, currency: Int, day: Int32) throws(Refusal) {
    let account = accounts[currency]
    let (rest, isShort) = account.balance.subtractingReportingOverflow(amount)
    if isShort { throw .insufficientFunds(required: amount, available: account.balance) }
    let (outflow, overflows) = outflowed(on: day, currency: currency).addingReportingOverflow(amount)
    if overflows { throw .overflow }
    accounts[currency] = Account(balance: rest, day: day, outflow: outflow)
  }

  /// Puts money back, and undoes as much of a day's outflow where that day is still the one being counted.
  ///
  /// The balance cannot overflow: what is issued in one currency fits 127 bits.
  mutating func giveBack(_ amount: UInt128, currency: Int, outflow: UInt128, day: Int32) {
    accounts[currency].balance += amount
    if accounts[currency].day == day {
      accounts[currency].outflow -= min(outflow, accounts[currency].outflow)
    }
  }
}

/// What a wallet's owner and the operators may see of it.
public struct WalletView: Sendable, Hashable {
  public struct Account: Sendable, Hashable {
    public let currency: String
    /// Base units.
    public let balance: UInt128
    /// What has left today (the ledger's UTC day).
    public let outflowToday: UInt128
    /// What may still leave today by the daily cap; nil without one.
    public let leftToday: UInt128?
    public let caps: Policy.Caps
  }

  public let key: Digest32
  public let policy: Policy
  public let isFrozen: Bool
  public let accounts: [Account]
  /// Ids of the sessions that are open or closing.
  public let sessions: [Digest32]
}
