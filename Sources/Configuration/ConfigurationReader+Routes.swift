import Gateway
import HTTP
import Metering
import Payments

extension ConfigurationReader {
  /// The most routes of one configuration.
  static let routeLimit = 4096

  /// Reads every `[[route]]`, then looks for routes that conflict.
  mutating func readRoutes(_ tables: [TableReader]) {
    var patterns: [(pattern: RoutePattern, table: TableReader)] = []
    for table in tables.prefix(Self.routeLimit) {
      let (route, isSound) = readRoute(table)
      table.finish()
      guard let route else { continue }
      if settings.routes.contains(where: { $0.id == route.id }) { table.report(.duplicate, "id") }
      settings.routes.append(route)
      if isSound { patterns.append((route.pattern, table)) }
    }
    if tables.count > Self.routeLimit {
      tables[Self.routeLimit].report(.outOfRange, "id", expected: "at most \(Self.routeLimit) routes")
    }
    placePricers()
    placeServices()
    reportConflicts(patterns)
  }

  /// Reads one route; unsound ones have been reported already, and would only report conflicts that are none.
  private mutating func readRoute(_ table: TableReader) -> (Settings.Route?, isSound: Bool) {
    let expected = "1 to 64 of the characters A-Z a-z 0-9 . _ -"
    if !table.has("id") { table.reportMissing("id", expected: "a name for terms, receipts and the audit log, such as id = \"quotes\"") }
    let id = table.string("id", expected: expected, where: Self.isName)
    if let id { table.place = "[[route]] \"\(id)\"" }
    let pattern = Self.pattern(table)
    var route = Settings.Route(id: id ?? "", pattern: pattern ?? RoutePattern(path: .exact("/")))
    readForwarding(table, &route)
    Self.readUpstreamTimeouts(table, &route)
    Self.readOperation(table, &route)
    readOffer(table, &route)
    Self.readUpgrade(table, &route)
    checkUpgrade(table, route)
    Self.checkPricer(table, route)
    readVolume(table, &route)
    readSettlement(table, &route)
    Self.readUsage(table, &route)
    Self.checkUsage(table, route.prices)
    route.description = table.string("description", expected: Self.descriptionExample, where: Self.isDescription)
    return (id == nil ? nil : route, pattern != nil)
  }

  static let descriptionExample = "a sentence of at most 200 octets without line breaks or quotes"

  static func isDescription(_ text: String) -> Bool {
    (1...200).contains(text.utf8.count) && text.utf8.allSatisfy { (0x20...0x7E).contains($0) && $0 != 0x22 && $0 != 0x5C }
  }

  // MARK: What matches

  private static func pattern(_ table: TableReader) -> RoutePattern? {
    let hosts = self.hosts(table)
    let methods = self.methods(table, "methods")
    guard let path = path(table) else { return nil }
    guard let hosts else { return nil }
    let pattern = RoutePattern(hosts: hosts, path: path, methods: methods?.withImpliedHead ?? .any)
    do {
      _ = try Router([pattern])
      return pattern
    } catch {
      let key = table.has("prefix") ? "prefix" : "path"
      switch error {
      case .pathInvalid:
        table.report(.invalidValue, key, expected: "a path in canonical form: from /, without //, . or .., a query, or needless escapes")
      case .segmentInvalid:
        table.report(.invalidValue, key, expected: "{names} in the place of whole segments, such as \"/v1/{id}/orders\"")
      case .hostInvalid: table.report(.invalidValue, "host", expected: "lower-case host names without port")
      case .methodsEmpty: table.report(.invalidValue, "methods", expected: "at least one method")
      case .conflict, .tooManyRoutes: return pattern
      }
      return nil
    }
  }

  private static func path(_ table: TableReader) -> PathPattern? {
    let example = "path = \"/v1/quotes/{symbol}\" for one path, or prefix = \"/files/\" for all below it"
    let path = table.string("path", expected: "a path such as \"/v1/quotes/{symbol}\"") { $0.hasPrefix("/") }
    let prefix = table.string("prefix", expected: "the beginning of paths, such as \"/files/\"") { $0.hasPrefix("/") }
    if table.has("path"), table.has("prefix") {
      table.report(.conflict, "prefix", expected: example)
      return nil
    }
    if let path {
      if path.hasSuffix("*") {
        table.report(.invalidValue, "path", expected: example, advice: "write prefix = \"\(path.dropLast())\" instead")
        return nil
      }
      return path.contains("{") || path.contains("}") ? .segments(path) : .exact(path)
    }
    if let prefix { return .prefix(prefix) }
    if !table.has("path"), !table.has("prefix") { table.reportMissing("path", expected: example) }
    return nil
  }

  private static func hosts(_ table: TableReader) -> [String]? {
    let expected = "a lower-case host name such as \"api.example.com\", without port"
    var hosts: [String] = []
    for (text, node) in table.strings("host", expected: expected) ?? [] {
      guard let (name, port) = Authority.split(text), port == nil, name == text, text == text.lowercased(), !text.hasSuffix(".") else {
        table.report(.invalidValue, "host", node: node, expected: expected)
        return nil
      }
      hosts.append(text)
    }
    return hosts
  }

  private static let methodNames = Method.allCases.filter { $0 != .other && $0 != .connect }.map { "\($0.name)" }

  private static func methods(_ table: TableReader, _ key: String) -> MethodSet? {
    let known = methodNames.joined(separator: ", ")
    guard let names = table.strings(key, expected: "methods such as \"GET\"") else { return nil }
    var methods = MethodSet()
    for (text, node) in names {
      guard methodNames.contains(text) else {
        table.report(.invalidValue, key, node: node, expected: "one of \(known)", nearest: Nearest.name(to: text, in: methodNames))
        continue
      }
      methods.formUnion(MethodSet(Method(text)))
    }
    return methods
  }

  private func reportConflicts(_ routes: [(pattern: RoutePattern, table: TableReader)]) {
    if (try? Router(routes.map(\.pattern))) != nil { return }
    var sound: [(pattern: RoutePattern, table: TableReader)] = []
    for route in routes {
      do {
        _ = try Router((sound + [route]).map(\.pattern))
        sound.append(route)
      } catch {
        guard case .conflict(_, let other) = error, sound.indices.contains(other) else { continue }
        let place = sound[other].table
        let line = place.position.map { " (line \($0.line))" } ?? ""
        route.table.report(
          .overlap, route.table.has("prefix") ? "prefix" : "path", expected: "another path, host or method than \(place.place)\(line)")
      }
    }
  }

  // MARK: Where it goes

  private mutating func readForwarding(_ table: TableReader, _ route: inout Settings.Route) {
    if let index = reference(table, "upstream", to: settings.upstreams.map(\.name), kind: "[[upstream]]", field: "name") { route.upstream = index }
    let form = "a path that begins and does not end with /"
    func isPrefix(_ text: String) -> Bool { text.hasPrefix("/") && !text.hasSuffix("/") && !text.contains("//") && !text.contains("?") }
    route.stripPrefix = table.string("strip-prefix", expected: form, where: isPrefix)
    route.rewritePrefix = table.string("rewrite-prefix", expected: form, where: isPrefix)
    if let strip = route.stripPrefix, table.has("path") || table.has("prefix") {
      let text = route.pattern.path.text
      if text != strip, !text.hasPrefix(strip + "/") {
        table.report(.conflict, "strip-prefix", expected: "the beginning of the route's own path, by whole segments")
      }
    }
    readInjection(table, &route)
  }

  /// Finds a name that another table defines; a single one is meant where the key is left out.
  mutating func reference(_ table: TableReader, _ key: String, to names: [String], kind: String, field: String) -> Int? {
    guard table.has(key) else {
      _ = table.node(key)
      if names.count == 1 { return 0 }
      let choices = names.isEmpty ? "the \(field) of an \(kind), of which there is none" : "one of \(names.joined(separator: ", "))"
      table.reportMissing(key, expected: choices)
      return nil
    }
    guard let name = table.string(key, expected: "the \(field) of a \(kind)") else { return nil }
    guard let index = names.firstIndex(of: name) else {
      let choices = names.isEmpty ? "the \(field) of an \(kind), of which there is none" : "one of \(names.joined(separator: ", "))"
      table.report(.unknownName, key, expected: choices, nearest: Nearest.name(to: name, in: names))
      return nil
    }
    return index
  }

  // MARK: What it costs

  private mutating func readOffer(_ table: TableReader, _ route: inout Settings.Route) {
    let isFree = table.boolean("free")
    let words = table.string("price", expected: Self.priceExample)
    let hasModels = table.has("models") || table.has("calls")
    if table.has("price"), table.has("free") {
      table.report(.conflict, "free", expected: "either a price or free = true")
    } else if !table.has("price"), isFree != true, !hasModels {
      if isFree == false {
        table.report(.conflict, "free", expected: "a price, or free = true")
      } else if !table.has("free") {
        table.reportMissing("price", expected: "price = \"0.002 USDC per request\", or free = true")
      }
    }
    readPayment(table, &route)
    let bounds = Bounds(table)
    readModels(table, bounds, &route)
    readCalls(table, bounds, &route)
    if isFree == true, hasModels {
      table.report(.conflict, "free", expected: "a price for each model, or \"free\" in its place", advice: "\"*\" = \"free\" stands for all other models")
    }
    if Self.isAsked(words) {
      for key in ["models", "minimum", "maximum"] where table.has(key) {
        table.report(.conflict, key, expected: "a price in words: this one is asked for")
      }
      if let pricer = readPricer(table, words), let price = adopt(pricer, table, &route) { route.offer = .priced(price) }
    } else if let words, table.boolean("proof") == true {
      if let price = Price(nothing: words, currencies: settings.currencies) {
        route.offer = .priced(price)
        route.proof = true
      } else {
        table.report(.conflict, "proof", expected: "price = \"0 \(settings.currencies.first?.symbol ?? "USDC") per request\": who pays proves by that who he is")
      }
    } else if let words, let price = price(table, "price", words), let price = bounded(table, price, bounds, isShared: hasModels) {
      route.offer = .priced(price)
    }
    guard route.isPriced else {
      if isFree == true { reportPaidOnly(table) }
      _ = table.node("merchant")
      Self.skipRails(table)
      readDeposits(table, nil, &route)
      return
    }
    if let index = reference(table, "merchant", to: settings.merchants.map(\.id), kind: "[[merchant]]", field: "id") {
      route.merchant = settings.merchants[index].id
    }
    readIntents(table, &route)
    readRails(table, &route)
    readProof(table, &route)
    readExtensions(table, &route)
    readSplits(table, &route)
    readDeposits(table, route.price, &route)
    readVariantDeposits(table, &route)
  }

  /// What is metered is sold by session only.
  private func readIntents(_ table: TableReader, _ route: inout Settings.Route) {
    let prices = route.prices
    guard prices.contains(where: \.isMetered) else { return }
    let isMeteredOnly = prices.allSatisfy(\.isMetered)
    if table.has("sell"), isMeteredOnly ? route.intents.contains(.charge) : !route.intents.contains(.session) {
      table.report(
        .conflict, "sell", expected: "[\"session\"]: what is metered cannot be charged before it is known",
        advice: isMeteredOnly ? "remove \"charge\", or use a price per request" : "add \"session\", or use prices per request")
    }
    if isMeteredOnly { route.intents = .session }
  }

  /// Reads the keys of priced routes that need no price to be understood.
  private mutating func readPayment(_ table: TableReader, _ route: inout Settings.Route) {
    if let names = table.strings("sell", expected: "\"charge\" or \"session\"") {
      var intents = Settings.Intents()
      for (text, node) in names {
        switch text {
        case "charge": intents.insert(.charge)
        case "session": intents.insert(.session)
        default:
          table.report(
            .invalidValue, "sell", node: node, expected: "\"charge\" or \"session\"", nearest: Nearest.name(to: text, in: ["charge", "session"]))
        }
      }
      if names.isEmpty { table.report(.invalidValue, "sell", expected: "\"charge\", \"session\" or both") }
      route.intents = intents
    }
    route.freeMethods = Self.methods(table, "free-methods") ?? []
    if !route.freeMethods.isSubset(of: route.pattern.methods) {
      table.report(.conflict, "free-methods", expected: "methods that the route has")
    }
    route.digest = table.boolean("digest") ?? false
    route.tellsGRPC = table.boolean("grpc-status") ?? false
    route.digestLimit = table.size("digest-limit", in: 0...(64 << 20)).map { Int($0) } ?? route.digestLimit
    route.paymentAuthorization = table.boolean("payment-authorization") ?? false
    if let set = Self.statuses(table, "charge-status") { route.chargeStatus = set }
    let range = Duration.seconds(1)...Duration.seconds(30 * 86_400)
    route.idleTimeout = table.duration("idle-timeout", in: range) ?? route.idleTimeout
    route.holdTimeout = table.duration("hold-timeout", in: .seconds(1)...(.seconds(3600))) ?? route.holdTimeout
    route.maxInFlight = table.integer("max-in-flight", in: 1...1_000_000) ?? route.maxInFlight
  }

  /// Reports keys that a free route has no use for: whoever wrote one most likely meant to sell.
  private func reportPaidOnly(_ table: TableReader) {
    for key in ["merchant", "sell", "free-methods", "digest", "digest-limit", "payment-authorization", "charge-status", "idle-timeout",
      "hold-timeout", "minimum-deposit", "suggested-deposit", "max-in-flight", "minimum", "maximum", "rails", "upto", "batch", "proof", "sign-in", "bazaar",
      "memo", "split"] where table.has(key) {
      table.report(.conflict, key, expected: "a priced route: this one is free")
    }
  }

  /// Reads a set of statuses; nil where the key is not there.
  static func statuses(_ table: TableReader, _ key: String, allowsNone: Bool = false) -> Settings.StatusSet? {
    let expected = "status codes such as \"2xx\", \"404\" or \"200-299\""
    guard let words = table.strings(key, expected: expected) else { return nil }
    var ranges: [ClosedRange<UInt16>] = []
    for (text, node) in words {
      guard let range = statusRange(text) else {
        table.report(.invalidValue, key, node: node, expected: expected)
        continue
      }
      ranges.append(range)
    }
    if words.isEmpty, !allowsNone { table.report(.invalidValue, key, expected: expected) }
    return Settings.StatusSet(ranges)
  }

  private static func statusRange(_ text: String) -> ClosedRange<UInt16>? {
    if text.count == 3, text.hasSuffix("xx"), let hundreds = UInt16(text.prefix(1)), (2...5).contains(hundreds) {
      return hundreds * 100...hundreds * 100 + 99
    }
    let parts = text.split(separator: "-", omittingEmptySubsequences: false)
    guard (1...2).contains(parts.count), let low = UInt16(parts[0]), let high = UInt16(parts[parts.count - 1]) else { return nil }
    guard low <= high, low >= 200, high <= 599 else { return nil }
    return low...high
  }
}
