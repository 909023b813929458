import Bytes
import Encoding
import Testing

@testable import Ledger

/// What a test knows of payments on a chain, and random calls that it makes for them: whatever happens, each is where the model says.
struct ChainModel {
  struct Payment {
    var amount: UInt128
    var state: ChainPaymentState
    var nonce: UInt64?
    var hold: Hold?
    /// How often something was delivered for it and not taken back.
    var services = 0
  }

  private(set) var payments: [Int: Payment] = [:]
  /// Served, with a response on its way.
  private var open: [Int: Hold] = [:]
  private var next = 0
  private var gas: UInt128 = 0

  /// Makes one random call.
  mutating func step(_ fixture: LedgerFixture, using generator: inout SeededGenerator) throws {
    let ledger = fixture.ledger
    switch Int.random(in: 0..<12, using: &generator) {
    case 0..<3:
      next += 1
      let amount = UInt128.random(in: 0...200, using: &generator)
      _ = try ledger.claim(fixture.payment(next, amount: amount, challenge: next), at: noon)
      payments[next] = Payment(amount: amount, state: .claimed)
    case 3: try send(fixture, using: &generator)
    case 4..<6:
      guard let number = any([.claimed, .submitted], using: &generator) else { return }
      try conclude(number, fixture, succeeded: true)
      _ = try ledger.settled(key(number), transaction: key(number), at: noon)
      payments[number]?.state = .settled
    case 6:
      guard let number = any([.claimed, .submitted], using: &generator), Bool.random(using: &generator) else { return }
      try conclude(number, fixture, succeeded: false)
      _ = try ledger.refused(key(number), cause: "reverted", at: noon)
      payments[number] = nil
    case 7..<9:
      guard let number = any([.settled], using: &generator) else { return }
      let hold = try ledger.serve(key(number), request: fixture.payment(number).request, at: noon)
      payments[number]?.hold = hold
      payments[number]?.state = .serving
      // Whatever else is tried meanwhile is refused.
      #expect(throws: Refusal.claimInFlight) { try ledger.serve(key(number), request: fixture.payment(number).request, at: noon) }
    case 9..<11: try endService(fixture, using: &generator)
    default:
      guard let number = any([.settled], using: &generator), Int.random(in: 0..<4, using: &generator) == 0 else { return }
      _ = try ledger.writeOff(key(number), at: noon)
      payments[number]?.state = .writtenOff
    }
  }

  /// The payment's id, as the fixture names it.
  private func key(_ number: Int) -> Digest32 { id(6_000_000 + number) }

  private func any(_ states: Set<ChainPaymentState>, using generator: inout SeededGenerator) -> Int? {
    payments.keys.sorted().filter { states.contains(payments[$0]?.state ?? .served) }.randomElement(using: &generator)
  }

  private mutating func send(_ fixture: LedgerFixture, using generator: inout SeededGenerator) throws {
    guard let number = any([.claimed], using: &generator) else { return }
    if Bool.random(using: &generator) {
      _ = try fixture.ledger.submitted(key(number), transaction: nil, at: noon)
    } else {
      let nonce = try fixture.ledger.nextNonce(chain: 8453, sender: fixture.sender) ?? adopt(fixture)
      _ = try fixture.ledger.submitted(key(number), outgoing: fixture.transaction(nonce, for: number), at: noon)
      payments[number]?.nonce = nonce
    }
    payments[number]?.state = .submitted
  }

  private func adopt(_ fixture: LedgerFixture) throws -> UInt64 {
    _ = try fixture.ledger.adoptNonce(chain: 8453, sender: fixture.sender, nonce: 0, at: noon)
    return 0
  }

  private mutating func conclude(_ number: Int, _ fixture: LedgerFixture, succeeded: Bool) throws {
    guard let nonce = payments[number]?.nonce else { return }
    _ = try fixture.ledger.concluded(
      chain: 8453, sender: fixture.sender, nonce: nonce, hash: key(number), gas: 21_000, succeeded: succeeded, at: noon)
    payments[number]?.nonce = nil
    gas += 21_000
  }

  private mutating func endService(_ fixture: LedgerFixture, using generator: inout SeededGenerator) throws {
    if let number = open.keys.sorted().randomElement(using: &generator), Bool.random(using: &generator), let hold = open.removeValue(forKey: number) {
      let amount = payments[number]?.amount ?? 0
      let isWhole = Bool.random(using: &generator)
      let moved = fixture.ledger.end(hold, givingBack: isWhole ? amount : amount / 2, at: noon) > 0
      #expect(moved == (isWhole && amount > 0))
      if moved {
        payments[number]?.state = .settled
        payments[number]?.services -= 1
      }
      return
    }
    guard let number = any([.serving], using: &generator), let hold = payments[number]?.hold else { return }
    payments[number]?.hold = nil
    if Bool.random(using: &generator) {
      fixture.ledger.void(hold, cause: .upstreamFailed, at: noon)
      payments[number]?.state = .settled
    } else {
      let staysOpen = Bool.random(using: &generator)
      _ = try fixture.ledger.settle(hold, staysOpen: staysOpen, at: noon)
      if staysOpen { open[number] = hold }
      payments[number]?.state = .served
      payments[number]?.services += 1
    }
  }

  /// What a restart does.
  mutating func restart() {
    payments = payments.filter { $0.value.state != .claimed }
    for number in payments.keys where payments[number]?.state == .serving {
      payments[number]?.state = .settled
      payments[number]?.hold = nil
    }
    open = [:]
  }

  private func sum(_ states: Set<ChainPaymentState>) -> UInt128 {
    payments.values.reduce(0) { $0 + (states.contains($1.state) ? $1.amount : 0) }
  }

  /// Compares the ledger with the model.
  func check(_ fixture: LedgerFixture) throws {
    let accounts = fixture.chainAccounts
    #expect(accounts.sum == 0 && accounts.wallets == 0 && accounts.sessions == 0)
    #expect(accounts.issued == sum([.settled, .serving, .served, .writtenOff]))
    #expect(accounts.held == sum([.settled, .serving]))
    #expect(Int128(accounts.paidOut) + accounts.merchants == Int128(sum([.served, .writtenOff])))
    for (number, payment) in payments {
      #expect(fixture.ledger.payment(key(number))?.state == payment.state, "payment \(number)")
      #expect(payment.services == (payment.state == .served ? 1 : 0))
    }
    let known = fixture.ledger.state.withLock { state in
      (state.payments.count, state.openPayments.count, state.unservedPayments.count, state.currencies.first { $0.code == base }?.expected)
    }
    let unsettled = payments.values.count { $0.state == .claimed || $0.state == .submitted }
    #expect(known == (payments.count, unsettled, payments.values.count { $0.state == .settled }, sum([.claimed, .submitted])))
    let nonces = fixture.ledger.outgoing(chain: 8453, sender: fixture.sender).map(\.nonce)
    #expect(nonces == payments.values.compactMap(\.nonce).sorted())
    #expect(fixture.ledger.chainSenders().first?.gas ?? 0 == gas)
  }
}

/// The lines of a log that was ended in order tell of the same accounts as the store.
func checkAccounts(_ report: AuditReport, _ balances: [CurrencyBalances]) {
  for account in balances {
    let told = report.accounts.first { $0.currency == account.currency }
    #expect(told?.issued ?? 0 == Int128(account.issued))
    #expect(told?.sessions ?? 0 == Int128(account.sessions))
    #expect(told?.merchants ?? 0 == account.merchants)
    #expect(told?.paidOut ?? 0 == Int128(account.paidOut))
    #expect(told?.payers ?? 0 == Int128(account.wallets) + Int128(account.held))
  }
}
