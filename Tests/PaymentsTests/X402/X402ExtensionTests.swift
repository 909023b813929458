import Bytes
import Crypto
import Encoding
import Ethereum
import Testing

@testable import Payments

@Suite struct X402ExtensionTests {
  @Test func identifiers() throws {
    #expect(try PaymentIdentifier.read(try payment(X402Vector.identified)) == "pay_7d5d747be160e280504c099d984bcfe0")
    #expect(try PaymentIdentifier.read(try payment(X402Vector.eip3009)) == nil)
    let base = try decoded(X402Vector.identified)
    let path = ["extensions", "payment-identifier", "info", "id"]
    func read(_ object: JSONObject) throws -> String? { try PaymentIdentifier.read(try PaymentPayload(json: JSON.serialize(.object(object)))) }
    #expect(try read(try changed(base, path, nil)) == nil)
    for right in [String(repeating: "a", count: 16), String(repeating: "Z", count: 128), "0123456789-_azAZ"] {
      #expect(try read(try changed(base, path, .string(right))) == right)
    }
    for wrong in [String(repeating: "a", count: 15), String(repeating: "a", count: 129), "0123456789 abcdef", "0123456789äbcdef", ""] {
      #expect(throws: X402Error.malformed(.id)) { try read(try changed(base, path, .string(wrong))) }
    }
    #expect(throws: X402Error.malformed(.id)) { try read(try changed(base, path, 7)) }
    #expect(throws: X402Error.malformed(.info)) { try read(try changed(base, ["extensions", "payment-identifier"], "x")) }
    #expect(throws: X402Error.malformed(.info)) { try read(try changed(base, ["extensions", "payment-identifier", "info"], nil)) }
    // The declaration is that of the package.
    let declared = PaymentIdentifier.declaration(isRequired: true)
    #expect(declared.schema == base["extensions"]?["payment-identifier"]?["schema"]?.objectValue && declared.info == ["required": true])
  }

  @Test func offersAndReceiptsVerify() throws {
    let key = try #require(Ed25519.SigningKey(seed: seed))
    let kid = "did:web:api.example.com#key-1"
    let signer = try OfferReceipt(key, kid: kid)
    let printer = try PaymentRequiredPrinter(offers: [offer(), channelOffer], resource: premium, offerReceipt: signer)
    func payload(_ text: String) throws -> JSONObject {
      let verified = try JWS.verifyCompact(text) { $0 == kid ? key.publicKey : nil }
      #expect(verified.header == ["alg": "EdDSA", "kid": .string(kid)])
      return verified.payload
    }
    try asked("/premium-data", "q=1") { occasion in
      var out = ByteBuffer()
      printer.append(json: occasion, to: &out)
      let offers = try #require(try object(out.string())["extensions"]?["offer-receipt"]?["info"]?["offers"]?.arrayValue)
      #expect(offers.map { $0["acceptIndex"] } == [0, 1] && offers.allSatisfy { $0["format"] == "jws" && $0["payload"] == nil })
      let first = try payload(try #require(offers[0]["signature"]?.stringValue))
      #expect(
        first == [
          "version": 1, "resourceUrl": "https://api.example.com/premium-data?q=1", "scheme": "exact", "network": "eip155:84532",
          "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
          "amount": "10000", "validUntil": .integer(noon.seconds + 300),
        ])
      let second = try payload(try #require(offers[1]["signature"]?.stringValue))
      #expect(second["scheme"] == "batch-settlement" && second["amount"] == "1000")
    }
    try asked("/a\"b") { occasion in
      var out = ByteBuffer()
      printer.append(json: occasion, to: &out)
      let written = try object(out.string())
      let offers = try #require(written["extensions"]?["offer-receipt"]?["info"]?["offers"]?.arrayValue)
      let first = try payload(try #require(offers[0]["signature"]?.stringValue))
      #expect(first["resourceUrl"] == "https://api.example.com/a\"b" && first["resourceUrl"] == written["resource"]?["url"])
    }
    let hash = Digest32(bytes: [UInt8](repeating: 1, count: 32))
    for transaction in [nil, hash] {
      let receipt = signer.receipt(
        url: "https://api.example.com/a", network: baseSepolia, payer: "0x1", issuedAt: noon, transaction: transaction)
      var expected: JSONObject = [
        "version": 1, "network": "eip155:84532", "resourceUrl": "https://api.example.com/a", "payer": "0x1",
        "issuedAt": .integer(noon.seconds),
      ]
      if let transaction { expected.set("transaction", .string(HexData.text(transaction))) }
      #expect(try payload(receipt) == expected)
      let entry = OfferReceipt.entry(receipt: receipt)
      #expect(entry["info"]?["receipt"] == ["format": "jws", "signature": .string(receipt)] && entry["schema"] != nil)
    }
    for wrong in ["", "a b", "é", "a\n"] { #expect(throws: X402Error.malformed(.kid)) { try OfferReceipt(key, kid: wrong) } }
  }

  @Test func routesOfTheBazaar() throws {
    let get = try #require(
      Bazaar.declaration(
        Bazaar.Route(method: "GET", queryParams: ["city": "Berlin"], querySchema: ["properties": ["city": ["type": "string"]]]),
        output: Bazaar.Output(type: "json", example: ["temperature": 7], schema: ["type": "object"])))
    #expect(
      get.info == [
        "input": ["type": "http", "method": "GET", "queryParams": ["city": "Berlin"]],
        "output": ["type": "json", "example": ["temperature": 7]],
      ])
    let input = try #require(get.schema["properties"]?["input"]?.objectValue)
    #expect(input["required"] == ["type", "method"] && input["additionalProperties"] == false)
    #expect(input["properties"]?["queryParams"] == ["type": "object", "properties": ["city": ["type": "string"]]])
    #expect(get.schema["required"] == ["input"] && get.further.isEmpty)
    let post = try #require(
      Bazaar.declaration(
        Bazaar.Route(method: "POST", body: ["q": "x"], bodySchema: ["type": "object"], pathParams: ["id": "1"], template: "/users/:id")))
    #expect(
      post.info == ["input": ["type": "http", "method": "POST", "bodyType": "json", "body": ["q": "x"], "pathParams": ["id": "1"]]])
    #expect(post.further == ["routeTemplate": "/users/:id"])
    #expect(post.schema["properties"]?["input"]?["required"] == ["type", "method", "bodyType", "body"])
    #expect(Bazaar.declaration(Bazaar.Route(method: "QUERY")) == nil)
    for wrong in ["", "/", "users", "/a/../b", "/x://y", "/a b", "/a%2e%2e/b"] {
      #expect(Bazaar.declaration(Bazaar.Route(method: "GET", template: wrong)) == nil)
    }
  }

  @Test func toolsOfTheBazaar() throws {
    let tool = Bazaar.declaration(
      Bazaar.Tool(name: "analysis", description: "Analyses", inputSchema: ["type": "object"], example: ["ticker": "AAPL"]))
    #expect(
      tool.info == [
        "input": [
          "type": "mcp", "toolName": "analysis", "description": "Analyses", "inputSchema": ["type": "object"],
          "example": ["ticker": "AAPL"],
        ]
      ])
    #expect(tool.schema["properties"]?["input"]?["required"] == ["type", "toolName", "inputSchema"])
    // Every member of the information has a place in the schema, which allows no others.
    let names = try #require(tool.info["input"]?.objectValue?.names)
    let allowed = try #require(tool.schema["properties"]?["input"]?["properties"]?.objectValue?.names)
    #expect(Set(names).isSubset(of: allowed))
  }

  @Test func messagesOfOtherTransports() throws {
    let printer = try PaymentRequiredPrinter(offers: [offer()], resource: premium)
    try asked("/mcp\"") { occasion in
      var required = ByteBuffer()
      printer.append(json: occasion, to: &required)
      var out = ByteBuffer()
      out.append("{" as StaticString)
      X402Transport.appendToolResult(required, to: &out)
      out.append("}" as StaticString)
      let result = try object(out.string())
      #expect(result["isError"] == true && result["resultType"] == "complete")
      let text = try #require(result["content"]?.arrayValue?.first?["text"]?.stringValue)
      let told = try object(text)
      #expect(result["structuredContent"]?.objectValue == told && told["x402Version"] == 2)
      #expect(told["resource"]?["url"] == "https://api.example.com/mcp\"")
      out.removeAll()
      out.append("{" as StaticString)
      X402Transport.appendResult(required, to: &out)
      out.append("}" as StaticString)
      let extended = try object(out.string())
      #expect(extended["resultType"] == "payment_required" && extended["paymentRequired"]?.objectValue == told)
    }
    var meta = ByteBuffer()
    meta.append("{" as StaticString)
    X402Transport.appendMeta(.failure(.insufficientFunds, payer: nil, network: baseSepolia), to: &meta)
    meta.append("}" as StaticString)
    let written = try object(meta.string())
    #expect(written[X402Transport.responseMember]?["errorReason"] == "insufficient_funds")
  }

  @Test func paymentsInMeta() throws {
    let json = try #require(Base64.decode(X402Vector.upto))
    let direct = try json.withUnsafeBytes { try X402Transport.payment(meta: $0) }
    #expect(direct.payment == (try payment(X402Vector.upto).payment))
    let text = JSON.serialize(.string(String(decoding: json, as: UTF8.self)))
    let quoted = try text.withUnsafeBytes { try X402Transport.payment(meta: $0) }
    #expect(quoted.payment == direct.payment)
    for wrong in ["", "\"", "\"x\"", "7", "null", "[]", "\"" + String(repeating: "a", count: PaymentPayload.fieldLimit) + "\""] {
      #expect(throws: X402Error.self) { try Array(wrong.utf8).withUnsafeBytes { try X402Transport.payment(meta: $0) } }
    }
  }
}
