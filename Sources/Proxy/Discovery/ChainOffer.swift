import Encoding
import Ethereum
import Methods
import Payments

/// One way to pay a route's price on a chain, as the discovery documents tell it.
struct ChainOffer: Sendable {
  private let dialect: String
  /// How it is paid, in the dialect's own members.
  private let way: JSONObject
  private let network: String
  private let amount: UInt128
  private let token: ChainToken
  private let recipient: Address
  private let extra: JSONObject
  /// What the amount buys, where that is no request.
  private var unit = ""

  /// What stands in `PAYMENT-REQUIRED`.
  init(_ offer: RouteRails.Offer, _ requirements: PaymentRequirements) {
    self.init(offer, "x402", ["scheme": .string(requirements.scheme.rawValue)], requirements.extra)
  }

  /// What a challenge of MPP asks for.
  init(_ offer: RouteRails.Offer, _ request: ChargeRequest) {
    var extra: JSONObject = [:]
    if let types = request.object["methodDetails"]?["credentialTypes"] { extra.set("credentialTypes", types) }
    self.init(offer, "mpp", ["method": .string(request.method), "intent": "charge"], extra)
  }

  /// What a challenge of MPP asks for by sessions over channels.
  init(_ session: RouteRails.SessionOffer) {
    let details = session.request.object["methodDetails"]?.objectValue ?? JSONObject()
    var extra: JSONObject = [:]
    for name in ["credentialTypes", "escrowContract", "sessionProtocol", "unitSize"] {
      if let value = details[name] { extra.set(name, value) }
    }
    if let unit = session.request.unitType { extra.set("unitType", .string(unit)) }
    self.init(session.offer, "mpp", ["method": .string(session.escrow.rules.method), "intent": .string(ChannelProtocol.intent)], extra)
    let size = session.request.details.unitSize
    unit = " per \(size == 1 ? "" : "\(size) ")\(session.request.unitType ?? "request")"
  }

  private init(_ offer: RouteRails.Offer, _ dialect: String, _ way: JSONObject, _ extra: JSONObject) {
    self.dialect = dialect
    self.way = way
    network = ChainID(offer.chain).description
    amount = offer.amount
    token = offer.token
    recipient = offer.recipient
    self.extra = extra
  }

  /// Whether it is paid by x402's fields.
  var isX402: Bool { dialect == "x402" }

  /// The offer for programs; without an amount where each request has its own price.
  func json(isDynamic: Bool) -> JSONValue {
    var object: JSONObject = ["protocol": .string(dialect)]
    for (name, value) in way.members { object.set(name, value) }
    object.set("network", .string(network))
    object.set("amount", isDynamic ? .null : .string(String(amount)))
    object.set("asset", .string(token.address.checksummed))
    object.set("payTo", .string(recipient.checksummed))
    if !extra.isEmpty { object.set("extra", .object(extra)) }
    return .object(object)
  }

  /// The offer for models.
  func words(isDynamic: Bool) -> String {
    let names = way.members.compactMap(\.value.stringValue).joined(separator: "/")
    let ways = extra["assetTransferMethod"]?.stringValue.map { " (\($0))" } ?? ""
    let amount = isDynamic ? token.currency.symbol : "\(token.currency.format(amount)) \(token.currency.symbol)"
    return "\(dialect) \(names)\(ways): \(amount)\(unit) of the token \(token.address.checksummed) on \(network) to \(recipient.checksummed)"
  }
}

extension RouteRails {
  /// All ways to pay on chains, x402's first.
  var discovered: [ChainOffer] {
    zip(x402, requirements).map { ChainOffer($0, $1) } + charges.map { ChainOffer($0.offer, $0.request) } + sessions.map { ChainOffer($0) }
  }
}
