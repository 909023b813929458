import Bytes
import Crypto
import Testing

private let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
private let halfOrder = "7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0"
private let aboveHalf = "7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a1"
private let one = "0000000000000000000000000000000000000000000000000000000000000001"
private let zero = String(repeating: "0", count: 64)
private let belowOrder = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140"

private func digest(_ hex: String) throws -> Digest32 { try #require(Digest32(hex: hex)) }
private func key(_ hex: String) throws -> Secp256k1.SigningKey? {
  Secp256k1.SigningKey(secret: SecretBytes(try digest(hex).bytes))
}

@Suite struct Secp256k1Tests {
  /// The generator is the public key of the secret 1 (SEC 2, section 2.4.1).
  @Test func theSecretOneIsTheGenerator() throws {
    let generator = try #require(try key(one)).publicKey
    #expect(generator.x.hex == "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
    #expect(generator.y.hex == "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8")
    #expect(generator.bytes.count == 64)
    #expect(generator.keccak256.hex.hasSuffix("7e5f4552091a69125d5dfcb7b8c2659029395bdf"))
  }

  /// The widely used vectors of RFC 6979 on this curve: secret, text, signature.
  @Test(arguments: [
    (
      one, "Satoshi Nakamoto",
      "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8",
      "2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5"
    ),
    (
      belowOrder, "Satoshi Nakamoto",
      "fd567d121db66e382991534ada77a6bd3106f0a1098c231e47993447cd6af2d0",
      "6b39cd0eb1bc8603e159ef5c20a5c8ad685a45b06ce9bebed3f153d10d93bed5"
    ),
  ])
  func signaturesAreDeterministic(secret: String, message: String, r: String, s: String) throws {
    let key = try #require(try key(secret))
    let hash = SHA256.hash(message)
    let signature = try #require(key.sign(hash))
    #expect(signature.r.hex == r)
    #expect(signature.s.hex == s)
    #expect(signature == key.sign(hash))
    #expect(signature.recover(hash) == key.publicKey)
    #expect(signature.recover(SHA256.hash("another")) != key.publicKey)
  }

  @Test func whatIsNoSecretIsRefused() throws {
    #expect(try key(zero) == nil)
    #expect(try key(order) == nil)
    #expect(try key(String(repeating: "f", count: 64)) == nil)
    #expect(try key(belowOrder) != nil)
    #expect(Secp256k1.SigningKey(secret: SecretBytes([UInt8](repeating: 1, count: 31))) == nil)
    #expect(Secp256k1.SigningKey(secret: SecretBytes([UInt8](repeating: 1, count: 33))) == nil)
    #expect(Secp256k1.SigningKey(secret: SecretBytes([])) == nil)
  }

  private func refusal(_ r: String, _ s: String, _ identifier: UInt8 = 0) throws -> Secp256k1Error? {
    let (r, s) = (try digest(r), try digest(s))
    do {
      _ = try Secp256k1.Signature(r: r, s: s, recoveryIdentifier: identifier)
      return nil
    } catch { return error }
  }

  @Test func scalarsOutOfRangeAreRefused() throws {
    for bad in [zero, order, String(repeating: "f", count: 64)] {
      #expect(try refusal(bad, one) == .scalarOutOfRange)
      #expect(try refusal(one, bad) == .scalarOutOfRange)
    }
    #expect(try refusal(one, aboveHalf) == .highS)
    #expect(try refusal(one, belowOrder) == .highS)
    #expect(try refusal(one, one, 2) == .recoveryIdentifierOutOfRange)
    #expect(try refusal(one, one, 27) == .recoveryIdentifierOutOfRange)
    #expect(try refusal(belowOrder, halfOrder, 1) == nil)
    #expect(try refusal(one, one) == nil)
  }

  /// No point of the curve has the first coordinate 5.
  @Test func someSignaturesAreNobodys() throws {
    let signature = try Secp256k1.Signature(r: try digest(zero.dropLast() + "5"), s: try digest(one), recoveryIdentifier: 0)
    #expect(signature.recover(SHA256.hash("")) == nil)
  }

  @Test func drawnKeysSignAndRecover() throws {
    for index in 0..<20 {
      let key = Secp256k1.SigningKey.generate()
      let hash = SHA256.hash("\(index)")
      let signature = try #require(key.sign(hash))
      #expect(signature.recover(hash) == key.publicKey)
      let other = try Secp256k1.Signature(r: signature.r, s: signature.s, recoveryIdentifier: 1 - signature.recoveryIdentifier)
      #expect(other.recover(hash) != key.publicKey)
    }
  }

  @Test func threadsShareTheContext() async throws {
    let key = try #require(try key(belowOrder))
    let isRight = await withTaskGroup(of: Bool.self) { group in
      for index in 0..<8 {
        group.addTask {
          (0..<50).allSatisfy { round in
            let hash = SHA256.hash("\(index) \(round)")
            return key.sign(hash)?.recover(hash) == key.publicKey
          }
        }
      }
      return await group.reduce(true) { $0 && $1 }
    }
    #expect(isRight)
  }

  @Test func nothingOfTheSecretIsPrinted() throws {
    let key = try #require(try key("4242424242424242424242424242424242424242424242424242424242424242"))
    #expect("\(key)" == "<secret>")
    #expect(String(reflecting: key) == "<secret>")
    #expect(Mirror(reflecting: key).children.isEmpty)
  }
}
