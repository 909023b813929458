import Bytes
import Crypto
import Encoding
import Methods
import Testing

private let secret = SessionSecret.generate()

private func parse(_ text: String) throws(PrepaidError) -> (session: Digest32, secret: SessionSecret) {
  let octets = Array(text.utf8)
  let result: Result<(session: Digest32, secret: SessionSecret), PrepaidError> = octets.withUnsafeBytes { raw in
    do throws(PrepaidError) { return .success(try PrepaidSessionField.parse(raw)) } catch { return .failure(error) }
  }
  return try result.get()
}

@Suite struct PrepaidSessionFieldTests {
  @Test func readsWhatItPrints() throws {
    let parsed = try parse(PrepaidSessionField.print(secret))
    #expect(parsed.session == secret.id)
    #expect(parsed.secret.id == secret.id)
    #expect(parsed.secret.opens(parsed.session))
    #expect(!parsed.secret.opens(SessionSecret.generate().id))
  }

  @Test func spacesAroundTheSemicolonAreFree() throws {
    for text in ["\(secret.id.hex);key=\(secret.hex)", "\(secret.id.hex) ;\tkey=\(secret.hex)"] {
      #expect(try parse(text).session == secret.id)
    }
  }

  @Test func everyOtherSpellingIsRefused() {
    let id = secret.id.hex
    let refused = [
      "", id, "\(id);", "\(id); key=", "\(id); key=\(secret.hex)0", "\(id); key=\(secret.hex.dropLast())", "\(id), key=\(secret.hex)",
      "\(id); KEY=\(secret.hex)", "\(id); key=\"\(secret.hex)\"", "\(id); key=\(secret.hex); key=\(secret.hex)",
      "\(id.uppercased() == id ? "G" + id.dropFirst() : id.uppercased()); key=\(secret.hex)", "0\(id); key=\(secret.hex)",
      " \(id); key=\(secret.hex)", "\(id); key=\(String(repeating: "g", count: 64))",
    ]
    for text in refused {
      #expect(throws: PrepaidError.malformedField) { _ = try parse(text) }
    }
  }

  @Test func everyCutIsRefused() {
    let text = PrepaidSessionField.print(secret)
    for count in 0..<text.utf8.count {
      #expect(throws: PrepaidError.malformedField) { _ = try parse(String(text.prefix(count))) }
    }
  }

  @Test func neverPrintsItself() {
    #expect(!"\(secret)".contains(secret.hex))
    #expect(!String(reflecting: secret).contains(secret.hex))
    var dumped = ""
    dump(secret, to: &dumped)
    #expect(!dumped.contains(secret.hex))
  }

  @Test func secretsAreThirtyTwoOctets() {
    #expect(SessionSecret(octets: [UInt8](repeating: 1, count: 31)) == nil)
    #expect(SessionSecret(hex: String(repeating: "A", count: 64)) == nil)
    // SHA-256 of 32 zero octets.
    #expect(
      SessionSecret(octets: [UInt8](repeating: 0, count: 32))?.id.hex
        == "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925")
  }
}
