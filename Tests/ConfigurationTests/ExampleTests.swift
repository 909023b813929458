import Ethereum
import Foundation
import Gateway
import Testing

@testable import Configuration

private let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
private let example = root.appending(path: "proxy.conf.example")

/// Turns every commented-out setting into a live one, so that what the example promises is checked against the reader.
private func uncommented(_ text: String) -> String {
  text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
    guard line.hasPrefix("# ") else { return String(line) }
    let rest = line.dropFirst(2)
    let isSetting = rest.hasPrefix("[") || rest.prefix { $0.isLowercase || $0 == "-" }.isEmpty == false && rest.drop { $0.isLowercase || $0 == "-" }.hasPrefix(" = ")
    let isContinued = rest.hasPrefix("  { name") || rest == "]"
    return isSetting || isContinued ? String(rest) : String(line)
  }.joined(separator: "\n")
}

@Suite struct ExampleTests {
  @Test func exampleLoadsWithoutWarnings() throws {
    let outcome = Configuration.inspect(example.path, state: "/tmp/farebox-example", environment: [:])
    #expect(outcome.diagnostics == [])
    let settings = try #require(outcome.settings)
    #expect(settings.listeners == [Settings.Listener(.address("127.0.0.1", port: 8402))])
    #expect(settings.upstreams.map(\.servers) == [[.init(.host("127.0.0.1", port: 8081))]])
    #expect(settings.routes.map(\.id) == ["quotes", "files", "status"])
    #expect(settings.routes.map(\.priceWords) == ["0.002 USDC per request", "0.01 USDC per MB", "free"])
    #expect(settings.routes.map(\.intentNames) == [["charge", "session"], ["session"], ["charge", "session"]])
    #expect(settings.ledger.directory == "/tmp/farebox-example/ledger")
    #expect(settings.routes[0].minimumDeposit == 2000)
    #expect(settings.routes[0].suggestedDeposit == 200_000)
    #expect(settings.routes[1].suggestedDeposit == 1_000_000)
  }

  /// Every default that the example shows in a comment is the reader's default.
  @Test func commentedSettingsAreTheDefaults() throws {
    let text = try String(contentsOf: example, encoding: .utf8)
    let folder = FileManager.default.temporaryDirectory.appending(path: "example-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try "key".write(to: folder.appending(path: "upstream.key"), atomically: true, encoding: .utf8)
    let file = folder.appending(path: "proxy.conf").path
    let live = uncommented(text).replacing("strip-prefix = \"/v1\"", with: "strip-prefix = \"/v1/quotes\"")
      .replacing("\"farebox\"", with: "\"root\"").replacing("state = \"/var/lib/farebox\"", with: "").replacing("host = [\"api.example.com\"]", with: "")
    let outcome = Configuration.inspect(text: live, file: file, state: "/tmp/s", environment: ["UPSTREAM_KEY": "k"])
    #expect(outcome.diagnostics.map { $0.text(file: "proxy.conf") } == [])
    let all = try #require(outcome.settings)
    let plain = try #require(Configuration.inspect(text: text, file: file, state: "/tmp/s", environment: [:]).settings)
    #expect(all.limits == plain.limits)
    #expect(all.timeouts == plain.timeouts)
    // Without their keys there are no such limits.
    #expect(all.rates.address == RateLimit("100/s burst 200") && all.routes[0].rate == RateLimit("1000/s burst 2000"))
    var rates = all.rates
    (rates.address, rates.wallet, rates.session) = (nil, nil, nil)
    #expect(rates == plain.rates)
    // Without their keys what happened is kept.
    #expect(all.ledger.chargeRetention == .seconds(400 * 86_400) && all.audit.retention == .seconds(400 * 86_400))
    var (ledger, audit) = (all.ledger, all.audit)
    (ledger.chargeRetention, audit.retention) = (nil, nil)
    #expect(ledger == plain.ledger)
    #expect(audit == plain.audit)
    #expect(all.keys == plain.keys)
    #expect(all.admin == plain.admin)
    #expect(all.listeners == plain.listeners)
    // Without their tables, servers are not asked and no breaker opens; with them, these are the values.
    #expect(all.upstreams.map(\.health) == [Settings.Upstream.Health()] && all.upstreams.map(\.breaker) == [Settings.Upstream.Breaker()])
    var upstreams = all.upstreams
    upstreams[0].health = nil
    upstreams[0].breaker = nil
    #expect(upstreams == plain.upstreams)
    let times = all.routes[0].upstreamTimeouts
    #expect(times.connect == all.timeouts.connect && times.firstOctet == all.timeouts.firstOctet && times.idle == all.timeouts.upstreamIdle)
    #expect(all.cors == plain.cors)
    #expect((all.workers, all.registration, all.expires) == (plain.workers, plain.registration, plain.expires))
    for (left, right) in zip(all.routes, plain.routes) {
      #expect(left.pattern == right.pattern)
      #expect((left.minimumDeposit, left.suggestedDeposit) == (right.minimumDeposit, right.suggestedDeposit))
      #expect((left.idleTimeout, left.holdTimeout) == (right.idleTimeout, right.holdTimeout))
      #expect((left.chargeStatus, left.intents) == (right.chargeStatus, right.intents))
      #expect((left.maxInFlight, left.digestLimit) == (right.maxInFlight, right.digestLimit))
    }
    #expect(live != text)
    #expect(all.routes[0].injectedFields.map(\.name) == ["Authorization", "X-Api-Key"])
  }

  /// What the example says about chains is read, and its values are the defaults.
  @Test func theSectionAboutChainsIsRead() throws {
    let text = try String(contentsOf: example, encoding: .utf8)
    let section = try #require(text.split(separator: "# ---- Chains").last?.split(separator: "# ---- What answers").first)
    var (merchant, route, tables) = ("", "", "")
    for line in section.split(separator: "\n") where line.hasPrefix("#   ") {
      let setting = line.dropFirst(4).replacing("0x…", with: setting(line) == "address" ? ChainFiles.address : ChainConfiguration.account) + "\n"
      switch self.setting(line) {
      case "addresses": merchant += setting
      case "rails": route += setting
      default: tables += setting.replacing("cdp.secret", with: "rpc.secret")
      }
    }
    let live = text.replacing("name = \"Example Shop\"\n", with: "name = \"Example Shop\"\n" + merchant)
      .replacing("id = \"quotes\" ", with: route + "id = \"quotes\" ") + "\n" + tables
    let outcome = Configuration.inspect(text: live, file: "\(ChainFiles.shared.folder)/proxy.conf", state: "/tmp/s", environment: [:])
    // No rail of the example names the chain "lab".
    #expect(outcome.diagnostics.map { "\($0.place) \($0.rule)" } == ["[[chain]] \"lab\" unused"])
    let settings = try #require(outcome.settings)
    #expect(settings.chains.map(\.name) == ["base", "lab"] && settings.facilitators.map(\.name) == ["cdp"])
    var (base, plain) = (settings.chains[0], try #require(ChainConfiguration().inspect().settings?.chains[0]))
    #expect(base.rpc[0].timeout == plain.rpc[0].timeout && settings.facilitators[0].endpoint.timeout == .seconds(30))
    (base.rpc, plain.rpc) = ([], [])
    var escrow = Settings.Escrow(address: try Address(text: ChainConfiguration.account), rules: .evm)
    escrow.settleAmounts = ["usdc": escrow.settleAmount(of: settings.currencies[0])]
    #expect(base.escrow == escrow && escrow.settleAmounts == ["usdc": 10_000_000])
    plain.escrow = escrow
    var batch = Settings.Escrow(address: BatchSettlement.address, rules: .batch)
    (batch.settleAmounts, batch.withdrawDelay) = (escrow.settleAmounts, .seconds(86_400))
    plain.batch = batch
    #expect(base == plain)
    #expect(settings.routes[0].rails == [.prepaid, .x402(chain: 0), .evm(chain: 0)])
    #expect(settings.merchants[0].addresses.count == 2 && settings.chains[1].tokens.count == 1)
  }

  private func setting(_ line: Substring) -> Substring { line.dropFirst(4).prefix { $0 != " " } }

  @Test func explanationNamesRoutesAndPrices() {
    let outcome = Configuration.inspect(example.path, state: "/s", environment: [:])
    let text = Explanation(outcome).text
    #expect(text.contains("quotes  GET,HEAD /v1/quotes/{symbol}  0.002 USDC per request  charge, session to shop; deposit from 0.002, suggested 0.2 USDC"))
    #expect(text.contains("files   GET,HEAD /files/*             0.01 USDC per MB        session to shop"))
    #expect(text.contains("audit log  /s/audit.jsonl"))
    #expect(Explanation(outcome).json["valid"] == true)
    #expect(Explanation(outcome).json["routes"]?.arrayValue?.count == 3)
  }
}
