import Encoding
import Gateway
import HTTP
import Metering
import Payments

/// Says in words, or as JSON, what a configuration does.
public struct Explanation: Sendable {
  private let outcome: Configuration.Outcome

  /// Explains what reading a file gave.
  public init(_ outcome: Configuration.Outcome) {
    self.outcome = outcome
  }

  /// Writes diagnostics and, where there are settings, listeners, files and routes, for a person.
  public var text: String {
    var lines = outcome.diagnostics.map { $0.text(file: outcome.file) }
    let errors = outcome.diagnostics.count { $0.severity == .error }
    guard let settings = outcome.settings else {
      lines.append("\(outcome.file): \(errors) error\(errors == 1 ? "" : "s"); the proxy would not start")
      return lines.joined(separator: "\n")
    }
    if !lines.isEmpty { lines.append("") }
    lines.append("\(outcome.file): valid")
    lines.append("realm      \(settings.realm)   origin \(settings.origin)")
    for listener in settings.listeners {
      lines.append("listen     \(listener.words)" + (listener.terms.isEmpty ? "" : "  \(listener.terms)"))
    }
    lines.append("admin      \(settings.admin.socketPath)")
    lines.append("ledger     \(settings.ledger.name) in \(settings.ledger.directory)")
    lines.append("audit log  \(settings.audit.path)" + (settings.audit.retention.map { ", kept for \(Quantity.words($0))" } ?? ""))
    lines.append("keys       \(settings.keys.directory)")
    lines += settings.operationTerms
    lines += settings.chainTerms
    for upstream in settings.upstreams {
      lines.append("upstream   \(upstream.name): \(upstream.words)")
      lines += upstream.terms.map { "           " + $0 }
    }
    lines.append("routes")
    lines += Explanation.columns(settings.routes.flatMap { Self.rows($0, settings) }).map { "  " + $0 }
    return lines.joined(separator: "\n")
  }

  /// A route's line, and one for each of its variants.
  private static func rows(_ route: Settings.Route, _ settings: Settings) -> [[String]] {
    func row(_ route: Settings.Route, _ match: String, isSold: Bool) -> [String] {
      let words = route.price == nil && !isSold ? "not sold" : route.priceWords
      return [route.id, match, words] + (route.price == nil ? [] : [route.terms + route.railTerms(settings)])
    }
    let own = row(route, route.patternWords, isSold: route.variants.isEmpty || route.selector == .mcp)
    let volume = route.freeUnits.map { ["", "  free", $0.words] } + route.tiers.map { ["", "  tier", $0.words] }
    return [own] + volume + route.variants.map { row(route.route(of: $0), "  \(route.selector.words) \($0.name)", isSold: true) }
  }

  /// The same as JSON, for programs.
  public var json: JSONValue {
    let diagnostics = JSONValue.array(outcome.diagnostics.map { Self.json($0) })
    var object: JSONObject = ["file": .string(outcome.file), "valid": .bool(outcome.settings != nil), "diagnostics": diagnostics]
    guard let settings = outcome.settings else { return .object(object) }
    object.set("realm", .string(settings.realm))
    object.set("origin", .string(settings.origin))
    object.set("listen", .array(settings.listeners.map { .string($0.words) }))
    object.set("admin", .string(settings.admin.socketPath))
    object.set("ledger", ["name": .string(settings.ledger.name), "directory": .string(settings.ledger.directory)])
    object.set("audit", .string(settings.audit.path))
    object.set("keys", .string(settings.keys.directory))
    if !settings.facilitators.isEmpty { object.set("facilitators", .array(settings.facilitators.map(\.json))) }
    if !settings.chains.isEmpty { object.set("chains", .array(settings.chains.map { $0.json(settings) })) }
    object.set("upstreams", .array(settings.upstreams.map(\.json)))
    object.set("routes", .array(settings.routes.map { Self.json($0, settings) }))
    return .object(object)
  }

  private static func json(_ diagnostic: Diagnostic) -> JSONValue {
    var object: JSONObject = ["severity": .string(diagnostic.severity.rawValue), "rule": .string(diagnostic.rule.rawValue)]
    if let position = diagnostic.position {
      object.set("line", .integer(position.line))
      object.set("column", .integer(position.column))
    }
    let members = [
      ("place", diagnostic.place.isEmpty ? nil : diagnostic.place), ("key", diagnostic.key), ("value", diagnostic.value),
      ("expected", diagnostic.expected), ("nearest", diagnostic.nearest), ("advice", diagnostic.advice),
    ]
    for (name, value) in members { if let value { object.set(name, .string(value)) } }
    return .object(object)
  }

  private static func json(_ route: Settings.Route, _ settings: Settings) -> JSONValue {
    var object: JSONObject = ["id": .string(route.id), "match": .string(route.patternWords), "upstream": .string(settings.upstreams[route.upstream].name)]
    if !route.variants.isEmpty {
      object.set("select", .string(route.selector.words))
      object.set("variants", .array(route.variants.map { json(route.route(of: $0), settings) }))
    }
    guard let price = route.price else {
      if route.variants.isEmpty { object.set("free", true) }
      return .object(object)
    }
    if let pricer = route.pricer {
      object.set("pricer", .object(pricer.json))
    } else {
      object.set("price", .string(price.words))
      object.set("priceVersion", .string(price.version))
    }
    if !route.freeUnits.isEmpty { object.set("freeUnits", .array(route.freeUnits.map { .string($0.words) })) }
    if !route.tiers.isEmpty { object.set("tiers", .array(route.tiers.map { .string($0.words) })) }
    object.set("merchant", .string(route.merchant))
    if route.settlement != Settings.Settlement() { object.set("settlement", .string(String(route.settlement.terms.dropFirst(2)))) }
    object.set("rails", .array(route.rails.map { .string($0.words(settings)) }))
    if route.batch { object.set("batch", true) }
    object.set("sell", .array(route.intentNames.map { .string($0) }))
    if route.intents.contains(.session) {
      object.set("minimumDeposit", .string(String(route.minimumDeposit)))
      object.set("suggestedDeposit", .string(String(route.suggestedDeposit)))
    }
    return .object(object)
  }

  /// Pads every column but the last to its widest cell.
  static func columns(_ rows: [[String]]) -> [String] {
    guard let count = rows.map(\.count).max() else { return [] }
    let widths = (0..<count).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
    return rows.map { row in
      row.enumerated().map { column, cell in
        column == row.count - 1 ? cell : cell + String(repeating: " ", count: widths[column] - cell.count + 2)
      }.joined()
    }
  }
}

extension Settings.Listener {
  /// The address as the configuration writes it.
  public var words: String {
    switch endpoint {
    case .address(let address, let port): address.contains(":") ? "[\(address)]:\(port)" : "\(address):\(port)"
    case .unix(let path): "unix:\(path)"
    }
  }
}

extension Settings.Selector {
  /// What chooses, in a word or two.
  public var words: String {
    switch self {
    case .none: ""
    case .member(let name): name
    case .mcp: "mcp"
    }
  }
}

extension Settings.Route {
  /// Hosts, path and methods as a person reads them: `GET,HEAD api.example.com/v1/{id}`.
  public var patternWords: String {
    let methods = pattern.methods == .any ? "any" : pattern.methods.named.map { "\($0.name)" }.joined(separator: ",")
    let hosts = pattern.hosts.isEmpty ? "" : pattern.hosts.joined(separator: "|")
    let path: String
    switch pattern.path {
    case .exact(let text), .segments(let text): path = text
    case .prefix(let text): path = text + "*"
    }
    return "\(methods) \(hosts)\(path)"
  }

  /// The price, or `free`.
  public var priceWords: String {
    guard let pricer else { return price?.words ?? "free" }
    return "asked of \(pricer.url)" + (pricer.fallback.map { ", or else \($0.words)" } ?? "")
  }

  /// The names of the intents that are sold.
  public var intentNames: [String] {
    (intents.contains(.charge) ? ["charge"] : []) + (intents.contains(.session) ? ["session"] : [])
  }

  /// How the route is paid, and to whom.
  fileprivate var terms: String {
    guard let price else { return "" }
    var words = intentNames.joined(separator: ", ") + " to \(merchant)"
    if let pricer { words += "; " + pricer.terms }
    words += settlement.terms
    if intents.contains(.session), pricer == nil {
      words += "; deposit from \(price.currency.format(minimumDeposit)), suggested \(price.currency.format(suggestedDeposit)) \(price.currency.symbol)"
    }
    return words
  }
}
