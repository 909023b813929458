import Metering

extension ConfigurationReader {
  private static let settlementKeys = ["settle", "settle-limit", "refund-broken", "refund-left"]

  /// Reads when a route's exchanges are paid for, and what goes back of those that do not end well.
  static func readSettlement(_ table: TableReader, _ route: inout Settings.Route) {
    var settlement = Settings.Settlement()
    switch table.string("settle", expected: "\"head\" or \"end\"", where: { ["head", "end"].contains($0) }) {
    case "end":
      settlement.isAtEnd = true
      settlement.broken = .all
    default: break
    }
    settlement.limit = table.size("settle-limit", in: 0...(4 << 20)).map { Int($0) } ?? settlement.limit
    settlement.broken = refund(table, "refund-broken", of: ["all", "share", "none"]) ?? settlement.broken
    // Not all: who leaves before the last octet would have the others for nothing.
    settlement.left = refund(table, "refund-left", of: ["share", "none"]) ?? settlement.left
    route.settlement = settlement
    let present = settlementKeys.filter { table.has($0) }
    guard !present.isEmpty else { return }
    if !route.isPriced {
      for key in present { table.report(.conflict, key, expected: "a priced route: this one is free") }
    } else if route.prices.allSatisfy({ $0.isMetered }) {
      for key in present { table.report(.conflict, key, expected: "a price per request: what is metered costs what was delivered") }
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
