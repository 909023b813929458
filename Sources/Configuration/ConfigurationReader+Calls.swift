import MCP
import Metering

// Routes of type `mcp`: a table of calls, each with a price of its own; what it does not name is free.
extension ConfigurationReader {
  private static let typeExample = "\"http\" or \"mcp\""
  private static let callExample = "\"tools/call:search\", \"tools/call:db.*\", \"resources/read:file:///reports/*\" or \"prompts/get:*\""

  /// Reads `type`, and for an MCP endpoint `[route.calls]` and its keys.
  func readCalls(_ table: TableReader, _ bounds: Bounds, _ route: inout Settings.Route) {
    let type = table.string("type", expected: Self.typeExample) ?? "http"
    guard type == "mcp" else {
      if type != "http" { table.report(.invalidValue, "type", expected: Self.typeExample, nearest: Nearest.name(to: type, in: ["http", "mcp"])) }
      for key in ["calls", "charge-errors", "answer-limit"] {
        _ = table.node(key)
        if table.has(key) { table.report(.conflict, key, expected: "a route of type = \"mcp\"") }
      }
      return
    }
    route.selector = .mcp
    route.calls.chargesErrors = table.boolean("charge-errors") ?? route.calls.chargesErrors
    route.calls.answerLimit = table.size("answer-limit", in: 1024...(64 << 20)).map { Int($0) } ?? route.calls.answerLimit
    checkExclusive(table)
    guard let calls = table.table("calls") else {
      if !table.has("calls") { table.reportMissing("calls", expected: "[route.calls] with \(Self.callExample) and their prices") }
      return
    }
    calls.place = table.place + " [route.calls]"
    if calls.names.isEmpty { table.report(.missingKey, "calls", expected: "a call and its price, such as \"tools/call:*\" = \"0.001 USDC per call\"") }
    for (number, name) in calls.names.enumerated() {
      guard CallPattern(name) != nil else {
        _ = calls.node(name)
        calls.report(.invalidValue, name, node: calls.node(name), expected: Self.callExample)
        continue
      }
      guard let variant = readVariant(calls, name, bounds) else { continue }
      guard number < Settings.Variant.limitPerRoute else {
        calls.report(.outOfRange, name, expected: "at most \(Settings.Variant.limitPerRoute) calls")
        break
      }
      if let price = variant.price, price.isMetered || price.isComposite {
        calls.report(.conflict, name, node: calls.node(name), expected: "a price per call: what a message costs is known before it is sent")
        continue
      }
      route.variants.append(variant)
    }
    calls.finish()
    let total = settings.routes.reduce(0) { $0 + $1.variants.count } + route.variants.count
    if total > Settings.Variant.limit { table.report(.outOfRange, "calls", expected: "at most \(Settings.Variant.limit) calls and models of all routes") }
    let currencies = Set(route.prices.map(\.currency.code))
    if currencies.count > 1 { table.report(.conflict, "calls", expected: "prices in one currency") }
  }

  /// What has no meaning where messages decide.
  private func checkExclusive(_ table: TableReader) {
    for key in ["price", "models", "minimum", "maximum"] where table.has(key) {
      table.report(.conflict, key, expected: "prices in [route.calls]", advice: "every other message of an MCP endpoint is free")
    }
    for key in ["digest", "digest-limit", "upgrade", "grpc-status", "free-methods", "settle", "settle-limit", "refund-broken", "refund-left", "settlement"] where table.has(key) {
      table.report(.conflict, key, expected: "a route of type = \"http\"")
    }
  }
}

extension Settings {
  /// How the answers of an MCP endpoint are settled.
  public struct Calls: Sendable, Hashable {
    /// Whether a call costs something where its result says that it failed, or is an error.
    public var chargesErrors = false
    /// Most octets of an answer, or of one event, that are looked at before they leave: what is longer is the upstream's failure.
    public var answerLimit = 8 << 20

    /// Makes the defaults.
    public init() {}
  }
}
