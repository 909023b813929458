import Bytes
import Crypto
import Encoding
import Ethereum
import Methods
import Payments

/// A payment on a chain that was sent, or may have been, and whose fate is not known: what has to be shown again for the same purchase, in
/// the place of a second one.
struct PendingPayment: Sendable {
  let offer: ChainOffer
  /// Who signed.
  let payer: Address
  /// The field that carries the payment, and the idempotency key that went with it.
  let fields: [AgentRequest.Field]

  /// Names a purchase: method, address and content.
  static func name(of request: AgentRequest) throws(AgentError) -> String {
    let content = try request.content.digest()
    return SHA256.hash("\(request.method)\n\(request.address)\n\(content.hex)").hex
  }

  /// The payment as its file has it. The file is as private as the sessions' are: who reads it could use the payment for himself.
  var json: JSONValue {
    var object: JSONObject = [
      "version": 1, "payer": .string(payer.checksummed), "chain": .string(offer.chain.description),
      "token": .string(offer.token.token.address.checksummed), "means": .string(offer.means.rawValue), "expires": .string(offer.expires.rfc3339),
      "fields": .array(fields.map { ["name": .string($0.name), "value": .string($0.value)] }),
    ]
    switch offer.dialect {
    case .evm(let challenge, _): object.set("challenge", .string(challenge.fieldValue))
    case .x402(let version, let received, _, _):
      object.set("required", ["x402Version": .integer(version.rawValue), "accepts": .array([.object(received.object)])])
    }
    return .object(object)
  }

  /// Reads what `json` wrote; nil where it is something else, or the token is not known any more.
  init?(json: JSONValue, tokens: [TrustedToken]) {
    guard let object = json.objectValue, let payer = object["payer"]?.stringValue.flatMap({ Address($0) }),
      let chain = object["chain"]?.stringValue.flatMap({ ChainID($0) }), let address = object["token"]?.stringValue.flatMap({ Address($0) }),
      let token = tokens.first(where: { $0.token.chain == chain.number && $0.token.address == address }),
      let means = object["means"]?.stringValue.flatMap({ ChainOffer.Means(rawValue: $0) }),
      let expires = object["expires"]?.stringValue.flatMap({ Timestamp(rfc3339: $0) }), let list = object["fields"]?.arrayValue
    else { return nil }
    var fields: [AgentRequest.Field] = []
    for entry in list {
      guard let name = entry["name"]?.stringValue, let value = entry["value"]?.stringValue else { return nil }
      fields.append(AgentRequest.Field(name: name, value: value))
    }
    if let challenge = object["challenge"]?.stringValue.flatMap({ try? Challenge.parse($0) }), let request = try? challenge.requestObject(),
      let charge = try? EVMCharge(parsing: request)
    {
      offer = ChainOffer(
        dialect: .evm(challenge, charge), token: token, amount: charge.amount, recipients: [charge.recipient] + charge.splits.map(\.recipient),
        means: means, expires: expires)
    } else {
      guard let value = object["required"] else { return nil }
      let required = try? JSON.serialize(value).withUnsafeBytes { (octets) throws(X402Error) in try PaymentRequired(json: octets) }
      guard let required, let received = required.offers.first, let recipient = received.requirements.payToAddress else { return nil }
      offer = ChainOffer(
        dialect: .x402(required.version, received, resource: nil, extensions: [:]), token: token, amount: received.requirements.amount,
        recipients: [recipient], means: means, expires: expires)
    }
    self.payer = payer
    self.fields = fields
  }

  init(offer: ChainOffer, payer: Address, fields: [AgentRequest.Field]) {
    self.offer = offer
    self.payer = payer
    self.fields = fields
  }
}
