import Bytes
import Crypto
import Encoding
import Testing

@testable import Payments

let baseSepolia = X402Network(chainID: 84532)

func offer(
  _ scheme: X402Scheme = .exact, amount: UInt128 = 10000, network: X402Network = baseSepolia, seconds: UInt32 = 60,
  extra: JSONObject = ["name": "USDC", "version": "2"]
) -> PaymentRequirements {
  PaymentRequirements(
    scheme: scheme, network: network, amount: amount, asset: "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
    payTo: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C", maxTimeoutSeconds: seconds, extra: extra)
}

let channelOffer = offer(
  .batchSettlement, amount: 1000, seconds: 3600,
  extra: [
    "receiverAuthorizer": "0x4B0897b0513fdC7C541B6d9D7E929C4e5364D2dB", "withdrawDelay": 900, "name": "USDC", "version": "2",
    "minDeposit": "10000",
  ])

let premium = ResourceInfo(description: "Access to premium market data", mimeType: "application/json")

/// Prints with the octets of a request.
func asked(
  _ path: String = "/premium-data", _ query: String? = nil, reason: X402Reason? = nil, _ body: (PaymentRequiredOccasion) throws -> Void
) throws {
  try octets("GET", "https://api.example.com", path, query) { _, origin, path, query in
    try body(PaymentRequiredOccasion(origin: origin, path: path, query: query, now: noon, nonce: (1, 2), reason: reason))
  }
}

private func field(_ printer: PaymentRequiredPrinter, _ occasion: PaymentRequiredOccasion, _ correction: ChannelCorrection? = nil) throws -> String {
  var out = ByteBuffer()
  try printer.appendField(occasion, correction: correction, to: &out)
  let line = out.string()
  #expect(line.hasPrefix("PAYMENT-REQUIRED: ") && line.hasSuffix("\r\n"))
  return String(decoding: line.utf8.dropFirst(18).dropLast(2), as: UTF8.self)
}

private func parsed(_ value: String) throws -> PaymentRequired {
  try Array(value.utf8).withUnsafeBytes { try PaymentRequired(fieldValue: $0) }
}

@Suite struct PaymentRequiredTests {
  @Test func fieldSaysWhatTheObjectSays() throws {
    // Every length of the prefix modulo three.
    for amount in [1, 10, 100, 1000] as [UInt128] {
      let printer = try PaymentRequiredPrinter(offers: [offer(amount: amount), channelOffer], resource: premium)
      try asked { occasion in
        let value = try field(printer, occasion)
        var json = ByteBuffer()
        printer.append(json: occasion, to: &json)
        #expect(Base64.decode(value) == json.array())
        let read = try parsed(value)
        #expect(read.version == .v2 && read.error == "Payment required" && read.resourceURL == "https://api.example.com/premium-data")
        #expect(read.resource?["description"] == "Access to premium market data" && read.resource?["mimeType"] == "application/json")
        #expect(read.offers.map(\.requirements) == [offer(amount: amount), channelOffer] && read.extensions.isEmpty)
      }
    }
  }

  @Test func urlsAreEscaped() throws {
    let printer = try PaymentRequiredPrinter(offers: [offer()], resource: premium)
    try asked("/a\"b", "q=\\&r=%22") { occasion in
      let read = try parsed(try field(printer, occasion))
      #expect(read.resourceURL == "https://api.example.com/a\"b?q=\\&r=%22")
      var body = ByteBuffer()
      printer.appendBody(occasion, to: &body)
      let old = try object(body.string())
      #expect(old["accepts"]?.arrayValue?.first?["resource"] == "https://api.example.com/a\"b?q=\\&r=%22")
    }
  }

  @Test func bodyIsThatOfVersion1() throws {
    let printer = try PaymentRequiredPrinter(offers: [offer(), channelOffer, offer(network: X402Network(chainID: 137))], resource: ResourceInfo())
    try asked(reason: .insufficientFunds) { occasion in
      var body = ByteBuffer()
      printer.appendBody(occasion, to: &body)
      let expected: JSONObject = [
        "x402Version": 1, "error": "insufficient_funds",
        "accepts": [
          [
            "scheme": "exact", "network": "base-sepolia", "maxAmountRequired": "10000",
            "resource": "https://api.example.com/premium-data", "description": "", "mimeType": "",
            "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
            "maxTimeoutSeconds": 60, "extra": ["name": "USDC", "version": "2"],
          ]
        ],
      ]
      let old = try object(body.string())
      #expect(old == expected)
      let read = try body.withUnsafeBytes { try PaymentRequired(json: $0) }
      #expect(read.version == .v1 && read.offers.map(\.requirements) == [offer()])
      #expect(read.offers.first?.resource == "https://api.example.com/premium-data")
    }
    // Others stand there where they are alone.
    let polygon = try PaymentRequiredPrinter(offers: [offer(network: X402Network(chainID: 137))], resource: premium)
    let unknown = try PaymentRequiredPrinter(offers: [offer(network: X402Network(chainID: 4217))], resource: premium)
    try asked { occasion in
      var body = ByteBuffer()
      polygon.appendBody(occasion, to: &body)
      let old = try object(body.string())
      #expect(old["accepts"]?.arrayValue?.first?["network"] == "polygon")
      #expect(polygon.speaksV1 && !unknown.speaksV1)
      body.removeAll()
      unknown.appendBody(occasion, to: &body)
      #expect(body.string() == "{}")
    }
    // Permit2 was unknown to version 1.
    let permit = try PaymentRequiredPrinter(offers: [offer(extra: ["assetTransferMethod": "permit2"])], resource: premium)
    #expect(!permit.speaksV1)
  }

  @Test func correctionsStandInTheOffer() throws {
    let printer = try PaymentRequiredPrinter(offers: [offer(), channelOffer], resource: premium)
    let channel = Digest32(bytes: [UInt8](repeating: 7, count: 32)) ?? Digest32()
    let correction = ChannelCorrection(
      offer: 1,
      channelState: ChannelState(
        channelID: channel, balance: 100_000, totalClaimed: 500, refundNonce: 1, chargedCumulativeAmount: 3200),
      voucherState: VoucherState(signedMaxClaimable: 3200, signature: [1, 2, 3]))
    try asked(reason: .batchCumulativeAmountMismatch) { occasion in
      let read = try parsed(try field(printer, occasion, correction))
      #expect(read.error == "invalid_batch_settlement_evm_cumulative_amount_mismatch")
      #expect(read.offers.first?.requirements == offer())
      let extra = try #require(read.offers.last?.requirements.extra)
      #expect(
        extra["channelState"] == [
          "channelId": .string("0x" + channel.hex), "balance": "100000", "totalClaimed": "500", "withdrawRequestedAt": 0,
          "refundNonce": "1", "chargedCumulativeAmount": "3200",
        ])
      #expect(extra["voucherState"] == ["signedMaxClaimable": "3200", "signature": "0x010203"])
      // A client that echoes the correction has still accepted the offer.
      #expect(read.offers.last.map { channelOffer.isMet(by: $0.requirements) } == true)
    }
  }

  @Test func offersAreBounded() throws {
    #expect(throws: X402Error.missing(.accepts)) { try PaymentRequiredPrinter(offers: [], resource: premium) }
    #expect(throws: X402Error.tooMany(.accepts, limit: 16)) {
      try PaymentRequiredPrinter(offers: Array(repeating: offer(), count: 17), resource: premium)
    }
    #expect(throws: X402Error.tooLarge(limit: 8192)) {
      try PaymentRequiredPrinter(offers: [offer(extra: ["note": .string(String(repeating: "x", count: 8000))])], resource: premium)
    }
  }

  @Test func aFieldStaysBelowItsLimits() throws {
    let signer = try OfferReceipt(try #require(Ed25519.SigningKey(seed: seed)), kid: "did:web:api.example.com#key-1")
    let signIn = try SignInWithX(origin: "https://api.example.com", statement: "Sign in", networks: [baseSepolia])
    let bazaar = try #require(
      Bazaar.declaration(Bazaar.Route(method: "GET", queryParams: ["city": "Berlin"]), output: Bazaar.Output(type: "json", example: ["a": 1])))
    let identifier = PaymentIdentifier.declaration(isRequired: true)
    var rich = premium
    rich.tags = ["weather", "forecast"]
    rich.serviceName = "Example"
    rich.iconURL = "https://api.example.com/icon.png"
    // A small one keeps its schema and its decoration.
    let small = try PaymentRequiredPrinter(offers: [offer()], resource: rich, extensions: [identifier])
    try asked { occasion in
      let read = try parsed(try field(small, occasion))
      #expect(read.extensions["payment-identifier"]?["schema"] != nil && read.resource?["tags"] == ["weather", "forecast"])
      let value = try field(small, occasion)
      #expect(value.utf8.count < PaymentRequiredPrinter.aim)
    }
    // A large one has lost its schemas but the bazaar's, then the decoration, then the example.
    let large = try PaymentRequiredPrinter(
      offers: [offer(), offer(.upto), channelOffer], resource: rich, extensions: [identifier, bazaar], signIn: signIn, offerReceipt: signer)
    try asked { occasion in
      let read = try parsed(try field(large, occasion))
      #expect(read.extensions.names.sorted() == ["bazaar", "offer-receipt", "payment-identifier", "sign-in-with-x"])
      #expect(read.extensions["payment-identifier"]?["schema"] == nil && read.extensions["sign-in-with-x"]?["schema"] == nil)
      #expect(read.extensions["bazaar"]?["schema"] != nil && read.extensions["bazaar"]?["info"]?["output"] == nil)
      #expect(read.resource?["tags"] == nil && read.resource?["description"] != nil)
      #expect(read.extensions["offer-receipt"]?["info"]?["offers"]?.arrayValue?.count == 3)
    }
    // The longer the URL, the less stands beside it.
    var seen: Set<[String]> = []
    for count in stride(from: 0, to: 7000, by: 250) {
      try asked("/premium-data", String(repeating: "q", count: count)) { occasion in
        guard let value = try? field(large, occasion), let read = try? parsed(value) else {
          seen.insert([])
          return
        }
        #expect(value.utf8.count <= PaymentRequiredPrinter.limit)
        seen.insert(read.extensions.names.sorted() + (read.resourceURL?.contains("?") == true ? ["query"] : []))
      }
    }
    #expect(
      seen == [
        ["bazaar", "offer-receipt", "payment-identifier", "sign-in-with-x", "query"], ["bazaar", "payment-identifier", "sign-in-with-x", "query"],
        ["bazaar", "payment-identifier", "query"], ["bazaar", "payment-identifier"],
      ])
    try asked("/" + String(repeating: "p", count: 7000)) { occasion in
      var out = ByteBuffer()
      out.append("kept" as StaticString)
      #expect(throws: X402Error.tooLarge(limit: 8192)) { try large.appendField(occasion, to: &out) }
      #expect(out.string() == "kept")
    }
  }

  @Test func clientsPassOverWhatTheyDoNotKnow() throws {
    let text = """
      {"x402Version":2,"resource":{"url":"u"},"accepts":[{"scheme":"deferred","network":"x","amount":"1"},\
      {"scheme":"exact","network":"solana:x","amount":"1"},{"scheme":"exact","network":"eip155:1","amount":"7","asset":"USD",\
      "payTo":"merchant","maxTimeoutSeconds":1}]}
      """
    let read = try Array(text.utf8).withUnsafeBytes { try PaymentRequired(json: $0) }
    #expect(read.offers.count == 1 && read.offers.first?.requirements.assetAddress == nil && read.error == nil)
    for wrong in ["{\"accepts\":[]}", "{\"x402Version\":2}", "{\"x402Version\":2,\"accepts\":[1]}", "[]", "{\"x402Version\":9,\"accepts\":[]}"] {
      #expect(throws: X402Error.self) { try Array(wrong.utf8).withUnsafeBytes { try PaymentRequired(json: $0) } }
    }
  }

  @Test func whatTheOfficialServersSay() throws {
    let new = try parsed(X402Vector.required)
    #expect(new.offers.map(\.requirements) == [offer()] && new.resourceURL == "https://api.example.com/premium-data")
    #expect(new.extensions["payment-identifier"] == ["info": ["required": false]] && new.error == "Payment required")
    // The chosen offer is echoed as it was received.
    #expect(new.offers.first?.object["extra"] == ["name": "USDC", "version": "2"])
    let old = try Array(X402Vector.requiredV1.utf8).withUnsafeBytes { try PaymentRequired(json: $0) }
    #expect(old.version == .v1 && old.error == "No X-PAYMENT header provided" && old.offers.map(\.requirements) == [offer()])
    #expect(old.offers.first?.resource == "https://api.example.com/premium-data")
    for vector in [X402Vector.required, X402Vector.settled] {
      let octets = Array(vector.utf8)
      for count in 0..<octets.count - 2 {
        octets[..<count].withUnsafeBytes { part in
          #expect(throws: X402Error.self) { try PaymentRequired(fieldValue: part) }
          #expect(throws: X402Error.self) { try SettlementResponse(fieldValue: part, network: baseSepolia) }
        }
      }
    }
  }
}
