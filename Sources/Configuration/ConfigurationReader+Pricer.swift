import HTTP
import Metering

extension ConfigurationReader {
  private static let pricerKeys = ["price-fallback", "pricer-timeout", "pricer-cache", "pricer-fields", "pricer-body-limit"]
  /// Most fields that a pricer is shown.
  private static let pricerFieldLimit = 16

  /// Whether a price is the URL of a service that is asked for it.
  static func isAsked(_ words: String?) -> Bool { words.map { $0.hasPrefix("http://") || $0.hasPrefix("https://") } ?? false }

  /// Reports keys about a pricer on a route that has none.
  static func checkPricer(_ table: TableReader, _ route: Settings.Route) {
    for key in pricerKeys {
      _ = table.node(key)
      if route.pricer == nil, table.has(key) {
        table.report(.conflict, key, expected: "a price that is asked for: price = \"http://127.0.0.1:9000/price\"")
      }
    }
    if route.pricer != nil, table.has("tiers") { table.report(.conflict, "tiers", expected: "a price in words: this one is asked for") }
    if route.pricer != nil, !route.upgrades.isEmpty {
      table.report(.conflict, "upgrade", expected: "a price in words on a route whose connections are switched")
    }
  }

  /// Reads a `price` that is a URL, and the keys beside it.
  func readPricer(_ table: TableReader, _ words: String?) -> Settings.Pricer? {
    guard let words else { return nil }
    let timeout = table.duration("pricer-timeout", in: .milliseconds(10)...(.seconds(30)))
    let lifetime = table.duration("pricer-cache", in: .zero...(.seconds(86_400)))
    let bodyLimit = table.size("pricer-body-limit", in: 0...(1 << 20))
    let fallback = table.string("price-fallback", expected: "a price such as \"0.002 USDC per request\"").flatMap { words in
      price(table, "price-fallback", words)
    }
    if let fallback, fallback.isMetered {
      table.report(.invalidValue, "price-fallback", expected: "a price per request: what is asked for is one")
    }
    let fields = pricerFields(table)
    guard let (authority, target) = Self.parts(ofPricer: words) else {
      table.report(.invalidValue, "price", expected: "a price in words, or the URL of a service that is asked, such as \"http://127.0.0.1:9000/price\"")
      return nil
    }
    var pricer = Settings.Pricer(url: words, authority: authority, target: target)
    pricer.timeout = timeout ?? pricer.timeout
    pricer.lifetime = lifetime ?? pricer.lifetime
    pricer.bodyLimit = bodyLimit.map { Int($0) } ?? 0
    pricer.fallback = fallback
    pricer.fields = fields
    return pricer
  }

  /// Names of fields that the pricer is shown; never those that pay.
  private func pricerFields(_ table: TableReader) -> [String] {
    let expected = "names of request fields such as \"Accept-Language\", but none that carries a payment"
    guard let names = table.strings("pricer-fields", expected: expected) else { return [] }
    var fields: [String] = []
    for (text, node) in names.prefix(Self.pricerFieldLimit) {
      guard Self.isInjectable(text), !fields.contains(text.lowercased()) else {
        table.report(.invalidValue, "pricer-fields", node: node, expected: expected)
        continue
      }
      fields.append(text.lowercased())
    }
    if names.count > Self.pricerFieldLimit { table.report(.outOfRange, "pricer-fields", expected: "at most \(Self.pricerFieldLimit) fields") }
    return fields
  }

  /// Splits a URL into authority and target.
  private static func parts(ofPricer url: String) -> (authority: String, target: String)? {
    let rest = url.dropFirst(url.hasPrefix("https://") ? 8 : 7)
    let end = rest.firstIndex(of: "/") ?? rest.endIndex
    let target = end == rest.endIndex ? "/" : String(rest[end...])
    guard let (_, port) = Authority.split(String(rest[..<end])), port != 0, target.utf8.count <= 2048,
      target.utf8.allSatisfy({ (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "#") })
    else { return nil }
    return (String(rest[..<end]), target)
  }

  /// Makes the price of a route that is asked for: what it costs where nobody knows, until somebody is asked.
  mutating func adopt(_ pricer: Settings.Pricer, _ table: TableReader, _ route: inout Settings.Route) -> Price? {
    guard let price = pricer.fallback ?? settings.currencies.first.flatMap({ Price.unknown(in: $0) }) else {
      table.report(.invalidValue, "price", expected: "a currency of a [[currency]], of which there is none")
      return nil
    }
    if pricer.bodyLimit > 0 {
      // Who sees the content to price it sells that content and no other.
      if table.has("digest"), !route.digest { table.report(.conflict, "digest", expected: "true, since the price depends on the content") }
      if table.has("digest-limit") { table.report(.conflict, "digest-limit", expected: "pricer-body-limit alone") }
      route.digest = true
      route.digestLimit = pricer.bodyLimit
    }
    route.pricer = pricer
    return price
  }

  /// Finds where each pricer is asked: at an `[[upstream]]` with the same origin, whose terms of TLS then hold, or at one of its own.
  mutating func placePricers() {
    for index in settings.routes.indices {
      guard let pricer = settings.routes[index].pricer,
        let upstream = adopt(authority: pricer.authority, isSecure: pricer.url.hasPrefix("https://"), kind: "pricer")
      else { continue }
      settings.routes[index].pricer?.upstream = upstream
    }
  }
}
