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
      page only announces.\(x402(operations))

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
      text += " — \(price(operation.price, operation.offers, operation.chains))\n"
      return text + rails(operation.chains, isDynamic: operation.isDynamic, indent: "  ")
    }
    text += " — by `\(operation.selector)`:\n"
    for variant in operation.variants {
      text += "  - `\(variant.name)`" + (variant.description.map { ": \(line($0))" } ?? "") + " — \(price(variant.price, variant.offers, variant.chains))\n"
      text += rails(variant.chains, isDynamic: false, indent: "    ")
    }
    if operation.selector == Settings.Selector.mcp.words { return text + "  - any other — free\n" }
    guard operation.price != nil else { return text + "  - any other: not sold\n" }
    return text + "  - any other — \(price(operation.price, operation.offers, operation.chains))\n"
      + rails(operation.chains, isDynamic: operation.isDynamic, indent: "    ")
  }

  /// How x402 is paid, where it is spoken.
  private static func x402(_ operations: [DiscoveryOperation]) -> String {
    guard operations.contains(where: \.isSoldByX402) else { return "" }
    return " Offers of x402 stand in `PAYMENT-REQUIRED`: repeat the request with `PAYMENT-SIGNATURE`; the answer carries `PAYMENT-RESPONSE`."
  }

  /// The ways to pay on chains, a line each.
  private static func rails(_ offers: [ChainOffer], isDynamic: Bool, indent: String) -> String {
    offers.map { "\(indent)- \($0.words(isDynamic: isDynamic))\n" }.joined()
  }

  private static func price(_ words: String?, _ offers: [Offer], _ chains: [ChainOffer]) -> String {
    guard let words else { return "free" }
    var names = offers.map { "\($0.method)/\($0.intent)" }
    if chains.contains(where: \.isX402) { names.append("x402") }
    let ways = names.joined(separator: ", ")
    return words + (ways.isEmpty ? "" : " (\(ways))")
  }

  /// Keeps what an operator wrote on one line.
  private static func line(_ text: String) -> String {
    text.split(whereSeparator: \.isNewline).joined(separator: " ")
  }
}
