import Bytes
import Crypto
import Ethereum
import Testing

private let a = Address(bytes: [UInt8](repeating: 0xAA, count: 20)) ?? .zero
private let b = Address(bytes: [UInt8](repeating: 0xBB, count: 20)) ?? .zero

private func drawn(_ name: String) -> Digest32 { SHA256.hash(name + "/0") }
private let signatureOctets = Array((0..<3).flatMap { SHA256.hash("signature/\($0)").bytes }[..<65])
private let word = drawn("word")
private let salt = drawn("salt")

private func signature(r: String, s: String) throws -> ECDSASignature {
  try ECDSASignature(r: drawn(r), s: drawn(s), yParity: 1)
}

private let authorization = EIP3009.Authorization(from: a, to: b, value: 5, validAfter: 6, validBefore: 7, nonce: word)
private let permit = Permit2.Permit(permitted: [.init(token: a, amount: 7)], nonce: 8, deadline: 9)
private let batchPermit = Permit2.Permit(permitted: [.init(token: a, amount: 7), .init(token: b, amount: 8)], nonce: 9, deadline: 10)
private let descriptor = ChannelReserve.Descriptor(
  payer: a, payee: b, operator: a, token: b, salt: salt, authorizedSigner: a, expiringNonceHash: word)

private func channelConfig(delay: UInt64 = 900) -> BatchSettlement.ChannelConfig? {
  BatchSettlement.ChannelConfig(
    payer: a, payerAuthorizer: b, receiver: a, receiverAuthorizer: b, token: a, withdrawDelay: delay, salt: salt)
}

@Suite struct ContractTests {
  private func calls() throws -> [String: [UInt8]] {
    let config = try #require(channelConfig())
    var topUpAuthorization = authorization
    topUpAuthorization.from = b
    var openAuthorization = authorization
    openAuthorization.from = b
    return [
      "transferFrom": ERC20.transferFrom(a, to: b, value: 5),
      "permit": EIP2612.permit(owner: a, spender: b, value: 5, deadline: 6, signature: try signature(r: "r", s: "s")),
      "isValidSignature": ERC1271.isValidSignature(word, signature: signatureOctets),
      "transferWithAuthorization": EIP3009.transfer(authorization, signature: signatureOctets),
      "permit2": Permit2.transfer(
        permit, details: .init(to: b, requestedAmount: 10), owner: b, witness: word, of: ExactPermit2Proxy.witnessType,
        signature: signatureOctets),
      "permit2 batch": Permit2.transfer(
        batchPermit, batch: [.init(to: b, requestedAmount: 11), .init(to: a, requestedAmount: 12)], owner: b, witness: word,
        of: ExactPermit2Proxy.witnessType, signature: signatureOctets),
      "nonceBitmap": Permit2.nonceBitmap(owner: a, nonce: Word256(high: 1 << 127, low: 7)),
      "exact settle": ExactPermit2Proxy.settle(permit, owner: a, to: b, validAfter: 17, signature: signatureOctets),
      "upto settle": UptoPermit2Proxy.settle(
        permit, amount: 6, owner: a, to: b, facilitator: a, validAfter: 17, signature: signatureOctets),
      "exact settleWithPermit": ExactPermit2Proxy.settle(
        after: .init(value: 7, deadline: 18, signature: try signature(r: "r", s: "s")), permit, owner: a, to: b, validAfter: 17,
        signature: signatureOctets),
      "open": ChannelEscrow.open(payee: a, token: b, deposit: 5, salt: salt, authorizedSigner: a),
      "openWithAuthorization": try ChannelEscrow.open(
        payee: a, token: b, salt: salt, authorizedSigner: a, with: openAuthorization, signature: signatureOctets),
      "openWithPermit2": ChannelEscrow.open(
        payee: a, token: b, deposit: 5, salt: salt, authorizedSigner: a, permit2From: b, nonce: 6, deadline: 7,
        signature: signatureOctets),
      "settle": ChannelEscrow.settle(channelID: word, cumulativeAmount: 5, signature: signatureOctets),
      "topUp": ChannelEscrow.topUp(channelID: word, additionalDeposit: 5),
      "topUpWithAuthorization": try ChannelEscrow.topUp(
        channelID: word, salt: salt, with: topUpAuthorization, signature: signatureOctets),
      "topUpWithPermit2": ChannelEscrow.topUp(
        channelID: word, additionalDeposit: 5, permit2From: b, nonce: 6, deadline: 7, signature: signatureOctets),
      "close": ChannelEscrow.close(channelID: word, cumulativeAmount: 5, signature: []),
      "requestClose": ChannelEscrow.requestClose(channelID: word),
      "withdraw": ChannelEscrow.withdraw(channelID: word),
      "reserve settle": try ChannelReserve.settle(descriptor, cumulativeAmount: 5, signature: signatureOctets),
      "reserve close": try ChannelReserve.close(descriptor, cumulativeAmount: 5, captureAmount: 4, signature: signatureOctets),
      "batch deposit": BatchSettlement.deposit(config, amount: 5, collector: b, collectorData: signatureOctets),
      "batch claim": BatchSettlement.claim(claims(config), authorizerSignature: signatureOctets),
      "batch refund": BatchSettlement.refund(config, amount: 5, nonce: 6, signature: signatureOctets),
    ]
  }

  private func claims(_ config: BatchSettlement.ChannelConfig) -> [BatchSettlement.Claim] {
    [
      .init(channel: config, maxClaimableAmount: 5, signature: signatureOctets, totalClaimed: 4),
      .init(channel: config, maxClaimableAmount: 6, signature: [], totalClaimed: 5),
    ]
  }

  @Test func callsOfEthABI() throws {
    let calls = try calls()
    #expect(calls.count == callVectors.count)
    for vector in callVectors {
      #expect(calls[vector.name].map { HexData.text($0) } == vector.data, "\(vector.name)")
    }
  }

  @Test func hashesOfEthAccount() throws {
    let config = try #require(channelConfig())
    let batch = BatchSettlement.domain(chainID: 8453).prepared
    let permit2 = Permit2.domain(chainID: 8453).prepared
    let signer = try #require(Address(typedDataSigner))
    let usdc = try #require(Address("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"))
    let exact = Permit2.Permit(
      permitted: [.init(token: usdc, amount: Word256(high: 1 << 72, low: 5))],
      nonce: Word256(high: 1 << 127, low: 7), deadline: 1_800_000_000)
    let opened = Permit2.Permit(permitted: [.init(token: a, amount: 7)], nonce: 9, deadline: 10)
    let hashes: [String: (TypedData.PreparedDomain, Digest32)] = [
      "config": (batch, config.structHash),
      "claims": (batch, BatchSettlement.claimBatch(claims(config), in: batch)),
      "batch voucher": (batch, BatchSettlement.voucher(channelID: word, maxClaimableAmount: 5)),
      "permit2 batch": (
        permit2,
        Permit2.batchStructHash(
          batchPermit, spender: a, witness: ExactPermit2Proxy.witnessHash(to: b, validAfter: 17), of: ExactPermit2Proxy.witnessType)
      ),
      "channel open": (
        permit2,
        Permit2.singleStructHash(
          opened, spender: b, witness: ChannelEscrow.openWitness(payee: b, salt: salt, authorizedSigner: a),
          of: ChannelEscrow.openWitnessType)
      ),
      "exact": (
        permit2,
        Permit2.singleStructHash(
          exact, spender: ExactPermit2Proxy.address, witness: ExactPermit2Proxy.witnessHash(to: a, validAfter: 17),
          of: ExactPermit2Proxy.witnessType)
      ),
      "upto": (
        permit2,
        Permit2.singleStructHash(
          exact, spender: ExactPermit2Proxy.address, witness: UptoPermit2Proxy.witnessHash(to: a, facilitator: b, validAfter: 17),
          of: UptoPermit2Proxy.witnessType)
      ),
    ]
    var seen = 0
    for vector in contractHashVectors + typedDataVectors {
      guard let (domain, structHash) = hashes[vector.name] else { continue }
      seen += 1
      #expect(HexData.text(domain.separator) == vector.separator, "\(vector.name)")
      #expect(HexData.text(structHash) == vector.structHash, "\(vector.name)")
      #expect(try ECDSASignature(hex: vector.signature).recover(domain.digest(structHash)) == signer, "\(vector.name)")
    }
    #expect(seen == hashes.count)
    #expect(config.channelID(in: batch) == batch.digest(config.structHash))
  }

  @Test func identifiersOfChannels() {
    let id = ChannelEscrow.channelID(payer: a, payee: b, token: a, salt: salt, authorizedSigner: b, escrow: a, chainID: 196)
    #expect(HexData.text(id) == channelIDVector)
    #expect(HexData.text(descriptor.channelID(escrow: b, chainID: 4217)) == reserveIDVector)
    #expect(descriptor.signer == a)
    var own = descriptor
    own.authorizedSigner = .zero
    own.payer = b
    #expect(own.signer == b)
  }

  @Test func vouchersOfBothWidths() throws {
    let voucher = try #require(typedDataVectors.first { $0.name == "voucher" })
    let escrow = try #require(Address("0x1234567890123456789012345678901234567890"))
    let structHash = ChannelEscrow.voucher(channelID: drawn("channel"), cumulativeAmount: 250_000)
    #expect(HexData.text(structHash) == voucher.structHash)
    #expect(HexData.text(ChannelEscrow.domain(chainID: 196, escrow: escrow).separator) == voucher.separator)
    #expect(try ChannelReserve.voucher(channelID: word, cumulativeAmount: 5) != ChannelEscrow.voucher(channelID: word, cumulativeAmount: 5))
    _ = try ChannelReserve.voucher(channelID: word, cumulativeAmount: ChannelReserve.maximumAmount)
    let past = ChannelReserve.maximumAmount + 1
    #expect(throws: EthereumError.numberTooLarge) { try ChannelReserve.voucher(channelID: word, cumulativeAmount: past) }
    #expect(throws: EthereumError.numberTooLarge) { try ChannelReserve.settle(descriptor, cumulativeAmount: past, signature: []) }
    #expect(throws: EthereumError.numberTooLarge) {
      try ChannelReserve.close(descriptor, cumulativeAmount: 1, captureAmount: past, signature: [])
    }
    #expect(channelConfig(delay: BatchSettlement.maximumDelay + 1) == nil)
    var large = authorization
    large.value = Word256(high: 1, low: 0)
    #expect(throws: EthereumError.numberTooLarge) {
      try ChannelEscrow.open(payee: a, token: b, salt: salt, authorizedSigner: a, with: large, signature: [])
    }
    #expect(throws: EthereumError.numberTooLarge) {
      try ChannelEscrow.topUp(channelID: word, salt: salt, with: large, signature: [])
    }
  }

  @Test func noncesAreBits() {
    for (nonce, word, bit) in [(0, 0, 0), (127, 0, 127), (128, 0, 128), (255, 0, 255), (256, 1, 0), (1000, 3, 232)] {
      let call = Permit2.nonceBitmap(owner: a, nonce: Word256(UInt64(nonce)))
      #expect(call.suffix(32) == Word256(UInt64(word)).octets.bytes[...])
      let bitmap = bit < 128 ? Word256(UInt128(1) << UInt128(bit)) : Word256(high: UInt128(1) << UInt128(bit - 128), low: 0)
      #expect(Permit2.isUsed(nonce: Word256(UInt64(nonce)), bitmap: bitmap))
      #expect(!Permit2.isUsed(nonce: Word256(UInt64(nonce)), bitmap: 0))
      #expect(!Permit2.isUsed(nonce: Word256(UInt64(nonce ^ 1)), bitmap: bitmap))
    }
  }

  @Test func addressesOfContracts() {
    #expect(Permit2.address.checksummed == "0x000000000022D473030F116dDEE9F6B43aC78BA3")
    #expect(ExactPermit2Proxy.address.checksummed == "0x402085c248EeA27D92E8b30b2C58ed07f9E20001")
    #expect(UptoPermit2Proxy.address.checksummed == "0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002")
    #expect(BatchSettlement.address.checksummed == "0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003")
    #expect(BatchSettlement.authorizationCollector.checksummed == "0x4020806089470a89826cB9fB1f4059150b550004")
    #expect(BatchSettlement.permit2Collector.checksummed == "0x4020425FAf3B746C082C2f942b4E5159887B0005")
  }

  @Test func selectorsOfPermit2() {
    #expect(Permit2.permitWitnessTransferFrom.selector.number == 0x137c_29fe)
    #expect(Permit2.permitBatchWitnessTransferFrom.selector.number == 0xfe8e_c1a7)
    #expect(Permit2.nonceBitmap.selector.number == 0x4fe0_2b44)
  }

  @Test func stateOfAChannel() throws {
    let values: [ABIValue] = [
      .tuple([
        .address(a), .address(b), .address(a), .address(.zero), .uint(UInt128.max), .uint(7 as UInt64), .uint(UInt64.max), .bool(true),
      ])
    ]
    let data = ABI.encode(values)
    let channel = try ChannelEscrow.Channel(returned: data)
    #expect(channel.payer == a && channel.payee == b && channel.token == a && channel.signer == a)
    #expect(channel.deposit == .max && channel.settled == 7 && channel.closeRequestedAt == .max && channel.isFinalized)
    for count in 0..<data.count {
      #expect(throws: EthereumError.self) { try ChannelEscrow.Channel(returned: Array(data[..<count])) }
    }
    #expect(HexData.text(ChannelEscrow.getChannel(word)).hasSuffix(word.hex))
  }
}

@Suite struct EventTests {
  private func transfer(_ value: Word256, token: Address = a) -> Log {
    Log(
      address: token, topics: [TransferEvent.transfer.topic, Word256(a).octets, Word256(b).octets], data: value.octets.bytes)
  }

  @Test func transfersAreRead() {
    #expect(TransferEvent.transfer.topic.hex == "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")
    #expect(TransferEvent(transfer(5)) == TransferEvent(token: a, from: a, to: b, value: 5))
    var memo = transfer(6)
    memo.topics[0] = TransferEvent.transferWithMemo.topic
    #expect(TransferEvent(memo) == nil, "without its memo it is something else")
    memo.topics.append(word)
    #expect(TransferEvent(memo) == TransferEvent(token: a, from: a, to: b, value: 6, memo: word))
  }

  @Test func otherLogsAreNoTransfers() {
    var removed = transfer(5)
    removed.isRemoved = true
    #expect(TransferEvent(removed) == nil)
    var nameless = transfer(5)
    nameless.topics = []
    #expect(TransferEvent(nameless) == nil)
    // ERC-721 tells the same event with the token as a fourth topic.
    var token = transfer(5)
    token.topics.append(word)
    token.data = []
    #expect(TransferEvent(token) == nil)
    var short = transfer(5)
    short.data.removeLast()
    #expect(TransferEvent(short) == nil)
    var dirty = transfer(5)
    dirty.topics[1] = Word256.maximum.octets
    #expect(TransferEvent(dirty) == nil)
    var other = transfer(5)
    other.topics[0] = word
    #expect(TransferEvent(other) == nil)
  }

  @Test func eventsOfTheEscrow() {
    #expect(ChannelEscrow.closeRequested.signature == "CloseRequested(bytes32,address,address,uint256)")
    let log = Log(
      address: a, topics: [ChannelEscrow.closeRequested.topic, word, Word256(a).octets, Word256(b).octets],
      data: Word256(1_800_000_000 as UInt64).octets.bytes)
    #expect(
      ChannelEscrow.closeRequested.values(of: log) == [.fixedBytes(word), .address(a), .address(b), .uint(1_800_000_000 as UInt64)])
    #expect(ChannelEscrow.settled.values(of: log) == nil)
  }

  @Test func aReceiptsTransfersAreThoseOfTheToken() {
    let receipt = TransactionReceipt(
      transactionHash: word, isSuccessful: true, blockNumber: 1, blockHash: word, from: a, to: b, gasUsed: 3,
      effectiveGasPrice: 4, logs: [transfer(1), transfer(2, token: b), transfer(3)])
    #expect(receipt.transfers(of: a).map(\.value) == [1, 3])
    #expect(receipt.fee == 12)
  }
}

@Suite struct AccountTests {
  @Test func chains() {
    #expect(ChainID("eip155:8453") == ChainID(8453))
    #expect(ChainID(8453).description == "eip155:8453")
    for text in ["", "eip155", "eip155:", "eip155:0", "eip155:01", "eip155:-1", "eip155: 1", "EIP155:1", "eip155:1 ", "eip155:18446744073709551616", "solana:1"] {
      #expect(ChainID(text) == nil, "\(text)")
    }
  }

  @Test func accounts() throws {
    let text = "did:pkh:eip155:4217:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    let account = try AccountDID(text: text)
    #expect(account.description == text)
    #expect(account.chain == ChainID(4217) && account.address.checksummed == "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")
    #expect(AccountDID(text.replacing("5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", with: "5aaeb6053f3e94c9b9a09f33669435e7ef1beaed")) == account)
    for wrong in [
      "", "did:pkh:eip155:1", "did:pkh:eip155:0:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", "did:key:eip155:1:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
      text + ":1", text + " ", "DID:pkh:eip155:1:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", text.replacing("aA", with: "aa"),
    ] {
      #expect(AccountDID(wrong) == nil, "\(wrong)")
    }
    #expect(throws: EthereumError.addressChecksumMismatch) { try AccountDID(text: text.replacing("aAeb", with: "aaeb")) }
  }
}
