import Ethereum
import Metering

// With what a route may be paid, and where the money then goes.
extension ConfigurationReader {
  private static let dialects = ["prepaid", "x402", "evm", "tempo"]
  private static let railForm = "\"prepaid\", or a dialect and a chain such as \"x402:base\", \"evm:base\" or \"tempo:tempo\""

  /// Reads where a merchant's money goes on each chain.
  mutating func readAddresses(_ table: TableReader, _ merchant: inout Settings.Merchant) {
    guard let addresses = table.table("addresses") else {
      if table.has("addresses") { unsound.insert("merchant \(merchant.id)") }
      return
    }
    let errors = log.errorCount
    addresses.place = "[[merchant]] \"\(merchant.id)\" addresses"
    let names = settings.chains.map(\.name)
    for name in addresses.names {
      guard let chain = settings.chains.first(where: { $0.name == name }) else {
        let choices = names.isEmpty ? "the name of a [[chain]], of which there is none" : "one of \(names.joined(separator: ", "))"
        addresses.report(.unknownName, name, node: addresses.node(name), expected: choices, nearest: Nearest.name(to: name, in: names))
        continue
      }
      guard let address = address(addresses, name) else { continue }
      if chain.tokens.contains(where: { $0.address == address }) {
        addresses.report(.conflict, name, expected: "an account's address: this is a token's contract, and what it gets is lost")
        continue
      }
      merchant.addresses[name] = address
    }
    addresses.finish()
    if log.errorCount > errors { unsound.insert("merchant \(merchant.id)") }
  }

  /// Makes the keys known where nothing is sold.
  static func skipRails(_ table: TableReader) {
    _ = table.node("rails")
    for key in ["upto", "batch", "proof", "sign-in", "bazaar", "memo", "split"] { _ = table.node(key) }
  }

  /// Reads the rails of a priced route; after its intents, and before what follows from them.
  mutating func readRails(_ table: TableReader, _ route: inout Settings.Route) {
    if let words = table.strings("rails", expected: Self.railForm) {
      if words.isEmpty { table.report(.invalidValue, "rails", expected: Self.railForm) }
      var rails: [Settings.Rail] = []
      for (text, node) in words {
        for rail in self.rails(table, text, node, route) {
          if rails.contains(rail) { table.report(.duplicate, "rails", node: node) } else { rails.append(rail) }
        }
      }
      route.rails = rails
      readMaximum(table, &route)
      readBatch(table, &route)
      checkSold(table, &route)
    } else if table.has("upto") {
      table.report(.conflict, "upto", expected: "\"x402\" among the rails: it bounds what a payment by x402 covers")
      _ = table.node("upto")
    }
    if !table.has("rails"), table.boolean("batch") == true {
      table.report(.conflict, "batch", expected: "\"x402\" among the rails: batch-settlement is a scheme of x402")
    }
  }

  /// Reads whether requests cost nothing but a proof of who asks: a charge of Tempo's, and nothing else, has one.
  func readProof(_ table: TableReader, _ route: inout Settings.Route) {
    guard table.boolean("proof") == true else { return }
    guard route.proof else {
      guard table.has("price") else { return table.report(.conflict, "proof", expected: "a price of 0 per request beside it") }
      return
    }
    route.intents = .charge
    // Rails that are wrong were reported.
    guard !route.rails.isEmpty, !route.rails.allSatisfy({ if case .tempo = $0 { true } else { false } }) else { return }
    table.report(.conflict, "proof", expected: "rails = [\"tempo:CHAIN\"] alone: by nothing else a payer proves who he is")
  }

  /// Reads whether requests are also paid by the vouchers of channels.
  private func readBatch(_ table: TableReader, _ route: inout Settings.Route) {
    guard table.boolean("batch") == true else { return }
    let chains = route.rails.compactMap { rail -> Settings.Chain? in if case .x402(let chain) = rail { settings.chains[chain] } else { nil } }
    guard !chains.isEmpty else {
      table.report(.conflict, "batch", expected: "\"x402\" among the rails: batch-settlement is a scheme of x402")
      return
    }
    guard route.selector != .mcp else {
      table.report(.conflict, "batch", expected: "a route of HTTP: calls of MCP are sold by x402's scheme exact alone")
      return
    }
    guard !route.prices.allSatisfy(\.isMetered) else {
      table.report(.conflict, "batch", expected: "a price per request: what is metered is not known when its answer says what was charged")
      return
    }
    guard !chains.contains(where: { unsound.contains("chain \($0.name)") }) else { return }
    guard chains.contains(where: { $0.batch != nil }) else {
      let name = chains.first?.name ?? ""
      table.report(.unpayable, "batch", expected: "batch = \"1 d\" in [[chain]] \"\(name)\": how long payers' withdrawals from their channels wait")
      return
    }
    route.batch = true
  }

  /// Reads one word of `rails`: all rails that it stands for.
  private func rails(_ table: TableReader, _ text: String, _ node: Document.Node, _ route: Settings.Route) -> [Settings.Rail] {
    if text == "prepaid" { return [.prepaid] }
    let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map { String($0) }
    guard parts[0] != "prepaid", let make = Self.rail(parts[0]) else {
      table.report(.invalidValue, "rails", node: node, expected: Self.railForm, nearest: Nearest.name(to: parts[0], in: Self.dialects))
      return []
    }
    let names = settings.chains.map(\.name)
    guard parts.count == 2 else { return everyRail(table, text, node, route, make) }
    guard let chain = names.firstIndex(of: parts[1]) else {
      let choices = names.isEmpty ? "the name of a [[chain]], of which there is none" : "one of \(names.map { "\(parts[0]):\($0)" }.joined(separator: ", "))"
      table.report(.unknownName, "rails", node: node, expected: choices, nearest: Nearest.name(to: parts[1], in: names).map { "\(parts[0]):\($0)" })
      return []
    }
    let rail = make(chain)
    if let missing = missing(rail, route) { table.report(.unpayable, "rails", node: node, expected: missing) }
    return [rail]
  }

  /// A dialect alone stands for every chain that has what it takes.
  private func everyRail(
    _ table: TableReader, _ text: String, _ node: Document.Node, _ route: Settings.Route, _ make: (Int) -> Settings.Rail
  ) -> [Settings.Rail] {
    var rails: [Settings.Rail] = []
    var reasons: [String] = []
    for chain in settings.chains.indices {
      if let missing = missing(make(chain), route) { reasons.append("\(settings.chains[chain].name): \(missing)") } else { rails.append(make(chain)) }
    }
    if rails.isEmpty {
      let expected = reasons.isEmpty ? "a [[chain]], of which there is none" : "a chain for \(text); " + reasons.joined(separator: "; ")
      table.report(.unpayable, "rails", node: node, expected: expected)
    }
    return rails
  }

  private static func rail(_ dialect: String) -> ((Int) -> Settings.Rail)? {
    switch dialect {
    case "x402": { .x402(chain: $0) }
    case "evm": { .evm(chain: $0) }
    case "tempo": { .tempo(chain: $0) }
    default: nil
    }
  }

  /// Says what a rail lacks for a route; nil where nothing is missing, or where what is wrong was said already.
  private func missing(_ rail: Settings.Rail, _ route: Settings.Route) -> String? {
    guard let index = rail.chain, !unsound.contains("chain \(settings.chains[index].name)") else { return nil }
    let chain = settings.chains[index]
    let currencies = route.pricer == nil ? route.prices.map(\.currency) : settings.currencies
    let tokens = chain.tokens.filter { currencies.contains($0.currency) }
    let place = "in [[chain]] \"\(chain.name)\""
    switch rail {
    case .prepaid: return nil
    case .evm where chain.kind == .tempo: return "tempo:\(chain.name): the method evm is for other chains"
    case .tempo where chain.kind == .evm: return "a chain of type = \"tempo\"; this one is paid by evm:\(chain.name) or x402:\(chain.name)"
    case .x402, .evm, .tempo: break
    }
    guard let currency = currencies.first, !tokens.isEmpty else {
      return "[[chain.token]] \(place) with the price's currency" + (currencies.first.map { ", \"\($0.code)\"" } ?? "")
    }
    switch rail {
    case .x402 where tokens.allSatisfy({ $0.transfers.isEmpty }):
      return "a token in \(currency.symbol) \(place) with transfers = [\"eip3009\"] or [\"permit2\"], which x402 is paid by"
    case .x402 where chain.facilitator == nil && chain.signer == nil: return "a facilitator, or rpc and signer, \(place): somebody has to settle"
    case .evm where chain.rpc.isEmpty || chain.signer == nil: return "rpc and signer \(place): a facilitator settles x402 only"
    case .tempo where chain.rpc.isEmpty: return "rpc \(place): a facilitator settles x402 only"
    case .prepaid, .x402, .evm, .tempo: break
    }
    guard let merchant = settings.merchants.first(where: { $0.id == route.merchant }), !unsound.contains("merchant \(merchant.id)"),
      merchant.addresses[chain.name] == nil
    else { return nil }
    return "addresses = { \(chain.name) = \"0x…\" } in [[merchant]] \"\(merchant.id)\", where its money goes"
  }

  /// Reads the most that x402 pays for one request of what is metered.
  private func readMaximum(_ table: TableReader, _ route: inout Settings.Route) {
    guard let metered = route.prices.first(where: \.isMetered) else {
      if table.has("upto") {
        table.report(.conflict, "upto", expected: "a metered price: one per request is paid exactly")
        _ = table.node("upto")
      }
      return
    }
    let symbol = metered.currency.symbol
    route.upto = deposit(table, "upto", metered.currency)
    let isX402 = route.rails.contains { if case .x402 = $0 { true } else { false } }
    guard isX402 else {
      if table.has("upto") { table.report(.conflict, "upto", expected: "\"x402\" among the rails: it bounds what a payment by x402 covers") }
      return
    }
    if route.prices.contains(where: \.needsUpgrade) {
      table.report(.conflict, "rails", expected: "no \"x402\": a connection that is switched is not sold by it")
    }
    // Beside prices per request, what is metered may be left to prepaid sessions.
    let isLeft = route.rails.contains(.prepaid) && !route.prices.allSatisfy(\.isMetered)
    guard !isLeft || route.upto != nil || route.prices.contains(where: { $0.isMetered && $0.maximum < .max }) else { return }
    for price in route.prices where price.isMetered {
      let maximum = route.upto ?? price.maximum
      if maximum == .max {
        guard !isLeft else { continue }
        table.report(.conflict, "rails", expected: "upto = \"0.05 \(symbol)\", or a price with a maximum: a payment of x402 covers a sum that is known before")
      } else if price.leastAmount > maximum {
        table.report(.conflict, "upto", expected: "at least the \(price.currency.format(price.leastAmount)) \(symbol) that the shortest request costs")
      }
    }
    for case .x402(let index) in route.rails {
      let chain = settings.chains[index]
      guard !unsound.contains("chain \(chain.name)") else { continue }
      let tokens = chain.tokens.filter { $0.currency == metered.currency }
      if !tokens.isEmpty, !tokens.contains(where: { $0.transfers.contains(.permit2) }) {
        table.report(.unpayable, "rails", expected: "a token with transfers = [\"permit2\"] in [[chain]] \"\(chain.name)\": what is metered is settled by Permit2")
      }
      if let facilitator = chain.facilitator, settings.facilitators[facilitator].address == nil {
        let name = settings.facilitators[facilitator].name
        table.report(.unpayable, "rails", expected: "address = \"0x…\" in [[facilitator]] \"\(name)\": who settles what is metered, as its /supported says")
      }
    }
  }

  /// Checks that every rail sells something: a charge where the price is known before, a session where the chain has an escrow for it.
  private func checkSold(_ table: TableReader, _ route: inout Settings.Route) {
    let isPrepaid = route.rails.contains(.prepaid)
    let prices = route.prices
    let chains = route.rails.filter { $0.chain != nil }
    // What is wrong with a chain was said already.
    guard !chains.contains(where: { $0.chain.map { unsound.contains("chain \(settings.chains[$0].name)") } ?? false }) else { return }
    if !chains.isEmpty, route.pricer != nil {
      table.report(.conflict, "rails", expected: "\"prepaid\" alone: prices that are asked for are not sold on chains yet")
    }
    if route.selector == .mcp, !chains.isEmpty, prices.contains(where: \.isMetered) {
      table.report(.conflict, "rails", expected: "\"prepaid\" alone, or prices per call: calls of MCP that are metered are sold by nothing else")
    }
    if route.selector == .mcp, route.intents.contains(.charge), chains.contains(where: { if case .x402 = $0 { false } else { true } }) {
      table.report(.conflict, "sell", expected: "[\"session\"]: calls of MCP are sold by sessions over channels, and charged by \"prepaid\" and \"x402\" alone")
    }
    // What is metered is sold by x402 up to a maximum.
    let isMetered = prices.contains(where: \.isMetered)
    let charged = chains.filter { if case .x402 = $0 { !isMetered } else { true } }
    let lacks = charged.compactMap { settings.sessionLack(of: $0, merchant: route.merchant) }
    let sellsSessions = isPrepaid || lacks.count < chains.count
    if let lack = lacks.first {
      if prices.allSatisfy(\.isMetered) || (!sellsSessions && prices.contains(where: \.isMetered)) {
        table.report(
          .conflict, "rails", expected: "\(prices.count > 1 ? "prices" : "a price") per request, or \(lack)",
          advice: "what is metered cannot be charged before it is known: it is sold by sessions")
      } else if !route.intents.contains(.charge) {
        table.report(.conflict, "sell", expected: "\"charge\" as well, or \(lack)")
      } else if !sellsSessions, table.has("sell"), route.intents.contains(.session) {
        table.report(.conflict, "sell", expected: "\"charge\" alone, \"prepaid\" among the rails, or \(lack)")
      }
    }
    if !sellsSessions, prices.allSatisfy({ !$0.isMetered }) { route.intents = .charge }
  }
}
