import Bytes
import Crypto
import Ethereum
import Testing

private let a = Address(bytes: [UInt8](repeating: 0xAA, count: 20)) ?? .zero
private let b = Address(bytes: [UInt8](repeating: 0xBB, count: 20)) ?? .zero
private let pathUSD = Address("0x20c0000000000000000000000000000000000000") ?? .zero

private func sample(_ name: String) -> TempoTransaction? {
  var transaction = TempoTransaction(
    chainID: 4217, maxPriorityFeePerGas: 1_000_000_000, maxFeePerGas: 20_000_000_000, gasLimit: 120_000,
    calls: [.init(to: a, data: ERC20.transfer(to: b, value: 1_000_000)), .init(to: b, data: [])], nonce: 0, feePayment: .awaited)
  switch name {
  case "own fees":
    transaction.feePayment = .sender
    transaction.feeToken = pathUSD
    transaction.nonce = 3
  case "sponsored":
    transaction.nonceKey = TempoTransaction.expiringNonceKey
    transaction.validBefore = 1_800_000_000
  case "window":
    transaction.nonce = 1
    transaction.nonceKey = 5
    transaction.validBefore = 1_800_000_000
    transaction.validAfter = 1_700_000_000
  default: return nil
  }
  return transaction
}

private func refusal(_ octets: [UInt8]) -> EthereumError? {
  do {
    _ = try SignedTempoTransaction(decoding: octets)
    return nil
  } catch { return error }
}

@Suite struct TempoTransactionTests {
  private let key: EthereumKey
  private let payer: EthereumKey

  init() throws {
    key = try EthereumKey(keyFile: Array(typedDataKey.utf8))
    payer = try EthereumKey(keyFile: Array(tempoFeePayerKey.utf8))
  }

  @Test func transactionsOfPytempo() throws {
    for vector in tempoVectors {
      let transaction = try #require(sample(vector.name))
      #expect(HexData.text(transaction.signingDigest) == vector.signingDigest, "\(vector.name)")
      let signed = transaction.signed(by: key)
      let encoded = try #require(HexData.parse(vector.encoded))
      if vector.envelope.isEmpty {
        #expect(HexData.text(signed.encoded) == vector.encoded)
        #expect(signed.feePayer == key.address)
      } else {
        #expect(HexData.text(signed.envelope) == vector.envelope, "\(vector.name)")
        let received = try SignedTempoTransaction(decoding: try #require(HexData.parse(vector.envelope)))
        #expect(received == signed && received.sender == key.address && received.feePayer == nil)
        // The form of the drafts, in which one zero octet keeps the fee payer's place.
        #expect(try SignedTempoTransaction(decoding: signed.encoded) == signed)
        let sponsored = try received.sponsored(by: payer, feeToken: pathUSD)
        #expect(HexData.text(sponsored.encoded) == vector.encoded, "\(vector.name)")
        #expect(HexData.text(sponsored.hash) == vector.hash)
        #expect(throws: EthereumError.transaction(.notAwaitingFeePayer)) { try sponsored.sponsored(by: payer, feeToken: pathUSD) }
      }
      let decoded = try SignedTempoTransaction(decoding: encoded)
      #expect(decoded.encoded == encoded && decoded.sender == key.address && decoded.isSenderProven)
      #expect(HexData.text(decoded.hash) == vector.hash)
      #expect(decoded.feePayer?.checksummed == (vector.envelope.isEmpty ? typedDataSigner : tempoFeePayer))
      #expect(decoded.transaction.feeToken == pathUSD)
      try decoded.transaction.check(chainID: 4217)
    }
    #expect(tempoVectors.count == 3)
  }

  @Test func everyTruncationIsRefused() throws {
    for vector in tempoVectors {
      for text in [vector.envelope, vector.encoded] where !text.isEmpty {
        let octets = try #require(HexData.parse(text))
        for count in 0..<octets.count { #expect(refusal(Array(octets[..<count])) != nil) }
        #expect(refusal(octets + [0]) != nil)
      }
    }
  }

  @Test func changedOctetsNeverTrapAndKeepOneSpelling() throws {
    var random = SeededGenerator(seed: 13)
    for vector in tempoVectors {
      let octets = try #require(HexData.parse(vector.encoded))
      for _ in 0..<400 {
        var changed = octets
        changed[Int.random(in: 0..<changed.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
        guard let decoded = try? SignedTempoTransaction(decoding: changed) else { continue }
        // Only a signature's last octet has other spellings, which the chain makes one of as well.
        if decoded.encoded != changed { #expect(decoded.encoded.dropLast() == changed.dropLast()) }
      }
    }
  }

  @Test func anEnvelopeNamesItsSender() throws {
    let signed = try #require(sample("sponsored")).signed(by: key)
    guard case .list(var fields) = try RLP.decode(Array(signed.envelope.dropFirst())) else { return }
    fields[11] = .address(b)
    #expect(refusal([0x78] + RLP.encode(.list(fields))) == .transaction(.wrongSender))
    fields[11] = .octets([])
    #expect(refusal([0x78] + RLP.encode(.list(fields))) == .rlpField(.wrongSize, index: 11))
    fields[11] = .octets([1])
    #expect(refusal([0x76] + RLP.encode(.list(fields))) == .rlpField(.wrongSize, index: 11))
  }

  @Test func otherSignatures() throws {
    let signed = try #require(sample("own fees")).signed(by: key)
    guard case .list(let fields) = try RLP.decode(Array(signed.encoded.dropFirst())) else { return }
    func decoded(_ signature: [UInt8]) throws -> SignedTempoTransaction {
      try SignedTempoTransaction(decoding: [0x76] + RLP.encode(.list(fields.dropLast() + [.octets(signature)])))
    }
    let keychain = try decoded([4] + b.bytes + [UInt8](repeating: 1, count: 65))
    #expect(keychain.sender == b && !keychain.isSenderProven)
    #expect(try SignedTempoTransaction(decoding: keychain.encoded) == keychain)
    let point = [UInt8](repeating: 9, count: 64)
    let p256 = try decoded([1] + [UInt8](repeating: 1, count: 64) + point + [0])
    #expect(p256.sender == Address(truncating: Keccak256.hash(point)) && !p256.isSenderProven)
    let webAuthn = try decoded([2] + [UInt8](repeating: 1, count: 200) + point)
    #expect(webAuthn.sender == p256.sender)
    for wrong in [[], [0], [4] + b.bytes, [1] + point + point, [2], [9] + [UInt8](repeating: 1, count: 80)] as [[UInt8]] {
      #expect(throws: EthereumError.transaction(.unknownSignature)) { try decoded(wrong) }
    }
  }

  @Test func anAccessKeysAuthorizationIsKept() throws {
    var transaction = try #require(sample("own fees"))
    transaction.keyAuthorization = .list([.list([.number(4217 as UInt64)]), .octets([1, 2, 3])])
    transaction.authorizationList = [.list([.number(1 as UInt64)])]
    let signed = transaction.signed(by: key)
    #expect(try SignedTempoTransaction(decoding: signed.encoded) == signed)
    #expect(transaction.signingDigest != sample("own fees")?.signingDigest)
  }

  @Test func whatIsCheckedWithoutTheChain() throws {
    let good = try #require(sample("window"))
    func refusal(_ change: (inout TempoTransaction) -> Void) -> EthereumError? {
      var transaction = good
      change(&transaction)
      do {
        try transaction.check(chainID: 4217)
        return nil
      } catch { return error }
    }
    #expect(refusal { _ in } == nil)
    #expect(refusal { $0.chainID = 1 } == .transaction(.wrongChain))
    #expect(refusal { $0.calls = [] } == .transaction(.noCalls))
    #expect(refusal { $0.calls[1].to = nil } == .transaction(.unexpectedCreation))
    #expect(refusal { $0.calls[0].to = nil } == nil)
    #expect(refusal { $0.nonce = .max } == .transaction(.nonceTooLarge))
    #expect(refusal { $0.maxFeePerGas = 1 } == .transaction(.priorityAboveFee))
    #expect(refusal { $0.gasLimit = 20_999 } == .transaction(.gasTooLow))
    #expect(refusal { $0.validAfter = $0.validBefore } == .transaction(.emptyWindow))
    #expect(refusal { $0.feeToken = pathUSD } == .transaction(.unexpectedFeeToken))
    #expect(good.maximumFee == 2_400_000_000_000_000)
    var chosen = good
    chosen.feeToken = pathUSD
    #expect(throws: EthereumError.transaction(.unexpectedFeeToken)) { try chosen.signed(by: key).sponsored(by: payer, feeToken: b) }
  }

  /// The channel's name does not change when the fee payer signs.
  @Test func theNameOfAChannelThatIsOpened() throws {
    let signed = try #require(sample("sponsored")).signed(by: key)
    let sponsored = try signed.sponsored(by: payer, feeToken: pathUSD)
    let hash = signed.transaction.expiringNonceHash(sender: signed.sender)
    #expect(hash == sponsored.transaction.expiringNonceHash(sender: sponsored.sender))
    #expect(hash != signed.transaction.expiringNonceHash(sender: b))
  }
}
