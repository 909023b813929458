import Bytes
import Encoding
import Ethereum
import Metering
import Methods
import Payments
import Testing

@Suite struct ChannelWireTests {
  private typealias Fixture = SessionFixture

  // MARK: request objects

  /// The examples of draft-evm-session-00 and draft-tempo-session-00 "Request Schema".
  @Test func examples() throws {
    let new = try Fixture.json(
      #"{"amount":"100","unitType":"llm_token","suggestedDeposit":"5000000","currency":"0x74b7F16337b8972027F6196A17a631ac6dE26d22","recipient":"0x742d35cc6634c0532925a3b844bc9e7595f8fe00","methodDetails":{"escrowContract":"0x1234567890abcdef1234567890abcdef12345678","chainId":196,"minVoucherDelta":"10000"}}"#)
    let offer = try ChannelSession(parsing: new, method: "evm")
    #expect(offer.rules == .evm)
    #expect(offer.amount == 100 && offer.unitType == "llm_token" && offer.suggestedDeposit == 5_000_000)
    #expect(offer.details.chainID == 196 && offer.details.minimumDelta == 10_000 && !offer.details.paysFees)
    #expect(offer.accepts(.hash) && !offer.accepts(.permit2) && !offer.accepts(.authorization) && !offer.accepts(.transaction))
    #expect(offer.rates == nil)
    #expect(offer.sessionEscrow.address == Fixture.address("0x1234567890abcdef1234567890abcdef12345678"))
    let existing = try Fixture.json(
      #"{"amount":"25","unitType":"llm_token","currency":"0xA8CE8aee21bC2A48a5EF670afCc9274C7bbbC035","recipient":"0x742d35cc6634c0532925a3b844bc9e7595f8fe00","methodDetails":{"escrowContract":"0x1234567890abcdef1234567890abcdef12345678","channelId":"0x6d0f4fdf1f2f6a1f6c1b0fbd6a7d5c2c0a8d3d7b1f6a9c1b3e2d4a5b6c7d8e9f","chainId":196}}"#)
    #expect(
      try ChannelSession(parsing: existing, method: "evm").details.channelID
        == Fixture.digest("0x6d0f4fdf1f2f6a1f6c1b0fbd6a7d5c2c0a8d3d7b1f6a9c1b3e2d4a5b6c7d8e9f"))
    let tempo = try Fixture.json(
      #"{"amount":"25","unitType":"llm_token","suggestedDeposit":"10000000","currency":"0x20c0000000000000000000000000000000000000","recipient":"0x742d35cc6634c0532925a3b844bc9e7595f8fe00","methodDetails":{"escrowContract":"0x9d136eEa063eDE5418A6BC7bEafF009bBb6CFa70","chainId":4217,"sessionProtocol":"v2"}}"#)
    let second = try ChannelSession(parsing: tempo, method: "tempo")
    #expect(second.rules == .tempoV2 && second.accepts(.transaction) && !second.accepts(.hash))
    // Without a protocol it is the first one, and without a chain Tempo's main one.
    var legacy = tempo
    legacy.set("methodDetails", ["escrowContract": "0x9d136eEa063eDE5418A6BC7bEafF009bBb6CFa70"])
    let first = try ChannelSession(parsing: legacy, method: "tempo")
    #expect(first.rules == .tempoV1 && first.details.chainID == 4217)
    for offer in [offer, second, first] {
      #expect(try ChannelSession(parsing: offer.object, method: offer.rules.method) == offer)
    }
  }

  @Test func ourOffers() throws {
    let usdc = Fixture.token.currency
    for words in [
      "0.002 USDC per request", "0.01 USDC per MB", "0.001 USDC per request + 0.01 USDC per MB, at most 1 USDC",
      "0.15 USDC per M input tokens + 0.6 USDC per M output tokens, at least 0.002 USDC",
    ] {
      let price = try Price(parsing: words, currencies: [usdc])
      var details = ChannelDetails(chainID: sessionChain, escrow: Fixture.escrow.address)
      details.credentialTypes = [.authorization, .hash]
      details.minimumDelta = 10
      details.minimumDeposit = 1000
      details.idleTimeout = 600
      details.decimals = 6
      details.minimum = price.minimum
      details.maximum = price.maximum
      details.permit2 = Fixture.channel.payee
      let offer = ChannelSession(
        rules: .evm, rates: price.parts, suggestedDeposit: 5_000_000, currency: Fixture.token.address,
        recipient: Fixture.channel.payee, description: "Weather", details: details)
      let read = try ChannelSession(parsing: offer.object, method: "evm")
      #expect(read == offer)
      #expect(read.price(in: usdc) == price)
    }
    #expect(
      Fixture.text(Fixture.offer([.authorization]).object)
        == #"{"amount":"100","currency":"\#(sessionToken)","methodDetails":{"chainId":8453,"credentialTypes":["authorization"],"escrowContract":"\#(sessionEscrow)","feePayer":true},"recipient":"\#(sessionPayee)","suggestedDeposit":"5000000","unitType":"request"}"#
    )
  }

  @Test(arguments: [
    ("amount", JSONValue.string("0"), ChainChargeError.malformed(.amount)), ("amount", nil, .missing(.amount)),
    ("amount", 5, .malformed(.amount)), ("currency", "0x12", .malformed(.currency)), ("recipient", nil, .missing(.recipient)),
    ("methodDetails", nil, .missing(.methodDetails)), ("unitType", 5, .malformed(.unitType)),
    ("suggestedDeposit", "-1", .malformed(.suggestedDeposit)),
    ("amount", "340282366920938463463374607431768211456", .overflow(.amount)),
  ] as [(String, JSONValue?, ChainChargeError)])
  func brokenRequests(name: String, value: JSONValue?, error: ChainChargeError) throws {
    var object = Fixture.offer().object
    object[name] = value
    #expect(throws: error) { _ = try ChannelSession(parsing: object, method: "evm") }
  }

  @Test(arguments: [
    ("chainId", nil, ChainChargeError.missing(.chainId)), ("chainId", 0, .malformed(.chainId)), ("chainId", "1", .malformed(.chainId)),
    ("escrowContract", nil, .missing(.escrowContract)), ("feePayer", "yes", .malformed(.feePayer)),
    ("minVoucherDelta", "x", .malformed(.minVoucherDelta)), ("credentialTypes", "hash", .malformed(.credentialTypes)),
    ("channelId", "0x12", .malformed(.channelId)), ("unitSize", "0", .malformed(.unitSize)),
    ("unitSize", "18446744073709551616", .overflow(.unitSize)), ("prices", [], .malformed(.prices)),
    ("maximum", "0", .malformed(.maximum)), ("decimals", 256, .malformed(.decimals)),
    ("permit2Contract", "0x", .malformed(.permit2Contract)),
    ("prices", [["unitType": "request", "unitSize": "1", "amount": "101"]], .malformed(.amount)),
    ("prices", [["unitType": "request", "unitSize": "2", "amount": "100"]], .malformed(.unitSize)),
    ("prices", [["unitType": "event", "unitSize": "1", "amount": "100"]], .malformed(.unitType)),
  ] as [(String, JSONValue?, ChainChargeError)])
  func brokenDetails(name: String, value: JSONValue?, error: ChainChargeError) throws {
    var object = Fixture.offer().object
    var details = try #require(object["methodDetails"]?.objectValue)
    details[name] = value
    object.set("methodDetails", .object(details))
    #expect(throws: error) { _ = try ChannelSession(parsing: object, method: "evm") }
  }

  @Test func otherMethodsAndProtocols() throws {
    #expect(throws: ChainChargeError.unknownType) { _ = try ChannelSession(parsing: Fixture.offer().object, method: "solana") }
    var object = Fixture.offer(nil, rules: .tempoV2).object
    var details = try #require(object["methodDetails"]?.objectValue)
    details.set("sessionProtocol", "v3")
    object.set("methodDetails", .object(details))
    #expect(throws: ChainChargeError.unknownType) { _ = try ChannelSession(parsing: object, method: "tempo") }
  }

  // MARK: payloads

  @Test func payloadsReadBack() throws {
    for text in [
      Fixture.openByAuthorization, Fixture.openByPermit, Fixture.openByHash, Fixture.topUpByAuthorization,
      Fixture.topUpByPermit,
      #"{"action":"topUp","type":"hash","channelId":"\#(sessionChannel)","hash":"\#(sessionSalt)","additionalDeposit":"5"}"#,
      #"{"action":"voucher","channelId":"\#(sessionChannel)","cumulativeAmount":"250000","signature":"\#(sessionVoucher)"}"#,
      #"{"action":"close","channelId":"\#(sessionChannel)","cumulativeAmount":"250000","signature":"\#(sessionVoucher)"}"#,
    ] {
      let object = try Fixture.json(text)
      let payload = try ChannelPayload(parsing: object, rules: .evm)
      let written = payload.object(rules: .evm)
      #expect(try ChannelPayload(parsing: written, rules: .evm) == payload)
      #expect(Set(written.names) == Set(object.names))
      #expect(payload.channelID == Fixture.digest(sessionChannel))
      #expect(payload.isManagement == (text.contains(#""action":"topUp"#) || text.contains(#""action":"close"#)))
      #expect("\(payload)" == "<payload>")
      // Members that are unknown are passed over.
      var more = object
      more.set("novelty", true)
      #expect(try ChannelPayload(parsing: more, rules: .evm) == payload)
    }
  }

  /// draft-tempo-session-00: the second protocol names the channel's members in each payload.
  @Test func descriptors() throws {
    let descriptor =
      #"{"payer":"\#(sessionPayer)","payee":"\#(sessionPayee)","operator":"0x0000000000000000000000000000000000000000","token":"\#(sessionToken)","salt":"\#(sessionSalt)","authorizedSigner":"0x0000000000000000000000000000000000000000","expiringNonceHash":"\#(sessionNonceHash)"}"#
    for text in [
      #"{"action":"open","type":"transaction","channelId":"\#(sessionChannel)","transaction":"0x76f901","cumulativeAmount":"0","signature":"\#(sessionVoucher)","descriptor":\#(descriptor)}"#,
      #"{"action":"topUp","type":"transaction","channelId":"\#(sessionChannel)","transaction":"0x76f901","additionalDeposit":"5000000","descriptor":\#(descriptor)}"#,
      #"{"action":"voucher","channelId":"\#(sessionChannel)","cumulativeAmount":"250000","signature":"\#(sessionVoucher)","descriptor":\#(descriptor)}"#,
      #"{"action":"close","channelId":"\#(sessionChannel)","cumulativeAmount":"500000","signature":"\#(sessionVoucher)","descriptor":\#(descriptor)}"#,
    ] {
      var object = try Fixture.json(text)
      let payload = try ChannelPayload(parsing: object, rules: .tempoV2)
      #expect(try ChannelPayload(parsing: payload.object(rules: .tempoV2), rules: .tempoV2) == payload)
      object.remove("descriptor")
      #expect(throws: ChainChargeError.missing(.descriptor)) { _ = try ChannelPayload(parsing: object, rules: .tempoV2) }
      #expect(throws: Never.self) { _ = try ChannelPayload(parsing: object, rules: .tempoV1) }
    }
    // Amounts have 96 bits there.
    let large = try Fixture.json(
      #"{"action":"voucher","channelId":"\#(sessionChannel)","cumulativeAmount":"79228162514264337593543950336","signature":"\#(sessionVoucher)","descriptor":\#(descriptor)}"#)
    #expect(throws: ChainChargeError.overflow(.cumulativeAmount)) { _ = try ChannelPayload(parsing: large, rules: .tempoV2) }
    #expect(throws: Never.self) { _ = try ChannelPayload(parsing: large, rules: .tempoV1) }
  }

  @Test func brokenPayloads() throws {
    let long = "0x" + String(repeating: "ab", count: 4097)
    for (text, error) in [
      (#"{}"#, ChainChargeError.missing(.action)), (#"{"action":5}"#, .malformed(.action)),
      (#"{"action":"voucher","channelId":"0x12","cumulativeAmount":"1","signature":"0x00"}"#, .malformed(.channelId)),
      (#"{"action":"voucher","channelId":"\#(sessionChannel)","cumulativeAmount":"-1","signature":"0x00"}"#, .malformed(.cumulativeAmount)),
      (#"{"action":"voucher","channelId":"\#(sessionChannel)","cumulativeAmount":1,"signature":"0x00"}"#, .malformed(.cumulativeAmount)),
      (#"{"action":"voucher","channelId":"\#(sessionChannel)","cumulativeAmount":"1","signature":"\#(long)"}"#, .tooLong(.signature, limit: 4096)),
      (#"{"action":"voucher","channelId":"\#(sessionChannel)","cumulativeAmount":"1","signature":"0x0g"}"#, .malformed(.signature)),
      (#"{"action":"voucher","channelId":"\#(sessionChannel)","cumulativeAmount":"1","signature":"0x00","deposit":5}"#, .malformed(.deposit)),
      // Only what we submit is merged with a voucher.
      (#"{"action":"voucher","channelId":"\#(sessionChannel)","cumulativeAmount":"1","signature":"0x00","deposit":{"action":"topUp","type":"hash","hash":"\#(sessionSalt)"}}"#, .unknownType),
    ] {
      #expect(throws: error) { _ = try ChannelPayload(parsing: try Fixture.json(text), rules: .evm) }
    }
  }

  // MARK: receipts, events, snapshots

  /// The examples of draft-evm-session-00 "Receipt Generation", with whole ids.
  @Test func receipts() throws {
    let id = Fixture.digest("0x6d0f4fdf1f2f6a1f6c1b0fbd6a7d5c2c0a8d3d7b1f6a9c1b3e2d4a5b6c7d8e9f")
    let escrow = SessionEscrow(rules: .evm, chain: 196, address: Fixture.escrow.address)
    var receipt = ChannelReceipt(
      escrow: escrow, challengeID: "kM9xPqWvT2nJrHsY4aDfEb", channelID: id, acceptedCumulative: 250_000, spent: 237_500,
      timestamp: try #require(Timestamp(rfc3339: "2026-04-01T12:08:30Z")), units: 500)
    let example =
      #"{"method":"evm","intent":"session","status":"success","timestamp":"2026-04-01T12:08:30Z","challengeId":"kM9xPqWvT2nJrHsY4aDfEb","reference":"\#(HexData.text(id))","channelId":"\#(HexData.text(id))","chainId":196,"acceptedCumulative":"250000","spent":"237500","units":500}"#
    func text(_ receipt: ChannelReceipt) -> [UInt8] {
      var out = ByteBuffer()
      receipt.append(to: &out)
      return out.array()
    }
    #expect(text(receipt) == JCS.serialize(.object(try Fixture.json(example))))
    #expect(try ChannelReceipt(text: Array(example.utf8)) == receipt)
    #expect(try ChannelReceipt(field: String(decoding: receipt.fieldValue, as: UTF8.self)) == receipt)
    receipt.units = nil
    receipt.spent = 250_000
    receipt.transaction = Fixture.digest("0x1a2b3c4d5e6f7890abcdef1234567890abcdef1234567890abcdef1234567890")
    let closing = try Fixture.json(
      #"{"acceptedCumulative":"250000","chainId":196,"challengeId":"kM9xPqWvT2nJrHsY4aDfEb","channelId":"\#(HexData.text(id))","intent":"session","method":"evm","reference":"\#(HexData.text(id))","spent":"250000","status":"success","timestamp":"2026-04-01T12:08:30Z","txHash":"0x1a2b3c4d5e6f7890abcdef1234567890abcdef1234567890abcdef1234567890"}"#)
    #expect(text(receipt) == JCS.serialize(.object(closing)))
    // Tempo's receipts have no chain, and what JSON cannot count is not told.
    let tempo = ChannelReceipt(
      escrow: SessionEscrow(rules: .tempoV2, chain: 4217, address: Fixture.escrow.address), challengeID: "c", channelID: id,
      acceptedCumulative: 1, spent: 1, timestamp: receipt.timestamp, units: 1 << 54)
    let object = try #require(try JSON.parse(text(tempo)).objectValue)
    #expect(object["chainId"] == nil && object["units"] == nil && object["method"] == "tempo")
    for (name, value) in [
      ("status", JSONValue.string("failed")), ("reference", .string(sessionSalt)), ("intent", "charge"), ("timestamp", "today"),
      ("units", "5"), ("spent", 5),
    ] {
      var broken = try Fixture.json(example)
      broken.set(name, value)
      #expect(throws: ChainChargeError.self) { _ = try ChannelReceipt(text: JCS.serialize(.object(broken))) }
    }
  }

  /// The reference client wants a space behind the colons and four strings.
  @Test func events() throws {
    let id = Fixture.digest(sessionChannel)
    let event = ChannelStreamEvent.needVoucher(
      channelID: id, requiredCumulative: 250_025, acceptedCumulative: 250_000, deposit: 500_000)
    let data =
      #"{"acceptedCumulative":"250000","channelId":"\#(sessionChannel)","deposit":"500000","requiredCumulative":"250025"}"#
    #expect(event.octets == Array("event: payment-need-voucher\ndata: \(data)\n\n".utf8))
    #expect(try ChannelStreamEvent(needVoucher: Array(data.utf8)) == event)
    #expect(event.name == "payment-need-voucher")
    #expect(
      ChannelStreamEvent.receipt(text: Array("{}".utf8)).octets == Array("event: payment-receipt\ndata: {}\n\n".utf8))
    for broken in ["", "[]", #"{"channelId":"\#(sessionChannel)"}"#, data.replacing("\"500000\"", with: "500000")] {
      #expect(throws: ChainChargeError.self) { _ = try ChannelStreamEvent(needVoucher: Array(broken.utf8)) }
    }
  }

  @Test func snapshots() throws {
    let voucher = Fixture.voucherKey.sign(250_000, by: Fixture.signerKey)
    for rules in [ChannelProtocol.evm, .tempoV2] {
      let escrow = SessionEscrow(rules: rules, chain: sessionChain, address: Fixture.escrow.address)
      let id = Fixture.channel.id(in: escrow)
      let accepted = SessionVoucher(channelID: id, cumulativeAmount: 250_000, signature: voucher.signature)
      let snapshot = ChannelSnapshot(
        escrow: escrow, descriptor: Fixture.channel, accepted: accepted,
        standing: ChannelStanding(deposit: 500_000, settled: 1000, closeRequestedAt: 99), spent: 240_000,
        requiredCumulative: 240_100, units: 24)
      let read = try ChannelSnapshot(field: snapshot.fieldValue, rules: rules)
      #expect(read == snapshot)
      #expect(read.isConsistent)
      #expect(read.accepted == accepted)
      #expect(!snapshot.fieldValue.contains("="))
      #expect(
        Set(snapshot.object.names) == [
          "acceptedCumulative", "chainId", "channelId", "closeRequestedAt", "deposit", "descriptor", "escrow", "highestVoucher",
          "requiredCumulative", "settled", "spent", "units",
        ])
      var forged = snapshot.object
      forged.set("channelId", .string(sessionSalt))
      forged.remove("highestVoucher")
      let other = try ChannelSnapshot(field: Base64URL.encode(JCS.serialize(.object(forged))), rules: rules)
      #expect(!other.isConsistent)
      #expect(other.accepted == nil)
    }
    for value in ["", "!", Base64URL.encode(Array("[]".utf8)), String(repeating: "A", count: 8193)] {
      #expect(throws: ChainChargeError.self) { _ = try ChannelSnapshot(field: value, rules: .evm) }
    }
    let offer = Fixture.offer(nil, rules: .tempoV2)
    var details = offer.details
    details.snapshot = ChannelSnapshot(
      escrow: SessionEscrow(rules: .tempoV2, chain: sessionChain, address: Fixture.escrow.address), descriptor: Fixture.channel,
      accepted: voucher, standing: ChannelStanding(deposit: 5), spent: 1, requiredCumulative: 2)
    details.operator = Fixture.channel.payee
    let told = ChannelSession(
      rules: .tempoV2, amount: 1, unitType: "request", currency: offer.currency, recipient: offer.recipient, details: details)
    #expect(try ChannelSession(parsing: told.object, method: "tempo") == told)
  }

  // MARK: what nobody wrote

  /// Octets of credentials changed at random: each is read or refused, and none that reads passes its checks.
  @Test func mutations() throws {
    var random = SessionGenerator(seed: 0x5E55)
    let texts = [Fixture.openByAuthorization, Fixture.openByPermit, Fixture.topUpByAuthorization, Fixture.topUpByPermit]
    let bodies = texts.map { Array($0.utf8) }
    var readCount = 0
    for round in 0..<4000 {
      var octets = bodies[round % bodies.count]
      for _ in 0...Int.random(in: 0..<3, using: &random) {
        let index = Int.random(in: 0..<octets.count, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: octets[index] = UInt8.random(in: 0...255, using: &random)
        case 1: octets[index] ^= 1
        case 2: octets.remove(at: index)
        default: octets.insert(UInt8.random(in: 0x30...0x39, using: &random), at: index)
        }
      }
      guard let object = (try? JSON.parse(octets))?.objectValue,
        let payload = try? ChannelPayload(parsing: object, rules: .evm)
      else { continue }
      readCount += 1
      let original = try ChannelPayload(parsing: try Fixture.json(texts[round % texts.count]), rules: .evm)
      guard payload != original else { continue }
      switch payload {
      case .open(let opening): #expect(throws: ChannelError.self) { _ = try Fixture.check(opening, wallets: .refused) }
      case .topUp(let topUp): #expect(throws: ChannelError.self) { _ = try Fixture.check(topUp, wallets: .refused) }
      case .voucher, .close: break
      }
    }
    #expect(readCount > 100)
  }

  /// A voucher with any bit of any part changed is refused.
  @Test func alteredVouchers() throws {
    var random = SessionGenerator(seed: 0xCAFE)
    let good = Fixture.voucherKey.sign(250_000, by: Fixture.signerKey)
    let last = Fixture.voucherKey.sign(0, by: Fixture.signerKey)
    for _ in 0..<500 {
      var (amount, signature) = (good.cumulativeAmount, good.signature)
      if Bool.random(using: &random) {
        signature[Int.random(in: 0..<65, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      } else {
        amount ^= 1 << UInt128(UInt8.random(in: 0..<22, using: &random))
      }
      let voucher = SessionVoucher(channelID: good.channelID, cumulativeAmount: amount, signature: signature)
      #expect(throws: ChannelError.self) {
        _ = try Fixture.voucherKey.check(
          voucher, after: last, standing: ChannelStanding(deposit: Fixture.deposit), rules: .evm)
      }
    }
  }
}

/// Draws the same numbers from the same seed (SplitMix64), so that what fails can be repeated.
private struct SessionGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }
}
