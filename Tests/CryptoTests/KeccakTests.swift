import Bytes
import Crypto
import Encoding
import Testing

@Suite struct KeccakTests {
  /// From the reference's ShortMsgKAT_256, and what Ethereum's documents name.
  @Test(arguments: [
    ("", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
    ("cc", "eead6dbfc7340a56caedc044696a168870549a6a7f6f56961e84a54bd9970b8a"),
    ("41fb", "a8eaceda4d47b3281a795ad9e1ea2122b407baf9aabcb9e18b5717b7873537d2"),
    ("1f877c", "627d7bc1491b2ab127282827b8de2d276b13d7d70fb4c5957fdf20655bc7ac30"),
    ("c1ecfdfc", "b149e766d7612eaf7d55f74e1a4fdd63709a8115b14f61fcd22aa4abc8b8e122"),
    ("9f2fcc7c90de090d6b87cd7e9718c1ea6cb21118fc2d5de9f97e5db6ac1e9c10", "24dd2ee02482144f539f810d2caa8a7b75d0fa33657e47932122d273c3f6f6d1"),
  ])
  func publishedVectors(message: String, digest: String) throws {
    let octets = try #require(Hex.decode(message))
    #expect(Keccak256.hash(octets).hex == digest)
  }

  @Test func signaturesOfKnownFunctionsAndEvents() {
    #expect(Keccak256.hash("transfer(address,uint256)").hex.hasPrefix("a9059cbb"))
    #expect(
      Keccak256.hash("Transfer(address,address,uint256)").hex
        == "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")
    // The root of an empty trie: the hash of the RLP of nothing.
    #expect(Keccak256.hash([0x80]).hex == "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421")
  }

  @Test func everyCountUpTo300() {
    let message = (0..<300).map { UInt8($0 % 251) }
    var prefixes = ""
    for count in 0...300 {
      prefixes += Keccak256.hash(Array(message[..<count])).hex.prefix(16)
    }
    #expect(prefixes == keccakPrefixes)
  }

  @Test func splittingAnywhereChangesNothing() {
    let message = (0..<300).map { UInt8($0 % 251) }
    let whole = Keccak256.hash(message)
    for split in 0...300 {
      var hash = Keccak256()
      hash.update(Array(message[..<split]))
      let early = hash
      hash.update(Array(message[split...]))
      #expect(hash.finalize() == whole)
      #expect(early.finalize() == Keccak256.hash(Array(message[..<split])))
    }
    var hash = Keccak256()
    for octet in message { hash.update(byte: octet) }
    #expect(hash.finalize() == whole)
    // A value goes on after its end was read.
    hash.update(byte: 0)
    #expect(hash.finalize() == Keccak256.hash(message + [0]))
  }

  @Test func aMillionOctets() {
    let chunk = [UInt8](repeating: 0x61, count: 1000)
    var hash = Keccak256()
    for _ in 0..<1000 { hash.update(chunk) }
    #expect(hash.finalize().hex == "fadae6b49f129bbb812be8407b7b2894f34aecf6dbd1f9b0f0c7e9853098fc96")
  }

  @Test func theFormsOfInputAgree() {
    let text = "Grüße, Bob!"
    var buffer = ByteBuffer()
    buffer.append(text)
    var hash = Keccak256()
    hash.update(text)
    hash.update(Digest32())
    #expect(Keccak256.hash(text) == Keccak256.hash(Array(text.utf8)))
    #expect(Keccak256.hash(buffer) == Keccak256.hash(text))
    #expect(hash.finalize() == Keccak256.hash(Array(text.utf8) + [UInt8](repeating: 0, count: 32)))
  }
}
