import Bytes
import Crypto
import Encoding
import Testing

@testable import Payments

@Suite struct InvoiceTests {
  static let challenge = Challenge(
    id: "6QDs0BmhrI_v67iWeCMvGqQJEFQ6ErWKlk7zi5xL6t0", realm: "api.example.com", method: "prepaid", intent: "charge",
    request: Base64URL.encode(Array(#"{"amount":"2000","currency":"usdc","recipient":"acme"}"#.utf8)), expires: nil, digest: nil,
    opaque: nil, selectsAlternateField: false, description: nil)

  static func offer(
    id: String = challenge.id, method: String = "prepaid", intent: String = "charge", amount: UInt128 = 2_000, currency: String = "usdc",
    recipient: String? = "acme", request: String = challenge.request
  ) -> Invoice.Offer {
    Invoice.Offer(
      id: id, method: method, intent: intent, amount: amount, currency: currency, recipient: recipient, request: SHA256.hash(request))
  }

  static func invoice(_ offers: [Invoice.Offer] = [offer()]) -> Invoice {
    Invoice(
      issuer: "https://api.example.com", issuedAt: noon, expires: noon + .seconds(300),
      resource: Resource(method: "POST", url: "https://api.example.com/x", digest: "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"),
      offers: offers)
  }

  private func verify(_ jws: String, issuer: String = "https://api.example.com", at now: Timestamp = noon) throws -> Invoice {
    let key = try signer().key.publicKey
    return try Invoice.verify(jws, issuer: issuer, at: now) { _ in key }
  }

  private func signed(_ invoice: Invoice) throws -> String { String(decoding: invoice.signed(by: try signer()), as: UTF8.self) }

  @Test func readsBack() throws {
    let invoice = try verify(signed(Self.invoice()))
    #expect(invoice == Self.invoice())
    #expect(throws: Never.self) { try invoice.check(Self.challenge) }
  }

  @Test func headerSaysWhatItIs() throws {
    let header = try JSON.parse(try #require(Base64URL.decode(String(signed(Self.invoice()).split(separator: ".")[0]))))
    #expect(header["alg"] == "EdDSA")
    #expect(header["typ"] == "payment-invoice+jwt")
    #expect(header["kid"]?.stringValue == (try signer()).kid)
  }

  @Test func refusesOtherIssuersTimesAndTypes() throws {
    let jws = try signed(Self.invoice())
    #expect(throws: PaymentError.malformed(.iss)) { try verify(jws, issuer: "https://evil.example.com") }
    #expect(throws: PaymentError.expired) { try verify(jws, at: noon + .seconds(300)) }
    #expect(throws: Never.self) { try verify(jws, at: noon + .seconds(299)) }
    let receipt = try serialised(#"{"alg":"EdDSA","kid":"k","typ":"other+jwt"}"#, String(decoding: JCS.serialize(.object(Self.invoice().json)), as: UTF8.self))
    #expect(throws: PaymentError.wrongType) { try verify(receipt) }
  }

  @Test func refusesWhatItDoesNotList() throws {
    let other = Base64URL.encode(Array(#"{"amount":"1","currency":"usdc","recipient":"acme"}"#.utf8))
    for (offer, error) in [
      (Self.offer(id: "else"), .challengeNotListed), (Self.offer(request: other), .challengeNotListed),
      (Self.offer(method: "tempo"), .offerMismatch(.method)), (Self.offer(intent: "session"), .offerMismatch(.intent)),
      (Self.offer(amount: 1), .offerMismatch(.amount)), (Self.offer(currency: "eur"), .offerMismatch(.currency)),
      (Self.offer(recipient: nil), .offerMismatch(.recipient)), (Self.offer(recipient: "else"), .offerMismatch(.recipient)),
    ] as [(Invoice.Offer, PaymentError)] {
      #expect(throws: error) { try Self.invoice([offer]).check(Self.challenge) }
    }
    #expect(throws: Never.self) { try Self.invoice([Self.offer(id: "else"), Self.offer()]).check(Self.challenge) }
  }

  @Test func everyCutAndMutationIsRefused() throws {
    let whole = try signed(Self.invoice())
    let invoice = Self.invoice()
    for end in 0..<whole.utf8.count { #expect(throws: PaymentError.self) { try verify(String(whole.prefix(end))) } }
    var generator = SeededGenerator(seed: 5)
    for _ in 0..<400 {
      var octets = Array(whole.utf8)
      octets[Int.random(in: octets.indices, using: &generator)] = UInt8.random(in: 0x2B...0x7A, using: &generator)
      let text = String(decoding: octets, as: UTF8.self)
      if text != whole { #expect(throws: PaymentError.self) { try verify(text) } }
    }
    #expect(try verify(whole) == invoice)
  }

  @Test(arguments: [
    (#"{"iss":"https://api.example.com","iat":1,"exp":9999999999,"resource":{"method":"GET","url":"u"}}"#, .missing(.offers)),
    (#"{"iss":"https://api.example.com","iat":1,"exp":9999999999,"resource":{"method":"GET","url":"u"},"offers":[]}"#, .malformed(.offers)),
    (#"{"iss":"https://api.example.com","iat":1,"exp":"1","resource":{"method":"GET","url":"u"},"offers":[{"id":"a","method":"m","intent":"i","amount":"1","currency":"c","request":"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"}]}"#, .malformed(.exp)),
    (#"{"iss":"https://api.example.com","iat":1,"exp":9999999999999,"resource":{"method":"GET","url":"u"},"offers":[{"id":"a","method":"m","intent":"i","amount":"1","currency":"c","request":"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"}]}"#, .malformed(.exp)),
    (#"{"iss":"https://api.example.com","iat":1,"exp":9999999999,"resource":{"method":"GET"},"offers":[{"id":"a","method":"m","intent":"i","amount":"1","currency":"c","request":"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"}]}"#, .missing(.url)),
    (#"{"iss":"https://api.example.com","iat":1,"exp":9999999999,"resource":{"method":"GET","url":"u"},"offers":[{"id":"a","method":"m","intent":"i","amount":1,"currency":"c","request":"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"}]}"#, .malformed(.amount)),
  ] as [(String, PaymentError)])
  func refusesClaims(payload: String, error: PaymentError) throws {
    let jws = try serialised(#"{"alg":"EdDSA","kid":"k","typ":"payment-invoice+jwt"}"#, payload)
    #expect(throws: error) { try verify(jws) }
  }

  /// Signs any header and payload.
  private func serialised(_ header: String, _ payload: String) throws -> String {
    let signed = Base64URL.encode(Array(header.utf8)) + "." + Base64URL.encode(Array(payload.utf8))
    return signed + "." + Base64URL.encode(try signer().key.sign(Array(signed.utf8)))
  }
}
