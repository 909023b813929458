import Bytes
import Encoding
import Ethereum
import Testing

@testable import Methods

@Suite struct TempoChargeTests {
  private static let chain: UInt64 = 42431
  private static let asset = EVMFixture.address("0x20c0000000000000000000000000000000000001")
  private static let pathUSD = EVMFixture.address("0x20c0000000000000000000000000000000000000")
  private static let challenge = EVMFixture.challenge
  private static let source = "did:pkh:eip155:42431:\(EVMVector.payer)"
  private static let memo = Attribution(challenge).memo
  private static let split = TempoCharge.Split(recipient: EVMFixture.other, amount: 1000)

  private static func request(
    amount: UInt128 = 10000, recipient: Address = EVMFixture.payTo, feePayer: Bool = false, memo: Digest32? = nil,
    splits: [TempoCharge.Split] = [], modes: [TempoCharge.Mode]? = nil
  ) -> TempoCharge {
    TempoCharge(
      amount: amount, currency: asset, recipient: recipient, chainID: chain, feePayer: feePayer, memo: memo, splits: splits,
      supportedModes: modes)
  }

  private static func payload(_ hex: String) throws -> TempoChargePayload { .transaction(try EVMFixture.octets(hex)) }

  private static func call(_ to: Address = EVMFixture.payTo, _ amount: Word256 = 10000, memo: Digest32? = memo) -> TempoTransaction.Call {
    TempoTransaction.Call(
      to: asset,
      data: memo.map { ERC20.transferWithMemo(to: to, value: amount, memo: $0) } ?? ERC20.transfer(to: to, value: amount))
  }

  private static func transaction(_ calls: [TempoTransaction.Call] = [call()], sponsored: Bool = false) -> TempoTransaction {
    TempoTransaction(
      chainID: chain, maxPriorityFeePerGas: 10_000_000_000, maxFeePerGas: 20_000_000_000, gasLimit: 1_000_000, calls: calls,
      nonceKey: TempoTransaction.expiringNonceKey, nonce: 0, validBefore: 1_900_000_060, feeToken: sponsored ? nil : pathUSD,
      feePayment: sponsored ? .awaited : .sender)
  }

  private func check(
    _ payload: TempoChargePayload, _ request: TempoCharge = request(), source: String? = source,
    challenge: ChallengeTerms = challenge, wallets: ContractWallets = .otherLengths, now: Timestamp = EVMFixture.now
  ) throws -> TempoCharge.Checked {
    try request.check(
      payload, source: source, challenge: challenge, token: try EVMFixture.token(chain: Self.chain, address: Self.asset),
      wallets: wallets, now: now)
  }

  private func check(
    _ transaction: TempoTransaction, _ request: TempoCharge = request(), source: String? = source
  ) throws -> TempoCharge.Checked {
    try check(.transaction(transaction.signed(by: try EVMFixture.key()).encoded), request, source: source)
  }

  @Test func attributesAsClientsDo() throws {
    let attribution = Attribution(Self.challenge)
    #expect(attribution.memo == (try EVMFixture.digest(TempoVector.memo)))
    #expect(attribution.isMade(in: try EVMFixture.digest(TempoVector.namedMemo)))
    let foreign = try EVMFixture.digest(TempoVector.foreignMemo)
    #expect(!attribution.isMade(in: foreign) && Attribution.isPresent(in: foreign) && !Attribution.isPresent(in: Digest32()))
  }

  @Test func takesPympsTransactions() throws {
    let pull = try check(try Self.payload(TempoVector.pull))
    let hash = try EVMFixture.digest(TempoVector.pullHash)
    #expect(pull.charge.payer == EVMFixture.payer && pull.charge.signatureCheck == .recovered && pull.charge.amount == 10000)
    #expect(pull.charge.means == .transaction(raw: try EVMFixture.octets(TempoVector.pull), hash: hash))
    #expect(pull.charge.id == ChainCharge.id(chain: Self.chain, transaction: hash))
    #expect(pull.charge.notBefore == EVMFixture.now - .seconds(120))
    let splits = try check(try Self.payload(TempoVector.splits), Self.request(splits: [Self.split]))
    #expect(splits.charge.transfers.map(\.amount) == [9000, 1000] && splits.charge.transfers.map(\.to) == [EVMFixture.payTo, EVMFixture.other])
    #expect(throws: ChainChargeError.feesNotSponsored) { _ = try pull.sponsored(by: try EVMFixture.key(), feeToken: Self.pathUSD) }
  }

  @Test func paysTheFeesForOthers() throws {
    let sponsor = try EthereumKey(keyFile: [UInt8](TempoVector.sponsorKey.utf8))
    let checked = try check(try Self.payload(TempoVector.envelope), Self.request(feePayer: true))
    let charge = try checked.sponsored(by: sponsor, feeToken: Self.pathUSD)
    guard case .transaction(let raw, let hash) = charge.means else { throw ChainChargeError.unknownType }
    #expect(HexData.text(raw) == TempoVector.sponsored)
    #expect(charge.id == checked.charge.id && charge.id != ChainCharge.id(chain: Self.chain, transaction: hash))
    // The draft's own form, a transaction with the fee payer's place kept, is the same payment.
    #expect(try check(Self.transaction(sponsored: true), Self.request(feePayer: true)).charge.id == charge.id)
    #expect(throws: ChainChargeError.feesNotSponsored) { _ = try check(try Self.payload(TempoVector.envelope)) }
    #expect(throws: ChainChargeError.feesNotSponsored) { _ = try check(try Self.payload(TempoVector.pull), Self.request(feePayer: true)) }
    #expect(throws: ChainChargeError.typeNotOffered(.hash)) { _ = try check(.hash(hash), Self.request(feePayer: true)) }
    for change: (inout TempoTransaction) -> Void in [
      { $0.gasLimit = 2_000_001 }, { $0.maxFeePerGas = 100_000_000_001 }, { $0.nonceKey = 0 }, { $0.validBefore = nil },
      { $0.validBefore = 1_900_000_901 }, { $0.accessList = [AccessListEntry(address: Self.asset, storageKeys: [])] },
      {
        $0.maxFeePerGas = 50_000_000_001
        $0.maxPriorityFeePerGas = 50_000_000_001
      },
      {
        $0.maxFeePerGas = 60_000_000_000
        $0.gasLimit = 1_000_000
      },
    ] {
      var transaction = Self.transaction(sponsored: true)
      change(&transaction)
      #expect(throws: ChainChargeError.feesNotSponsored) { _ = try check(transaction, Self.request(feePayer: true)) }
    }
    // Nobody's extra calls are paid for.
    #expect(throws: ChainChargeError.transferMismatch) {
      _ = try check(Self.transaction([Self.call(), Self.call(EVMFixture.other, 1)], sponsored: true), Self.request(feePayer: true))
    }
  }

  @Test func eachRuleIsChecked() throws {
    func breaks(_ error: ChainChargeError, _ request: TempoCharge, _ transaction: TempoTransaction) {
      #expect(throws: error) { _ = try check(transaction, request) }
    }
    func changed(_ change: (inout TempoTransaction) -> Void) -> TempoTransaction {
      var transaction = Self.transaction()
      change(&transaction)
      return transaction
    }
    let good = Self.transaction()
    breaks(.chainMismatch, Self.request(), changed { $0.chainID = 4217 })
    breaks(.malformedTransaction(.transaction(.noCalls)), Self.request(), changed { $0.calls = [] })
    breaks(.expired(.transaction), Self.request(), changed { $0.validBefore = 1_900_000_005 })
    // What could land at any time would have to be waited for as long.
    breaks(.validTooLong(.transaction), Self.request(), changed { $0.validBefore = nil })
    breaks(.validTooLong(.transaction), Self.request(), changed { $0.validBefore = UInt64(EVMFixture.challenge.expires.seconds) + 61 })
    breaks(.notYetValid(.transaction), Self.request(), changed { $0.validAfter = 1_900_000_001 })
    breaks(.callMismatch, Self.request(), changed { $0.calls[0].to = Self.pathUSD })
    breaks(.callMismatch, Self.request(), changed { $0.calls[0].value = 1 })
    breaks(.callMismatch, Self.request(), changed { $0.calls[0].data = ERC20.approve(spender: EVMFixture.payTo, value: 10000) })
    breaks(.transferMismatch, Self.request(), Self.transaction([Self.call(EVMFixture.other)]))
    breaks(.transferMismatch, Self.request(), Self.transaction([Self.call(EVMFixture.payTo, 9999)]))
    breaks(.transferMismatch, Self.request(splits: [Self.split]), good)
    breaks(.typeNotOffered(.transaction), Self.request(modes: [.push]), good)
    breaks(.typeNotOffered(.transaction), Self.request(amount: 0), good)
    #expect(throws: ChainChargeError.sourceMismatch) {
      _ = try check(good, source: "did:pkh:eip155:42431:\(EVMFixture.other.checksummed)")
    }
    #expect(throws: ChainChargeError.sourceMismatch) { _ = try check(good, source: "did:pkh:eip155:1:\(EVMVector.payer)") }
    #expect(try check(good, source: nil).charge.payer == EVMFixture.payer)
    #expect(throws: ChainChargeError.malformedTransaction(.transaction(.unknownType))) {
      _ = try check(try Self.payload(EVMVector.transaction))
    }
  }

  @Test func memosBelongToTheirChallenge() throws {
    let foreign = try EVMFixture.digest(TempoVector.foreignMemo)
    let asked = try EVMFixture.digest(EVMVector.packedHash)
    #expect(try check(Self.transaction([Self.call(memo: nil)])).charge.amount == 10000)
    #expect(try check(Self.transaction([Self.call(memo: asked)])).charge.amount == 10000)
    #expect(throws: ChainChargeError.memoMismatch) { _ = try check(Self.transaction([Self.call(memo: foreign)])) }
    let request = Self.request(memo: asked)
    #expect(try check(Self.transaction([Self.call(memo: asked)]), request).charge.transfers.map(\.memo) == [ExpectedMemo.exact(asked)])
    #expect(throws: ChainChargeError.memoMismatch) { _ = try check(Self.transaction(), request) }
    #expect(throws: ChainChargeError.memoMismatch) { _ = try check(Self.transaction([Self.call(memo: nil)]), request) }
    // Two transfers alike, of which one must have the memo: in whatever order they stand.
    let twice = Self.request(
      amount: 2000, splits: [TempoCharge.Split(recipient: EVMFixture.payTo, amount: 1000, memo: asked)])
    for memos in [[asked, nil], [nil, asked]] {
      let calls = memos.map { Self.call(EVMFixture.payTo, 1000, memo: $0) }
      #expect(try check(Self.transaction(calls), twice).charge.amount == 2000)
      #expect(throws: ChainChargeError.transferMismatch) { _ = try check(Self.transaction([calls[memos[0] == nil ? 1 : 0]]), twice) }
    }
    // Who pays his own fees may do something else besides.
    #expect(try check(Self.transaction([Self.call(EVMFixture.other, 5), Self.call()])).charge.amount == 10000)
  }

  @Test func hashesNeedTheChallengesMemo() throws {
    let hash = try EVMFixture.digest(TempoVector.pullHash)
    let charge = try check(.hash(hash)).charge
    #expect(try check(try Self.payload(TempoVector.pull)).charge.id == charge.id)
    #expect(charge.means == .hash(hash))
    func event(_ memo: Digest32?) -> TransferEvent {
      TransferEvent(token: Self.asset, from: EVMFixture.payer, to: EVMFixture.payTo, value: 10000, memo: memo)
    }
    #expect(charge.isPaid(by: [event(nil), event(Self.memo)]))
    let foreign = try EVMFixture.digest(TempoVector.foreignMemo)
    #expect(!charge.isPaid(by: [event(nil)]) && !charge.isPaid(by: [event(foreign)]))
    #expect(charge.isPayment(sender: EVMFixture.other, to: nil, data: [], at: EVMFixture.now))
    #expect(!charge.isPayment(sender: EVMFixture.payer, to: nil, data: [], at: EVMFixture.now - .seconds(121)))
    #expect(throws: ChainChargeError.typeNotOffered(.hash)) { _ = try check(.hash(hash), Self.request(modes: [.pull])) }
    #expect(throws: ChainChargeError.typeNotOffered(.hash)) { _ = try check(.hash(hash), Self.request(amount: 0)) }
  }

  @Test func provesWhoAsksForNothing() throws {
    let request = Self.request(amount: 0)
    for vector in [TempoVector.proof, TempoVector.draftProof] {
      let charge = try check(.proof(try EVMFixture.octets(vector)), request).charge
      #expect(charge.payer == EVMFixture.payer && charge.amount == 0 && charge.means == .none && charge.transfers.isEmpty)
    }
    let proof = try request.proof(by: try EVMFixture.key(), challenge: Self.challenge)
    #expect(proof.object["signature"]?.stringValue == TempoVector.proof)
    #expect(try TempoChargePayload(parsing: proof.object) == proof)
    #expect(throws: ChainChargeError.missing(.source)) { _ = try check(proof, request, source: nil) }
    #expect(throws: ChainChargeError.sourceMismatch) { _ = try check(proof, request, source: "did:pkh:eip155:4217:\(EVMVector.payer)") }
    #expect(throws: ChainChargeError.signatureMismatch(.proof)) {
      _ = try check(proof, request, source: "did:pkh:eip155:42431:\(EVMFixture.other.checksummed)")
    }
    var other = Self.challenge
    other.realm = "other.example.com"
    #expect(throws: ChainChargeError.signatureMismatch(.proof)) { _ = try check(proof, request, challenge: other) }
    #expect(throws: ChainChargeError.typeNotOffered(.proof)) { _ = try check(proof) }
    // A contract's signature proves nothing without the chain.
    #expect(throws: ChainChargeError.signatureMismatch(.proof)) { _ = try check(.proof([UInt8](1...100)), request, wallets: .all) }
  }

  @Test func ourOwnCallsPassOurOwnCheck() throws {
    for request in [
      Self.request(), Self.request(memo: try EVMFixture.digest(EVMVector.packedHash)),
      Self.request(splits: [Self.split, TempoCharge.Split(recipient: EVMFixture.payTo, amount: 1, memo: Digest32())]),
    ] {
      let calls = try request.calls(for: Self.challenge)
      #expect(calls.count == 1 + request.splits.count)
      #expect(try check(Self.transaction(calls), request).charge.amount == 10000)
    }
  }

  @Test func readsWhatItWrites() throws {
    let full = TempoCharge(
      amount: 10000, currency: Self.asset, recipient: EVMFixture.payTo, description: "d", externalId: "e", chainID: 4217, feePayer: true,
      memo: Self.memo, splits: [Self.split, TempoCharge.Split(recipient: EVMFixture.other, amount: 1, memo: Self.memo)],
      supportedModes: [.pull])
    for request in [full, Self.request(), Self.request(amount: 0)] {
      #expect(try TempoCharge(parsing: request.object) == request)
    }
    #expect(try TempoCharge(parsing: full.object.changing(["methodDetails"], to: nil)).chainID == 42431)
    func breaks(_ error: ChainChargeError, _ path: [String], _ value: JSONValue?) {
      #expect(throws: error, "\(path)") { _ = try TempoCharge(parsing: full.object.changing(path, to: value)) }
    }
    breaks(.missing(.amount), ["amount"], nil)
    breaks(.malformed(.memo), ["methodDetails", "memo"], "0x12")
    breaks(.malformed(.feePayer), ["methodDetails", "feePayer"], "true")
    breaks(.malformed(.supportedModes), ["methodDetails", "supportedModes"], [])
    breaks(.malformed(.supportedModes), ["methodDetails", "supportedModes"], ["teleport"])
    breaks(.malformed(.splits), ["methodDetails", "splits"], [])
    breaks(.malformed(.amount), ["methodDetails", "splits", "0", "amount"], "0")
    breaks(.splitsReachAmount, ["methodDetails", "splits", "0", "amount"], "9999")
    breaks(.splitsReachAmount, ["amount"], "0")
    for (type, member) in [("transaction", "signature"), ("hash", "hash"), ("proof", "signature")] {
      let name = try #require(ChainChargeError.Member(rawValue: member))
      #expect(throws: ChainChargeError.missing(name)) { _ = try TempoChargePayload(parsing: ["type": .string(type)]) }
      #expect(throws: ChainChargeError.malformed(name)) { _ = try TempoChargePayload(parsing: ["type": .string(type), member: "0x1"]) }
    }
    #expect(throws: ChainChargeError.unknownType) { _ = try TempoChargePayload(parsing: ["type": "permit2"]) }
    #expect(throws: ChainChargeError.missing(.type)) { _ = try TempoChargePayload(parsing: [:]) }
  }
}
