import Bytes
import Crypto
import Encoding

/// What operators do: wallets, funding, payouts, refunds. Every one has its line.
extension LedgerState {
  /// The most that may be issued in one currency, so that every account fits a signed number.
  static var issueLimit: UInt128 { UInt128(Int128.max) }

  private func checkWritable() throws(Refusal) {
    guard availability != .unavailable else { throw .unavailable }
  }

  private func entry(_ kind: AuditEventKind, wallet: UInt32, at now: Timestamp) -> Entry {
    var entry = Entry(kind, at: now)
    entry.wallet = wallets[Int(wallet)].fragment
    return entry
  }

  // MARK: references

  private enum Purpose: String {
    case fund, defund, payout, retiredKey
  }

  private static func digest(_ purpose: Purpose, _ words: [String]) -> Digest32 {
    SHA256.hash("\(purpose.rawValue)\n" + words.joined(separator: "\n"))
  }

  /// Tells whether a reference was used for exactly this before.
  private func isRepeated(_ purpose: Purpose, reference: String, content: Digest32) throws(Refusal) -> Bool {
    guard Self.isName(reference) else { throw .malformedName }
    guard let known = references[Self.digest(purpose, [reference])] else { return false }
    guard known == content else { throw .referenceUsed }
    return true
  }

  private mutating func use(_ purpose: Purpose, reference: String, content: Digest32) {
    let key = Self.digest(purpose, [reference])
    references[key] = content
    write(reference: key, content: content)
  }

  // MARK: wallets

  mutating func createWallet(_ key: Digest32, policy: Policy, cause: String?, at now: Timestamp) throws(Refusal) -> LSN {
    try checkWritable()
    guard walletIndex[key] == nil, references[Self.digest(.retiredKey, [key.hex])] == nil else { throw .walletExists }
    guard wallets.count < LedgerLimit.wallets.most else { throw .tooMany(.wallets) }
    try Self.check(policy)
    let index = addWallet(
      Wallet(number: lsn + 1, key: key, fragment: 0, policy: policy, accounts: Array(repeating: Wallet.Account(), count: currencies.count)))
    touchWallet(index)
    return append(entry(.walletCreated, wallet: index, at: now), words: cause.map { EntryWords(cause: $0) })
  }

  private static func check(_ policy: Policy) throws(Refusal) {
    let allowed = policy.allowed ?? []
    guard allowed.count <= Policy.allowedLimit, allowed.allSatisfy(isName) else { throw .malformedName }
  }

  mutating func addWallet(_ wallet: Wallet) -> UInt32 {
    let index = UInt32(wallets.count)
    var wallet = wallet
    wallet.fragment = walletFragments
    walletFragments += 1
    wallets.append(wallet)
    walletIndex[wallet.key] = index
    fragments.append(.wallet(wallet.fragment, key: wallet.key))
    return index
  }

  mutating func fund(_ key: Digest32, currency code: String, amount: UInt128, reference: String, at now: Timestamp) throws(Refusal) -> LSN {
    try checkWritable()
    let index = try wallet(key)
    let currency = try currency(code)
    let content = Self.digest(.fund, [key.hex, code, String(amount)])
    if try isRepeated(.fund, reference: reference, content: content) { return 0 }
    let (issued, overflows) = currencies[Int(currency)].issued.addingReportingOverflow(amount)
    guard !overflows, fits(amount, currency) else { throw .overflow }
    currencies[Int(currency)].issued = issued
    touchCurrency(currency)
    wallets[Int(index)].accounts[Int(currency)].balance += amount
    touchWallet(index)
    use(.fund, reference: reference, content: content)
    var entry = entry(.walletFunded, wallet: index, at: now)
    entry.currency = currency
    entry.amount = amount
    return append(entry, words: EntryWords(reference: reference))
  }

  mutating func defund(_ key: Digest32, currency code: String, amount: UInt128, reference: String, at now: Timestamp) throws(Refusal) -> LSN {
    try checkWritable()
    let index = try wallet(key)
    let currency = try currency(code)
    let content = Self.digest(.defund, [key.hex, code, String(amount)])
    if try isRepeated(.defund, reference: reference, content: content) { return 0 }
    let balance = wallets[Int(index)].accounts[Int(currency)].balance
    guard amount <= balance else { throw .insufficientFunds(required: amount, available: balance) }
    wallets[Int(index)].accounts[Int(currency)].balance -= amount
    touchWallet(index)
    currencies[Int(currency)].issued -= amount
    touchCurrency(currency)
    use(.defund, reference: reference, content: content)
    var entry = entry(.walletDefunded, wallet: index, at: now)
    entry.currency = currency
    entry.amount = amount
    return append(entry, words: EntryWords(reference: reference))
  }

  mutating func setPolicy(_ key: Digest32, _ policy: Policy, at now: Timestamp) throws(Refusal) -> LSN {
    try checkWritable()
    let index = try wallet(key)
    try Self.check(policy)
    wallets[Int(index)].policy = policy
    touchWallet(index)
    return append(entry(.walletPolicy, wallet: index, at: now))
  }

  /// Freezes a wallet and stops its sessions, or thaws it.
  mutating func setFrozen(_ key: Digest32, _ isFrozen: Bool, at now: Timestamp) throws(Refusal) -> LSN {
    try checkWritable()
    let index = try wallet(key)
    if wallets[Int(index)].isFrozen == isFrozen { return 0 }
    wallets[Int(index)].isFrozen = isFrozen
    touchWallet(index)
    let last = append(entry(isFrozen ? .walletFrozen : .walletThawed, wallet: index, at: now))
    return isFrozen ? max(last, stopSessions(of: index, cause: .frozen, at: now)) : last
  }

  /// Moves a wallet to a new key: the old one is dead at once, and its sessions are closed.
  mutating func rekey(_ key: Digest32, to next: Digest32, at now: Timestamp) throws(Refusal) -> LSN {
    try checkWritable()
    let index = try wallet(key)
    guard walletIndex[next] == nil, references[Self.digest(.retiredKey, [next.hex])] == nil else { throw .walletExists }
    let entry = entry(.walletRekeyed, wallet: index, at: now)
    let retired = Self.digest(.retiredKey, [key.hex])
    references[retired] = next
    write(reference: retired, content: next)
    walletIndex[key] = nil
    walletIndex[next] = index
    wallets[Int(index)].key = next
    wallets[Int(index)].fragment = walletFragments
    fragments.append(.wallet(walletFragments, key: next))
    walletFragments += 1
    touchWallet(index)
    let last = append(entry, words: EntryWords(reference: AuditText.wallet(next)))
    return max(last, stopSessions(of: index, cause: .rekeyed, at: now))
  }

  private mutating func stopSessions(of wallet: UInt32, cause: CloseCause, at now: Timestamp) -> LSN {
    guard wallets[Int(wallet)].openSessions > 0 else { return 0 }
    var last: LSN = 0
    for index in balances.indices
    where balances[index].wallet == wallet && (balances[index].phase == .open || balances[index].phase == .unconfirmed) {
      last = stop(index, cause: cause, claim: nil, at: now, receipt: nil)
    }
    return last
  }

  // MARK: merchants

  mutating func payout(_ name: String, currency code: String, amount: UInt128, reference: String, at now: Timestamp) throws(Refusal) -> LSN {
    try checkWritable()
    guard let index = merchantIndex[name] else { throw .unknownMerchant }
    let currency = try currency(code)
    let content = Self.digest(.payout, [name, code, String(amount)])
    if try isRepeated(.payout, reference: reference, content: content) { return 0 }
    let balance = merchants[Int(index)].balances[Int(currency)]
    guard let signed = Int128(exactly: amount), signed <= balance else {
      throw .insufficientFunds(required: amount, available: UInt128(clamping: balance))
    }
    let (paidOut, overflows) = currencies[Int(currency)].paidOut.addingReportingOverflow(amount)
    guard !overflows, paidOut <= Self.issueLimit else { throw .overflow }
    currencies[Int(currency)].paidOut = paidOut
    touchCurrency(currency)
    credit(index, -signed, currency: currency)
    use(.payout, reference: reference, content: content)
    var entry = Entry(.merchantPayout, at: now)
    entry.merchant = index
    entry.currency = currency
    entry.amount = amount
    return append(entry, words: EntryWords(reference: reference))
  }

  /// Gives a settled charge back to its wallet, and to the day that it left on.
  mutating func refund(_ reference: LSN, _ charge: SettledCharge, at now: Timestamp) throws(Refusal) -> LSN {
    try checkWritable()
    guard !charge.isRefunded else { throw .alreadyRefunded }
    guard let wallet = wallets.firstIndex(where: { $0.number == charge.wallet }), let merchant = merchantIndex[charge.merchant] else {
      throw .unknownReference
    }
    let currency = try currency(charge.currency)
    let balance = merchants[Int(merchant)].balances[Int(currency)]
    guard let signed = Int128(exactly: charge.amount), signed <= balance else {
      throw .insufficientFunds(required: charge.amount, available: UInt128(clamping: balance))
    }
    openCharges[reference] = nil
    credit(merchant, -signed, currency: currency)
    wallets[wallet].giveBack(charge.amount, currency: Int(currency), outflow: charge.amount, day: charge.day)
    touchWallet(UInt32(wallet))
    var charge = charge
    charge.isRefunded = true
    write(charge, reference: reference)
    var entry = entry(.refund, wallet: UInt32(wallet), at: now)
    entry.merchant = merchant
    entry.currency = currency
    entry.amount = charge.amount
    entry.reference = reference
    return append(entry)
  }
}
