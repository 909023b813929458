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

/// What a route whose price is asked for needs of its pricer.
struct RoutePricing: Sendable {
  /// The route as it is configured, and how the audit log calls all of them.
  let route: Settings.Route
  let pricer: Settings.Pricer
  let label: RouteLabel
  /// The pricer's place in the plan.
  let upstream: Int
}

/// What is known of a request's price while the cashier decides about it.
///
/// A route whose price is asked for is decided about before it is: a charge or an open whose authentic challenge quotes a price for this very
/// request needs no other one. Whoever does need one (a challenge, a session's debit) says so, and then it is asked for.
struct RequestPricing {
  /// The price is asked for, and nobody has been asked.
  var isUnknown = false
  /// Somebody needs it.
  var isNeeded = false
  /// The route at the price of this request, for challenges.
  var known: PricedRoute?
}

/// An answer of a pricer on its way to the request that waited for it.
struct OfferedPrice {
  let key: Digest32
  let answer: PriceAnswer
  /// How often the request has been asked about.
  let attempts: Int
}

// Prices that an outside service is asked for.
extension Cashier {
  /// Most routes at asked prices that are kept prepared.
  private static var quotedRouteLimit: Int { 512 }
  /// What separates a route's id from a price in the names of routes at a price; no id has it.
  private static var separator: String { "@" }

  /// Decides about a request whose price is asked for.
  mutating func decideByPricer(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ base: PricedRoute, _ pricing: RoutePricing, at now: Timestamp
  ) -> Verdict {
    defer {
      routes[Int(index)] = base
      self.pricing = RequestPricing()
    }
    let shown = shownFields(request, pricing.pricer)
    let quoted = quotedRoute(request, base, pricing, shown)
    routes[Int(index)] = quoted ?? base
    self.pricing = RequestPricing(isUnknown: true)
    let verdict = decide(request, index, at: now)
    guard self.pricing.isNeeded else { return verdict }
    if pricing.pricer.bodyLimit > 0, case .streaming = request.content { return .collectBody(limit: pricing.pricer.bodyLimit) }
    let price: QuotedPrice
    switch answer(request, pricing, shown) {
    case .unknown(let question): return .awaitPrice(question)
    case .failed: return .answer(priceUnavailable())
    case .quoted(let quoted): price = quoted
    }
    guard !price.isFree else { return .free }
    guard let variant = route(base, pricing, price, shown) else { return .answer(priceUnavailable()) }
    routes[Int(index)] = quoted ?? variant
    self.pricing = RequestPricing(known: variant)
    return decide(request, index, at: now)
  }

  /// 503: what the request costs is not known.
  private func priceUnavailable() -> Answer {
    let detail = "The price of this request cannot be determined at the moment. Nothing is charged."
    return Answer(
      status: 503, fields: Array("Content-Type: application/problem+json\r\nCache-Control: no-store\r\nRetry-After: 1\r\n".utf8),
      body: Array(#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"\#(detail)"}"#.utf8))
  }

  // MARK: the route at a price

  /// The route at the price that the request's own charge or open was quoted; nil where it carries none that is authentic. Everything
  /// else about the credential is verified by whoever takes it.
  private mutating func quotedRoute(
    _ request: borrowing PaidRequest, _ base: PricedRoute, _ pricing: RoutePricing, _ shown: Digest32?
  ) -> PricedRoute? {
    guard case .token(let range, let field) = PresentedCredential(request.octets, request.head),
      let credential = try? Credential.parse(UnsafeRawBufferPointer(rebasing: request.octets[range]), field: field),
      credential.isAuthentic(keys.challengeSecrets), let binding = try? RouteBinding(credential.opaque),
      binding.route.hasPrefix(base.name + Self.separator),
      let payload = try? PrepaidPayload(parsing: credential.payload, intent: credential.challenge.intent, source: credential.source)
    else { return nil }
    switch payload {
    case .transfer, .open: break
    case .bearer, .topUp, .status, .close: return nil
    }
    let mark = binding.route.dropFirst(base.name.count + Self.separator.count).prefix { $0 != "~" }
    guard let price = QuotedPrice(mark: mark) else { return nil }
    return route(base, pricing, price, shown)
  }

  /// The route at a price. Its name holds the price, and a digest of the fields that were shown: a challenge that was issued for some
  /// of them pays for no others. The client chooses what it shows, so half of the digest is the least that keeps two of its choices apart.
  private mutating func route(_ base: PricedRoute, _ pricing: RoutePricing, _ quoted: QuotedPrice, _ shown: Digest32?) -> PricedRoute? {
    var mark = Self.separator + quoted.mark
    if let shown { mark += "~" + shown.hex.prefix(32) }
    let key = QuotedRouteKey(name: base.name + mark, description: quoted.description)
    if let variant = quotedRoutes[key], variant.pricing?.label == pricing.label { return variant }
    guard let price = quoted.price(settings.currencies) else { return nil }
    var route = pricing.route
    route.offer = .priced(price)
    route.description = quoted.description ?? route.description
    if price.currency != base.price.currency {
      // Those are in the other currency.
      route.minimumDeposit = 0
      route.suggestedDeposit = 0
    }
    guard let variant = try? PricedRoute(route, settings: settings, label: pricing.label, pricing: pricing, mark: mark) else { return nil }
    if quotedRoutes.count >= Self.quotedRouteLimit { quotedRoutes.removeAll(keepingCapacity: true) }
    quotedRoutes[key] = variant
    return variant
  }

  /// Whether a session has accepted a route at this price: who has accepted a higher one accepts a lower.
  func hasAccepted(_ view: SessionView, _ route: PricedRoute) -> Bool {
    guard route.isQuoted, route.merchant == view.terms.merchant, route.price.currency.code == view.terms.currency else { return false }
    let prefix = route.name + Self.separator
    return view.terms.routes.contains { terms in
      terms.routeID.hasPrefix(prefix) && !terms.price.isMetered && terms.price.currency == route.price.currency
        && route.price.requestCost <= terms.price.requestCost
    }
  }

  // MARK: questions

  /// What is known of the price.
  private enum Known {
    case quoted(QuotedPrice)
    case unknown(PriceQuestion)
    case failed
  }

  private func answer(_ request: borrowing PaidRequest, _ pricing: RoutePricing, _ shown: Digest32?) -> Known {
    let pricer = pricing.pricer
    let content = question(request, pricing)
    var hash = SHA256()
    hash.update(pricer.url)
    hash.update(byte: 0)
    content.withUnsafeBytes { hash.update($0) }
    let key = hash.finalize()
    var answer = prices?.known(key, at: request.monotonic)
    if let offered, offered.key == key { answer = offered.answer }
    guard let answer else {
      guard prices != nil else { return fallback(pricer) }
      return .unknown(
        PriceQuestion(
          key: key, upstream: pricing.upstream, request: Self.request(pricer, content), timeout: pricer.timeout.nanoseconds,
          lifetime: pricer.lifetime.nanoseconds, currencies: settings.currencies, url: pricer.url))
    }
    switch answer {
    case .quoted(let quoted): return .quoted(quoted)
    case .failed: return fallback(pricer)
    }
  }

  private func fallback(_ pricer: Settings.Pricer) -> Known {
    pricer.fallback.flatMap { QuotedPrice($0) }.map { .quoted($0) } ?? .failed
  }

  /// What the pricer is shown: one JSON object. Of the head the named fields only, and of `Authorization` nothing that pays.
  private func question(_ request: borrowing PaidRequest, _ pricing: RoutePricing) -> [UInt8] {
    let method = UnsafeRawBufferPointer(rebasing: request.octets[request.head.pointee.methodRange])
    var object: JSONObject = [
      "route": .string(pricing.route.id), "method": .string(String(decoding: method, as: UTF8.self)),
      "path": .string(String(decoding: request.path, as: UTF8.self)),
    ]
    if let query = request.query { object.set("query", .string(String(decoding: query, as: UTF8.self))) }
    var headers = JSONObject()
    for name in pricing.pricer.fields {
      let value = Self.value(of: name, request)
      if !value.isEmpty { headers.set(name, .string(String(decoding: value, as: UTF8.self))) }
    }
    object.set("headers", .object(headers))
    if pricing.pricer.bodyLimit > 0, case .buffered(let octets) = request.content, !octets.isEmpty {
      if let text = String(validating: octets, as: UTF8.self), !octets.contains(0) {
        object.set("body", .string(text))
      } else {
        object.set("bodyBase64", .string(Base64.encode(octets)))
      }
    }
    return JSON.serialize(.object(object))
  }

  /// The values of a field, joined as HTTP joins them.
  private static func value(of name: String, _ request: borrowing PaidRequest) -> [UInt8] {
    var joined: [UInt8] = []
    for field in request.head.pointee.fields {
      let own = field.name(in: request.octets)
      guard own.count == name.utf8.count, zip(own, name.utf8).allSatisfy({ ($0 >= 0x41 && $0 <= 0x5A ? $0 | 0x20 : $0) == $1 }) else { continue }
      let value = field.value(in: request.octets)
      if field.name == .authorization, PaymentScheme.occurs(in: value) { continue }
      if !joined.isEmpty { joined += [0x2C, 0x20] }
      joined.append(contentsOf: value)
    }
    return joined
  }

  /// A digest of the fields that the pricer is shown; nil where it is shown none.
  private func shownFields(_ request: borrowing PaidRequest, _ pricer: Settings.Pricer) -> Digest32? {
    guard !pricer.fields.isEmpty else { return nil }
    var hash = SHA256()
    for name in pricer.fields {
      let value = Self.value(of: name, request)
      hash.update("\(name):\(value.count):")
      value.withUnsafeBytes { hash.update($0) }
    }
    return hash.finalize()
  }

  private static func request(_ pricer: Settings.Pricer, _ content: [UInt8]) -> [UInt8] {
    let head = """
      POST \(pricer.target) HTTP/1.1\r
      Host: \(pricer.authority)\r
      User-Agent: \(UpstreamFields.pseudonym)\r
      Content-Type: application/json\r
      Accept: application/json\r
      Accept-Encoding: identity\r
      Content-Length: \(content.count)\r
      \r

      """
    return Array(head.utf8) + content
  }
}

/// Names a route at a price.
struct QuotedRouteKey: Hashable {
  let name: String
  let description: String?
}
