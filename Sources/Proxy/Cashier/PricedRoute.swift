import Bytes
import Configuration
import Crypto
import Encoding
import Gateway
import HTTP
import Ledger
import Metering
import Methods
import Payments

/// What the cashier needs of a priced route, worked out once.
///
/// A class, since each request looks at its route several times: a copy would count references to all of its arrays.
final class PricedRoute: Sendable {
  /// What bindings and terms call it: the settings' name, and behind it the price where that was asked for.
  let id: String
  /// What the settings call it.
  let name: String
  /// Who is asked what a request costs; nil: the price is known.
  let pricing: RoutePricing?
  /// Whether the price is an answer to that.
  let isQuoted: Bool
  let price: Price
  let printer: ChallengePrinter
  /// What the price comes to on chains.
  let rails: RouteRails
  /// By the printer's offers: what each needs to be kept.
  let offerFootings: [RouteRails.Footing]
  /// For how long who has paid by x402 may come back; nil: not at all.
  let signIn: Duration?
  let label: RouteLabel
  let merchant: String
  let freeMethods: MethodSet
  let intents: Settings.Intents
  let chargeStatus: Settings.StatusSet
  let settlement: Settings.Settlement
  let bindsDigest: Bool
  let digestLimit: Int
  let minimumDeposit: UInt128
  let idleTimeout: Duration
  let holdTimeout: Int64
  let maximumInFlight: UInt32
  let usage: Settings.UsageReading
  /// Whether a request's content has to be read before the request can be paid for.
  let readsContent: Bool
  /// The field in which the upstream reports units, in lower case.
  let unitsField: [UInt8]
  /// How often the route may be asked, and what it is counted by.
  let rate: (key: Digest32, limit: RateLimit)?
  /// What is free or cheaper by volume; nil where nothing is.
  let volume: VolumePlan?
  /// Whether what a session's request costs depends on what its wallet asked for before.
  let countsWallets: Bool
  /// What the route was sold for before; challenges of it may still be paid.
  let former: [FormerOffer]

  /// Prepares a route; nil where it is free.
  ///
  /// - Throws: where a name of the settings cannot be sent or bound, which `farebox check` reports better.
  ///
  /// - Parameters:
  ///   - service: names what the route's rate is counted by, where it is a variant of another route.
  ///   - pricing: who is asked what requests cost.
  ///   - mark: what is put behind the id where the price is an answer to that.
  init?(
    _ route: Settings.Route, settings: Settings, label: RouteLabel, former: [FormerOffer] = [], service: String? = nil, pricing: RoutePricing? = nil,
    mark: String? = nil
  ) throws(PaymentError) {
    guard let price = route.price else { return nil }
    name = route.id
    id = route.id + (mark ?? "")
    self.pricing = pricing
    isQuoted = mark != nil
    self.price = price
    self.label = label
    merchant = route.merchant
    freeMethods = route.freeMethods
    usage = route.usage
    readsContent = price.countsTokens
    unitsField = Array(route.usage.unitsField.lowercased().utf8)
    self.former = former
    signIn = route.signIn
    intents = Self.intents(of: route, price)
    chargeStatus = route.chargeStatus
    settlement = route.settlement
    bindsDigest = route.digest
    digestLimit = route.digestLimit
    idleTimeout = route.idleTimeout
    holdTimeout = Self.nanoseconds(route.holdTimeout)
    rate = route.rate.map { (SHA256.hash(Array((service ?? route.id).utf8)), $0) }
    let volume = VolumePlan(route, scope: service ?? route.id)
    self.volume = volume
    countsWallets = volume?.countsWallets ?? false
    maximumInFlight = UInt32(clamping: max(1, route.maxInFlight))
    let deposits = Self.deposits(route, price)
    minimumDeposit = deposits.minimum
    let rails = try RouteRails(route, price, settings)
    self.rails = rails
    let prepaid = Self.offers(route, price, intents: intents, settings: settings, deposits: deposits, volume: volume)
    let ordered = route.rails.flatMap { rail in rail == .prepaid ? prepaid.map { (.ledger, $0) } : rails.offers(of: rail) }
    offerFootings = ordered.map(\.0)
    printer = try ChallengePrinter(
      route: id, realm: settings.realm, issuer: settings.origin, priceVersion: price.version,
      selectsAlternateField: route.paymentAuthorization, lifetime: settings.expires,
      offers: ordered.map(\.1),
      isOptional: rails.printer != nil)
  }

  /// A charge pays for a known amount, so a metered route is sold by session only.
  static func intents(of route: Settings.Route, _ price: Price) -> Settings.Intents {
    price.isMetered ? route.intents.intersection(.session) : route.intents
  }

  /// Finds what the route is sold for, or was sold for when a challenge that has not expired was issued.
  func terms(at now: Timestamp, where matches: (Price, String, Settings.Intents) -> Bool) -> Price? {
    if matches(price, merchant, intents) { return price }
    return former.first { $0.until > now && matches($0.price, $0.merchant, $0.intents) }?.price
  }

  /// A deposit that pays for nothing would only make a session that refuses its first request.
  static func deposits(_ route: Settings.Route, _ price: Price) -> (minimum: UInt128, suggested: UInt128) {
    let first = route.upgrades.isEmpty ? price.cost(of: Self.oneOfEach) : price.upgradeCost
    let least = first?.ceiling ?? 1
    let minimum = max(route.minimumDeposit, least, 1)
    if route.suggestedDeposit > 0 { return (minimum, max(minimum, route.suggestedDeposit)) }
    // A hundred requests, or ten times the leading rate's unit size.
    let (hundred, overflows) = price.requestCost.ceiling.multipliedReportingOverflow(by: 100)
    let (ten, tenOverflows) = (price.parts.first { !$0.unit.isOnce }?.amount ?? 0).multipliedReportingOverflow(by: 10)
    return (minimum, max(minimum, overflows ? minimum : hundred, tenOverflows ? minimum : ten))
  }

  /// The least that a metered exchange may use: a session that cannot pay for it is of no use.
  private static let oneOfEach = Quantities(responseOctets: 1, events: 1, seconds: 1, inputTokens: 1, outputTokens: 1, units: 1)

  private static func nanoseconds(_ duration: Duration) -> Int64 {
    let (seconds, attoseconds) = duration.components
    let (product, overflows) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    return overflows ? .max : product.addingReportingOverflow(attoseconds / 1_000_000_000).partialValue
  }

  private static func offers(
    _ route: Settings.Route, _ price: Price, intents: Settings.Intents, settings: Settings, deposits: (minimum: UInt128, suggested: UInt128),
    volume: VolumePlan?
  ) -> [Offer] {
    // The resource is filled in for each request.
    let details = PrepaidDetails(decimals: price.currency.decimals, ledger: settings.ledger.name, resource: Resource(method: "", url: ""))
    var offers: [Offer] = []
    guard route.rails.contains(.prepaid) else { return offers }
    if intents.contains(.charge) {
      let charge = PrepaidCharge(
        amount: price.chargeAmount, currency: price.currency.code, recipient: route.merchant, description: route.description,
        details: details)
      offers.append(
        Offer(
          method: Prepaid.method, intent: "charge", amount: charge.amount, currency: charge.currency, recipient: charge.recipient,
          description: route.description, request: withoutResource(charge.object)))
    }
    if intents.contains(.session), let leading = price.parts.first {
      let session = PrepaidSession(
        rates: price.parts, currency: price.currency.code, recipient: route.merchant, suggestedDeposit: deposits.suggested,
        minimumDeposit: deposits.minimum, idleTimeout: UInt64(clamping: route.idleTimeout.components.seconds),
        minimum: price.minimum, maximum: price.maximum,
        description: route.description, details: details)
      offers.append(
        Offer(
          method: Prepaid.method, intent: "session", amount: leading.amount, currency: session.currency, recipient: session.recipient,
          description: route.description, request: withoutResource(session.object, volume)))
    }
    return offers
  }

  private static func withoutResource(_ request: JSONObject, _ volume: VolumePlan? = nil) -> JSONObject {
    var request = request
    guard var details = request["methodDetails"]?.objectValue else { return request }
    details.remove("resource")
    volume?.tell(&details)
    request.set("methodDetails", .object(details))
    return request
  }
}
