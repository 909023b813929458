import Encoding
import Payments

// The extensions of x402: for all routes `[x402]`, and a route's own.
extension ConfigurationReader {
  /// Reads `[x402]`.
  mutating func readX402(_ table: TableReader?) {
    guard let table else { return }
    let names = Settings.X402.Identifier.allCases.map(\.rawValue)
    let expected = "\"none\", \"optional\" or \"required\""
    if let word = table.string("payment-identifier", expected: expected) {
      if let identifier = Settings.X402.Identifier(rawValue: word) {
        settings.x402.identifier = identifier
      } else {
        table.report(.invalidValue, "payment-identifier", expected: expected, nearest: Nearest.name(to: word, in: names))
      }
    }
    if settings.x402.identifier != .none, let route = settings.routes.first(where: \.batch) {
      table.report(
        .conflict, "payment-identifier",
        expected: "\"none\", or no batch = true in [[route]] \"\(route.id)\": a channel's vouchers buy once by their sum, and go by no name")
    }
    settings.x402.signs = table.boolean("signed") ?? settings.x402.signs
    table.finish()
  }

  /// Reads a route's `sign-in` and `[route.bazaar]`.
  mutating func readExtensions(_ table: TableReader, _ route: inout Settings.Route) {
    route.signIn = table.duration("sign-in", in: .seconds(1)...(.seconds(86_400)))
    let bazaar = table.table("bazaar")
    if let bazaar { route.bazaar = Self.bazaar(bazaar) }
    let isX402 = route.rails.contains { if case .x402 = $0 { true } else { false } }
    for key in ["sign-in", "bazaar"] where table.has(key) && !isX402 {
      table.report(.conflict, key, expected: "\"x402\" among the rails: it is an extension of x402")
    }
    if route.signIn != nil, route.selector == .mcp {
      table.report(.conflict, "sign-in", expected: "a route of HTTP: who calls tools does not sign in")
    }
    if route.signIn != nil, route.prices.contains(where: \.isMetered) {
      table.report(.conflict, "sign-in", expected: "prices per request: what is metered is paid each time")
    }
  }

  private static func bazaar(_ table: TableReader) -> ExtensionDeclaration? {
    defer { table.finish() }
    table.place = "[route.bazaar]"
    let methods = ["GET", "HEAD", "DELETE", "POST", "PUT", "PATCH"]
    let form = "one of \(methods.joined(separator: ", "))"
    if !table.has("method") { table.reportMissing("method", expected: form) }
    let method = table.string("method", expected: form) { methods.contains($0) }
    let query = object(table, "query")
    let querySchema = object(table, "query-schema")
    let body = json(table, "body")
    let bodySchema = object(table, "body-schema")
    let output = json(table, "output")
    let outputSchema = object(table, "output-schema")
    let template = table.string("template", expected: "the path with :names, such as \"/v1/quotes/:symbol\"")
    guard let method else { return nil }
    let route = Bazaar.Route(
      method: method, queryParams: query ?? [:], querySchema: querySchema ?? [:], body: body, bodySchema: bodySchema ?? [:], template: template)
    let answer = output.map { Bazaar.Output(type: "json", example: $0, schema: outputSchema ?? [:]) }
    guard let declaration = Bazaar.declaration(route, output: answer) else {
      table.report(.invalidValue, "template", expected: "a path of letters, digits and _/:.-~, such as \"/v1/quotes/:symbol\"")
      return nil
    }
    return declaration
  }

  private static func json(_ table: TableReader, _ key: String) -> JSONValue? {
    let expected = "a text of JSON, such as '{\"symbol\": \"ACME\"}'"
    guard let text = table.string(key, expected: expected) else { return nil }
    guard let value = try? JSON.parse(Array(text.utf8)) else {
      table.report(.invalidValue, key, expected: expected)
      return nil
    }
    return value
  }

  private static func object(_ table: TableReader, _ key: String) -> JSONObject? {
    guard let value = json(table, key) else { return nil }
    guard let object = value.objectValue else {
      table.report(.invalidValue, key, expected: "a JSON object, such as '{\"symbol\": \"ACME\"}'")
      return nil
    }
    return object
  }
}
