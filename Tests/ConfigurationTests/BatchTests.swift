import Ethereum
import Testing

@testable import Configuration

private let base = ChainConfiguration().chain + "\n"

private struct Case: CustomTestStringConvertible, Sendable {
  let chain: String
  var rails = "rails = [\"x402\"]\nbatch = true"
  var price = "price = \"0.01 USDC per request\""
  let expected: String
  var testDescription: String { expected }

  var said: [String] {
    var configuration = ChainConfiguration()
    (configuration.chain, configuration.rails, configuration.price) = (chain, rails, price)
    return configuration.said.filter { !$0.contains("is never used") }
  }
}

private let cases = [
  Case(
    chain: base + "batch = \"14 min\"",
    expected: "proxy.conf:14:9: error: [[chain]] \"base\": batch = \"14 min\": out of range\n  expected: a time from 15 min to 30 d"),
  Case(
    chain: base,
    expected: "proxy.conf:23:9: error: [[route]] \"quotes\": batch = true: nobody could pay this way\n  expected: batch = \"1 d\" in [[chain]] \"base\": how long payers' withdrawals from their channels wait"),
  Case(
    chain: base + "batch = \"1 d\"", rails: "rails = [\"prepaid\"]\nbatch = true",
    expected: "proxy.conf:23:9: error: [[route]] \"quotes\": batch = true: excludes another key\n  expected: \"x402\" among the rails: batch-settlement is a scheme of x402"),
]

@Suite struct BatchTests {
  @Test(arguments: cases)
  fileprivate func errorNamesPlaceAndRemedy(_ example: Case) {
    #expect(example.said == [example.expected], "\(example.said)")
  }

  @Test func everyKeyIsRead() throws {
    var configuration = ChainConfiguration()
    configuration.chain = base + "batch = \"2 h\"\nsettle-amount = \"2.5 USDC\"\nsettle-after = \"3 h\"\nclose-idle-after = \"3 d\""
    configuration.rails = "rails = [\"x402\"]\nbatch = true"
    let outcome = configuration.inspect()
    #expect(outcome.diagnostics == [])
    let settings = try #require(outcome.settings)
    let batch = try #require(settings.chains[0].batch)
    #expect(settings.chains[0].escrow == nil && settings.routes[0].batch)
    #expect((batch.address, batch.rules, batch.withdrawDelay) == (BatchSettlement.address, .batch, .seconds(7200)))
    #expect((batch.settleAfter, batch.closeIdleAfter) == (.seconds(10_800), .seconds(3 * 86_400)) && batch.settleAmounts["usdc"] == 2_500_000)
    let text = Explanation(outcome).text
    #expect(text.contains("           channels of x402's batch-settlement in \(BatchSettlement.address.checksummed), whose withdrawals wait 2 h\n"))
    #expect(text.contains("           claimed when 2.5 USDC or 3 h are owed; closed after 3 d without use\n"))
    #expect(text.contains("; by x402:base, by x402's vouchers too"))
    let json = try #require(Explanation(outcome).json["chains"]?.arrayValue?.first?["batch"])
    #expect(json["withdrawDelaySeconds"] == 7200 && json["settleAmounts"]?["usdc"]?.stringValue == "2500000")
  }
}
