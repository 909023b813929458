import Metering

extension ConfigurationReader {
  private static let settlementKeys = ["settle", "settle-limit", "refund-broken", "refund-left", "settlement"]

  /// Reads when a route's exchanges are paid for, and what goes back of those that do not end well.
  func readSettlement(_ table: TableReader, _ route: inout Settings.Route) {
    var settlement = Settings.Settlement()
    switch table.string("settle", expected: "\"head\" or \"end\"", where: { ["head", "end"].contains($0) }) {
    case "end":
      settlement.isAtEnd = true
      settlement.broken = .all
    default: break
    }
    settlement.limit = table.size("settle-limit", in: 0...(4 << 20)).map { Int($0) } ?? settlement.limit
    settlement.broken = Self.refund(table, "refund-broken", of: ["all", "share", "none"]) ?? settlement.broken
    // Not all: who leaves before the last octet would have the others for nothing.
    settlement.left = Self.refund(table, "refund-left", of: ["share", "none"]) ?? settlement.left
    if table.string("settlement", expected: "\"upfront\" or \"after\"", where: { ["upfront", "after"].contains($0) }) == "after" { settlement.order = .after }
    route.settlement = settlement
    let present = Self.settlementKeys.filter { table.has($0) }
    guard !present.isEmpty else { return }
    if !route.isPriced {
      for key in present { table.report(.conflict, key, expected: "a priced route: this one is free") }
    } else if route.prices.allSatisfy({ $0.isMetered }) {
      for key in present { table.report(.conflict, key, expected: "a price per request: what is metered costs what was delivered") }
    } else if settlement.order == .after {
      checkOrder(table, route)
    }
  }

  /// Checks that there is something to be settled after an answer, and that the answer can be withheld until then.
  private func checkOrder(_ table: TableReader, _ route: Settings.Route) {
    if !route.rails.contains(where: { if case .x402 = $0 { true } else { false } }) {
      // Rails that are wrong were reported.
      guard !route.rails.isEmpty else { return }
      table.report(.conflict, "settlement", expected: "\"x402\" among the rails: its exact payments are what can be settled afterwards")
    } else if !route.upgrades.isEmpty {
      table.report(.conflict, "settlement", expected: "no upgrade: a connection that is switched cannot be withheld until it is paid for")
    } else if route.tellsGRPC {
      table.report(.conflict, "settlement", expected: "no grpc-status: trailers are not kept with an answer that is withheld")
    } else if settings.limits.outcomeBytes == 0 {
      table.report(.conflict, "settlement", expected: "outcome above 0 in [limits]: an answer is kept until it is paid for")
    }
  }

  private static func refund(_ table: TableReader, _ key: String, of words: [String]) -> Settings.Settlement.Refund? {
    switch table.string(key, expected: words.map { "\"\($0)\"" }.joined(separator: " or "), where: { words.contains($0) }) {
    case "all": .all
    case "share": .share
    case "none": Settings.Settlement.Refund.none
    default: nil
    }
  }
}
