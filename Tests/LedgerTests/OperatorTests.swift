import Bytes
import Encoding
import Testing

@testable import Ledger

@Suite struct OperatorTests {
  @Test func aReferenceFundsOnce() throws {
    let fixture = try LedgerFixture(funds: 0)
    let ledger = fixture.ledger
    #expect(try ledger.fund(fixture.wallet, currency: "usdc", amount: 5, reference: "a", at: noon) > 0)
    #expect(try ledger.fund(fixture.wallet, currency: "usdc", amount: 5, reference: "a", at: noon) == 0)
    #expect(throws: Refusal.referenceUsed) { try ledger.fund(fixture.wallet, currency: "usdc", amount: 6, reference: "a", at: noon) }
    #expect(throws: Refusal.malformedName) { try ledger.fund(fixture.wallet, currency: "usdc", amount: 6, reference: "", at: noon) }
    #expect(fixture.balance == 5)
    ledger.close()
    let again = try LedgerFixture(in: fixture.folder)
    #expect(try again.ledger.fund(again.wallet, currency: "usdc", amount: 5, reference: "a", at: noon) == 0)
    #expect(again.balance == 5)
  }

  @Test func issuesAtMostWhatASignedNumberHolds() throws {
    let fixture = try LedgerFixture(funds: LedgerState.issueLimit)
    #expect(throws: Refusal.overflow) { try fixture.ledger.fund(fixture.wallet, currency: "usdc", amount: 1, reference: "b", at: noon) }
    #expect(throws: Refusal.overflow) { try fixture.ledger.fund(fixture.wallet, currency: "usdc", amount: .max, reference: "c", at: noon) }
    #expect(fixture.ledger.verify().isBalanced)
  }

  @Test func defundsWhatIsThere() throws {
    let fixture = try LedgerFixture(funds: 10)
    #expect(throws: Refusal.insufficientFunds(required: 11, available: 10)) {
      try fixture.ledger.defund(fixture.wallet, currency: "usdc", amount: 11, reference: "d", at: noon)
    }
    #expect(try fixture.ledger.defund(fixture.wallet, currency: "usdc", amount: 4, reference: "d", at: noon) > 0)
    #expect(try fixture.ledger.defund(fixture.wallet, currency: "usdc", amount: 4, reference: "d", at: noon) == 0)
    #expect(fixture.balance == 6)
    #expect(fixture.ledger.balances()[0].issued == 6)
  }

  @Test func paysOutWhatWasEarned() throws {
    let fixture = try LedgerFixture()
    #expect(throws: Refusal.unknownMerchant) {
      try fixture.ledger.payout(merchant: "shop", currency: "usdc", amount: 1, reference: "p", at: noon)
    }
    _ = try fixture.ledger.settle(try fixture.ledger.hold(fixture.charge(1), at: noon), at: noon)
    #expect(throws: Refusal.insufficientFunds(required: 101, available: 100)) {
      try fixture.ledger.payout(merchant: "shop", currency: "usdc", amount: 101, reference: "p", at: noon)
    }
    #expect(try fixture.ledger.payout(merchant: "shop", currency: "usdc", amount: 60, reference: "p", at: noon) > 0)
    #expect(try fixture.ledger.payout(merchant: "shop", currency: "usdc", amount: 60, reference: "p", at: noon) == 0)
    #expect(fixture.earned == 40)
    #expect(fixture.ledger.verify().isBalanced)
  }

  @Test func rekeyKillsTheOldKeyAndClosesSessions() throws {
    let fixture = try LedgerFixture()
    let session = try fixture.open(1)
    _ = try fixture.ledger.rekey(fixture.wallet, to: id(2), at: noon)
    #expect(throws: Refusal.unknownWallet) { try fixture.ledger.hold(fixture.charge(1), at: noon) }
    #expect(throws: Refusal.sessionClosed) { try fixture.ledger.begin(session, cost: .of(1), context: fixture.line, at: noon) }
    #expect(fixture.ledger.walletView(id(2))?.accounts[0].balance == 1_000_000)
    #expect(throws: Refusal.walletExists) { try fixture.ledger.createWallet(fixture.wallet, at: noon) }
    #expect(throws: Refusal.walletExists) { try fixture.ledger.rekey(id(2), to: fixture.wallet, at: noon) }
    fixture.ledger.close()
    let again = try LedgerFixture(in: fixture.folder)
    #expect(again.ledger.walletView(fixture.wallet) == nil)
    #expect(throws: Refusal.walletExists) { try again.ledger.createWallet(again.wallet, at: noon) }
    var order = again.charge(1)
    order.wallet = id(2)
    _ = try again.ledger.hold(order, at: noon)
  }

  @Test func recordsWhatTheProxySaw() throws {
    let fixture = try LedgerFixture()
    var event = AuditEvent(.paymentRefused)
    event.route = fixture.route
    event.wallet = fixture.wallet
    event.cause = "policy \"daily-cap\""
    event.amount = 5
    event.currency = "usdc"
    #expect(fixture.ledger.record(event, at: noon) > 0)
    fixture.ledger.close()
    let line = try #require(try fixture.lines().first { $0.objectValue?["event"]?.stringValue == "payment.refused" }?.objectValue)
    #expect(line["cause"]?.stringValue == "policy \"daily-cap\"")
    #expect(line["route"]?.stringValue == "weather")
    #expect(line["wallet"]?.stringValue?.hasPrefix("did:key:z6Mk") == true)
    #expect(line["amount"]?.stringValue == "5")
  }
}
