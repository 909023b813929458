import Ethereum
import Testing

@testable import Configuration

private let rpc = "rpc = [\"https://rpc.example.com\"]\nsigner = \"keys/base.key\""
private let usdc = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"

private func said(_ chain: String) -> [String] {
  var configuration = ChainConfiguration()
  configuration.chain = chain
  return configuration.said
}

@Suite struct ChainTests {
  @Test func aPresetNeedsNoFacts() throws {
    let outcome = ChainConfiguration().inspect()
    #expect(outcome.diagnostics == [])
    let settings = try #require(outcome.settings)
    let chain = try #require(settings.chains.first)
    #expect((chain.name, chain.id, chain.kind, chain.reference) == ("base", 8453, .evm, "eip155:8453"))
    #expect((chain.confirmations, chain.resubmitAfter, chain.gasPriceLimit) == (1, .seconds(30), 50_000_000_000))
    #expect(chain.facilitator == nil && chain.signer == .file("\(ChainFiles.shared.folder)/keys/base.key"))
    #expect(chain.signerAddress?.checksummed == ChainFiles.address)
    let token = try #require(chain.token(of: "usdc"))
    #expect(token.address.checksummed == usdc && token.currency.decimals == 6)
    #expect(token.domain == .init(name: "USD Coin", version: "2") && token.transfers == [.eip3009, .permit2])
    let node = try #require(chain.rpc.first)
    #expect(node.authority == "rpc.example.com" && node.isSecure && node.target.bytes == Array("/v2/hush-hush".utf8))
    #expect(node.authorization == nil && node.timeout == .seconds(10) && node.words == "https://rpc.example.com")
    #expect(settings.upstreams.map(\.name) == ["api", "rpc:rpc.example.com"] && node.upstream == 1 && settings.upstreams[1].tls != nil)
    #expect(settings.merchants[0].addresses.mapValues(\.checksummed) == ["base": ChainConfiguration.account])
  }

  @Test func everyKeyIsRead() throws {
    var configuration = ChainConfiguration()
    configuration.chain = """
      name = "lab"
      chain-id = 1337
      type = "evm"
      rpc = ["http://127.0.0.1:8545", "http://[::1]:8545/?key=hush-hush", "https://rpc.example.com:8443/a/b?c=d"]
      rpc-authorization-file = "rpc.secret"
      rpc-timeout = "2 s"
      confirmations = 12
      signer = "https://signer.internal:9000/api"
      signer-address = "\(ChainConfiguration.account.lowercased())"
      facilitator = "cdp"
      resubmit-after = "1 min"
      gas-limit-price = "1.5 gwei"
      [[chain.token]]
      currency = "usdc"
      address = "0x00000000000000000000000000000000000000AA"
      name = "Test Dollar"
      version = "1"
      transfers = ["permit2", "eip3009"]
      [[chain.token]]
      currency = "usdt"
      address = "0x00000000000000000000000000000000000000bb"
      transfers = "permit2"
      [[facilitator]]
      name = "cdp"
      url = "https://cdp.example.com/x402/"
      authorization-file = "rpc.secret"
      timeout = "5 s"
      """
    configuration.currencies = "code = \"usdc\"\ndecimals = 6\n[[currency]]\ncode = \"usdt\"\ndecimals = 18"
    configuration.addresses = "addresses = { lab = \"\(ChainConfiguration.account.lowercased())\" }"
    configuration.rails = "rails = [\"x402:lab\", \"evm:lab\"]"
    let outcome = configuration.inspect()
    #expect(outcome.diagnostics.map(\.rule) == [.unused])
    let settings = try #require(outcome.settings)
    let chain = try #require(settings.chains.first)
    #expect(chain.rpc.map(\.words) == ["http://127.0.0.1:8545", "http://[::1]:8545", "https://rpc.example.com:8443"])
    #expect(chain.rpc.map { String(decoding: $0.target.bytes, as: UTF8.self) } == ["/", "/?key=hush-hush", "/a/b?c=d"])
    #expect(chain.rpc.allSatisfy { $0.authorization?.bytes == Array("Bearer hush-hush".utf8) && $0.timeout == .seconds(2) })
    #expect((chain.confirmations, chain.resubmitAfter, chain.gasPriceLimit, chain.facilitator) == (12, .seconds(60), 1_500_000_000, 0))
    guard case .remote(let signer, let address)? = chain.signer else {
      Issue.record("no remote signer")
      return
    }
    #expect(signer.words == "https://signer.internal:9000" && signer.target.bytes == Array("/api".utf8) && address == chain.signerAddress)
    #expect(signer.timeout == .seconds(2) && signer.authorization == nil)
    #expect(chain.tokens.map(\.transfers) == [[.eip3009, .permit2], .permit2] && chain.tokens[1].domain == nil)
    #expect(chain.tokens[0].domain == .init(name: "Test Dollar", version: "1"))
    let facilitator = try #require(settings.facilitators.first)
    #expect(facilitator.endpoint.target.bytes == Array("/x402".utf8) && facilitator.endpoint.timeout == .seconds(5))
    #expect(facilitator.endpoint.authorization?.bytes == Array("Bearer hush-hush".utf8))
    let names = ["api", "rpc:127.0.0.1:8545", "rpc:[::1]:8545", "rpc:rpc.example.com:8443", "signer:signer.internal:9000", "facilitator:cdp.example.com"]
    #expect(settings.upstreams.map(\.name) == names && signer.upstream == 4 && facilitator.endpoint.upstream == 5)
    #expect(chain.rpc.map(\.upstream) == [1, 2, 3] && settings.upstreams.allSatisfy { $0.name == "api" || $0.http2 == .never })
    let route = settings.routes[0]
    #expect(route.rails == [.x402(chain: 0), .evm(chain: 0)] && route.intents == .charge)
  }

  @Test func presetsAreWhatTheyShouldBe() throws {
    #expect(ChainPreset.all.map(\.name) == ["base", "base-sepolia", "polygon", "polygon-amoy", "tempo", "tempo-testnet"])
    #expect(ChainPreset.all.map(\.id) == [8453, 84532, 137, 80002, 4217, 42431])
    #expect(ChainPreset.all.map(\.kind) == [.evm, .evm, .evm, .evm, .tempo, .tempo])
    for preset in ChainPreset.all {
      #expect(!preset.tokens.isEmpty && (1...1000).contains(preset.confirmations))
      for token in preset.tokens {
        let address = try Address(text: token.address)
        #expect(address.checksummed == token.address && token.decimals == 6, "\(preset.name)")
        #expect((token.domain == nil) == (preset.kind == .tempo) && token.transfers.isEmpty == (preset.kind == .tempo))
      }
    }
  }

  @Test(arguments: ChainPreset.all.map(\.name))
  func everyPresetLoads(_ name: String) throws {
    var configuration = ChainConfiguration()
    let dialect = name.hasPrefix("tempo") ? "tempo" : "evm"
    configuration.chain = "name = \"\(name)\"\n\(rpc)"
    if name == "tempo-testnet" { configuration.chain += "\n[[chain.token]]\ncurrency = \"usdc\"\naddress = \"0x20c0000000000000000000000000000000000000\"" }
    configuration.addresses = "addresses = { \(name) = \"\(ChainConfiguration.account)\" }"
    configuration.rails = "rails = [\"\(dialect)\"]"
    let outcome = configuration.inspect()
    #expect(outcome.diagnostics == [])
    #expect(outcome.settings?.chains[0].tokens.count == 1)
    #expect(outcome.settings?.routes[0].rails == [dialect == "evm" ? .evm(chain: 0) : .tempo(chain: 0)])
  }

  @Test func aPresetsTokenLendsWhatIsNotWritten() throws {
    var configuration = ChainConfiguration()
    configuration.chain += "\nconfirmations = 3\n[[chain.token]]\ncurrency = \"usdc\"\ntransfers = [\"eip3009\"]"
    var token = try #require(configuration.inspect().settings?.chains[0].tokens.first)
    #expect(token.address.checksummed == usdc && token.domain?.name == "USD Coin" && token.transfers == .eip3009)
    // The contract is known under any currency, and another contract of the currency is not.
    configuration.chain = configuration.chain.replacing("transfers = [\"eip3009\"]", with: "address = \"\(usdc.lowercased())\"\nname = \"USDC\"")
    token = try #require(configuration.inspect().settings?.chains[0].tokens.first)
    #expect(token.domain == .init(name: "USDC", version: "2") && token.transfers == [.eip3009, .permit2])
    configuration.chain = configuration.chain.replacing(usdc.lowercased(), with: "0x00000000000000000000000000000000000000aa")
    #expect(configuration.said.contains { $0.contains("version: missing key") })
    #expect(configuration.said.contains { $0.contains("transfers: missing key") })
  }

  @Test func commandsNeedNoKeys() throws {
    var configuration = ChainConfiguration()
    configuration.chain = "name = \"base\"\nrpc = [\"https://a\"]\nrpc-authorization-file = \"absent\"\nsigner = \"absent\""
    configuration.readsSecrets = false
    let outcome = configuration.inspect()
    #expect(outcome.diagnostics == [])
    #expect(outcome.settings?.chains[0].signerAddress == nil && outcome.settings?.chains[0].rpc[0].authorization == nil)
    configuration.readsSecrets = true
    #expect(configuration.inspect().settings == nil)
  }

  @Test func tempoNeedsNoSigner() throws {
    var configuration = ChainConfiguration()
    configuration.chain = "name = \"tempo\"\nrpc = \"https://rpc.tempo.example\""
    configuration.addresses = "addresses = { tempo = \"\(ChainConfiguration.account)\" }"
    configuration.rails = "rails = [\"prepaid\", \"tempo\"]"
    let outcome = configuration.inspect()
    #expect(outcome.diagnostics == [] && outcome.settings?.chains[0].signer == nil)
    #expect(outcome.settings?.routes[0].rails == [.prepaid, .tempo(chain: 0)])
  }

  @Test func anUpstreamOfTheSameOriginLendsItsTermsAndIsUsed() throws {
    var configuration = ChainConfiguration()
    configuration.chain += "\n[[upstream]]\nname = \"node\"\nurl = \"https://rpc.example.com\"\nverify = \"insecure\""
    configuration.price += "\nupstream = \"api\""
    let outcome = configuration.inspect()
    #expect(outcome.diagnostics.map(\.rule) == [.unverified])
    #expect(outcome.settings?.upstreams.count == 2 && outcome.settings?.chains[0].rpc[0].upstream == 1)
  }

  @Test func whatNobodyNamesIsWarnedOf() {
    var configuration = ChainConfiguration()
    configuration.chain += "\n[[facilitator]]\nname = \"cdp\"\nurl = \"https://cdp.example.com\""
    configuration.rails = ""
    #expect(
      configuration.said == [
        "proxy.conf:11:8: warning: [[chain]] \"base\": name = \"base\": is never used\n  advice: remove it, or name it in the rails of a [[route]]",
        "proxy.conf:15:8: warning: [[facilitator]] \"cdp\": name = \"cdp\": is never used\n  advice: remove it, or name it in a [[chain]]",
      ])
  }

  @Test func checkSaysWhoIsPaidAndWhoPaysTheGas() throws {
    var configuration = ChainConfiguration()
    configuration.chain += "\nrpc-authorization-file = \"rpc.secret\"\nfacilitator = \"cdp\"\n[[facilitator]]\nname = \"cdp\"\nurl = \"https://cdp.example.com/hush-hush\""
    let outcome = configuration.inspect()
    let text = Explanation(outcome).text
    for line in [
      "chain      base: eip155:8453, a payment is final when it is in a block",
      "           asks https://rpc.example.com within 10 s, with authorization",
      "           USDC is \(usdc), 6 decimals, signed for as \"USD Coin\" version \"2\"; moved by eip3009, permit2",
      "           pays shop at \(ChainConfiguration.account)",
      "           x402 settled by facilitator cdp (https://cdp.example.com, within 30 s), which pays the gas",
      "           everything else settled by this proxy: \(ChainFiles.address) pays the gas, at most 50 gwei a unit; sent again after 30 s",
      "           signed with the key in \(ChainFiles.shared.folder)/keys/base.key",
      "upstream   rpc:rpc.example.com: https://rpc.example.com:443",
    ] {
      #expect(text.contains(line + "\n"), "\(line)\n\(text)")
    }
    #expect(text.contains("; by prepaid, x402:base: on a chain before the upstream is asked"))
    let json = Explanation(outcome).json
    #expect(json["chains"]?.arrayValue?[0]["signerAddress"] == .string(ChainFiles.address))
    #expect(json["chains"]?.arrayValue?[0]["tokens"]?.arrayValue?[0]["address"] == .string(usdc))
    #expect(json["facilitators"]?.arrayValue?[0]["url"] == "https://cdp.example.com")
    #expect(json["routes"]?.arrayValue?[0]["rails"]?.arrayValue == ["prepaid", "x402:base"])
    var shown = text + "\(json)"
    if let settings = outcome.settings { dump(settings, to: &shown) }
    #expect(!shown.contains("hush"))
  }

  @Test func tempoIsExplainedWithAndWithoutASigner() {
    var configuration = ChainConfiguration()
    configuration.chain = "name = \"tempo\"\nrpc = \"https://rpc.tempo.example\"\nconfirmations = 2"
    configuration.addresses = "addresses = { tempo = \"\(ChainConfiguration.account)\" }"
    configuration.rails = "rails = [\"tempo\"]"
    let text = Explanation(configuration.inspect()).text
    #expect(text.contains("tempo: eip155:4217, Tempo, a payment is final after 2 blocks\n"))
    #expect(text.contains("payers' own transactions handed on by this proxy; payers pay their fees\n"))
    #expect(text.contains("charge to shop; by tempo:tempo: on a chain before the upstream is asked"))
    configuration.chain += "\nsigner = \"http://127.0.0.1:9000/hush\"\nsigner-address = \"\(ChainConfiguration.account)\""
    let signed = Explanation(configuration.inspect()).text
    #expect(signed.contains("settled by this proxy: \(ChainConfiguration.account) pays the fees that are sponsored, at most 50 gwei a unit"))
    #expect(signed.contains("signed with the signer at http://127.0.0.1:9000\n"))
  }
}
