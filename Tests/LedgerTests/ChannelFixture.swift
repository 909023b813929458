import Bytes
import Encoding
import Metering
import Testing

@testable import Ledger

/// Channels of the tests: number 1 is the channel `id(10_000_001)`, opened by the payment `id(11_000_001)`.
extension LedgerFixture {
  func channelID(_ number: Int) -> Digest32 { id(10_000_000 + number) }

  func voucher(_ amount: UInt128) -> AcceptedVoucher {
    AcceptedVoucher(amount: amount, signature: [UInt8](repeating: UInt8(truncatingIfNeeded: amount), count: 65))
  }

  var payer: String { "0x" + String(repeating: "b", count: 40) }

  func channelOrder(_ number: Int, voucher amount: UInt128 = 100, inFlight: UInt32 = 64) -> ChannelOrder {
    ChannelOrder(
      id: channelID(number), challengeID: id(12_000_000 + number), payer: payer, chain: 8453, descriptor: [1, 2, 3], voucher: voucher(amount),
      terms: SessionTerms(
        realm: "api.example.com", currency: base, merchant: "shop",
        routes: [RouteTerms(routeID: "weather", priceVersion: Price.perRequest.version, price: .perRequest)]),
      idleTimeout: .seconds(604_800), maximumInFlight: inFlight, route: route, client: .init(ipv4: 0xC0_00_02_03))
  }

  /// A payment into the escrow that opens a channel.
  func opening(_ number: Int, voucher amount: UInt128 = 100, payment: Int? = nil) -> ChainPaymentOrder {
    var order = self.payment(0, amount: 5_000)
    order.id = id(11_000_000 + (payment ?? number))
    order.challengeID = id(12_000_000 + (payment ?? number))
    order.deposit = .open(channelOrder(number, voucher: amount))
    return order
  }

  /// A payment into the escrow that tops a channel up.
  func topUpOrder(_ number: Int, payment: Int) -> ChainPaymentOrder {
    var order = self.payment(0, amount: 5_000)
    order.id = id(13_000_000 + payment)
    order.deposit = .topUp(channel: channelID(number))
    return order
  }

  func account(_ deposit: UInt128 = 5_000, settled: UInt128 = 0, requested: UInt64 = 0, block: UInt64 = 7) -> ChannelAccount {
    ChannelAccount(deposit: deposit, settled: settled, closeRequestedAt: requested, block: block, blockHash: id(Int(block)))
  }

  /// Opens a channel as the desk does.
  @discardableResult func openChannel(_ number: Int, voucher amount: UInt128 = 100, deposit: UInt128 = 5_000) throws -> SessionHandle {
    let order = opening(number, voucher: amount)
    _ = try ledger.claim(order, at: noon)
    _ = try ledger.submitted(order.id, transaction: id(14_000_000 + number), at: noon)
    _ = try ledger.deposited(order.id, account(deposit), transaction: id(14_000_000 + number), at: noon)
    return try #require(ledger.session(channelID(number)))
  }

  /// A transaction of a channel, with a nonce.
  func transaction(_ nonce: UInt64, channel number: Int) -> OutgoingTransaction {
    OutgoingTransaction(
      chain: 8453, sender: sender, nonce: nonce, purpose: channelID(number), hash: id(15_000_000 + Int(nonce)), raw: [2, 1], createdAt: noon)
  }

  /// Begins and ends an exchange at a fixed price.
  func use(_ handle: SessionHandle, _ cost: UInt128, used: UInt128? = nil) throws {
    _ = try ledger.begin(handle, cost: .of(cost), context: line, at: noon)
    ledger.finish(handle, debited: .of(cost), used: .of(used ?? cost), units: 1, context: line, at: noon)
  }
}
