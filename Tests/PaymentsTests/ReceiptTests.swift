import Bytes
import Crypto
import Encoding
import Testing

@testable import Payments

@Suite struct ReceiptTests {
  let session = Receipt.Session(id: SHA256.hash("secret").hex, spent: 4_860, remaining: 140, units: 1_000_000)
  let log = Receipt.LogPosition(size: 9_007_199_254_740_993, root: SHA256.hash("root"))

  func receipt(_ session: Receipt.Session? = nil) -> Receipt {
    Receipt(
      method: "prepaid", intent: session == nil ? "charge" : "session", timestamp: noon, reference: session?.id ?? "17",
      challengeID: "6QDs0BmhrI_v67iWeCMvGqQJEFQ6ErWKlk7zi5xL6t0", amount: .max, currency: "usdc", recipient: "acme",
      resource: Resource(method: "GET", url: "https://api.example.com/a?b=\"c\""), session: session)
  }

  private func text(_ receipt: Receipt) -> String { String(decoding: receipt.encoded, as: UTF8.self) }

  private func json(_ receipt: Receipt) throws -> String {
    String(decoding: try #require(Base64URL.decode(text(receipt))), as: UTF8.self)
  }

  @Test func chargeIsCanonical() throws {
    #expect(try json(receipt()) == #"{"amount":"340282366920938463463374607431768211455","challengeId":"6QDs0BmhrI_v67iWeCMvGqQJEFQ6ErWKlk7zi5xL6t0","currency":"usdc","intent":"charge","method":"prepaid","recipient":"acme","reference":"17","resource":{"method":"GET","url":"https://api.example.com/a?b=\"c\""},"status":"success","timestamp":"2026-11-21T12:00:00Z"}"#)
  }

  @Test func everyFormIsJCSWithoutNulls() throws {
    for receipt in [receipt(), receipt(session), receipt().signed(by: try signer(), log: log), receipt(session).signed(by: try signer(), log: log)] {
      let text = try json(receipt)
      let value = try JSON.parse(text)
      #expect(JCS.serialize(value) == Array(text.utf8))
      for (_, member) in try #require(value.objectValue).members { #expect(member != .null) }
      #expect(try Receipt.parse(self.text(receipt)) == receipt)
    }
  }

  @Test func signedVerifies() throws {
    let signer = try signer()
    let signed = receipt(session).signed(by: signer, log: log)
    let verified = try Receipt.verify(text(signed)) { $0 == signer.kid ? signer.key.publicKey : nil }
    #expect(verified == signed)
    #expect(verified.log == log)
    #expect(throws: PaymentError.unknownKey) { try Receipt.verify(text(signed)) { _ in nil } }
    #expect(throws: PaymentError.invalidSignature) { try Receipt.verify(text(receipt())) { _ in signer.key.publicKey } }
  }

  @Test func anyAlteredMemberIsSeen() throws {
    let signer = try signer()
    let signed = receipt(session).signed(by: signer, log: log)
    let object = try #require(JSON.parse(json(signed)).objectValue)
    for (name, value) in object.members {
      var altered = object
      switch name {
      case "resource": altered.set(name, ["method": "POST", "url": "https://api.example.com/"])
      case "amount", "spent", "remaining", "units", "logSize": altered.set(name, "1")
      case "timestamp": altered.set(name, "2026-11-21T12:00:01Z")
      case "logRoot": altered.set(name, .string(SHA256.hash("other").hex))
      case "status": altered.set(name, "failed")
      default: altered.set(name, .string((value.stringValue ?? "") + "A"))
      }
      let encoded = Base64URL.encode(JCS.serialize(.object(altered)))
      #expect(throws: PaymentError.self, "\(name)") { try Receipt.verify(encoded) { _ in signer.key.publicKey } }
    }
    var more = object
    more.set("later", "x")
    let encoded = Base64URL.encode(JCS.serialize(.object(more)))
    #expect(throws: PaymentError.invalidSignature) { try Receipt.verify(encoded) { _ in signer.key.publicKey } }
  }

  @Test func signatureCoversUnknownMembers() throws {
    let signer = try signer()
    var object = try #require(JSON.parse(json(receipt().signed(by: signer, log: log))).objectValue)
    object.remove("sig")
    object.set("later", ["a": "b"])
    let octets = Array("receipt-v1\n".utf8) + JCS.serialize(.object(object))
    object.set("sig", .string(Base64URL.encode(octets.withUnsafeBytes { signer.key.sign($0) })))
    let encoded = Base64URL.encode(JCS.serialize(.object(object)))
    #expect(throws: Never.self) { try Receipt.verify(encoded) { _ in signer.key.publicKey } }
  }

  @Test(arguments: [
    ("!!!", .notBase64URL), ("", .notBase64URL), ("W10", .notAnObject), ("e30", .missing(.status)),
    (Base64URL.encode(Array(#"{"status":"failed"}"#.utf8)), .wrongType),
    (Base64URL.encode(Array(#"{"status":"success","timestamp":"now"}"#.utf8)), .malformed(.timestamp)),
  ] as [(String, PaymentError)])
  func refuses(encoded: String, error: PaymentError) { #expect(throws: error) { try Receipt.parse(encoded) } }

  @Test func everyCut() throws {
    let whole = text(receipt(session).signed(by: try signer(), log: log))
    for end in 0..<whole.utf8.count { #expect(throws: PaymentError.self) { try Receipt.parse(String(whole.prefix(end))) } }
  }

  @Test func preparedSessionReceiptsAreTheSame() throws {
    let prepared = SessionReceipt(
      method: "prepaid", sessionID: session.id, challengeID: "6QDs0BmhrI_v67iWeCMvGqQJEFQ6ErWKlk7zi5xL6t0", currency: "usdc", recipient: "acme")
    var scratch = ByteBuffer()
    var out = ByteBuffer()
    for query in ["b=\"c\"", nil] as [String?] {
      out.removeAll()
      octets("GET", "https://api.example.com", "/a", query) { method, origin, path, query in
        prepared.append(
          amount: 10, spent: session.spent, remaining: session.remaining, units: session.units, timestamp: noon, requestMethod: method,
          origin: origin, path: path, query: query, scratch: &scratch, to: &out)
      }
      let expected = Receipt(
        method: "prepaid", intent: "session", timestamp: noon, reference: session.id,
        challengeID: "6QDs0BmhrI_v67iWeCMvGqQJEFQ6ErWKlk7zi5xL6t0", amount: 10, currency: "usdc", recipient: "acme",
        resource: Resource(method: "GET", url: "https://api.example.com/a" + (query.map { "?" + $0 } ?? "")), session: session)
      #expect(out.withUnsafeBytes { Array($0) } == expected.encoded)
    }
  }
}
