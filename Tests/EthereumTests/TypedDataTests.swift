import Bytes
import Crypto
import Ethereum
import Testing

private func address(_ text: String) throws -> Address { try #require(Address(text)) }
private func drawn(_ name: String) -> Digest32 { SHA256.hash(name + "/0") }

@Suite struct TypedDataTests {
  /// What each vector's domain and struct must hash to, built with this module.
  private func message(_ name: String) throws -> (TypedData.Domain, Digest32) {
    let person = TypedData.typeHash("Person(string name,address wallet)")
    func personHash(_ name: String, _ wallet: String) throws -> Digest32 {
      var hash = TypedData.StructHash(person)
      hash.append(string: name)
      hash.append(try address(wallet))
      return hash.finalize()
    }
    let usdc = TypedData.Domain(
      name: "USD Coin", version: "2", chainID: 8453, verifyingContract: try address("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"))
    let authorization = EIP3009.Authorization(
      from: try address(typedDataSigner), to: try address("0x00000000000000000000000000000000000000aa"), value: 1_000_000,
      validAfter: 0, validBefore: 1_800_000_000, nonce: drawn("nonce"))
    switch name {
    case "mail":
      let domain = TypedData.Domain(
        name: "Ether Mail", version: "1", chainID: 1, verifyingContract: try address("0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC"))
      let type = TypedData.typeHash("Mail(Person from,Person to,string contents)Person(string name,address wallet)")
      #expect(type.hex == "a0cedeb2dc280ba39b857546d74f5549c3a1d7bdc2dd96bf881f76108e23dac2")
      return (
        domain,
        TypedData.hashStruct(
          type, try personHash("Cow", "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"),
          try personHash("Bob", "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"), Keccak256.hash("Hello, Bob!"))
      )
    case "TransferWithAuthorization": return (usdc, authorization.structHash(EIP3009.transferTypeHash))
    case "ReceiveWithAuthorization": return (usdc, authorization.structHash(EIP3009.receiveTypeHash))
    case "voucher":
      let domain = TypedData.Domain(
        name: "EVM Payment Channel", version: "1", chainID: 196, verifyingContract: try address("0x1234567890123456789012345678901234567890"))
      var hash = TypedData.StructHash(TypedData.typeHash("Voucher(bytes32 channelId,uint128 cumulativeAmount)"))
      hash.append(drawn("channel"))
      hash.append(UInt128(250_000))
      return (domain, hash.finalize())
    case "arrays":
      var hash = TypedData.StructHash(
        TypedData.typeHash(
          "Group(Person[] members,string[] names,uint256[] numbers,bytes blob,bool open)Person(string name,address wallet)"))
      hash.append(elements: [
        try personHash("Cow", "0x1111111111111111111111111111111111111111"), try personHash("Bob", "0x2222222222222222222222222222222222222222"),
      ])
      hash.append(elements: [Keccak256.hash("a"), Keccak256.hash("bc")])
      hash.append(elements: [Word256(1 as UInt64).octets, Word256(high: 1 << 127, low: 0).octets])
      hash.append(bytes: Array((0..<3).flatMap { SHA256.hash("blob/\($0)").bytes }[..<70]))
      hash.append(true)
      return (TypedData.Domain(name: "salted", salt: drawn("salt")), hash.finalize())
    case "proof":
      var hash = TypedData.StructHash(TypedData.typeHash("Proof(string challengeId)"))
      hash.append(string: "kM9xPqWvT2nJrHsY4aDfEb")
      return (TypedData.Domain(name: "MPP", version: "1", chainID: 4217), hash.finalize())
    default: return (TypedData.Domain(), Digest32())
    }
  }

  @Test func messagesSignedByEthAccount() throws {
    var names = Set<String>()
    for vector in typedDataVectors where vector.name != "exact" && vector.name != "upto" {
      let (domain, structHash) = try message(vector.name)
      let signature = try ECDSASignature(hex: vector.signature)
      #expect(HexData.text(domain.separator) == vector.separator, "\(vector.name)")
      #expect(HexData.text(structHash) == vector.structHash, "\(vector.name)")
      let digest = domain.prepared.digest(structHash)
      #expect(HexData.text(digest) == vector.digest)
      #expect(signature.recover(digest)?.checksummed == typedDataSigner)
      names.insert(vector.name)
    }
    #expect(names.count == 6)
  }

  /// The digest that EIP-712 itself prints.
  @Test func theExampleOfEIP712() throws {
    let (domain, structHash) = try message("mail")
    #expect(domain.separator.hex == "f2cee375fa42b42143804025fc449deafd50cc031ca257e0b194a650a912090f")
    #expect(domain.prepared.digest(structHash).hex == "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2")
  }

  @Test func theTypeOfADomainNamesItsMembers() {
    #expect(TypedData.Domain().encodedType == "EIP712Domain()")
    #expect(
      TypedData.Domain(name: "", version: "", chainID: 0, verifyingContract: .zero, salt: Digest32()).encodedType
        == "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)")
    #expect(TypedData.Domain(chainID: 1, salt: Digest32()).encodedType == "EIP712Domain(uint256 chainId,bytes32 salt)")
  }

  @Test func personalMessages() {
    #expect(HexData.text(TypedData.personalMessage("Günther pays 5 €")) == personalMessageDigest)
  }
}
