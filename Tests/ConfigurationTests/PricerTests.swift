import Metering
import Testing

@testable import Configuration

@Suite struct PricerTests {
  private func inspect(_ route: String, upstream: String = "url = \"http://127.0.0.1:8081\"") -> Configuration.Outcome {
    Configuration.inspect(
      text: """
        realm = "localhost"
        state = "/tmp/farebox-pricer"
        [[listen]]
        address = "127.0.0.1:8402"
        [[currency]]
        code = "usdc"
        decimals = 6
        [[merchant]]
        id = "acme"
        [[upstream]]
        name = "api"
        \(upstream)
        [[route]]
        id = "asked"
        path = "/asked"
        \(route)
        [[route]]
        id = "free"
        path = "/free"
        free = true
        """, file: "/tmp/proxy.conf", environment: [:])
  }

  @Test func readsEveryKey() throws {
    let outcome = inspect(
      """
      price = "http://pricer.internal:9000/v1/price?for=api"
      price-fallback = "0.002 USDC per request"
      pricer-timeout = "250 ms"
      pricer-cache = "1 min"
      pricer-fields = ["Accept-Language", "x-tier"]
      pricer-body-limit = "64 KiB"
      """)
    #expect(outcome.diagnostics.isEmpty)
    let settings = try #require(outcome.settings)
    let route = settings.routes[0]
    let pricer = try #require(route.pricer)
    #expect(pricer.authority == "pricer.internal:9000" && pricer.target == "/v1/price?for=api")
    #expect(pricer.timeout == .milliseconds(250) && pricer.lifetime == .seconds(60))
    #expect(pricer.fields == ["accept-language", "x-tier"] && pricer.bodyLimit == 65_536)
    #expect(pricer.fallback?.words == "0.002 USDC per request" && route.price == pricer.fallback)
    #expect(route.digest && route.digestLimit == 65_536)
    #expect(settings.upstreams.count == 2 && pricer.upstream == 1 && settings.upstreams[1].tls == nil)
    #expect(settings.routes[1].upstream == 0)
    let text = Explanation(outcome).text
    #expect(text.contains("asked of http://pricer.internal:9000/v1/price?for=api, or else 0.002 USDC per request"))
    #expect(text.contains("shown method, path and query, accept-language, x-tier, content of at most 65536 octets"))
  }

  @Test func anUpstreamOfTheSameOriginLendsItsTerms() throws {
    let outcome = inspect(
      "price = \"https://api.internal/price\"", upstream: "url = \"https://api.internal\"\nverify = \"insecure\"")
    let settings = try #require(outcome.settings)
    #expect(settings.upstreams.count == 1 && settings.routes[0].pricer?.upstream == 0)
    let other = try #require(inspect("price = \"http://api.internal/price\"", upstream: "url = \"https://api.internal\"").settings)
    #expect(other.upstreams.count == 2)
  }

  @Test func withoutAFallbackNothingIsEverSoldAtThePlaceholder() throws {
    let route = try #require(inspect("price = \"http://127.0.0.1:9000\"").settings).routes[0]
    #expect(route.pricer?.fallback == nil && route.pricer?.target == "/")
    #expect(try #require(route.price).chargeAmount > 1 << 100)
  }

  @Test(arguments: [
    ("price = \"http://\"", "price"), ("price = \"http://a b/\"", "price"), ("price = \"http://h:0/\"", "price"), ("price = \"http://h/a#b\"", "price"),
    ("price = \"http://h/\"\nprice-fallback = \"0.01 USDC per MB\"", "price-fallback"),
    ("price = \"http://h/\"\nprice-fallback = \"0.01 GBP per request\"", "price-fallback"),
    ("price = \"http://h/\"\npricer-timeout = \"1 h\"", "pricer-timeout"), ("price = \"http://h/\"\npricer-body-limit = \"1 GiB\"", "pricer-body-limit"),
    ("price = \"http://h/\"\npricer-fields = [\"Payment-Authorization\"]", "pricer-fields"),
    ("price = \"http://h/\"\npricer-fields = [\"Prepaid-Session\"]", "pricer-fields"),
    ("price = \"http://h/\"\npricer-fields = [\"A\", \"a\"]", "pricer-fields"),
    ("price = \"http://h/\"\npricer-body-limit = 10\ndigest = false", "digest"),
    ("price = \"http://h/\"\nupgrade = [\"websocket\"]", "upgrade"),
    ("price = \"0.01 USDC per request\"\npricer-cache = \"1 s\"", "pricer-cache"),
    ("price = \"0.01 USDC per request\"\nprice-fallback = \"0.02 USDC per request\"", "price-fallback"),
  ])
  func reportsWhatCannotBe(_ route: String, _ key: String) {
    let outcome = inspect(route)
    #expect(outcome.settings == nil)
    #expect(outcome.diagnostics.contains { $0.severity == .error && $0.key == key }, "\(outcome.diagnostics.map { $0.key ?? "" })")
  }

  @Test func readsSettlement() throws {
    func settlement(_ keys: String) -> Settings.Settlement? {
      inspect("price = \"0.01 USDC per request\"\n\(keys)").settings?.routes[0].settlement
    }
    #expect(settlement("") == Settings.Settlement())
    let end = try #require(settlement("settle = \"end\"\nsettle-limit = \"1 MiB\"\nrefund-left = \"share\""))
    #expect(end.isAtEnd && end.limit == 1 << 20 && end.broken == .all && end.left == .share)
    #expect(settlement("refund-broken = \"none\"")?.broken == Settings.Settlement.Refund.none)
    for wrong in ["settle = \"later\"", "settle = \"end\"\nsettle-limit = \"1 GiB\"", "refund-broken = \"half\"", "refund-left = true", "refund-left = \"all\""] {
      #expect(settlement(wrong) == nil, "\(wrong)")
    }
    #expect(inspect("price = \"0.01 USDC per MB\"\nrefund-broken = \"all\"").settings == nil)
    #expect(inspect("free = true\nsettle = \"end\"").settings == nil)
  }
}
