import Testing

@testable import Configuration

private struct Case: CustomTestStringConvertible, Sendable {
  var rails = "rails = [\"x402\"]"
  var price = "price = \"0.01 USDC per request\""
  let more: String
  let expected: String
  var testDescription: String { more + " " + expected }

  var said: [String] {
    var configuration = ChainConfiguration()
    (configuration.rails, configuration.price) = (rails + "\n" + more, price)
    return configuration.said.filter { !$0.contains("is never used") }
  }
}

private let after = "settlement = \"after\""
private let cases = [
  Case(more: "settlement = \"later\"", expected: "settlement = \"later\": invalid value\n  expected: \"upfront\" or \"after\""),
  Case(rails: "rails = [\"prepaid\"]", more: after, expected: "\"x402\" among the rails: its exact payments are what can be settled afterwards"),
  Case(rails: "rails = [\"prepaid\", \"evm:base\"]", more: after, expected: "\"x402\" among the rails: its exact payments are what can be settled afterwards"),
  Case(
    rails: "rails = [\"prepaid\"]", price: "price = \"0.01 USDC per KB\"", more: after,
    expected: "a price per request: what is metered costs what was delivered"),
  Case(more: after + "\ngrpc-status = true", expected: "no grpc-status: trailers are not kept with an answer that is withheld"),
  Case(more: after + "\nupgrade = [\"websocket\"]", expected: "no upgrade: a connection that is switched cannot be withheld until it is paid for"),
  Case(more: after + "\n[limits]\noutcome = 0", expected: "outcome above 0 in [limits]: an answer is kept until it is paid for"),
]

@Suite struct SettlementOrderTests {
  @Test(arguments: cases)
  fileprivate func errorNamesTheRemedy(_ example: Case) {
    #expect(example.said.contains { $0.contains(example.expected) }, "\(example.said)")
  }

  @Test func theOrderIsReadAndTold() throws {
    var configuration = ChainConfiguration()
    configuration.rails = "rails = [\"x402\"]\n" + after
    let outcome = configuration.inspect()
    #expect(outcome.diagnostics == [] && outcome.settings?.routes[0].settlement.order == .after)
    #expect(Explanation(outcome).text.contains("; x402's exact payments are settled after the answer, which is withheld until then"))
    configuration.rails = "rails = [\"x402\"]\nsettlement = \"upfront\""
    #expect(configuration.inspect().settings?.routes[0].settlement == Settings.Settlement())
  }
}

private let tempo = "name = \"tempo\"\nrpc = [\"https://rpc.example.com\"]\n[[chain.token]]\ncurrency = \"usdc\"\naddress = \"0x20C0000000000000000000000000000000000001\""

@Suite struct ProofTests {
  private func configuration(_ rails: String, price: String = "0 USDC per request") -> ChainConfiguration {
    var configuration = ChainConfiguration()
    configuration.chain = tempo
    configuration.addresses = "addresses = { tempo = \"\(ChainConfiguration.account)\" }"
    (configuration.rails, configuration.price) = (rails, "price = \"\(price)\"")
    return configuration
  }

  @Test func whatCostsNothingButAProofIsRead() throws {
    let outcome = configuration("rails = [\"tempo\"]\nproof = true").inspect()
    let route = try #require(outcome.settings?.routes[0])
    #expect(route.proof && route.price?.words == "0 USDC per request" && route.price?.chargeAmount == 0 && route.intents == .charge)
  }

  @Test func aProofNeedsAPriceOfNothingAndTempo() {
    #expect(configuration("rails = [\"tempo\"]\nproof = true", price: "0.01 USDC per request").said.contains { $0.contains("price = \"0 USDC per request\": who pays proves") })
    #expect(configuration("rails = [\"prepaid\", \"tempo\"]\nproof = true").said.contains { $0.contains("rails = [\"tempo:CHAIN\"] alone") })
    // Without it, what costs nothing is free.
    #expect(configuration("rails = [\"tempo\"]").said.contains { $0.contains("an amount above zero") })
  }
}
