import Ethereum
import Metering
import Payments

// What of a charge on chains goes to others than the merchant, and the memo of his own part.
extension ConfigurationReader {
  private static let splitLimit = 10
  private static let memoForm = "a text of at most 32 octets, or 0x and 64 hexadecimal digits"

  /// Reads a route's `memo` and `[[route.split]]`; after its rails.
  mutating func readSplits(_ table: TableReader, _ route: inout Settings.Route) {
    route.memo = memo(table)
    let isTempo = route.rails.contains { if case .tempo = $0 { true } else { false } }
    if table.has("memo"), !isTempo { table.report(.conflict, "memo", expected: "\"tempo\" among the rails: its transfers have memos") }
    guard table.has("split") else { return }
    let readers = table.tables("split")
    if readers.isEmpty || readers.count > Self.splitLimit { table.report(.invalidValue, "split", expected: "1 to \(Self.splitLimit) tables [[route.split]]") }
    guard let currency = route.prices.first?.currency else { return }
    for reader in readers.prefix(Self.splitLimit) {
      reader.place = reader.place.replacing("[[split]]", with: "[[route.split]]")
      if let split = split(reader, currency, route) { route.splits.append(split) }
    }
    checkSplits(table, route)
  }

  private func memo(_ table: TableReader) -> Settings.Memo? {
    guard let text = table.string("memo", expected: Self.memoForm) else { return nil }
    guard let memo = Settings.Memo(text) else {
      table.report(.invalidValue, "memo", expected: Self.memoForm)
      return nil
    }
    return memo
  }

  private func split(_ table: TableReader, _ currency: Currency, _ route: Settings.Route) -> Settings.Split? {
    defer { table.finish() }
    let form = "an amount in the price's currency, such as \"0.0005 \(currency.symbol)\""
    if !table.has("amount") { table.reportMissing("amount", expected: form) }
    let amount = deposit(table, "amount", currency)
    let memo = memo(table)
    var addresses: [String: Address] = [:]
    let chains = route.rails.compactMap(\.chain).map { settings.chains[$0].name }
    if !table.has("addresses") { table.reportMissing("addresses", expected: "addresses = { \(chains.first ?? "base") = \"0x…\" }: who gets it") }
    if let names = table.table("addresses") {
      names.place = "\(table.place) addresses"
      for name in names.names {
        guard chains.contains(name) else {
          let choices = chains.isEmpty ? "the chain of a rail, of which there is none" : "one of \(chains.joined(separator: ", ")): chains of the route's rails"
          names.report(.unknownName, name, node: names.node(name), expected: choices, nearest: Nearest.name(to: name, in: chains))
          continue
        }
        addresses[name] = address(names, name)
      }
      for chain in chains where !names.has(chain) { names.reportMissing(chain, expected: "\(chain) = \"0x…\": every chain of the route's rails") }
      names.finish()
    }
    return amount.map { Settings.Split(addresses: addresses, amount: $0, memo: memo) }
  }

  private func checkSplits(_ table: TableReader, _ route: Settings.Route) {
    var isSession = false
    for rail in route.rails {
      switch rail {
      case .prepaid, .x402:
        table.report(
          .conflict, "split", expected: "rails of \"evm\" and \"tempo\" alone", advice: "by other rails the merchant gets all: sell by them on a route of its own")
        return
      case .evm(let index):
        let chain = settings.chains[index]
        let tokens = chain.tokens.filter { route.prices.first?.currency == $0.currency }
        if !unsound.contains("chain \(chain.name)"), !tokens.isEmpty, !tokens.allSatisfy({ $0.transfers.contains(.permit2) }) {
          table.report(.unpayable, "split", expected: "tokens with transfers = [\"permit2\"] in [[chain]] \"\(chain.name)\": a permit alone is split")
        }
      case .tempo: break
      }
      isSession = isSession || settings.sessionLack(of: rail, merchant: route.merchant) == nil
    }
    if route.prices.contains(where: { $0.isMetered }) {
      table.report(.conflict, "split", expected: "prices per request: what is metered is sold by sessions, which are not split")
    } else if isSession, route.intents.contains(.session) {
      table.report(.conflict, "split", expected: "sell = [\"charge\"]: sessions are not split")
    }
    var sum: UInt128 = 0
    for split in route.splits {
      let (next, overflows) = sum.addingReportingOverflow(split.amount)
      sum = overflows ? .max : next
    }
    if let least = route.prices.filter({ !$0.isMetered }).min(by: { $0.chargeAmount < $1.chargeAmount }), sum >= least.chargeAmount {
      let words = "\(least.currency.format(least.chargeAmount)) \(least.currency.symbol)"
      table.report(.conflict, "split", expected: "amounts that leave the merchant something of the \(words) of a request")
    }
  }
}
