import Ethereum

extension ConfigurationReader {
  private static let signerForm = "the file of a key such as \"keys/base.key\", or the URL of a web3signer"
  private static let rpcForm = "the URL of a node's JSON-RPC, such as \"https://rpc.example.com\""

  /// Reads a `[[chain]]`: a preset by its name, or any chain with its id and tokens.
  mutating func readChain(_ table: TableReader) {
    defer { table.finish() }
    let errors = log.errorCount
    let known = ChainPreset.all.map(\.name).joined(separator: ", ")
    if !table.has("name") { table.reportMissing("name", expected: "one of \(known), or any name with chain-id beside it") }
    let name = table.string("name", expected: "1 to 64 of the characters A-Z a-z 0-9 . _ -", where: Self.isName)
    if let name { table.place = "[[chain]] \"\(name)\"" }
    let preset = name.flatMap { ChainPreset.named($0) }
    var chain = Settings.Chain(name: name ?? "", id: preset?.id ?? 0)
    readIdentity(table, preset, &chain)
    chain.acceptsHash = table.boolean("accept-hash") ?? chain.acceptsHash
    chain.confirmations = table.integer("confirmations", in: 1...1000) ?? preset?.confirmations ?? chain.confirmations
    let allowsPlaintext = table.boolean("plaintext") ?? false
    readNodes(table, allowsPlaintext: allowsPlaintext, &chain)
    readSigner(table, allowsPlaintext: allowsPlaintext, &chain)
    chain.facilitator = facilitator(table)
    readSubmission(table, preset, &chain)
    checkSettler(table, chain)
    chain.tokens = tokens(table, preset, kind: chain.kind)
    readEscrows(table, preset, &chain)
    guard let name else { return }
    if settings.chains.contains(where: { $0.name == name }) { table.report(.duplicate, "name") }
    if settings.chains.count == Settings.Chain.limit { table.report(.outOfRange, "name", expected: "at most \(Settings.Chain.limit) chains") }
    settings.chains.append(chain)
    if log.errorCount > errors { unsound.insert("chain \(name)") }
  }

  /// Reads what the chain is: its id, and what its transactions are.
  private func readIdentity(_ table: TableReader, _ preset: ChainPreset?, _ chain: inout Settings.Chain) {
    let kinds = Settings.Chain.Kind.allCases.map(\.rawValue)
    let expected = kinds.map { "\"\($0)\"" }.joined(separator: " or ")
    let id = table.integer("chain-id", in: 1...(1 << 53 - 1)).map { UInt64($0) }
    let kind = table.string("type", expected: expected)
    if let kind, !kinds.contains(kind) { table.report(.invalidValue, "type", expected: expected, nearest: Nearest.name(to: kind, in: kinds)) }
    chain.kind = kind.flatMap { Settings.Chain.Kind(rawValue: $0) } ?? preset?.kind ?? .evm
    if let preset {
      let advice = "give the chain another name: \"\(preset.name)\" is a preset"
      if let id, id != preset.id { table.report(.conflict, "chain-id", expected: "\(preset.id), which is the chain of this name", advice: advice) }
      if chain.kind != preset.kind { table.report(.conflict, "type", expected: "\"\(preset.kind.rawValue)\", which the chain of this name is", advice: advice) }
    } else if let id {
      chain.id = id
    } else if !table.has("chain-id"), table.has("name") {
      let names = ChainPreset.all.map(\.name)
      table.report(
        .unknownName, "name", expected: "one of \(names.joined(separator: ", ")), or the chain's number beside another name: chain-id = 8453",
        nearest: Nearest.name(to: chain.name, in: names))
    }
    if chain.id > 0, let other = settings.chains.first(where: { $0.id == chain.id && $0.name != chain.name }) {
      table.report(
        .duplicate, table.has("chain-id") ? "chain-id" : "name", expected: "another chain than \(other.reference), which is \"\(other.name)\" already",
        advice: "write all nodes and tokens of a chain into one [[chain]]")
    }
  }

  // MARK: Nodes and signers

  private func readNodes(_ table: TableReader, allowsPlaintext: Bool, _ chain: inout Settings.Chain) {
    let timeout = Self.serviceTimeout(table, "rpc-timeout")
    let authorization = authorization(table, "rpc-authorization-file")
    let texts = table.strings("rpc", expected: Self.rpcForm)
    for (text, node) in texts ?? [] {
      guard var endpoint = endpoint(table, "rpc", text, node: node, expected: Self.rpcForm, allowsPlaintext: allowsPlaintext) else { continue }
      if chain.rpc.contains(where: { $0.words == endpoint.words && $0.target == endpoint.target }) {
        table.report(.duplicate, "rpc", node: node, isSecret: true)
      }
      endpoint.timeout = timeout ?? endpoint.timeout
      endpoint.authorization = authorization
      chain.rpc.append(endpoint)
    }
    if let texts, !(1...Settings.Chain.endpointLimit).contains(texts.count) {
      table.report(.outOfRange, "rpc", expected: "1 to \(Settings.Chain.endpointLimit) URLs, which are asked in turn when one fails")
    }
    guard !table.has("rpc") else { return }
    for key in ["rpc-timeout", "rpc-authorization-file"] where table.has(key) && !(key == "rpc-timeout" && table.has("signer")) {
      table.report(.conflict, key, expected: "rpc beside it: \(Self.rpcForm)")
    }
  }

  private func readSigner(_ table: TableReader, allowsPlaintext: Bool, _ chain: inout Settings.Chain) {
    let address = address(table, "signer-address")
    guard let text = table.string("signer", isSecret: true, expected: Self.signerForm) else {
      if table.has("signer-address"), !table.has("signer") {
        table.report(.conflict, "signer-address", expected: "the URL of a web3signer beside it: signer = \"http://127.0.0.1:9000\"")
      }
      return
    }
    guard text.contains("://") else {
      if table.has("signer-address") {
        table.report(.conflict, "signer-address", expected: "a signer that is a URL: a key in a file has its own address", advice: "remove it")
      }
      readKeyFile(table, text, &chain)
      return
    }
    if !table.has("signer-address") {
      table.reportMissing("signer-address", expected: "the address whose key the signer has, such as signer-address = \"0x…\"")
    }
    guard var endpoint = endpoint(table, "signer", text, node: table.node("signer"), expected: Self.signerForm, allowsPlaintext: allowsPlaintext),
      let address
    else { return }
    endpoint.timeout = Self.serviceTimeout(table, "rpc-timeout") ?? endpoint.timeout
    chain.signer = .remote(endpoint, address)
    chain.signerAddress = address
  }

  /// Reads a key only to find out whether it can be used, and whose it is; the proxy reads it itself.
  private func readKeyFile(_ table: TableReader, _ written: String, _ chain: inout Settings.Chain) {
    guard !written.isEmpty, !written.utf8.contains(0) else {
      table.report(.invalidValue, "signer", expected: Self.signerForm)
      return
    }
    let path = StateDirectory.absolute(written, from: folder)
    chain.signer = .file(path)
    guard readsSecrets else { return }
    do throws(KeyFileError) { chain.signerAddress = try KeyFile.read(path).address } catch {
      switch error {
      case .file(.exposed): table.report(.exposed, "signer", expected: error.expected, advice: "chmod 600 \(path); if others could read it, make a new key")
      case .file(.tooLarge), .malformed: table.report(.invalidValue, "signer", expected: error.expected)
      case .file: table.report(.missingFile, "signer", expected: error.expected, advice: "relative paths count from the configuration's folder, \(folder)")
      }
    }
  }

  /// Finds the facilitator that a chain names; none is taken where none is named, since it would get every payment to see.
  private func facilitator(_ table: TableReader) -> Int? {
    guard let name = table.string("facilitator", expected: "the name of a [[facilitator]]") else { return nil }
    let names = settings.facilitators.map(\.name)
    guard let index = names.firstIndex(of: name) else {
      let choices = names.isEmpty ? "the name of a [[facilitator]], of which there is none" : "one of \(names.joined(separator: ", "))"
      table.report(.unknownName, "facilitator", expected: choices, nearest: Nearest.name(to: name, in: names))
      return nil
    }
    return index
  }

  private func readSubmission(_ table: TableReader, _ preset: ChainPreset?, _ chain: inout Settings.Chain) {
    chain.resubmitAfter = table.duration("resubmit-after", in: .seconds(1)...(.seconds(3600))) ?? chain.resubmitAfter
    let expected = "a fee for a unit of gas, such as \"50 gwei\""
    chain.gasPriceLimit = preset?.gasPriceLimit ?? chain.gasPriceLimit
    if let text = table.string("gas-limit-price", expected: expected) {
      if let wei = Quantity.wei(text) { chain.gasPriceLimit = wei } else { table.report(.invalidValue, "gas-limit-price", expected: expected) }
    }
    guard !table.has("signer") else { return }
    for key in ["resubmit-after", "gas-limit-price"] where table.has(key) {
      table.report(.conflict, key, expected: "a signer beside it: nothing is submitted without one")
    }
  }

  /// Somebody has to move the money.
  private func checkSettler(_ table: TableReader, _ chain: Settings.Chain) {
    if table.has("signer"), !table.has("rpc") {
      table.reportMissing("rpc", expected: "the nodes that the signer's transactions are given to: rpc = [\"https://rpc.example.com\"]")
    }
    guard !table.has("facilitator"), !table.has("signer") else { return }
    if !table.has("rpc") {
      let own = chain.kind == .tempo ? "rpc = [\"https://rpc.example.com\"]" : "rpc = [\"https://rpc.example.com\"] and signer = \"keys/\(chain.name).key\""
      table.reportMissing("rpc", expected: "\(own), or facilitator = \"…\": somebody has to settle")
    } else if chain.kind == .evm {
      table.reportMissing(
        "signer", expected: "the key that submits payments and pays for their gas, such as signer = \"keys/\(chain.name).key\"",
        advice: "or name a [[facilitator]] that does it: facilitator = \"…\"")
    }
  }
}
