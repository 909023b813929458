import Bytes
import Encoding
import Ethereum
import Testing

@testable import Methods

@Suite struct EVMTransactionTests {
  private func check(
    _ payload: EVMChargePayload, request: EVMCharge = EVMFixture.request(), source: String? = nil
  ) throws -> ChainCharge {
    try request.check(
      payload, source: source, challenge: EVMFixture.challenge, token: try EVMFixture.token(), submitter: nil, now: EVMFixture.now)
  }

  private func signed(
    chain: UInt64 = EVMFixture.chain, kind: Transaction.Kind = .dynamicFee, to: Address? = EVMFixture.asset, gas: UInt64 = 65000,
    data: [UInt8] = ERC20.transfer(to: EVMFixture.payTo, value: 10000)
  ) throws -> EVMChargePayload {
    let transaction = Transaction(
      kind: kind, chainID: chain, nonce: 7, maxPriorityFeePerGas: 1_000_000_000, maxFeePerGas: 2_000_000_000, gasLimit: gas, to: to,
      data: data)
    return .transaction(transaction.signed(by: try EVMFixture.key()).encoded)
  }

  @Test func takesATransfersTransaction() throws {
    let object: JSONObject = ["type": "transaction", "signature": .string(EVMVector.transaction)]
    let payload = try EVMChargePayload(parsing: object)
    #expect(payload.object == object)
    let charge = try check(payload, source: "did:pkh:eip155:84532:\(EVMVector.payer)")
    let hash = try EVMFixture.digest(EVMVector.transactionHash)
    #expect(charge.means == .transaction(raw: try EVMFixture.octets(EVMVector.transaction), hash: hash))
    #expect(charge.payer == EVMFixture.payer && charge.signatureCheck == .recovered && charge.amount == 10000)
    #expect(charge.id == ChainCharge.id(chain: EVMFixture.chain, transaction: hash))
    #expect(charge.notBefore == EVMFixture.now - .seconds(120) && charge.expires == EVMFixture.challenge.expires)
    #expect(try check(try signed()) == charge)
    // An offer that names no types takes it (draft-evm-charge-00 "Credential Type Negotiation").
    #expect(try check(payload, request: EVMFixture.request(types: nil)) == charge)
  }

  @Test func eachRuleIsChecked() throws {
    func breaks(_ error: ChainChargeError, request: EVMCharge = EVMFixture.request(), source: String? = nil, _ payload: EVMChargePayload) {
      #expect(throws: error) { _ = try check(payload, request: request, source: source) }
    }
    let good = try signed()
    breaks(.chainMismatch, try signed(chain: 1))
    breaks(.malformedTransaction(.transaction(.unknownType)), try signed(kind: .accessList))
    breaks(.malformedTransaction(.transaction(.unknownType)), try signed(kind: .legacy))
    breaks(.malformedTransaction(.transaction(.gasTooLow)), try signed(gas: 20999))
    breaks(.callMismatch, try signed(to: EVMFixture.other))
    breaks(.callMismatch, try signed(to: nil, gas: 200_000))
    breaks(.notATransfer, try signed(data: ERC20.approve(spender: EVMFixture.payTo, value: 10000)))
    breaks(.notATransfer, try signed(data: ERC20.transfer(to: EVMFixture.payTo, value: 10000) + [0]))
    breaks(.notATransfer, try signed(data: ERC20.transferWithMemo(to: EVMFixture.payTo, value: 10000, memo: Digest32())))
    breaks(.notATransfer, try signed(data: []))
    breaks(.recipientMismatch(.transaction), try signed(data: ERC20.transfer(to: EVMFixture.other, value: 10000)))
    breaks(.amountMismatch(.transaction), try signed(data: ERC20.transfer(to: EVMFixture.payTo, value: 10001)))
    breaks(.amountMismatch(.transaction), try signed(data: ERC20.transfer(to: EVMFixture.payTo, value: .maximum)))
    breaks(.sourceMismatch, source: "did:pkh:eip155:84532:\(EVMFixture.other.checksummed)", good)
    breaks(.typeNotOffered(.transaction), request: EVMFixture.request(types: [.hash]), good)
    breaks(.splitsNeedPermit2, request: EVMFixture.request(splits: [EVMFixture.split]), good)
    breaks(.malformedTransaction(.transaction(.unknownType)), .transaction([]))
    #expect(throws: ChainChargeError.tooLong(.signature, limit: 8192)) {
      _ = try EVMChargePayload(parsing: ["type": "transaction", "signature": .string("0x" + String(repeating: "0", count: 16386))])
    }
  }

  @Test func hashesAreLeftToTheChain() throws {
    let hash = try EVMFixture.digest(EVMVector.transactionHash)
    let payload = try EVMChargePayload(parsing: ["type": "hash", "hash": .string(EVMVector.transactionHash)])
    #expect(payload == .hash(hash) && payload.object == ["type": "hash", "hash": .string(EVMVector.transactionHash)])
    let named = try check(payload, source: "did:pkh:eip155:84532:\(EVMVector.payer)")
    #expect(named.payer == EVMFixture.payer && named.signatureCheck == .none && named.means == .hash(hash))
    #expect(named.transfers.map(\.from) == [EVMFixture.payer])
    let nameless = try check(payload)
    #expect(nameless.payer.isZero && nameless.transfers.map(\.from) == [nil])
    // Neither another name nor the signed transaction itself makes the same money a second payment.
    #expect(try check(try signed()).id == named.id)
    #expect(named.id == nameless.id)
    #expect(throws: ChainChargeError.splitsNeedPermit2) {
      _ = try check(payload, request: EVMFixture.request(splits: [EVMFixture.split]))
    }
    #expect(throws: ChainChargeError.missing(.hash)) { _ = try EVMChargePayload(parsing: ["type": "hash"]) }
    #expect(throws: ChainChargeError.malformed(.hash)) { _ = try EVMChargePayload(parsing: ["type": "hash", "hash": "0x12"]) }
  }

  @Test func onlyAPlainTransferCountsForItsHash() throws {
    let charge = try check(.hash(try EVMFixture.digest(EVMVector.transactionHash)), source: "did:pkh:eip155:84532:\(EVMVector.payer)")
    let data = ERC20.transfer(to: EVMFixture.payTo, value: 10000)
    func counts(
      sender: Address = EVMFixture.payer, to: Address? = EVMFixture.asset, data: [UInt8] = data, at time: Timestamp = EVMFixture.now
    ) -> Bool {
      charge.isPayment(sender: sender, to: to, data: data, at: time)
    }
    #expect(counts() && counts(at: EVMFixture.now - .seconds(120)))
    #expect(!counts(at: EVMFixture.now - .seconds(121)))
    #expect(!counts(sender: EVMFixture.submitter) && !counts(to: EVMFixture.other) && !counts(to: nil))
    #expect(!counts(data: ERC20.transfer(to: EVMFixture.payTo, value: 9999)))
    #expect(!counts(data: ERC20.transfer(to: EVMFixture.other, value: 10000)))
    // Our own settlement of somebody's authorization moved as much to the same merchant, and pays for what was asked for then.
    #expect(!counts(data: try EVMFixture.octets(EVMVector.authorizationCall)))
    #expect(!counts(sender: EVMFixture.submitter, data: try EVMFixture.octets(EVMVector.authorizationCall)))
    // What we submit ourselves is known to be for this payment.
    let own = try check(try signed())
    #expect(own.isPayment(sender: EVMFixture.payer, to: EVMFixture.asset, data: data, at: EVMFixture.now))
  }

  @Test func eachTransferNeedsItsOwnEvent() throws {
    var charge = try check(try signed())
    func event(_ amount: UInt128, to: Address = EVMFixture.payTo, from: Address = EVMFixture.payer, memo: Digest32? = nil) -> TransferEvent {
      TransferEvent(token: EVMFixture.asset, from: from, to: to, value: Word256(amount), memo: memo)
    }
    var foreign = event(10000)
    foreign.token = EVMFixture.other
    #expect(charge.isPaid(by: [event(5), event(10000)]))
    #expect(!charge.isPaid(by: []) && !charge.isPaid(by: [event(9999), event(10001), foreign]))
    #expect(!charge.isPaid(by: [event(10000, to: EVMFixture.other)]) && !charge.isPaid(by: [event(10000, from: EVMFixture.other)]))
    // Two alike need two; a transfer with a memo tells two events and is one.
    charge.transfers += charge.transfers
    #expect(!charge.isPaid(by: [event(10000)]) && charge.isPaid(by: [event(10000), event(10000)]))
    let memo = Digest32()
    #expect(!charge.isPaid(by: [event(10000), event(10000, memo: memo)]))
    #expect(charge.isPaid(by: [event(10000), event(10000, memo: memo), event(10000)]))
    charge.transfers[1].memo = .exact(memo)
    #expect(charge.isPaid(by: [event(10000), event(10000, memo: memo), event(10000)]))
    #expect(!charge.isPaid(by: [event(10000), event(10000)]))
    #expect(!charge.isPaid(by: [event(10000), event(10000, memo: memo)]))
  }
}
