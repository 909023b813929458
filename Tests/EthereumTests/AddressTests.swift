import Bytes
import Ethereum
import Testing

/// The examples of EIP-55.
private let checksummed = [
  "0x52908400098527886E0F7030069857D2E4169EE7", "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
  "0xde709f2102306220921060314715629080e2fb77", "0x27b1fdb04752bbc536007a920d24acb045561c26",
  "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
  "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB", "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]

private func refusal(_ text: String, checksum: Address.Checksum = .whereMixed) -> EthereumError? {
  do {
    _ = try Address(text: text, checksum: checksum)
    return nil
  } catch { return error }
}

@Suite struct AddressTests {
  @Test(arguments: checksummed)
  func theExamplesOfEIP55(text: String) throws {
    let address = try #require(Address(text))
    #expect(address.checksummed == text)
    #expect(address.description == text)
    #expect(address.lowercase == text.lowercased())
    #expect(Address(text.lowercased()) == address)
    #expect(Address("0x" + text.dropFirst(2).uppercased()) == address)
    #expect(Address(bytes: address.bytes) == address)
    var buffer = ByteBuffer()
    buffer.append(address)
    #expect(buffer.string() == text.lowercased())
  }

  @Test func oneWrongCaseIsRefused() {
    let text = Array("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")
    for index in 2..<text.count where text[index].isLetter {
      var wrong = text
      wrong[index] = wrong[index].isUppercase ? Character(wrong[index].lowercased()) : Character(wrong[index].uppercased())
      #expect(refusal(String(wrong)) == .addressChecksumMismatch)
      #expect(refusal(String(wrong), checksum: .ignored) == nil)
      #expect(Address(String(wrong)) == nil)
    }
  }

  @Test func otherTextsAreRefused() {
    let digits = String(repeating: "1", count: 40)
    for text in ["", "0x", digits, "0X" + digits, "0x" + digits.dropLast(), "0x" + digits + "1", " 0x" + digits, "0x" + digits.dropLast() + "g", "0x" + digits.dropLast() + "é"] {
      #expect(refusal(text) == .malformedAddress)
      #expect(refusal(text, checksum: .ignored) == .malformedAddress)
    }
    for octet in UInt8.min...UInt8.max {
      let text = Array("0x".utf8) + Array(digits.dropLast().utf8) + [octet]
      let isDigit = (0x30...0x39).contains(octet) || (0x41...0x46).contains(octet) || (0x61...0x66).contains(octet)
      let address = text.withUnsafeBytes { try? Address(text: $0) }
      #expect((address != nil) == isDigit)
    }
  }

  @Test func octetsAreCompared() throws {
    let one = try #require(Address("0x0000000000000000000000000000000000000001"))
    #expect(!one.isZero && Address.zero.isZero)
    #expect(one != .zero && one.hashValue != Address.zero.hashValue)
    for index in 0..<20 {
      var octets = [UInt8](repeating: 0, count: 20)
      octets[index] = 1
      #expect(Address(bytes: octets) != .zero)
    }
    #expect(Address(bytes: [UInt8](repeating: 0, count: 19)) == nil)
    #expect(Address(bytes: [UInt8](repeating: 0, count: 21)) == nil)
  }
}
