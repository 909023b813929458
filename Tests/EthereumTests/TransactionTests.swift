import Bytes
import Crypto
import Ethereum
import Testing

private let a = Address(bytes: [UInt8](repeating: 0xAA, count: 20)) ?? .zero
private let b = Address(bytes: [UInt8](repeating: 0xBB, count: 20)) ?? .zero
private let access = [
  AccessListEntry(address: a, storageKeys: [SHA256.hash("key/0")]), AccessListEntry(address: b, storageKeys: []),
]

/// What eth-account was given for each vector.
private let samples: [String: Transaction] = [
  "dynamic fee": Transaction(
    chainID: 8453, nonce: 7, maxPriorityFeePerGas: 1_000_000_000, maxFeePerGas: 2_000_000_000, gasLimit: 90_000, to: a,
    data: Array((0..<3).flatMap { SHA256.hash("data/\($0)").bytes }[..<68])),
  "access list": Transaction(
    chainID: 1, nonce: 0, maxPriorityFeePerGas: 0, maxFeePerGas: 1 << 90, gasLimit: 1 << 40, to: b, value: Word256(high: 1 << 72, low: 0),
    data: [], accessList: access),
  "creation": Transaction(
    chainID: 1 << 53, nonce: 128, maxPriorityFeePerGas: 1, maxFeePerGas: 255, gasLimit: 1_000_000, to: nil, value: 1, data: [0x60, 0]),
  "type 1": Transaction(
    kind: .accessList, chainID: 137, nonce: 1, maxPriorityFeePerGas: 30_000_000_000, maxFeePerGas: 30_000_000_000, gasLimit: 50_000,
    to: a, value: 5, data: [0], accessList: access),
  "legacy": Transaction(
    kind: .legacy, chainID: 196, nonce: 9, maxPriorityFeePerGas: 20_000_000_000, maxFeePerGas: 20_000_000_000, gasLimit: 21_000,
    to: Address("0x3535353535353535353535353535353535353535"), value: 1_000_000_000_000_000_000, data: []),
]

private func refusal(_ octets: [UInt8]) -> EthereumError? {
  do {
    _ = try SignedTransaction(decoding: octets)
    return nil
  } catch { return error }
}

@Suite struct TransactionTests {
  @Test func transactionsOfEthAccount() throws {
    let key = try EthereumKey(keyFile: Array(typedDataKey.utf8))
    for vector in transactionVectors {
      let transaction = try #require(samples[vector.name])
      let signed = transaction.signed(by: key)
      #expect(HexData.text(signed.encoded) == vector.encoded, "\(vector.name)")
      #expect(HexData.text(signed.hash) == vector.hash, "\(vector.name)")
      let decoded = try SignedTransaction(decoding: try #require(HexData.parse(vector.encoded)))
      #expect(decoded == signed)
      #expect(decoded.transaction == transaction && decoded.sender == key.address)
      #expect(try SignedTransaction(transaction, signature: signed.signature) == signed)
    }
    #expect(transactionVectors.count == samples.count)
  }

  /// The example of EIP-155 itself.
  @Test func theExampleOfEIP155() throws {
    let key = try EthereumKey(keyFile: Array(String(repeating: "46", count: 32).utf8))
    let transaction = Transaction(
      kind: .legacy, chainID: 1, nonce: 9, maxPriorityFeePerGas: 20_000_000_000, maxFeePerGas: 20_000_000_000, gasLimit: 21_000,
      to: Address("0x3535353535353535353535353535353535353535"), value: 1_000_000_000_000_000_000, data: [])
    #expect(transaction.signingDigest.hex == "daf5a779ae972f972197303d7b574746c7ef83eadac0f2791ad23db92e4c8e53")
    #expect(
      HexData.text(transaction.signed(by: key).encoded)
        == "0xf86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a76400008025a028ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276a067cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83")
  }

  @Test func everyTruncationIsRefused() throws {
    for vector in transactionVectors {
      let octets = try #require(HexData.parse(vector.encoded))
      for count in 0..<octets.count { #expect(refusal(Array(octets[..<count])) != nil) }
      #expect(refusal(octets + [0]) != nil)
    }
  }

  /// Whatever is decoded is what it encodes to: there is no second spelling of a transaction.
  @Test func changedOctetsNeverTrapAndKeepOneSpelling() throws {
    var random = SeededGenerator(seed: 11)
    for vector in transactionVectors {
      let octets = try #require(HexData.parse(vector.encoded))
      for _ in 0..<400 {
        var changed = octets
        changed[Int.random(in: 0..<changed.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
        if let decoded = try? SignedTransaction(decoding: changed) { #expect(decoded.encoded == changed) }
      }
    }
  }

  @Test func otherKindsAreRefused() throws {
    #expect(refusal([]) == .transaction(.unknownType))
    #expect(refusal([3, 0xC0]) == .transaction(.unknownType))
    #expect(refusal([0x76, 0xC0]) == .transaction(.unknownType))
    #expect(refusal([2, 0xC0]) == .rlpField(.wrongCount, index: 0))
    #expect(refusal([2, 0x80]) == .rlpField(.wrongKind, index: 0))
    #expect(refusal([0xC0]) == .rlpField(.wrongCount, index: 0))
    // Before EIP-155 v was 27 or 28, and the transaction good on every chain.
    let vector = try #require(transactionVectors.first { $0.name == "legacy" })
    let legacy = try #require(HexData.parse(vector.encoded))
    guard case .list(var fields) = try RLP.decode(legacy) else { return }
    for v in [0, 27, 28, 35, 36] as [UInt64] {
      fields[6] = .number(v)
      #expect(refusal(RLP.encode(.list(fields))) == .transaction(.wrongChain))
    }
  }

  @Test func fieldsAreChecked() throws {
    let vector = try #require(transactionVectors.first { $0.name == "dynamic fee" })
    let octets = try #require(HexData.parse(vector.encoded))
    guard case .list(let fields) = try RLP.decode(Array(octets.dropFirst())) else { return }
    func changed(_ index: Int, _ item: RLPItem) -> [UInt8] {
      var fields = fields
      fields[index] = item
      return [2] + RLP.encode(.list(fields))
    }
    #expect(refusal(changed(0, .octets([0, 1]))) == .rlpField(.leadingZero, index: 0))
    #expect(refusal(changed(1, .octets([0]))) == .rlpField(.leadingZero, index: 1))
    #expect(refusal(changed(1, .number(UInt128(1) << 64))) == .rlpField(.wrongSize, index: 1))
    #expect(refusal(changed(3, .number(Word256.maximum))) == .rlpField(.wrongSize, index: 3))
    #expect(refusal(changed(5, .octets([1]))) == .rlpField(.wrongSize, index: 5))
    #expect(refusal(changed(6, .octets([UInt8](repeating: 1, count: 33)))) == .rlpField(.wrongSize, index: 6))
    #expect(refusal(changed(7, .list([]))) == .rlpField(.wrongKind, index: 7))
    #expect(refusal(changed(8, .octets([]))) == .rlpField(.wrongKind, index: 8))
    #expect(refusal(changed(9, .number(2 as UInt64))) == .malformedSignature)
    #expect(refusal(changed(10, .octets([]))) == .signatureOutOfRange)
    #expect(refusal(changed(11, .number(Word256.maximum))) == .signatureOutOfRange)
    let order = Word256(high: 0xFFFF_FFFF_FFFF_FFFF_FFFF_FFFF_FFFF_FFFE, low: 0xBAAE_DCE6_AF48_A03B_BFD2_5E8C_D036_4141)
    let s = try #require(fields[11].octetsValue.flatMap { Word256(bigEndian: $0) })
    let other = try #require(order.subtracting(s))
    #expect(refusal(changed(11, .number(other))) == .signatureHighS)
  }

  @Test func whatIsCheckedWithoutTheChain() throws {
    let good = try #require(samples["dynamic fee"])
    func refusal(_ change: (inout Transaction) -> Void) -> EthereumError? {
      var transaction = good
      change(&transaction)
      do {
        try transaction.check(chainID: 8453)
        return nil
      } catch { return error }
    }
    #expect(refusal { _ in } == nil)
    #expect(refusal { $0.chainID = 1 } == .transaction(.wrongChain))
    #expect(refusal { $0.nonce = .max } == .transaction(.nonceTooLarge))
    #expect(refusal { $0.maxPriorityFeePerGas = $0.maxFeePerGas + 1 } == .transaction(.priorityAboveFee))
    #expect(refusal { $0.gasLimit = $0.intrinsicGas - 1 } == .transaction(.gasTooLow))
    #expect(refusal { $0.gasLimit = $0.intrinsicGas } == nil)
  }

  @Test func gasBeforeATransactionRuns() throws {
    func gas(to: Address?, data: [UInt8], access: [AccessListEntry] = []) -> Transaction {
      Transaction(chainID: 1, nonce: 0, maxPriorityFeePerGas: 0, maxFeePerGas: 3, gasLimit: 5, to: to, value: 7, data: data, accessList: access)
    }
    #expect(gas(to: a, data: []).intrinsicGas == 21_000)
    #expect(gas(to: a, data: [0, 1, 2]).intrinsicGas == 21_036)
    #expect(gas(to: a, data: [0, 1, 2]).floorGas == 21_090)
    #expect(gas(to: nil, data: [UInt8](repeating: 1, count: 33)).intrinsicGas == 21_000 + 32_000 + 33 * 16 + 4)
    #expect(gas(to: a, data: [], access: access).intrinsicGas == 21_000 + 2 * 2400 + 1900)
    #expect(gas(to: a, data: []).maximumCost == 22)
    var dear = gas(to: a, data: [])
    dear.value = .maximum
    #expect(dear.maximumCost == nil)
  }
}
