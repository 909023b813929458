import Bytes
import Crypto
import Ethereum
import Testing

private let a = Address(bytes: [UInt8](repeating: 0xAA, count: 20)) ?? .zero
private let b = Address(bytes: [UInt8](repeating: 0xBB, count: 20)) ?? .zero
private let payment = ABIType.tuple([.address, .uint256])

private func drawn(_ name: String, _ count: Int) -> [UInt8] {
  Array((0...count / 32).flatMap { SHA256.hash("\(name)/\($0)").bytes }[..<count])
}

/// The types and values of each vector.
private let samples: [String: ([ABIType], [ABIValue])] = [
  "static": (
    [.uint256, .address, .bool, .bytes32, .uint(8)],
    [.uint(.maximum), .address(a), .bool(true), .fixedBytes(SHA256.hash("word/0")), .uint(27 as UInt64)]
  ),
  "dynamic": ([.bytes, .string, .uint256], [.bytes(drawn("bytes", 33)), .string("grüße"), .uint(5 as UInt64)]),
  "empty": ([.bytes, .string, .array(.uint256)], [.bytes([]), .string(""), .array([])]),
  "arrays": (
    [.array(.uint256), .array(payment)],
    [
      .array([.uint(1 as UInt64), .uint(2 as UInt64), .uint(3 as UInt64)]),
      .array([.tuple([.address(a), .uint(1 as UInt64)]), .tuple([.address(b), .uint(2 as UInt64)])]),
    ]
  ),
  "nested": (
    [.tuple([.array(payment), .uint256, .uint256]), .array(.tuple([.address, .bytes])), .string],
    [
      .tuple([
        .array([.tuple([.address(a), .uint(1 as UInt64)]), .tuple([.address(b), .uint(2 as UInt64)])]), .uint(3 as UInt64), .uint(4 as UInt64),
      ]),
      .array([.tuple([.address(a), .bytes([0x78])]), .tuple([.address(b), .bytes(drawn("bytes", 64))])]), .string("end"),
    ]
  ),
  "static tuple": (
    [.tuple([payment, .uint256, .uint256]), .bytes],
    [.tuple([.tuple([.address(a), .uint(1 as UInt64)]), .uint(2 as UInt64), .uint(3 as UInt64)]), .bytes(Array("sig".utf8))]
  ),
]

private func refusal(_ data: [UInt8], _ types: [ABIType], _ form: ABI.Form = .canonical) -> EthereumError? {
  do {
    _ = try ABI.decode(data, as: types, form: form)
    return nil
  } catch { return error }
}

private func word(_ value: UInt64) -> [UInt8] { Word256(value).octets.bytes }

@Suite struct ABITests {
  @Test func encodingsOfEthABI() throws {
    for vector in abiVectors {
      let (types, values) = try #require(samples[vector.name])
      let data = try #require(HexData.parse(vector.encoding))
      #expect(HexData.text(ABI.encode(values)) == vector.encoding, "\(vector.name)")
      #expect(try ABI.decode(data, as: types) == values)
      #expect(try ABI.decode(data, as: types, form: .bounded) == values)
      #expect(try ABI.decode(data + [0], as: types, form: .bounded) == values)
      #expect(refusal(data + [0], types) != nil)
    }
    #expect(abiVectors.count == samples.count)
  }

  @Test func everyTruncationIsRefused() throws {
    for vector in abiVectors {
      let (types, _) = try #require(samples[vector.name])
      let data = try #require(HexData.parse(vector.encoding))
      for count in 0..<data.count {
        #expect(refusal(Array(data[..<count]), types) != nil, "\(vector.name) \(count)")
      }
    }
  }

  /// Whatever is decoded as canonical is what its values encode to.
  @Test func changedOctetsNeverTrapAndKeepOneSpelling() throws {
    var random = SeededGenerator(seed: 5)
    for vector in abiVectors {
      let (types, _) = try #require(samples[vector.name])
      let data = try #require(HexData.parse(vector.encoding))
      for _ in 0..<2000 {
        var changed = data
        for _ in 0..<Int.random(in: 1...3, using: &random) {
          changed[Int.random(in: 0..<changed.count, using: &random)] = [0, 1, 0x20, 0x40, 0xFF, UInt8.random(in: 0...255, using: &random)].randomElement(using: &random) ?? 0
        }
        if let values = try? ABI.decode(changed, as: types) { #expect(ABI.encode(values) == changed) }
        _ = try? ABI.decode(changed, as: types, form: .bounded)
      }
    }
  }

  @Test func paddingOffsetsAndCountsAreChecked() {
    #expect(refusal([1] + word(1).dropFirst(), [.address]) == .abi(.dirtyPadding, offset: 0))
    #expect(refusal(word(2), [.bool]) == .abi(.dirtyPadding, offset: 0))
    #expect(refusal(word(256), [.uint(8)]) == .abi(.dirtyPadding, offset: 0))
    #expect(refusal(word(255), [.uint(8)]) == nil)
    #expect(refusal(word(1), [.fixedBytes(4)]) == .abi(.dirtyPadding, offset: 0))
    #expect(refusal([], [.bool]) == .abi(.unexpectedEnd, offset: 0))
    #expect(refusal(word(64) + word(0), [.bytes]) == .abi(.notCanonical, offset: 0))
    #expect(refusal(word(96) + word(0), [.bytes], .bounded) == .abi(.outOfBounds, offset: 0))
    #expect(refusal(word(64) + word(0), [.bytes], .bounded) == .abi(.unexpectedEnd, offset: 64))
    #expect(refusal(Word256.maximum.octets.bytes + word(0), [.bytes], .bounded) == .abi(.outOfBounds, offset: 0))
    #expect(refusal(word(32) + Word256.maximum.octets.bytes, [.bytes]) == .abi(.outOfBounds, offset: 32))
    #expect(refusal(word(32) + word(1) + [1, 1] + [UInt8](repeating: 0, count: 30), [.bytes]) == .abi(.dirtyPadding, offset: 65))
    #expect(refusal(word(32) + word(1) + [0xFF] + [UInt8](repeating: 0, count: 31), [.string]) == .abi(.malformedUTF8, offset: 32))
    #expect(refusal(word(32) + word(2) + word(1), [.array(.uint256)]) == .abi(.outOfBounds, offset: 32))
    #expect(refusal(word(0), [.bytes], .bounded) == nil, "an offset to itself is a count of zero")
  }

  @Test func valuesAreLimited() throws {
    let many = ABI.encode([.array(Array(repeating: .uint(1 as UInt64), count: 100))])
    let limits = ABI.Limits(octets: many.count, values: 50)
    #expect(throws: EthereumError.abi(.tooLarge, offset: 32)) { try ABI.decode(many, as: [.array(.uint256)], limits: limits) }
    #expect(throws: EthereumError.abi(.tooLarge, offset: 10)) {
      try ABI.decode(many, as: [.array(.uint256)], limits: ABI.Limits(octets: 10, values: 50))
    }
    // A thousand offsets to one text of a thousand octets would make a megaoctet of it.
    var data = word(32) + word(1000)
    for _ in 0..<1000 { data += word(32_000) }
    data += word(1000) + [UInt8](repeating: 0x61, count: 1024)
    #expect(throws: EthereumError.self) { try ABI.decode(data, as: [.array(.string)], form: .bounded) }
  }

  @Test func signaturesAndSelectors() {
    #expect(ERC20.transfer.signature == "transfer(address,uint256)")
    #expect(ERC20.transfer.selector.number == 0xa905_9cbb)
    #expect(ERC20.transferFrom.selector.number == 0x23b8_72dd)
    #expect(ERC20.approve.selector.number == 0x095e_a7b3)
    #expect(ERC20.balanceOf.selector.number == 0x70a0_8231)
    #expect(ERC20.allowance.selector.number == 0xdd62_ed3e)
    #expect(ERC20.decimals.selector.number == 0x313c_e567)
    #expect(ERC20.name.selector.number == 0x06fd_de03)
    #expect(ERC20.version.selector.number == 0x54fd_4d50)
    #expect(ERC20.domainSeparator.selector.number == 0x3644_e515)
    #expect(ERC20.transferWithMemo.selector.number == 0x9577_7d59)
    #expect(EIP3009.transferWithAuthorization.selector.number == 0xe3ee_160e)
    #expect(EIP3009.transferWithAuthorizationBytes.selector.number == 0xcf09_2995)
    #expect(EIP3009.receiveWithAuthorization.selector.number == 0xef55_bec6)
    #expect(EIP3009.receiveWithAuthorizationBytes.selector.number == 0x88b7_ab63)
    #expect(EIP3009.authorizationState.selector.number == 0xe94a_0102)
    #expect(EIP2612.permit.selector.number == 0xd505_accf)
    #expect(EIP2612.nonces.selector.number == 0x7ece_be00)
    #expect(ERC1271.isValidSignature.selector.number == 0x1626_ba7e)
    #expect(RevertReason.messageFunction.selector.number == 0x08c3_79a0)
    #expect(RevertReason.panicFunction.selector.number == 0x4e48_7b71)
  }

  @Test func callsAndTheirArguments() throws {
    let call = ERC20.transfer(to: a, value: 1000)
    #expect(HexData.text(call) == "0xa9059cbb" + String(repeating: "0", count: 24) + String(repeating: "aa", count: 20) + String(repeating: "0", count: 61) + "3e8")
    #expect(try ERC20.transfer.arguments(of: call) == [.address(a), .uint(1000 as UInt64)])
    #expect(throws: EthereumError.abi(.wrongSelector, offset: 0)) { try ERC20.approve.arguments(of: call) }
    #expect(throws: EthereumError.abi(.wrongSelector, offset: 0)) { try ERC20.approve.arguments(of: [9, 5]) }
    #expect(throws: EthereumError.abi(.notCanonical, offset: 64)) { try ERC20.transfer.arguments(of: call + [0]) }
    #expect(throws: EthereumError.abi(.wrongTypes, offset: 0)) { try ERC20.transfer.call(with: [.address(a)]) }
    #expect(throws: EthereumError.abi(.wrongTypes, offset: 0)) { try ERC20.transfer.call(with: [.uint(1 as UInt64), .address(a)]) }
    #expect(try ERC20.transfer.call(with: [.address(a), .uint(1000 as UInt64)]) == call)
    #expect(try ERC20.decimals.results(of: word(6)) == [.uint(6 as UInt64)])
  }

  @Test func reasonsOfReverts() throws {
    #expect(RevertReason([]) == .none)
    #expect(RevertReason([1, 2, 3]) == .none)
    #expect(RevertReason(try RevertReason.messageFunction.call(with: [.string("no funds")])) == .message("no funds"))
    #expect(RevertReason(try RevertReason.panicFunction.call(with: [.uint(0x11 as UInt64)])) == .panic(0x11))
    #expect(RevertReason([1, 2, 3, 4, 5]) == .custom(Selector(0x0102_0304), [5]))
    #expect(RevertReason([0x08, 0xc3, 0x79, 0xa0, 5]) == .custom(Selector(0x08c3_79a0), [5]))
  }

  @Test func whatContractsSayOfSignatures() {
    #expect(ERC1271.isValid([0x16, 0x26, 0xba, 0x7e] + [UInt8](repeating: 0, count: 28)))
    #expect(!ERC1271.isValid([0x16, 0x26, 0xba, 0x7e]))
    #expect(!ERC1271.isValid([0xff, 0xff, 0xff, 0xff] + [UInt8](repeating: 0, count: 28)))
    #expect(!ERC1271.isValid([0x16, 0x26, 0xba, 0x7e] + [UInt8](repeating: 1, count: 28)))
    #expect(!ERC1271.isValid([]))
  }
}
