import Encoding
import Ethereum

extension Settings {
  /// Each chain with its tokens, where money goes on it, and who settles and pays for gas, as `farebox check` shows it.
  var chainTerms: [String] {
    var lines: [String] = []
    for chain in chains {
      lines.append("chain      \(chain.name): \(chain.words)")
      var terms = chain.nodeTerms
      terms += chain.tokens.map(\.words)
      terms += chain.payees(self)
      terms += chain.settlers(self)
      terms += chain.escrowTerms(self)
      terms += chain.batchTerms
      lines += terms.map { "           " + $0 }
    }
    return lines
  }
}

extension Settings.Chain {
  fileprivate var words: String {
    let finality = confirmations == 1 ? "final when it is in a block" : "final after \(confirmations) blocks"
    return "\(reference)\(kind == .tempo ? ", Tempo" : ""), a payment is \(finality)"
  }

  fileprivate var nodeTerms: [String] {
    guard let first = rpc.first else { return [] }
    let authorized = first.authorization == nil ? "" : ", with authorization"
    return ["asks \(rpc.map(\.words).joined(separator: ", then ")) within \(Quantity.words(first.timeout))\(authorized)"]
  }

  fileprivate func payees(_ settings: Settings) -> [String] {
    settings.merchants.compactMap { merchant in merchant.addresses[name].map { "pays \(merchant.id) at \($0.checksummed)" } }
  }

  /// Who settles what, and who pays for the gas of it.
  fileprivate func settlers(_ settings: Settings) -> [String] {
    var lines: [String] = []
    if let facilitator {
      let service = settings.facilitators[facilitator]
      lines.append("x402 settled by facilitator \(service.name) (\(service.endpoint.words), within \(Quantity.words(service.endpoint.timeout))), which pays the gas")
    }
    if let signer {
      let what = facilitator == nil ? "settled" : "everything else settled"
      let account = signerAddress.map { "\($0.checksummed) pays" } ?? "its account pays"
      let fee = kind == .tempo ? "the fees that are sponsored" : "the gas"
      lines.append(
        "\(what) by this proxy: \(account) \(fee), at most \(Quantity.words(wei: gasPriceLimit)) a unit; sent again after \(Quantity.words(resubmitAfter))")
      lines.append("signed with \(signer.words)")
    } else if !rpc.isEmpty, kind == .tempo {
      lines.append("payers' own transactions handed on by this proxy; payers pay their fees")
    }
    return lines
  }

  /// Where sessions deposit, and when what was signed is taken.
  fileprivate func escrowTerms(_ settings: Settings) -> [String] {
    guard let escrow else { return [] }
    var lines = ["sessions deposit in \(escrow.words)"]
    let amounts = tokens.map { "\($0.currency.format(escrow.settleAmount(of: $0.currency))) \($0.currency.symbol)" }
    lines.append(
      "settled when \(amounts.joined(separator: ", ")) or \(Quantity.words(escrow.settleAfter)) are owed; closed after \(Quantity.words(escrow.closeIdleAfter)) without use")
    for rail in settings.rails(on: name) {
      for merchant in settings.merchants where settings.routes.contains(where: { $0.merchant == merchant.id && $0.rails.contains(rail) }) {
        if let lack = settings.sessionLack(of: rail, merchant: merchant.id) { lines.append("no sessions for \(merchant.id) by \(rail.words(settings)): that takes \(lack)") }
      }
    }
    return lines
  }

  /// How channels of batch-settlement are kept.
  fileprivate var batchTerms: [String] {
    guard let batch else { return [] }
    let amounts = tokens.map { "\($0.currency.format(batch.settleAmount(of: $0.currency))) \($0.currency.symbol)" }
    return [
      "channels of x402's batch-settlement in \(batch.words), whose withdrawals wait \(Quantity.words(batch.withdrawDelay))",
      "claimed when \(amounts.joined(separator: ", ")) or \(Quantity.words(batch.settleAfter)) are owed; closed after \(Quantity.words(batch.closeIdleAfter)) without use",
    ]
  }

  /// The same for programs.
  func json(_ settings: Settings) -> JSONValue {
    var object: JSONObject = [
      "name": .string(name), "chain": .string(reference), "type": .string(kind.rawValue), "confirmations": .integer(confirmations),
      "rpc": .array(rpc.map { .string($0.words) }), "tokens": .array(tokens.map(\.json)),
    ]
    let payees = settings.merchants.compactMap { merchant in merchant.addresses[name].map { (merchant.id, $0) } }
    object.set("payTo", .array(payees.map { ["merchant": .string($0.0), "address": .string($0.1.checksummed)] }))
    if let facilitator { object.set("facilitator", .string(settings.facilitators[facilitator].name)) }
    if let signer {
      object.set("signer", .string(signer.words))
      if let signerAddress { object.set("signerAddress", .string(signerAddress.checksummed)) }
      object.set("gasPriceLimitWei", .string(String(gasPriceLimit)))
      object.set("resubmitAfterSeconds", .integer(Int(resubmitAfter / .seconds(1))))
    }
    if let escrow { object.set("escrow", escrow.json(tokens)) }
    if let batch { object.set("batch", batch.json(tokens)) }
    return .object(object)
  }
}

extension Settings.Escrow {
  fileprivate var words: String { address.checksummed + (rules.name.map { ", protocol \($0)" } ?? "") }

  fileprivate func json(_ tokens: [Settings.Token]) -> JSONValue {
    var object: JSONObject = [
      "address": .string(address.checksummed), "settleAfterSeconds": .integer(Int(settleAfter / .seconds(1))),
      "closeIdleAfterSeconds": .integer(Int(closeIdleAfter / .seconds(1))),
    ]
    if let name = rules.name { object.set("protocol", .string(name)) }
    if rules == .batch { object.set("withdrawDelaySeconds", .integer(Int(withdrawDelay / .seconds(1)))) }
    var amounts: JSONObject = [:]
    for token in tokens { amounts.set(token.currency.code, .string(String(settleAmount(of: token.currency)))) }
    object.set("settleAmounts", .object(amounts))
    return .object(object)
  }
}

extension Settings {
  /// The rails by which sessions could be sold on a chain.
  fileprivate func rails(on name: String) -> [Rail] {
    chains.indices.filter { chains[$0].name == name }.map { chains[$0].kind == .tempo ? .tempo(chain: $0) : .evm(chain: $0) }
  }
}

extension Settings.Chain.Signer {
  /// Where the key is; nothing of it.
  fileprivate var words: String {
    switch self {
    case .file(let path): "the key in \(path)"
    case .remote(let endpoint, _): "the signer at \(endpoint.words)"
    }
  }
}

extension Settings.Token {
  fileprivate var words: String {
    var words = "\(currency.symbol) is \(address.checksummed), \(currency.decimals) decimals"
    if let domain { words += ", signed for as \"\(domain.name)\" version \"\(domain.version)\"" }
    return words + (transfers.isEmpty ? "" : "; moved by \(transfers.names.joined(separator: ", "))")
  }

  fileprivate var json: JSONValue {
    var object: JSONObject = [
      "currency": .string(currency.code), "decimals": .integer(Int(currency.decimals)), "address": .string(address.checksummed),
      "transfers": .array(transfers.names.map { .string($0) }),
    ]
    if let domain { object.set("domain", ["name": .string(domain.name), "version": .string(domain.version)]) }
    return .object(object)
  }
}

extension Settings.Facilitator {
  /// The facilitator for programs, without its path.
  var json: JSONValue {
    ["name": .string(name), "url": .string(endpoint.words), "timeoutMilliseconds": .integer(Int(endpoint.timeout / .milliseconds(1))),
      "authorization": .bool(endpoint.authorization != nil)]
  }
}

extension Settings.Rail {
  /// The rail as the configuration writes it: `x402:base`.
  public func words(_ settings: Settings) -> String {
    switch self {
    case .prepaid: "prepaid"
    case .x402(let chain): "x402:\(settings.chains[chain].name)"
    case .evm(let chain): "evm:\(settings.chains[chain].name)"
    case .tempo(let chain): "tempo:\(settings.chains[chain].name)"
    }
  }
}

extension Settings.Route {
  /// With what the route is paid and when chains' money moves, where that is not prepaid alone.
  func railTerms(_ settings: Settings) -> String {
    guard rails != [.prepaid] else { return "" }
    let words = "; by " + rails.map { $0.words(settings) }.joined(separator: ", ") + (batch ? ", by x402's vouchers too" : "")
    guard rails.contains(where: { $0.chain != nil }) else { return words }
    return words + ": on a chain before the upstream is asked"
  }
}
