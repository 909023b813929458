import Bytes
import Crypto
import Encoding
import Testing

@testable import Proxy

@Suite struct UsedNoncesTests {
  private static let noon = Timestamp(seconds: 1_800_000_000)

  private func nonce(_ number: Int) -> Digest32 { SHA256.hash("nonce \(number)") }

  @Test func aNonceIsUsedOnceAndForgottenAfterItsTime() {
    let nonces = UsedNonces(span: .seconds(600))
    #expect(nonces.use(nonce(1), at: Self.noon) && !nonces.use(nonce(1), at: Self.noon + .seconds(600)))
    #expect(nonces.use(nonce(1), at: Self.noon + .seconds(601)))
  }

  @Test func othersMakeNoneForgotten() {
    let nonces = UsedNonces(span: .seconds(600), limit: 3)
    for number in 0..<3 { #expect(nonces.use(nonce(number), at: Self.noon)) }
    #expect(!nonces.use(nonce(3), at: Self.noon) && !nonces.use(nonce(0), at: Self.noon))
    for number in 3..<9 { #expect(nonces.use(nonce(number), at: Self.noon + .seconds(Int64(700 * (number - 2))))) }
  }
}
