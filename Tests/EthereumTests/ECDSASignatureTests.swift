import Bytes
import Crypto
import Ethereum
import Testing

private let order: [UInt8] = HexData.parse("0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141") ?? []

private func refusal(_ octets: [UInt8]) -> EthereumError? {
  do {
    _ = try ECDSASignature(bytes: octets)
    return nil
  } catch { return error }
}

/// The order of the group less s.
private func complement(_ s: [UInt8]) -> [UInt8] {
  var (out, borrow) = ([UInt8](repeating: 0, count: 32), 0)
  for index in stride(from: 31, through: 0, by: -1) {
    let difference = Int(order[index]) - Int(s[index]) - borrow
    out[index] = UInt8(truncatingIfNeeded: difference)
    borrow = difference < 0 ? 1 : 0
  }
  return out
}

@Suite struct ECDSASignatureTests {
  @Test func signaturesOfEthAccount() throws {
    for vector in signatureVectors {
      let key = try EthereumKey(keyFile: Array(vector.secret.utf8))
      let digest = try #require(HexData.digest(vector.digest))
      let signature = try ECDSASignature(hex: vector.signature)
      #expect(key.address.checksummed == vector.address)
      #expect(key.sign(digest) == signature)
      #expect(signature.recover(digest) == key.address)
      #expect(signature.hex == vector.signature)
      #expect(signature.v == 27 || signature.v == 28)
    }
  }

  @Test func theFormsOfOneSignature() throws {
    for vector in signatureVectors {
      var octets = try #require(HexData.parse(vector.signature))
      let signature = try ECDSASignature(bytes: octets)
      #expect(try ECDSASignature(bytes: signature.compact) == signature)
      #expect(signature.compact.count == 64 && signature.bytes == octets)
      octets[64] -= 27
      #expect(try ECDSASignature(bytes: octets) == signature)
      #expect(try ECDSASignature(hex: HexData.text(signature.compact)) == signature)
      for last in UInt8.min...UInt8.max where ![0, 1, 27, 28].contains(last) {
        octets[64] = last
        #expect(refusal(octets) == .malformedSignature)
      }
    }
  }

  /// The examples of EIP-2098.
  @Test func theExamplesOfEIP2098() throws {
    let key = try EthereumKey(keyFile: Array("0x1234567890123456789012345678901234567890123456789012345678901234".utf8))
    let hello = key.sign(TypedData.personalMessage("Hello World"))
    #expect(HexData.text(hello.compact) == "0x68a020a209d3d56c46f38cc50a33f704f4a9a10a59377f8dd762ac66910e9b907e865ad05c4035ab5792787d4a0297a43617ae897930a6fe4d822b8faea52064")
    #expect(hello.v == 27)
    let small = key.sign(TypedData.personalMessage("It's a small(er) world"))
    #expect(HexData.text(small.compact) == "0x9328da16089fcba9bececa81663203989f2df5fe1faa6291a45381c81bd17f76939c6d6b623b42da56557e5e734a43dc83345ddfadec52cbe24d0cc64f550793")
    #expect(small.v == 28)
  }

  @Test func malleableSignaturesAreRefused() throws {
    let octets = try #require(HexData.parse(signatureVectors[0].signature))
    let (r, s, v) = (Array(octets[..<32]), Array(octets[32..<64]), octets[64])
    #expect(refusal(r + complement(s) + [v == 27 ? 28 : 27]) == .signatureHighS)
    #expect(refusal(r + order + [27]) == .signatureOutOfRange)
    #expect(refusal(order + s + [27]) == .signatureOutOfRange)
    #expect(refusal([UInt8](repeating: 0, count: 32) + s + [27]) == .signatureOutOfRange)
    #expect(refusal(r + [UInt8](repeating: 0, count: 33)) == .signatureOutOfRange)
    #expect(refusal(order + s) == .signatureOutOfRange)
  }

  @Test func otherCountsAreRefused() throws {
    let octets = try #require(HexData.parse(signatureVectors[0].signature))
    for count in 0...70 where count != 64 && count != 65 {
      #expect(refusal(Array((octets + octets)[..<count])) == .malformedSignature)
    }
    #expect(throws: EthereumError.malformedHexadecimal) { try ECDSASignature(hex: "0x1") }
    #expect(throws: EthereumError.malformedHexadecimal) { try ECDSASignature(hex: String(signatureVectors[0].signature.dropFirst(2))) }
    #expect(throws: EthereumError.malformedSignature) { try ECDSASignature(hex: "0x") }
    #expect(throws: EthereumError.malformedHexadecimal) { try ECDSASignature(hex: signatureVectors[0].signature.dropLast(2) + "zz") }
  }

  @Test func keyFiles() throws {
    let digits = String(signatureVectors[0].secret.dropFirst(2))
    let address = signatureVectors[0].address
    for text in [digits, "0x" + digits, digits + "\n", "0x" + digits + "\n", digits.uppercased()] {
      #expect(try EthereumKey(keyFile: Array(text.utf8)).address.checksummed == address)
    }
    for text in ["", "\n", "0x", digits + "\n\n", digits + "\r\n", " " + digits, digits + " ", digits.dropLast() + "g", digits + "00", "0x0x" + digits, "\n" + digits] {
      #expect(throws: EthereumError.malformedKeyFile) { try EthereumKey(keyFile: Array(text.utf8)) }
    }
    for text in [String(repeating: "0", count: 64), String(repeating: "f", count: 64)] {
      #expect(throws: EthereumError.keyOutOfRange) { try EthereumKey(keyFile: Array(text.utf8)) }
    }
    let key = EthereumKey.generate()
    #expect("\(key)" == "<secret>" && String(reflecting: key) == "<secret>" && Mirror(reflecting: key).children.isEmpty)
    #expect(key.sign(Digest32()).recover(Digest32()) == key.address)
  }
}
