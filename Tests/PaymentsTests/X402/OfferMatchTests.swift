import Encoding
import Testing

@testable import Payments

@Suite struct OfferMatchTests {
  @Test func paymentsFindTheirOffer() throws {
    let offers = [
      offer(amount: 9), offer(), offer(extra: ["name": "USDC", "version": "2", "assetTransferMethod": "permit2"]),
      offer(
        .upto, amount: 5_000_000,
        extra: ["name": "USDC", "version": "2", "facilitatorAddress": "0x4B0897b0513fdC7C541B6d9D7E929C4e5364D2dB"]), channelOffer,
    ]
    #expect(try payment(X402Vector.eip3009).match(offers) == 1)
    // What the client adds to `extra` does not hurt.
    #expect(try payment(X402Vector.permit2).match(offers) == 1)
    #expect(try payment(X402Vector.permit2).match(Array(offers[2...])) == 0)
    #expect(try payment(X402Vector.upto).match(offers) == 3)
    for vector in [X402Vector.deposit, X402Vector.depositPermit2, X402Vector.voucher, X402Vector.refund] {
      #expect(try payment(vector).match(offers) == 4)
    }
    #expect(try payment(X402Vector.v1, .xPayment).match(offers) == 1)
    #expect(try payment(X402Vector.v1, .xPayment).match([offer(amount: 9), channelOffer]) == nil)
    #expect(try payment(X402Vector.v1, .xPayment).match([offer(network: X402Network(chainID: 8453))]) == nil)
  }

  @Test func eachTermCounts() throws {
    let accepted = try #require(try payment(X402Vector.eip3009).accepted)
    #expect(offer().isMet(by: accepted))
    func with(asset: String = accepted.asset, payTo: String = accepted.payTo, extra: JSONObject = accepted.extra) -> PaymentRequirements {
      PaymentRequirements(
        scheme: .exact, network: baseSepolia, amount: 10000, asset: asset, payTo: payTo, maxTimeoutSeconds: 60, extra: extra)
    }
    #expect(with(asset: accepted.asset.lowercased(), payTo: accepted.payTo.lowercased()).isMet(by: accepted))
    #expect(with(extra: [:]).isMet(by: accepted))
    #expect(!with(asset: accepted.payTo).isMet(by: accepted) && !with(payTo: accepted.asset).isMet(by: accepted))
    #expect(!with(extra: ["name": "USDC", "version": "3"]).isMet(by: accepted))
    #expect(!with(extra: ["name": "USDC", "version": 2]).isMet(by: accepted))
    #expect(!with(extra: ["paymentFlow": "upfront"]).isMet(by: accepted))
    #expect(!offer(amount: 10001).isMet(by: accepted) && !offer(seconds: 61).isMet(by: accepted) && !offer(.upto).isMet(by: accepted))
    #expect(!offer(network: X402Network(chainID: 1)).isMet(by: accepted))
    #expect(with(asset: "USD").isMet(by: with(asset: "USD")) && !with(asset: "USD").isMet(by: with(asset: "usd")))
  }

  @Test func echoesHoldWhatWasSaid() throws {
    func holds(_ expected: String, _ actual: String) throws -> Bool {
      ExtensionEcho.contains(try JSON.parse(expected), in: try JSON.parse(actual))
    }
    #expect(try holds("{\"a\":{\"b\":1}}", "{\"a\":{\"b\":1,\"c\":2},\"d\":3}"))
    #expect(try holds("{\"a\":null}", "{}"))
    #expect(try !holds("{\"a\":{\"b\":1}}", "{\"a\":1}") && !holds("{\"a\":[1]}", "{\"a\":[1,2]}") && !holds("{\"a\":1}", "{}"))
    let printer = try PaymentRequiredPrinter(
      offers: [offer()], resource: premium, extensions: [PaymentIdentifier.declaration(isRequired: true)])
    #expect(printer.mismatchedExtension(in: try payment(X402Vector.identified)) == nil)
    #expect(printer.mismatchedExtension(in: try payment(X402Vector.eip3009)) == nil)
    #expect(printer.mismatchedExtension(in: try payment(X402Vector.v1, .xPayment)) == nil)
    let changed = try changed(
      try decoded(X402Vector.identified), ["extensions", "payment-identifier", "info", "required"], false)
    #expect(printer.mismatchedExtension(in: try PaymentPayload(json: JSON.serialize(.object(changed)))) == "payment-identifier")
  }
}
