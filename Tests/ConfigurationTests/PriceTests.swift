import Metering
import Testing

@testable import Configuration

/// The bounds of an exchange's price, and how its usage is learned.
@Suite struct PriceTests {
  static func inspect(_ lines: String) -> Configuration.Outcome {
    let text = """
      realm = "api.example.com"
      [[listen]]
      address = "127.0.0.1:8402"
      [[currency]]
      code = "usdc"
      decimals = 6
      [[merchant]]
      id = "shop"
      [[upstream]]
      name = "api"
      url = "http://127.0.0.1:8081"
      [[route]]
      id = "chat"
      prefix = "/v1/"

      """
    return Configuration.inspect(text: text + lines, file: "/etc/proxy.conf", state: "/tmp/state", environment: [:])
  }

  private static let tokens = "price = \"0.15 USDC per M input tokens + 0.6 USDC per M output tokens\"\n"

  @Test func boundsStandInThePriceOrBesideIt() throws {
    for lines in [
      Self.tokens + "minimum = \"0.0001 USDC\"\nmaximum = \"0.5 usdc\"",
      "price = \"0.15 USDC per M input tokens + 0.6 USDC per M output tokens, at least 0.0001 USDC, at most 0.5 USDC\"",
      "price = \"0.15 USDC per M input tokens + 0.6 USDC per M output tokens, at least 0.0001 USDC\"\nmaximum = \"0.5 USDC\"",
    ] {
      let outcome = Self.inspect(lines)
      #expect(outcome.diagnostics.map { $0.text(file: "f") } == [])
      let route = try #require(outcome.settings?.routes.first)
      #expect((route.price?.minimum, route.price?.maximum) == (100, 500_000))
      #expect(route.intents == .session && !route.requiresUpgrade)
      // A session that cannot pay for the least exchange is of no use, and a hundred of the dearest are enough.
      #expect(route.minimumDeposit == 100 && route.suggestedDeposit <= 50_000_000)
    }
    #expect(Self.inspect("price = \"0.06 USDC per minute\"").settings?.routes.first?.requiresUpgrade == false)
  }

  @Test(arguments: [
    ("minimum = \"1 EUR\"", "minimum"), ("maximum = \"0 USDC\"", "maximum"), ("maximum = \"0.0000001 USDC\"", "maximum"), ("maximum = 1", "maximum"),
    ("minimum = \"2 USDC\"\nmaximum = \"1 USDC\"", "minimum"),
  ])
  func wrongBoundsAreNamed(lines: String, key: String) {
    let outcome = Self.inspect(Self.tokens + lines)
    #expect(outcome.settings == nil && outcome.diagnostics.map(\.key) == [key])
  }

  @Test func boundsAreSaidOnceAndSoldOnly() {
    let twice = Self.inspect("price = \"1 USDC per event, at most 2 USDC\"\nmaximum = \"3 USDC\"")
    #expect(twice.diagnostics.map(\.key) == ["maximum"])
    #expect(Self.inspect("free = true\nmaximum = \"3 USDC\"").diagnostics.contains { $0.key == "maximum" && $0.severity == .error })
    #expect(Self.inspect("price = \"1 USDC per event\"\nupgrade = \"websocket\"").diagnostics.map(\.key) == ["price"])
    #expect(Self.inspect("price = \"1 USDC per message, at most 5 USDC\"\nupgrade = \"websocket\"").diagnostics.map(\.key) == ["price"])
  }

  @Test func usageIsReadAsConfigured() throws {
    let lines = """
      usage-format = "anthropic"
      default-output-tokens = 1000
      octets-per-token = 3
      over-budget = "ceiling"
      include-usage = false
      keep-usage-chunk = true
      content-coding = "decode"
      usage-body-limit = "1 MiB"
      """
    let outcome = Self.inspect(Self.tokens + lines)
    #expect(outcome.diagnostics.map { $0.text(file: "f") } == [])
    var expected = Settings.UsageReading()
    expected.format = "anthropic"
    expected.defaultOutputTokens = 1000
    expected.octetsPerToken = 3
    expected.refusesBeyondBudget = false
    expected.includesUsage = false
    expected.keepsUsageChunk = true
    expected.decodesContent = true
    expected.bodyLimit = 1 << 20
    #expect(outcome.settings?.routes.first?.usage == expected)
    #expect(Self.inspect(Self.tokens + "usage-format = \"auto\"").settings?.routes.first?.usage == Settings.UsageReading())
    let units = Self.inspect("price = \"1 USDC per 1000 units\"\nunits-field = \"X-Units\"\nmost-units = 500").settings?.routes.first?.usage
    #expect(units?.unitsField == "X-Units" && units?.mostUnits == 500)
  }

  @Test(arguments: [
    (tokens + "usage-format = \"openai\"", "usage-format"), (tokens + "octets-per-token = 0", "octets-per-token"),
    (tokens + "over-budget = \"stop\"", "over-budget"), (tokens + "content-coding = \"gzip\"", "content-coding"),
    (tokens + "units-field = \"X-Units\"", "units-field"), ("price = \"1 USDC per unit\"\nunits-field = \"a b\"", "units-field"),
    ("price = \"1 USDC per request\"\nusage-format = \"gemini\"", "usage-format"), ("price = \"1 USDC per MB\"\nover-budget = \"ceiling\"", "over-budget"),
    (tokens + "usage-body-limit = \"1 GiB\"", "usage-body-limit"),
  ])
  func wrongUsageIsNamed(lines: String, key: String) {
    let outcome = Self.inspect(lines)
    #expect(outcome.settings == nil && outcome.diagnostics.map(\.key) == [key])
  }
}
