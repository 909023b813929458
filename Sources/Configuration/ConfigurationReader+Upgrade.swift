import Metering

// Which protocols a route's connections may be switched to.
extension ConfigurationReader {
  /// Most protocols of one route.
  private static let upgradeLimit = 8

  /// Reads the protocols that a route passes on, and whether it serves nothing else; after its price.
  static func readUpgrade(_ table: TableReader, _ route: inout Settings.Route) {
    let expected = "protocols such as \"websocket\", at most \(upgradeLimit), in lower case"
    for (text, node) in table.strings("upgrade", expected: expected) ?? [] {
      guard isUpgradable(text), !route.upgrades.contains(text), route.upgrades.count < upgradeLimit else {
        table.report(.invalidValue, "upgrade", node: node, expected: expected, advice: advice(text))
        continue
      }
      route.upgrades.append(text)
    }
    route.requiresUpgrade = table.boolean("upgrade-required") ?? false
    if route.upgrades.isEmpty, route.requiresUpgrade {
      table.report(.conflict, "upgrade-required", expected: "upgrade = [\"websocket\"] beside it")
    }
    guard let price = route.price else { return }
    checkComposite(table, route, price)
    guard price.needsUpgrade else { return }
    // What is sold by messages has no price where there are none.
    route.requiresUpgrade = true
    if route.upgrades.isEmpty {
      table.report(.conflict, "price", expected: "upgrade = [\"websocket\"] beside it: only such a connection has messages")
    } else if route.upgrades != ["websocket"], price.parts.contains(where: { $0.unit.kind == .message }) {
      table.report(.conflict, "price", expected: "upgrade = [\"websocket\"] alone: other protocols' messages are not known")
    }
  }

  /// Connections are switched by HTTP/1.1, which an upstream that is always spoken to in HTTP/2 does not understand.
  func checkUpgrade(_ table: TableReader, _ route: Settings.Route) {
    guard !route.upgrades.isEmpty, settings.upstreams.indices.contains(route.upstream) else { return }
    let upstream = settings.upstreams[route.upstream]
    guard upstream.http2 == .always else { return }
    table.report(
      .conflict, "upgrade", expected: "an upstream that is spoken to in HTTP/1.1",
      advice: "give the [[upstream]] \"\(upstream.name)\" http2 = \"auto\" or \"never\", or the route an upstream of its own")
  }

  /// An upgraded connection has no events, tokens or reported units, and is not added up as a whole.
  private static func checkComposite(_ table: TableReader, _ route: Settings.Route, _ price: Price) {
    guard !route.upgrades.isEmpty || price.needsUpgrade, price.isComposite else { return }
    let hasBounds = price.isMetered && (price.minimum > 0 || price.maximum < .max)
    guard hasBounds || price.countsTokens || price.countsEvents || price.countsUnits else { return }
    table.report(
      .conflict, "price", expected: "requests, octets, messages and seconds, without minimum or maximum, on a route with upgrade",
      advice: "give connections that are upgraded a route of their own")
  }

  /// Whether the proxy may pass octets on that it does not understand: not where they are HTTP again, for requests would then go
  /// past prices and checks.
  private static func isUpgradable(_ name: String) -> Bool {
    let marks = Set("!#$%&'*+-.^_`|~/".utf8)
    let isName = (1...64).contains(name.utf8.count)
      && name.utf8.allSatisfy { ($0 >= 0x61 && $0 <= 0x7A) || ($0 >= 0x30 && $0 <= 0x39) || marks.contains($0) }
    return isName && !name.hasPrefix("h2") && !name.hasPrefix("h3") && !name.hasPrefix("http") && !name.hasPrefix("tls")
  }

  private static func advice(_ name: String) -> String? {
    name.hasPrefix("h2") || name.hasPrefix("http") || name.hasPrefix("tls")
      ? "HTTP and TLS are spoken by the proxy itself; requests inside a tunnel would not be paid for" : nil
  }
}
