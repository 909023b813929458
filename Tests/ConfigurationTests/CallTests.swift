import Metering
import Testing

@testable import Configuration

/// Routes of type `mcp`: a table of calls.
@Suite struct CallTests {
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
      id = "tools"
      path = "/mcp"

      """
    return Configuration.inspect(text: text + lines, file: "/etc/proxy.conf", state: "/tmp/state", environment: [:])
  }

  @Test func callsHavePrices() throws {
    let outcome = Self.inspect("""
      type = "mcp"
      charge-errors = true
      answer-limit = "1 MiB"
      [route.calls]
      "tools/call:search" = "0.01 USDC per call"
      "tools/call:db.*" = { price = "0.002 USDC per request", description = "Tables" }
      "resources/read:file:///reports/*" = "0.003 USDC per call"
      "prompts/get:*" = "free"
      """)
    #expect(outcome.diagnostics.map { $0.text(file: "f") } == [])
    let route = try #require(outcome.settings?.routes.first)
    #expect(route.selector == .mcp && route.isPriced && route.price == nil && route.merchant == "shop")
    #expect(route.variants.map(\.name) == ["tools/call:search", "tools/call:db.*", "resources/read:file:///reports/*", "prompts/get:*"])
    #expect(route.variants.map { $0.price == nil } == [false, false, false, true])
    #expect(route.calls.chargesErrors && route.calls.answerLimit == 1 << 20)
    #expect(route.intents == [.charge, .session])
    #expect(route.variants[0].minimumDeposit == 10_000)
    #expect(Explanation(outcome).text.contains("tools#tools/call:search"))
  }

  @Test(arguments: [
    ("type = \"mpc\"\nfree = true", "type"), ("type = \"mcp\"", "calls"), ("type = \"mcp\"\n[route.calls]", "calls"),
    ("type = \"mcp\"\n[route.calls]\n\"search\" = \"0.01 USDC per call\"", "search"),
    ("type = \"mcp\"\n[route.calls]\n\"tools/list:*\" = \"0.01 USDC per call\"", "tools/list:*"),
    ("type = \"mcp\"\n[route.calls]\n\"tools/call:a*b\" = \"0.01 USDC per call\"", "tools/call:a*b"),
    ("type = \"mcp\"\n[route.calls]\n\"tools/call:a\" = \"0.01 USDC per MB\"", "tools/call:a"),
    ("type = \"mcp\"\n[route.calls]\n\"tools/call:a\" = 5", "tools/call:a"),
    ("type = \"mcp\"\n[route.calls]\n\"tools/call:a\" = \"0.01 USDC per call\"\n\"tools/call:b\" = \"0.01 EURC per call\"", "calls"),
    ("type = \"mcp\"\nprice = \"0.01 USDC per request\"\n[route.calls]\n\"tools/call:a\" = \"0.01 USDC per call\"", "price"),
    ("type = \"mcp\"\ndigest = true\n[route.calls]\n\"tools/call:a\" = \"0.01 USDC per call\"", "digest"),
    ("type = \"mcp\"\nfree-methods = \"GET\"\n[route.calls]\n\"tools/call:a\" = \"0.01 USDC per call\"", "free-methods"),
    ("type = \"mcp\"\nrefund-left = \"share\"\n[route.calls]\n\"tools/call:a\" = \"0.01 USDC per call\"", "refund-left"),
    ("price = \"0.01 USDC per request\"\n[route.calls]\n\"tools/call:a\" = \"0.01 USDC per call\"", "calls"),
    ("free = true\ncharge-errors = true", "charge-errors"), ("free = true\nanswer-limit = \"1 MiB\"", "answer-limit"),
  ])
  func whatHasNoMeaningIsReported(lines: String, key: String) {
    let outcome = Self.inspect(lines, currencies: "[[currency]]\ncode = \"eurc\"\ndecimals = 6")
    #expect(outcome.settings == nil && outcome.diagnostics.contains { $0.key == key }, "\(outcome.diagnostics.map { $0.text(file: "f") })")
  }
}
