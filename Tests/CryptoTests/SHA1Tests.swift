import Crypto
import Encoding
import Testing

@Suite struct SHA1Tests {
  /// The example of RFC 6455 section 1.3, and FIPS 180-4's of nothing.
  @Test func knowsItsVectors() {
    let text = "dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    #expect(Base64.encode(SHA1.hash(Array(text.utf8))) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    #expect(Base64.encode(SHA1.hash([])) == "2jmj7l5rSw0yVb/vlWAYkK/YBwk=")
  }
}
