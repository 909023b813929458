import Metering
import Testing

@testable import Configuration

/// Which protocols a route passes on, and what may be sold by messages and time.
@Suite struct UpgradeTests {
  private static func inspect(_ lines: String) -> Configuration.Outcome {
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
      id = "live"
      path = "/live"

      """
    return Configuration.inspect(text: text + lines, file: "/etc/proxy.conf", state: "/tmp/state", environment: [:])
  }

  @Test func protocolsAreRead() throws {
    let outcome = Self.inspect("free = true\nupgrade = [\"websocket\", \"irc/6.9\"]\nupgrade-required = true")
    // A free route leaves currency and merchant unused, which only warns.
    #expect(!outcome.diagnostics.contains { $0.severity == .error })
    let route = try #require(outcome.settings?.routes.first)
    #expect(route.upgrades == ["websocket", "irc/6.9"] && route.requiresUpgrade)
    let plain = try #require(Self.inspect("free = true").settings?.routes.first)
    #expect(plain.upgrades.isEmpty && !plain.requiresUpgrade)
  }

  @Test func messagesAndTimeNeedASwitch() throws {
    let sold = Self.inspect("price = \"0.001 USDC per message of both + 0.06 USDC per minute\"\nupgrade = \"websocket\"")
    #expect(sold.diagnostics.map { $0.text(file: "f") } == [])
    let route = try #require(sold.settings?.routes.first)
    #expect(route.requiresUpgrade && route.intents == .session)
    #expect(route.suggestedDeposit >= 1_000_000)
    #expect(Self.inspect("price = \"0.06 USDC per minute\"\nupgrade = [\"irc\"]").settings != nil)
  }

  @Test func anUpstreamThatKnowsHTTP2OnlyCannotSwitch() {
    func texts(_ http2: String) -> [String] {
      let outcome = Configuration.inspect(
        text: """
          realm = "api.example.com"
          [[listen]]
          address = "127.0.0.1:8402"
          [[upstream]]
          name = "api"
          url = "http://127.0.0.1:8081"
          http2 = "\(http2)"
          [[route]]
          id = "live"
          path = "/live"
          free = true
          upgrade = ["websocket"]
          """, file: "/etc/proxy.conf", state: "/tmp/state", environment: [:])
      return outcome.diagnostics.map { $0.text(file: "f") }
    }
    #expect(texts("auto") == [] && texts("never") == [])
    #expect(texts("always").count == 1)
    #expect(texts("always").first?.hasPrefix("f:12:11: error: [[route]] \"live\": upgrade: excludes another key\n") == true, "\(texts("always"))")
    #expect(texts("always").first?.contains("give the [[upstream]] \"api\" http2 = \"auto\"") == true)
  }

  @Test(arguments: [
    ("free = true\nupgrade = [\"WebSocket\"]", "upgrade"), ("free = true\nupgrade = [\"h2c\"]", "upgrade"),
    ("free = true\nupgrade = [\"tls/1.0\"]", "upgrade"), ("free = true\nupgrade = [\"a b\"]", "upgrade"),
    ("free = true\nupgrade = [\"\"]", "upgrade"), ("free = true\nupgrade = [\"a\", \"a\"]", "upgrade"),
    ("free = true\nupgrade = 1", "upgrade"), ("free = true\nupgrade-required = true", "upgrade-required"),
    ("free = true\nupgrades = [\"websocket\"]", "upgrades"), ("price = \"1 USDC per message\"", "price"),
    ("price = \"1 USDC per message\"\nupgrade = [\"irc\"]", "price"),
    ("price = \"1 USDC per message\"\nupgrade = [\"websocket\", \"irc\"]", "price"),
    ("price = \"1 USDC per second\"\nupgrade = [\"websocket\"]\nsell = [\"charge\"]", "sell"),
  ])
  func mistakesAreNamed(lines: String, key: String) {
    let outcome = Self.inspect(lines)
    #expect(outcome.settings == nil)
    #expect(outcome.diagnostics.contains { $0.key == key }, "\(outcome.diagnostics.map { $0.text(file: "f") })")
  }
}
