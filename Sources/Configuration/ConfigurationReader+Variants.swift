import Metering
import Payments

// Routes whose price depends on a member of the request's content: a table of models, each with a price of its own.
extension ConfigurationReader {
  private static let variantExample = "a price such as \"0.15 USDC per M input tokens\", \"free\", or a table with price or free, minimum, maximum and description"

  /// Reads `[route.models]`; the route's own price, where it has one, is what everything else costs.
  func readModels(_ table: TableReader, _ bounds: Bounds, _ route: inout Settings.Route) {
    guard let models = table.table("models") else { return }
    models.place = table.place + " [route.models]"
    let expected = "the name of a JSON member, of the characters A-Z a-z 0-9 _ -"
    let member = models.string("member", expected: expected) { name in
      (1...64).contains(name.utf8.count)
        && name.utf8.allSatisfy { ($0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x7A) || ($0 >= 0x30 && $0 <= 0x39) || $0 == 0x5F || $0 == 0x2D }
    }
    route.selector = .member(member ?? "model")
    let names = models.names.filter { $0 != "member" }
    if names.isEmpty { models.report(.missingKey, "member", node: table.node("models"), expected: "a model and its price, such as \"small*\" = \"0.001 USDC per request\"") }
    for (number, name) in names.enumerated() {
      guard let variant = readVariant(models, name, bounds) else { continue }
      guard number < Settings.Variant.limitPerRoute else {
        models.report(.outOfRange, name, expected: "at most \(Settings.Variant.limitPerRoute) models")
        break
      }
      route.variants.append(variant)
    }
    let total = settings.routes.reduce(0) { $0 + $1.variants.count } + route.variants.count
    if total > Settings.Variant.limit { table.report(.outOfRange, "models", expected: "at most \(Settings.Variant.limit) models of all routes") }
    checkCurrencies(table, route)
  }

  func readVariant(_ models: TableReader, _ name: String, _ bounds: Bounds) -> Settings.Variant? {
    guard let node = models.node(name) else { return nil }
    let star = name.firstIndex(of: "*")
    guard (1...Settings.Variant.nameLimit).contains(name.utf8.count), name.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7F }),
      star == nil || star == name.index(before: name.endIndex)
    else {
      models.report(
        .invalidValue, name, node: node, expected: "a model's name of at most \(Settings.Variant.nameLimit) octets without spaces, with * at its end at most")
      return nil
    }
    var variant = Settings.Variant(name: name, patterns: [name], price: nil)
    switch node.value {
    case .string("free"): return variant
    case .string(let words):
      guard let price = price(models, name, node: node, words) else { return nil }
      variant.price = bounded(models, price, bounds, isShared: true)
      return variant.price == nil ? nil : variant
    case .table(let members):
      let own = TableReader(members, place: "\(models.place) \"\(name)\"", at: node.position, log: models.log)
      defer { own.finish() }
      variant.description = own.string("description", expected: Self.descriptionExample, where: Self.isDescription)
      let isFree = own.boolean("free")
      let words = own.string("price", expected: Self.priceExample)
      let least = Bounds(own)
      guard let words else {
        if isFree != true { own.reportMissing("price", expected: "a price, or free = true") }
        return isFree == true ? variant : nil
      }
      if own.has("free") { own.report(.conflict, "free", expected: "either a price or free = true") }
      guard let price = price(own, "price", words), let narrowed = bounded(own, price, least),
        let price = bounded(models, narrowed, bounds, isShared: true)
      else { return nil }
      variant.price = price
      return variant
    case .integer, .double, .boolean, .array, .date:
      models.report(.wrongType, name, node: node, expected: Self.variantExample)
      return nil
    }
  }

  /// One session pays for all models of a route.
  private func checkCurrencies(_ table: TableReader, _ route: Settings.Route) {
    let currencies = Set(route.prices.map(\.currency.code))
    if currencies.count > 1 { table.report(.conflict, "models", expected: "prices in one currency") }
    if !route.upgrades.isEmpty || table.has("upgrade") {
      table.report(.conflict, "models", expected: "a route without upgrade", advice: "give connections that are upgraded a route of their own")
    }
  }

  /// Works out the deposits of every variant as `readDeposits` does for the route.
  func readVariantDeposits(_ table: TableReader, _ route: inout Settings.Route) {
    for index in route.variants.indices {
      guard let price = route.variants[index].price else { continue }
      var alone = route.route(of: route.variants[index])
      if price.isMetered { alone.intents = .session }
      readDeposits(table, price, &alone)
      route.variants[index].minimumDeposit = alone.minimumDeposit
      route.variants[index].suggestedDeposit = alone.suggestedDeposit
    }
  }
}
