import Metering

// Free requests, and lower prices for those who ask for much.
extension ConfigurationReader {
  private static let freeExample = "words such as \"1000 requests per wallet per day\" or \"20 requests per address per hour\", each of the two once"
  private static let tierExample = "words such as \"0.001 USDC per request beyond 100000 requests per wallet per month\""
  /// The most requests that the words may name.
  private static let countLimit: UInt64 = 1_000_000_000_000

  /// Reads `free-units` and `tiers`; after the prices.
  func readVolume(_ table: TableReader, _ route: inout Settings.Route) {
    for (text, node) in table.strings("free-units", expected: Self.freeExample) ?? [] {
      guard let units = Self.freeUnits(text), !route.freeUnits.contains(where: { $0.subject == units.subject }) else {
        table.report(.invalidValue, "free-units", node: node, expected: Self.freeExample)
        continue
      }
      route.freeUnits.append(units)
    }
    for (text, node) in table.strings("tiers", expected: Self.tierExample) ?? [] {
      guard let tier = tier(table, text, node, route) else { continue }
      route.tiers.append(tier)
    }
    checkVolume(table, route)
  }

  /// Reads `1000 requests per wallet per day`.
  static func freeUnits(_ text: String) -> Settings.FreeUnits? {
    let words = text.split(separator: " ")
    guard words.count == 6, let count = count(words[0], words[1]), words[2] == "per", let subject = Settings.VolumeSubject(rawValue: String(words[3])),
      words[4] == "per", let period = Period(word: words[5])
    else { return nil }
    return Settings.FreeUnits(count: count, subject: subject, period: period)
  }

  private static func count(_ number: Substring, _ unit: Substring) -> UInt64? {
    guard unit == "requests" || unit == "request", let count = UInt64(number), (1...countLimit).contains(count) else { return nil }
    return count
  }

  private func tier(_ table: TableReader, _ text: String, _ node: Document.Node, _ route: Settings.Route) -> Settings.Tier? {
    func refuse(_ expected: String) -> Settings.Tier? {
      table.report(.invalidValue, "tiers", node: node, expected: expected)
      return nil
    }
    guard let beyond = text.range(of: " beyond ") else { return refuse(Self.tierExample) }
    let words = text[beyond.upperBound...].split(separator: " ")
    guard words.count == 6, let count = Self.count(words[0], words[1]), words[2...4].elementsEqual(["per", "wallet", "per"]), let period = Period(word: words[5])
    else { return refuse(Self.tierExample) }
    guard let base = route.price else { return nil }
    guard var price = price(table, "tiers", node: node, String(text[..<beyond.lowerBound])) else { return nil }
    // The bounds of an exchange are the route's, unless the tier has its own.
    price = price.bounded(minimum: price.minimum > 0 ? price.minimum : min(base.minimum, price.maximum), maximum: min(price.maximum, base.maximum)) ?? price
    guard price.isAtMost(route.tiers.last?.price ?? base) else {
      return refuse("a price of which no part is dearer than before: \((route.tiers.last?.price ?? base).words)")
    }
    let last = route.tiers.last
    guard count > last?.beyond ?? 0, period == last?.period ?? period, route.tiers.count < Settings.Tier.limit else {
      return refuse("at most \(Settings.Tier.limit) tiers of one period, each beyond more requests than the one before")
    }
    return Settings.Tier(price: price, beyond: count, period: period)
  }

  private func checkVolume(_ table: TableReader, _ route: Settings.Route) {
    let wallets = !route.tiers.isEmpty || route.freeUnits.contains { $0.subject == .wallet }
    for key in ["free-units", "tiers"] where table.has(key) {
      if !route.isPriced { table.report(.conflict, key, expected: "a priced route: this one is free") }
      if route.pricer != nil { table.report(.conflict, key, expected: "a price in words: who is asked for it may ask for nothing") }
      if !route.upgrades.isEmpty { table.report(.conflict, key, expected: "a route without upgrade: such connections last as long as they like") }
    }
    if wallets, route.isPriced, !route.intents.contains(.session) {
      table.report(.conflict, table.has("tiers") ? "tiers" : "free-units", expected: "a route that sells sessions: a charge pays what it quotes")
    }
    if table.has("tiers"), route.price == nil || !route.variants.isEmpty {
      table.report(.conflict, "tiers", expected: "a route with one price")
    }
  }
}
