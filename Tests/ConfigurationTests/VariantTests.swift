import Metering
import Testing

@testable import Configuration

/// Routes whose price depends on the model that is asked for.
@Suite struct VariantTests {
  private static func inspect(_ lines: String, currencies: String = "") -> Configuration.Outcome {
    let text = """
      realm = "api.example.com"
      [[listen]]
      address = "127.0.0.1:8402"
      [[currency]]
      code = "usdc"
      decimals = 6
      \(currencies)
      [[merchant]]
      id = "shop"
      [[upstream]]
      name = "api"
      url = "http://127.0.0.1:8081"
      [[route]]
      id = "chat"
      prefix = "/v1/"
      methods = "POST"

      """
    return Configuration.inspect(text: text + lines, file: "/etc/proxy.conf", state: "/tmp/state", environment: [:])
  }

  @Test func modelsHavePricesOfTheirOwn() throws {
    let outcome = Self.inspect("""
      description = "Chat"
      maximum = "0.5 USDC"
      price = "0.01 USDC per request"
      [route.models]
      "small*" = "0.15 USDC per M input tokens + 0.6 USDC per M output tokens"
      "large" = { price = "0.02 USDC per request", description = "The large one" }
      "dear" = { price = "3 USDC per M output tokens", maximum = "2 USDC", minimum = "0.1 USDC" }
      "local/llama:8b" = "free"
      "gift" = { free = true }
      """)
    #expect(outcome.diagnostics.map { $0.text(file: "f") } == [])
    let route = try #require(outcome.settings?.routes.first)
    #expect(route.selector == .member("model") && route.isPriced && route.merchant == "shop")
    #expect(route.variants.map(\.name) == ["small*", "large", "dear", "local/llama:8b", "gift"])
    #expect(route.variants.map { $0.price == nil } == [false, false, false, true, true])
    #expect(route.variants.compactMap(\.price).map(\.maximum) == [500_000, 500_000, 2_000_000])
    #expect(route.intents == [.charge, .session])
    // A session that opens on the dear model can pay for the least of it.
    #expect(route.variants[2].minimumDeposit == 100_000 && route.variants[1].minimumDeposit == 20000)
    let dear = route.route(of: route.variants[2])
    #expect(dear.id == "chat#dear" && dear.description == "Chat" && dear.variants.isEmpty && dear.selector == .none)
    #expect(route.route(of: route.variants[1]).description == "The large one")
    #expect(route.sold.map(\.id) == ["chat", "chat#small*", "chat#large", "chat#dear"])
    let text = Explanation(outcome).text
    #expect(text.contains("chat#large"))
    #expect(text.contains("model local/llama:8b") && text.contains("free"))
  }

  @Test func withoutAnOwnPriceOthersAreNotSold() throws {
    let outcome = Self.inspect("[route.models]\nmember = \"engine\"\nsmall = \"0.15 USDC per M input tokens\"")
    #expect(outcome.diagnostics.map { $0.text(file: "f") } == [])
    let route = try #require(outcome.settings?.routes.first)
    #expect(route.selector == .member("engine") && route.price == nil && route.isPriced && route.intents == .session)
    #expect(Explanation(outcome).text.contains("not sold"))
    // All free is a free route that only knows its models.
    let free = Self.inspect("[route.models]\nsmall = \"free\"")
    #expect(free.settings?.routes.first?.isPriced == false)
  }

  @Test(arguments: [
    ("[route.models]\nsmall = 1", "small"), ("[route.models]\nsmall = \"1 EUR per request\"", "small"), ("[route.models]\nsmall = {}", "price"),
    ("[route.models]\nsmall = { price = \"1 USDC per request\", free = true }", "free"), ("[route.models]\nsmall = { prize = \"1\" }", "price"),
    ("[route.models]\n\"a*b\" = \"free\"", "a*b"), ("[route.models]\n\"a b\" = \"free\"", "a b"), ("[route.models]\n", "member"),
    ("[route.models]\nmember = \"a.b\"\nx = \"1 USDC per request\"", "member"),
    ("free = true\n[route.models]\nsmall = \"1 USDC per request\"", "free"), ("models = \"x\"", "models"),
    ("upgrade = \"websocket\"\n[route.models]\nsmall = \"1 USDC per request\"", "models"),
    ("sell = [\"charge\"]\n[route.models]\nsmall = \"1 USDC per request\"\nlarge = \"1 USDC per MB\"", "sell"),
    ("minimum = \"2 USDC\"\n[route.models]\nsmall = \"1 USDC per request, at most 1 USDC\"", "minimum"),
  ])
  func wrongTablesAreNamed(lines: String, key: String) {
    let outcome = Self.inspect(lines)
    #expect(outcome.settings == nil && outcome.diagnostics.contains { $0.key == key && $0.severity == .error }, "\(outcome.diagnostics.map { $0.text(file: "f") })")
  }

  @Test func modelsOfARouteHaveOneCurrency() {
    let lines = "[route.models]\nsmall = \"1 USDC per request\"\nlarge = \"1 SAT per request\""
    let outcome = Self.inspect(lines, currencies: "[[currency]]\ncode = \"sat\"\ndecimals = 0")
    #expect(outcome.diagnostics.contains { $0.key == "models" })
  }
}
