import Ethereum
import Testing

@testable import Configuration

private let vault = "0x00000000000000000000000000000000000fa4b0"
private let escrow = "escrow = \"\(vault)\""
private let base = ChainConfiguration().chain + "\n"
private let tempo = "name = \"tempo\"\nrpc = \"https://rpc.tempo.example\"\nsigner = \"keys/base.key\"\n"

private struct Case: CustomTestStringConvertible, Sendable {
  let chain: String
  var rails = "rails = \"prepaid\""
  var price = "price = \"0.01 USDC per request\""
  var addresses = ""
  let expected: String
  var testDescription: String { expected }

  var said: [String] {
    var configuration = ChainConfiguration()
    (configuration.chain, configuration.rails, configuration.price, configuration.addresses) = (chain, rails, price, addresses)
    return configuration.said.filter { !$0.contains("is never used") }
  }
}

private let foreign =
  "the signer of [[chain]] \"base\", \(ChainFiles.address), to be the address of [[merchant]] \"shop\" there, \(ChainConfiguration.account): only who is paid can settle and close a channel"

private let cases = [
  Case(
    chain: base + "escrow = \"0xFA4B0\"",
    expected: "proxy.conf:14:10: error: [[chain]] \"base\": escrow = \"0xFA4B0\": invalid value\n  expected: an address: 0x and 40 hexadecimal digits"),
  Case(
    chain: base + "escrow = \"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913\"",
    expected: "proxy.conf:14:10: error: [[chain]] \"base\": escrow = \"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913\": excludes another key\n  expected: the escrow's contract: this is the token's, USDC"),
  Case(
    chain: base + "settle-after = \"1 h\"",
    expected: "proxy.conf:14:16: error: [[chain]] \"base\": settle-after = \"1 h\": excludes another key\n  expected: escrow beside it: the contract that holds the deposits of sessions, such as escrow = \"0x…\""),
  Case(
    chain: base + escrow + "\nescrow-protocol = \"v1\"",
    expected: "proxy.conf:15:19: error: [[chain]] \"base\": escrow-protocol = \"v1\": excludes another key\n  expected: a chain of type = \"tempo\": elsewhere there is one protocol\n  advice: remove it"),
  Case(
    chain: base + escrow + "\nsettle-amount = \"10\"",
    expected: "proxy.conf:15:17: error: [[chain]] \"base\": settle-amount = \"10\": invalid value\n  expected: an amount of a token of the chain, such as \"10 USDC\""),
  Case(
    chain: base + escrow + "\nsettle-amount = [\"1 USDC\", \"0 USDC\"]",
    expected: "proxy.conf:15:28: error: [[chain]] \"base\": settle-amount = \"0 USDC\": invalid value\n  expected: an amount of a token of the chain, such as \"10 USDC\""),
  Case(
    chain: base + escrow + "\nsettle-amount = [\"1 USDC\", \"2 USDC\"]",
    expected: "proxy.conf:15:28: error: [[chain]] \"base\": settle-amount = \"2 USDC\": is there twice"),
  Case(
    chain: base + escrow + "\nclose-idle-after = \"0 s\"",
    expected: "proxy.conf:15:20: error: [[chain]] \"base\": close-idle-after = \"0 s\": out of range\n  expected: a time from 1 s to 365 d"),
  Case(
    chain: "name = \"base\"\nfacilitator = \"cdp\"\n\(escrow)\n[[facilitator]]\nname = \"cdp\"\nurl = \"https://c\"",
    expected: "proxy.conf:13:10: error: [[chain]] \"base\": escrow = \"\(vault)\": excludes another key\n  expected: rpc and signer beside it: channels are watched, settled and closed by this proxy, with the key of who is paid"),
  Case(
    chain: tempo + escrow,
    expected: "proxy.conf:10:1: error: [[chain]] \"tempo\": escrow-protocol: missing key\n  expected: \"v1\" or \"v2\", the sessionProtocol of its contract"),
  Case(
    chain: tempo + "escrow-protocol = \"v3\"\n\(escrow)",
    expected: "proxy.conf:14:19: error: [[chain]] \"tempo\": escrow-protocol = \"v3\": invalid value\n  expected: \"v1\" or \"v2\", the sessionProtocol of its contract\n  did you mean: v1"),
  Case(
    chain: base + escrow, rails: "rails = [\"evm:base\"]\nsell = \"session\"", addresses: "addresses = { base = \"\(ChainConfiguration.account)\" }",
    expected: "proxy.conf:23:8: error: [[route]] \"quotes\": sell = \"session\": excludes another key\n  expected: \"charge\" as well, or \(foreign)"),
  Case(
    chain: base + escrow, rails: "rails = [\"evm:base\"]", price: "price = \"0.01 USDC per MB\"",
    addresses: "addresses = { base = \"\(ChainConfiguration.account)\" }",
    expected: "proxy.conf:22:9: error: [[route]] \"quotes\": rails: excludes another key\n  expected: a price per request, or \(foreign)\n  advice: what is metered cannot be charged before it is known: it is sold by sessions"),
]

@Suite struct EscrowTests {
  @Test(arguments: cases)
  fileprivate func errorNamesPlaceAndRemedy(_ example: Case) {
    #expect(example.said == [example.expected], "\(example.said)")
  }

  @Test func everyKeyIsRead() throws {
    var configuration = ChainConfiguration()
    configuration.chain = base + escrow + "\nsettle-amount = \"2.5 USDC\"\nsettle-after = \"2 h\"\nclose-idle-after = \"3 d\"\nvoucher-step = \"0.5 USDC\""
    configuration.addresses = "addresses = { base = \"\(ChainFiles.address)\" }"
    configuration.rails = "rails = [\"evm:base\"]"
    let outcome = configuration.inspect()
    #expect(outcome.diagnostics == [])
    let settings = try #require(outcome.settings)
    let escrow = try #require(settings.chains[0].escrow)
    #expect((escrow.address.checksummed, escrow.rules) == (vault, .evm))
    #expect((escrow.settleAfter, escrow.closeIdleAfter) == (.seconds(7200), .seconds(3 * 86_400)))
    #expect(escrow.settleAmount(of: settings.currencies[0]) == 2_500_000 && escrow.voucherSteps == ["usdc": 500_000])
    #expect(settings.sessionEscrow(of: .evm(chain: 0), merchant: "shop") == escrow)
    #expect(settings.sessionEscrow(of: .x402(chain: 0), merchant: "shop") == nil && settings.sessionEscrow(of: .prepaid, merchant: "shop") == nil)
    #expect(settings.routes[0].intents == [.charge, .session] && settings.routes[0].minimumDeposit == 10_000)
    let text = Explanation(outcome).text
    #expect(text.contains("           sessions deposit in \(vault)\n"))
    #expect(text.contains("           settled when 2.5 USDC or 2 h are owed; closed after 3 d without use\n"))
    let json = try #require(Explanation(outcome).json["chains"]?.arrayValue?.first?["escrow"])
    #expect(json["address"]?.stringValue == vault && json["settleAmounts"]?["usdc"]?.stringValue == "2500000" && json["settleAfterSeconds"] == 7200)
  }

  @Test func whatIsMeteredIsSoldBySessionsOnAChain() throws {
    var configuration = ChainConfiguration()
    (configuration.chain, configuration.addresses, configuration.price) = (base + escrow, "addresses = { base = \"\(ChainFiles.address)\" }", "price = \"0.01 USDC per MB\"")
    configuration.rails = "rails = [\"evm:base\"]"
    let outcome = configuration.inspect()
    #expect(outcome.diagnostics == [])
    #expect(outcome.settings?.routes[0].intents == .session && outcome.settings?.chains[0].escrow?.settleAmounts == [:])
    #expect(Explanation(outcome).text.contains("           settled when 10 USDC or 1 d are owed; closed after 7 d without use\n"))
  }

  /// Whose money goes elsewhere than to the signer charges, and `check` says why there are no sessions.
  @Test func anAddressThatIsNotTheSignersIsCharged() throws {
    var configuration = ChainConfiguration()
    configuration.chain = base + escrow
    configuration.rails = "rails = [\"evm:base\"]"
    let outcome = configuration.inspect()
    #expect(outcome.diagnostics == [])
    #expect(outcome.settings?.routes[0].intents == .charge)
    #expect(Explanation(outcome).text.contains("           no sessions for shop by evm:base: that takes \(foreign)\n"))
  }

  @Test(arguments: [("tempo", "v1", "0x33b901018174DDabE4841042ab76ba85D4e24f25"), ("tempo", "v2", "0x4D50500000000000000000000000000000000000")])
  func tempoKnowsItsEscrows(_ name: String, _ version: String, _ address: String) throws {
    var configuration = ChainConfiguration()
    configuration.chain = tempo + "escrow-protocol = \"\(version)\""
    configuration.addresses = "addresses = { tempo = \"\(ChainFiles.address)\" }"
    configuration.rails = "rails = \"tempo\"\nsell = \"session\""
    let outcome = configuration.inspect()
    #expect(outcome.diagnostics == [])
    let settings = try #require(outcome.settings)
    let escrow = try #require(settings.sessionEscrow(of: .tempo(chain: 0), merchant: "shop"))
    #expect(escrow.rules == (version == "v1" ? .tempoV1 : .tempoV2) && Address(address) == escrow.address)
    #expect(settings.routes[0].intents == .session)
    #expect(Explanation(outcome).text.contains("sessions deposit in \(escrow.address.checksummed), protocol \(version)"))
  }
}
