import Ethereum
import Payments

// Sessions over payment channels: the contract that holds deposits, and when channels are settled and closed.
extension ConfigurationReader {
  private static let escrowKeys = ["settle-amount", "settle-after", "close-idle-after", "voucher-step"]

  /// Reads where a chain's channels deposit, of MPP's sessions and of x402's batch-settlement.
  func readEscrows(_ table: TableReader, _ preset: ChainPreset?, _ chain: inout Settings.Chain) {
    let delay = table.duration("batch", in: .seconds(900)...(.seconds(2_592_000)))
    let bounds = escrowBounds(table, chain)
    chain.escrow = escrow(table, preset, chain, bounds)
    guard table.has("batch") else { return }
    if chain.kind == .tempo { table.report(.conflict, "batch", expected: "a chain that is not of type = \"tempo\": its contract is none of that chain's") }
    if !table.has("rpc") || !table.has("signer") {
      table.report(.conflict, "batch", expected: "rpc and signer beside it: channels are watched and claimed by this proxy, which signs as their receiverAuthorizer")
    }
    guard let delay else { return }
    var batch = Settings.Escrow(address: BatchSettlement.address, rules: .batch)
    batch.withdrawDelay = delay
    bounds.apply(to: &batch)
    chain.batch = batch
  }

  /// When what was signed is taken, and when channels that nobody uses are closed: the same for both kinds of channels.
  private struct EscrowBounds {
    let amounts: [String: UInt128]
    let after: Duration?
    let idle: Duration?

    func apply(to escrow: inout Settings.Escrow) {
      escrow.settleAmounts = amounts
      escrow.settleAfter = after ?? escrow.settleAfter
      escrow.closeIdleAfter = idle ?? escrow.closeIdleAfter
    }
  }

  private func escrowBounds(_ table: TableReader, _ chain: Settings.Chain) -> EscrowBounds {
    let longest = Duration.seconds(365 * 86_400)
    return EscrowBounds(
      amounts: amounts("settle-amount", table, chain), after: table.duration("settle-after", in: .seconds(1)...longest),
      idle: table.duration("close-idle-after", in: .seconds(1)...longest))
  }

  /// Reads where a chain's sessions deposit; nil where none are sold on it.
  private func escrow(_ table: TableReader, _ preset: ChainPreset?, _ chain: Settings.Chain, _ bounds: EscrowBounds) -> Settings.Escrow? {
    let written = address(table, "escrow")
    let rules = escrowRules(table, preset, chain)
    let steps = self.amounts("voucher-step", table, chain)
    let known = rules.flatMap { preset?.escrows[$0] }.flatMap { Address($0) }
    guard table.has("escrow") || known != nil else {
      for key in (table.has("batch") ? [] : Self.escrowKeys) + ["escrow-protocol"] where table.has(key) {
        table.report(.conflict, key, expected: "escrow beside it: the contract that holds the deposits of sessions, such as escrow = \"0x…\"")
      }
      return nil
    }
    if !table.has("rpc") || !table.has("signer") {
      table.report(
        .conflict, table.has("escrow") ? "escrow" : "escrow-protocol",
        expected: "rpc and signer beside it: channels are watched, settled and closed by this proxy, with the key of who is paid")
    }
    guard let rules, let address = table.has("escrow") ? written : known else { return nil }
    if let token = chain.tokens.first(where: { $0.address == address }) {
      table.report(.conflict, "escrow", expected: "the escrow's contract: this is the token's, \(token.currency.symbol)")
    }
    var escrow = Settings.Escrow(address: address, rules: rules)
    bounds.apply(to: &escrow)
    escrow.voucherSteps = steps
    return escrow
  }

  /// Tempo has two kinds of escrows, which cannot be told apart by their addresses.
  private func escrowRules(_ table: TableReader, _ preset: ChainPreset?, _ chain: Settings.Chain) -> Settings.Escrow.Rules? {
    let choices = Settings.Escrow.Rules.allCases.compactMap(\.name)
    let expected = choices.map { "\"\($0)\"" }.joined(separator: " or ") + ", the sessionProtocol of its contract"
    let name = table.string("escrow-protocol", expected: expected)
    guard chain.kind == .tempo else {
      if table.has("escrow-protocol") {
        table.report(.conflict, "escrow-protocol", expected: "a chain of type = \"tempo\": elsewhere there is one protocol", advice: "remove it")
      }
      return .evm
    }
    guard let name else {
      if table.has("escrow"), !table.has("escrow-protocol") { table.reportMissing("escrow-protocol", expected: expected) }
      return nil
    }
    guard let rules = Settings.Escrow.Rules.allCases.first(where: { $0.name == name }) else {
      table.report(.invalidValue, "escrow-protocol", expected: expected, nearest: Nearest.name(to: name, in: choices))
      return nil
    }
    return rules
  }

  /// Reads an amount for each of the chain's currencies that is to have one of its own.
  private func amounts(_ key: String, _ table: TableReader, _ chain: Settings.Chain) -> [String: UInt128] {
    let symbols = chain.tokens.map(\.currency.symbol)
    let expected = "an amount of a token of the chain, such as \"10 \(symbols.first ?? "USDC")\""
    var amounts: [String: UInt128] = [:]
    for (text, node) in table.strings(key, expected: expected) ?? [] {
      let words = text.split(separator: " ")
      guard words.count == 2, let currency = chain.tokens.first(where: { $0.currency.code == words[1].lowercased() })?.currency,
        let units = try? currency.parse(words[0]), units > 0
      else {
        table.report(.invalidValue, key, node: node, expected: expected)
        continue
      }
      if amounts.updateValue(units, forKey: currency.code) != nil { table.report(.duplicate, key, node: node) }
    }
    return amounts
  }
}
