import Bytes
import Ethereum
import Payments
import Testing

@testable import Methods

@Suite struct BatchStandingTests {
  private static func address(_ octet: UInt8) -> Address { Address(bytes: [UInt8](repeating: octet, count: 20)) ?? .zero }
  private let channel = ChannelDescriptor(
    payer: address(1), payee: address(2), operator: address(3), token: address(4), salt: Digest32(), authorizedSigner: address(5), withdrawDelay: 900)
  private let escrow = SessionEscrow.batch(chain: 8453)

  private func answer(_ words: [[UInt128]]) throws -> [UInt8] {
    ABI.encode([.array(words.map { .bytes(ABI.encode($0.map { .uint($0) })) })])
  }

  private func standing(balance: UInt128, claimed: UInt128, requested: UInt128 = 0) throws -> BatchStanding {
    try BatchStanding(returned: try answer([[balance, claimed], [0, requested], [3], [9, 9]]))
  }

  @Test func isReadFromOneAnswer() throws {
    let seen = try BatchStanding(returned: try answer([[100, 40], [7, 1_900_000_000], [3], [50, 40]]))
    #expect((seen.balance, seen.totalClaimed, seen.withdrawRequestedAt, seen.refundNonce) == (100, 40, 1_900_000_000, 3) && !seen.isSwept)
    #expect(seen.standing == ChannelStanding(deposit: 100, settled: 40, closeRequestedAt: 1_900_000_000))
    #expect(try standing(balance: 0, claimed: 0).isSwept)
  }

  @Test func whatDoesNotFitIsRefused() throws {
    for words: [[UInt128]] in [[], [[1, 2], [0, 0], [0], [0, 0]], [[2, 1], [0, 0], [0]], [[2], [0, 0], [0], [0, 0]]] {
      #expect(throws: ChannelError.malformedState) { try BatchStanding(returned: try answer(words)) }
    }
    #expect(throws: ChannelError.malformedState) { try BatchStanding(returned: []) }
  }

  /// The functions that a transaction calls, with the amounts of claims and refunds.
  private func calls(_ errand: BatchErrand, _ charged: UInt128, signed: UInt128, _ seen: BatchStanding) throws -> [String] {
    let voucher = SessionVoucher(channelID: channel.id(in: escrow), cumulativeAmount: signed, signature: [UInt8](repeating: 1, count: 65))
    guard let transaction = try ChannelTransaction.batch(errand, voucher, charged: charged, channel: channel, standing: seen, escrow: escrow),
      case .call(let to, let data) = transaction.means
    else { return [] }
    #expect(to == BatchSettlement.address && transaction.step == (errand == .close ? .close : .settle))
    let calls = (try? BatchSettlement.multicall.arguments(of: data).first?.elements)?.compactMap(\.bytesValue) ?? [data]
    return try calls.map { call in
      if let claims = try? BatchSettlement.claim.arguments(of: call).first?.elements {
        return "claim \(try #require(claims.first?.elements?[2].uintValue?.uint128))"
      }
      if let values = try? BatchSettlement.refund.arguments(of: call) { return "refund \(try #require(values[1].uintValue?.uint128))" }
      return try #require(try? BatchSettlement.settle.arguments(of: call)[0].addressValue) == channel.payee ? "settle" : "other"
    }
  }

  @Test func whatIsClaimedIsPaidOutAtOnce() throws {
    let seen = try standing(balance: 1_000, claimed: 100)
    #expect(try calls(.settle, 300, signed: 400, seen) == ["claim 300", "settle"])
    #expect(try calls(.claim, 300, signed: 400, seen) == ["claim 300"])
    #expect(try calls(.close, 300, signed: 400, seen) == ["claim 300", "settle", "refund 700"])
    #expect(try calls(.settle, 100, signed: 400, seen) == [])
    #expect(try calls(.close, 100, signed: 400, seen) == ["refund 900"])
    #expect(try calls(.close, 50, signed: 400, seen) == ["refund 900"])
    // Never more than is signed, and than is there.
    #expect(try calls(.settle, 500, signed: 400, seen) == ["claim 400", "settle"])
    #expect(try calls(.close, 2_000, signed: 3_000, seen) == ["claim 1000", "settle"])
    #expect(try calls(.close, 100, signed: 100, try standing(balance: 100, claimed: 100)) == [])
  }
}
