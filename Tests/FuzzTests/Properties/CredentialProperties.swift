import Bytes
import Crypto
import Encoding
import Ethereum
import HTTP
import Methods
import Payments

private let word = String(repeating: "5e", count: 32)
private let account = String(repeating: "20", count: 20)
private let signature = "0x" + String(repeating: "5e", count: 64) + "1b"

private func credential(_ method: String, _ intent: String, _ payload: String) -> String {
  #"{"challenge":{"expires":"2030-01-01T00:00:00Z","id":"X6v1eo7fJ76gAxqY0xN9Jd__4lUyDDYmriryOM-5FO4","intent":"\#(intent)","method":"\#(method)","opaque":"eyJuIjoiQSJ9","realm":"a","request":"eyJhbW91bnQiOiIxIn0"},"payload":\#(payload),"source":"did:pkh:eip155:1:0x\#(account)"}"#
}

private let descriptor =
  #"{"payer":"0x\#(account)","payee":"0x\#(account)","operator":"0x\#(account)","token":"0x\#(account)","salt":"0x\#(word)","authorizedSigner":"0x\#(account)","expiringNonceHash":"0x\#(word)"}"#
private let permit =
  #""permit":{"permitted":[{"token":"0x\#(account)","amount":"1"}],"nonce":"1","deadline":"9"},"transferDetails":[{"to":"0x\#(account)","requestedAmount":"1"}],"witness":{"challengeHash":"0x\#(word)"}"#
private let authorization =
  #""type":"authorization","from":"0x\#(account)","to":"0x\#(account)","value":"1","validAfter":"0","validBefore":"9","nonce":"0x\#(word)""#
private let voucher = #""channelId":"0x\#(word)","cumulativeAmount":"7","signature":"\#(signature)""#

private let credentialSamples = [
  credential("prepaid", "charge", #"{"type":"transfer","wallet":"\#(word)","signature":"X6v1eo7fJ76gAxqY0xN9Jd"}"#),
  credential("prepaid", "session", #"{"action":"open","wallet":"\#(word)","deposit":"100","sessionId":"\#(word)","signature":"X6v1eo7fJ76gAxqY0xN9Jd"}"#),
  credential("prepaid", "session", #"{"action":"bearer","sessionId":"\#(word)","secret":"\#(word)"}"#),
  credential("evm", "charge", #"{"type":"permit2",\#(permit),"signature":"\#(signature)"}"#),
  credential("evm", "charge", #"{\#(authorization),"signature":"\#(signature)"}"#),
  credential("evm", "charge", #"{"type":"hash","hash":"0x\#(word)"}"#),
  credential("tempo", "charge", #"{"type":"transaction","signature":"0x76f8\#(word)"}"#),
  credential("evm", "session", #"{"action":"voucher",\#(voucher)}"#),
  credential("tempo", "session", #"{"action":"open","type":"transaction","transaction":"0x76","descriptor":\#(descriptor),\#(voucher)}"#),
  credential("tempo", "session", #"{"action":"topUp","type":"hash","hash":"0x\#(word)","additionalDeposit":"1","channelId":"0x\#(word)"}"#),
  credential("evm", "session", #"{"action":"voucher",\#(voucher),"deposit":{"action":"open",\#(authorization),"salt":"0x\#(word)","signature":"\#(signature)"}}"#),
]

/// What a method reads of a credential that the grammar takes.
private func readPayload(_ payload: JSONObject, _ read: Credential?, _ intent: String) throws {
  _ = try? PrepaidPayload(parsing: payload, intent: intent, source: read?.source)
  if let charge = try? EVMChargePayload(parsing: payload) {
    let again = try? EVMChargePayload(parsing: charge.object)
    try require(again?.object == charge.object, "what is written of a charge is read otherwise: \(charge.object)")
  }
  _ = try? TempoChargePayload(parsing: payload)
  for rules in ChannelProtocol.allCases {
    guard let action = try? ChannelPayload(parsing: payload, rules: rules) else { continue }
    let again = try? ChannelPayload(parsing: action.object(rules: rules), rules: rules)
    try require(again == action, "what is written of a channel's payload is read otherwise: \(JCS.serialize(action.object(rules: rules)))")
  }
}

/// What a client reads of the terms that a 402 offers.
private func readRequest(_ request: JSONObject) {
  _ = try? PrepaidCharge(parsing: request)
  _ = try? PrepaidSession(parsing: request)
  _ = try? EVMCharge(parsing: request)
  _ = try? TempoCharge(parsing: request)
  for method in ["evm", "tempo"] { _ = try? ChannelSession(parsing: request, method: method) }
}

private let fieldSamples = [
  #"Payment id="a", realm="b", method="prepaid", intent="charge", request="e30", expires="2030-01-01T00:00:00Z""#,
  #"Basic realm="x", Payment id="\"", realm=b , Bearer abc"#,
  #"Payment id="a", realm="b", method="evm", intent="session", request="e30", description="a, \"b\"", opaque="eyJuIjoiQSJ9", header="Payment-Authorization", digest="sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:""#,
  "prepaid/charge;q=0.5, */session, tempo/*;q=0",
]

private let receiptSamples = [
  #"{"amount":"1","challengeId":"a","currency":"usdc","intent":"charge","kid":"k","logRoot":"\#(word)","logSize":"7","method":"prepaid","recipient":"r","reference":"x","resource":{"method":"GET","url":"https://a/b"},"sig":"AA","status":"success","timestamp":"2026-01-01T00:00:00Z"}"#,
  #"{"amount":"1","chainId":8453,"challengeId":"a","currency":"usdc","intent":"session","method":"evm","recipient":"r","reference":"x","remaining":"5","resource":{"method":"GET","url":"https://a/b"},"sessionId":"s","spent":"3","status":"success","timestamp":"2026-01-01T00:00:00.000001Z","units":"2"}"#,
  #"{"method":"evm","intent":"session","status":"success","timestamp":"2026-01-01T00:00:00Z","reference":"0x\#(word)","challengeId":"a","channelId":"0x\#(word)","acceptedCumulative":"7","spent":"3","units":2,"chainId":1}"#,
  #"{"channelId":"0x\#(word)","requiredCumulative":"7","acceptedCumulative":"3","deposit":"10"}"#,
]

private let accepted =
  #"{"scheme":"batch-settlement","network":"eip155:8453","amount":"1","asset":"0x\#(account)","payTo":"0x\#(account)","maxTimeoutSeconds":60,"extra":{"withdrawDelay":900}}"#
private let config =
  #"{"payer":"0x\#(account)","payerAuthorizer":"0x\#(account)","receiver":"0x\#(account)","receiverAuthorizer":"0x\#(account)","token":"0x\#(account)","withdrawDelay":900,"salt":"0x\#(word)"}"#
private let payments = [
  #"{"x402Version":2,"accepted":\#(accepted),"payload":{"type":"voucher","channelConfig":\#(config),"voucher":{"channelId":"0x\#(word)","maxClaimableAmount":"7","signature":"0x\#(word)"}}}"#,
  #"{"x402Version":1,"scheme":"exact","network":"base","payload":{"signature":"0x\#(word)","authorization":{"from":"0x\#(account)","to":"0x\#(account)","value":"1","validAfter":"0","validBefore":"9","nonce":"0x\#(word)"}}}"#,
]
private let answers = [
  #"{"success":true,"transaction":"0x\#(word)","network":"base","amount":"1","extra":{"chargedAmount":"1","channelState":{"channelId":"0x\#(word)","balance":"1","totalClaimed":"0"}}}"#,
  #"{"kinds":[{"x402Version":2,"scheme":"upto","network":"eip155:1","extra":{}}],"extensions":["a"],"signers":{"eip155:*":["0x"]}}"#,
  #"{"x402Version":2,"resource":{"url":"u"},"accepts":[\#(accepted)],"extensions":{}}"#,
  #"{"isValid":false,"invalidReason":"insufficient_funds","payer":"0x\#(account)"}"#,
]

extension Property {
  /// Challenges, credentials and receipts of the Payment scheme, and what x402 has in their place.
  static let credentials: [Property] = [
    Property("credentials", credentialSamples) { octets in
      octets.withUnsafeBytes { _ = try? Credential.parse($0, field: .authorization) }
      octets.withUnsafeBytes { _ = try? PrepaidSessionField.parse($0) }
      octets.withUnsafeBytes { _ = try? WalletQuery(parsing: $0) }
      let token = Base64URL.encodeOctets(octets)
      let read = token.withUnsafeBytes { token in Result { try Credential.parse(token, field: .authorization) } }
      guard let read = try? read.get() else {
        if let object = (try? JSON.parse(octets))?.objectValue, let payload = object["payload"]?.objectValue {
          for intent in ["charge", "session"] { try readPayload(payload, nil, intent) }
        }
        return
      }
      // What a client would make of the same parts is the same credential.
      let object = Credential.object(challenge: read.challenge, source: read.source, payload: read.payload)
      let value = Array(Credential.fieldValue(object).utf8.dropFirst("Payment ".utf8.count))
      if value.count <= Credential.limit {
        let again = try value.withUnsafeBytes { value in Result { try Credential.parse(value, field: .authorization) } }.get()
        try require(
          again.challenge == read.challenge && again.challengeID == read.challengeID && again.payload == read.payload && again.source == read.source,
          "written as \(value)")
      }
      try readPayload(read.payload, read, read.challenge.intent)
      readRequest(read.request)
    },
    Property("challenges", fieldSamples) { octets in
      let text = String(decoding: octets, as: UTF8.self)
      for challenge in ChallengeList.parse(text) {
        let value = challenge.fieldValue
        // No control character comes through the decoder of heads; here it would be read, and a space be written for it.
        let isFieldValue = octets.allSatisfy { $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }
        if isFieldValue, value.utf8.count <= ChallengeList.valueLimit { try require((try? Challenge.parse(value)) == challenge, "written as \(value)") }
        if let request = try? challenge.requestObject() { readRequest(request) }
        _ = challenge.expiry
        _ = challenge.covers(host: "api.example.com")
      }
      octets.withUnsafeBytes { octets in
        guard let accepted = AcceptPayment(octets) else { return }
        _ = accepted.rank([("prepaid", "charge"), ("evm", "session"), ("tempo", "charge")])
      }
      if let request = (try? JSON.parse(octets))?.objectValue { readRequest(request) }
    },
    Property("receipts", receiptSamples) { octets in
      let text = Base64URL.encode(octets)
      if let receipt = try? Receipt.parse(text) {
        let again = try? Receipt.parse(String(decoding: receipt.encoded, as: UTF8.self))
        try require(again?.encoded == receipt.encoded, "written as \(String(decoding: receipt.encoded, as: UTF8.self))")
      }
      if let receipt = try? ChannelReceipt(text: octets) {
        var written = ByteBuffer()
        receipt.append(to: &written)
        try require((try? ChannelReceipt(text: written.array())) != nil, "written as \(written.string())")
      }
      _ = try? ChannelStreamEvent(needVoucher: octets)
      for rules in ChannelProtocol.allCases { _ = try? ChannelSnapshot(field: text, rules: rules) }
      if let object = (try? JSON.parse(octets))?.objectValue {
        _ = try? SessionStatus(parsing: object)
        _ = try? PrepaidDetails(parsing: object)
      }
    },
    Property("x402-payments", payments) { octets in
      octets.withUnsafeBytes { _ = try? PaymentPayload.parse($0, field: .xPayment) }
      guard let payment = try? PaymentPayload(json: octets) else { return }
      try require(payment.json == octets, "other octets are passed on")
      let object: JSONObject?
      switch payment.version {
      case .v1: object = PaymentPayload.objectV1(network: payment.network, payment: payment.payment)
      case .v2: object = (try? JSON.parse(octets))?.objectValue?["accepted"]?.objectValue.map { PaymentPayload.object(accepted: $0, payment: payment.payment) }
      }
      guard let object else { throw Violation(description: "it cannot be written") }
      let written = Array(JSON.serialize(.object(object)))
      if written.count <= PaymentPayload.limit {
        let again = try PaymentPayload(json: written)
        try require(again.payer == payment.payer && again.payment.json == payment.payment.json && again.accepted == payment.accepted, "written as \(object)")
      }
    },
    Property("x402-answers", answers) { octets in
      octets.withUnsafeBytes { octets in
        _ = try? SettlementResponse(json: octets, network: X402Network(chainID: 8453))
        _ = try? SupportedResponse(json: octets)
        _ = try? VerifyResponse(json: octets)
        _ = try? PaymentRequired(json: octets)
        _ = try? SignInProof(fieldValue: octets)
      }
      let text = Array(Base64.encode(octets).utf8)
      text.withUnsafeBytes { _ = try? SignInProof(fieldValue: $0) }
    },
  ]
}
