import Configuration
import Payments

/// Writes `llms.txt`: the service in Markdown, for models.
enum LLMSDocument {
  static func text(settings: Settings, operations: [DiscoveryOperation]) -> String {
    var text = "# \(line(settings.info.title))\n\n"
    if !settings.info.description.isEmpty { text += "> \(line(settings.info.description))\n\n" }
    text += """
      Priced requests are answered with 402 and one `WWW-Authenticate: Payment` challenge per offer. Pay a challenge and repeat \
      the request with `Authorization: Payment <credential>`; the answer carries a `Payment-Receipt`. The challenge decides, this \
      page only announces.

      - [OpenAPI](\(settings.origin)/openapi.json): every operation with its offers
      - [Keys](\(settings.origin)/.well-known/jwks.json): verify invoices and receipts with these

      ## Operations


      """
    for operation in operations { text += entry(operation, origin: settings.origin) }
    return text
  }

  private static func entry(_ operation: DiscoveryOperation, origin: String) -> String {
    var text = "- `\(operation.method.name) \(operation.path)`"
    if !operation.hosts.isEmpty { text += " on \(operation.hosts.joined(separator: ", "))" }
    if let description = operation.description { text += ": \(line(description))" }
    if operation.variants.isEmpty {
      return text + " — \(price(operation.price, operation.offers))\n"
    }
    text += " — by `\(operation.selector)`:\n"
    for variant in operation.variants {
      text += "  - `\(variant.name)`" + (variant.description.map { ": \(line($0))" } ?? "") + " — \(price(variant.price, variant.offers))\n"
    }
    if operation.selector == Settings.Selector.mcp.words { return text + "  - any other — free\n" }
    return text + (operation.price == nil ? "  - any other: not sold\n" : "  - any other — \(price(operation.price, operation.offers))\n")
  }

  private static func price(_ words: String?, _ offers: [Offer]) -> String {
    guard let words else { return "free" }
    let ways = offers.map { "\($0.method)/\($0.intent)" }.joined(separator: ", ")
    return words + (ways.isEmpty ? "" : " (\(ways))")
  }

  /// Keeps what an operator wrote on one line.
  private static func line(_ text: String) -> String {
    text.split(whereSeparator: \.isNewline).joined(separator: " ")
  }
}
