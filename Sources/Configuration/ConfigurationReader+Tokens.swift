import Ethereum
import Payments

extension ConfigurationReader {
  static let addressForm = "an address: 0x and 40 hexadecimal digits"

  /// Reads a chain's tokens, or takes those of its preset whose currencies the file has.
  func tokens(_ table: TableReader, _ preset: ChainPreset?, kind: Settings.Chain.Kind) -> [Settings.Token] {
    guard table.has("token") else {
      _ = table.node("token")
      if let preset { return presetTokens(table, preset) }
      // Who mistyped a preset's name has heard of it already.
      guard table.has("chain-id") else { return [] }
      table.reportMissing("token", expected: "[[chain.token]] with currency, address and transfers")
      return []
    }
    let readers = table.tables("token")
    if !(1...Settings.Chain.tokenLimit).contains(readers.count) {
      table.report(.outOfRange, "token", expected: "1 to \(Settings.Chain.tokenLimit) tokens")
    }
    var tokens: [Settings.Token] = []
    for (number, reader) in readers.prefix(Settings.Chain.tokenLimit).enumerated() {
      reader.place = "\(table.place) [[chain.token]] number \(number + 1)"
      if let token = token(reader, preset, kind) {
        if let other = tokens.firstIndex(where: { $0.address == token.address }) {
          let key = reader.has("address") ? "address" : "currency"
          reader.report(.duplicate, key, expected: "another contract than that of token number \(other + 1)")
        } else if tokens.contains(where: { $0.currency == token.currency }) {
          reader.report(.duplicate, "currency", expected: "another currency: two tokens are never the same money", advice: "give this one a [[currency]] of its own")
        }
        tokens.append(token)
      }
      reader.finish()
    }
    return tokens
  }

  private func presetTokens(_ table: TableReader, _ preset: ChainPreset) -> [Settings.Token] {
    var tokens: [Settings.Token] = []
    var isDeclared = false
    for known in preset.tokens {
      guard let currency = settings.currencies.first(where: { $0.code == known.currency }) else { continue }
      isDeclared = true
      guard let address = Address(known.address) else { continue }
      guard isRight(table, "name", currency, known) else { continue }
      tokens.append(Settings.Token(currency: currency, address: address, domain: known.domain, transfers: known.transfers))
    }
    if !isDeclared {
      let codes = preset.tokens.map { "code = \"\($0.currency)\", decimals = \($0.decimals)" }.joined(separator: ", or ")
      table.report(
        .unknownName, "name", expected: "a [[currency]] of its tokens: \(codes)", advice: "or [[chain.token]] with the currency that a token of the chain is")
    }
    return tokens
  }

  /// A currency that counts in other units than the token would be off by powers of ten.
  private func isRight(_ table: TableReader, _ key: String, _ currency: Currency, _ known: ChainPreset.Token) -> Bool {
    guard currency.decimals != known.decimals else { return true }
    table.report(
      .conflict, key, expected: "a [[currency]] of \(known.decimals) decimals, as the token has them; \"\(currency.code)\" has \(currency.decimals)")
    return false
  }

  private func token(_ table: TableReader, _ preset: ChainPreset?, _ kind: Settings.Chain.Kind) -> Settings.Token? {
    let currency = currency(table)
    let written = address(table, "address")
    let name = table.string("name", expected: "the token's name as its contract says it, such as \"USD Coin\"") { (1...128).contains($0.utf8.count) }
    let version = table.string("version", expected: "the version of the contract's EIP-712 domain, such as \"2\"") { (1...32).contains($0.utf8.count) }
    let transfers = transfers(table)
    // A known contract is the same under any currency; without an address the preset's token of the currency is meant.
    let known = preset?.tokens.first { known in
      table.has("address") ? written != nil && Address(known.address) == written : known.currency == currency?.code
    }
    if !table.has("address"), known == nil, currency != nil {
      table.reportMissing("address", expected: "the token's contract: address = \"0x…\"")
    }
    if table.has("name") != table.has("version"), known?.domain == nil {
      let missing = table.has("name") ? "version" : "name"
      table.reportMissing(missing, expected: "name and version of the contract's EIP-712 domain, such as name = \"USD Coin\" and version = \"2\"")
    }
    guard let currency, let address = written ?? known.flatMap({ Address($0.address) }), !table.has("address") || written != nil else { return nil }
    if let known, !isRight(table, "currency", currency, known) { return nil }
    var token = Settings.Token(currency: currency, address: address)
    if let name = name ?? known?.domain?.name, let version = version ?? known?.domain?.version { token.domain = .init(name: name, version: version) }
    token.transfers = transfers ?? known?.transfers ?? []
    checkTransfers(table, token, kind, isKnown: known != nil)
    return token
  }

  private func currency(_ table: TableReader) -> Currency? {
    let codes = settings.currencies.map(\.code)
    let choices = codes.isEmpty ? "the code of a [[currency]], of which there is none" : "one of \(codes.joined(separator: ", "))"
    if !table.has("currency") { table.reportMissing("currency", expected: choices) }
    guard let code = table.string("currency", expected: choices) else { return nil }
    guard let currency = settings.currencies.first(where: { $0.code == code }) else {
      table.report(.unknownName, "currency", expected: choices, nearest: Nearest.name(to: code, in: codes))
      return nil
    }
    return currency
  }

  private func transfers(_ table: TableReader) -> Settings.Token.Transfers? {
    let names = Settings.Token.Transfers.named
    let expected = names.map { "\"\($0.name)\"" }.joined(separator: " or ")
    guard let words = table.strings("transfers", expected: expected) else { return nil }
    var transfers = Settings.Token.Transfers()
    for (text, node) in words {
      guard let way = names.first(where: { $0.name == text })?.way else {
        table.report(.invalidValue, "transfers", node: node, expected: expected, nearest: Nearest.name(to: text, in: names.map(\.name)))
        continue
      }
      if transfers.contains(way) { table.report(.duplicate, "transfers", node: node) }
      transfers.insert(way)
    }
    return transfers
  }

  private func checkTransfers(_ table: TableReader, _ token: Settings.Token, _ kind: Settings.Chain.Kind, isKnown: Bool) {
    if kind == .evm, !isKnown, !table.has("transfers") {
      table.reportMissing(
        "transfers", expected: "what the contract can do: [\"eip3009\", \"permit2\"], one of them, or [] where payers send transactions of their own")
    }
    if token.transfers.contains(.eip3009), token.domain == nil, !table.has("name"), !table.has("version") {
      table.reportMissing("name", expected: "name and version of the contract's EIP-712 domain, under which payers sign: name = \"USD Coin\", version = \"2\"")
    }
  }

  /// Reads an address; the checksum counts wherever letters of both cases are there.
  func address(_ table: TableReader, _ key: String) -> Address? {
    guard let text = table.string(key, expected: Self.addressForm) else { return nil }
    do throws(EthereumError) {
      let address = try Address(text: text)
      guard address.isZero else { return address }
      table.report(.invalidValue, key, expected: "an address that somebody has: this one is zero")
    } catch {
      let isChecksum = error == .addressChecksumMismatch
      table.report(
        .invalidValue, key, expected: isChecksum ? "an address whose checksum is right (EIP-55: which letters are capitals)" : Self.addressForm,
        advice: isChecksum ? "some digit is wrong, or a letter's case: copy the address again" : nil)
    }
    return nil
  }
}
