import Testing

@testable import Configuration

private let tempo = "\n[[chain]]\nname = \"tempo\"\nrpc = \"https://rpc.tempo.example\""
private let both = "addresses = { base = \"\(ChainConfiguration.account)\", tempo = \"\(ChainConfiguration.account)\" }"

private struct Case: CustomTestStringConvertible, Sendable {
  let rails: String
  var price = "price = \"0.01 USDC per request\""
  var chain = ChainConfiguration().chain
  var addresses = ChainConfiguration().addresses
  let expected: String
  var testDescription: String { expected }

  var said: [String] {
    var configuration = ChainConfiguration()
    (configuration.rails, configuration.price, configuration.chain, configuration.addresses) = (rails, price, chain, addresses)
    return configuration.said.filter { !$0.contains("is never used") }
  }
}

private let facilitated = "name = \"base\"\nfacilitator = \"cdp\"\n[[facilitator]]\nname = \"cdp\"\nurl = \"https://c\""

private let cases = [
  Case(
    rails: "rails = []",
    expected: "proxy.conf:21:9: error: [[route]] \"quotes\": rails: invalid value\n  expected: \"prepaid\", or a dialect and a chain such as \"x402:base\", \"evm:base\" or \"tempo:tempo\""),
  Case(
    rails: "rails = [\"prepaid:base\"]",
    expected: "proxy.conf:21:10: error: [[route]] \"quotes\": rails = \"prepaid:base\": invalid value\n  expected: \"prepaid\", or a dialect and a chain such as \"x402:base\", \"evm:base\" or \"tempo:tempo\"\n  did you mean: prepaid"),
  Case(
    rails: "rails = [\"prepaid\", \"x403:base\"]",
    expected: "proxy.conf:21:21: error: [[route]] \"quotes\": rails = \"x403:base\": invalid value\n  expected: \"prepaid\", or a dialect and a chain such as \"x402:base\", \"evm:base\" or \"tempo:tempo\"\n  did you mean: x402"),
  Case(
    rails: "rails = [\"x402:bse\"]",
    expected: "proxy.conf:21:10: error: [[route]] \"quotes\": rails = \"x402:bse\": nothing has this name\n  expected: one of x402:base\n  did you mean: x402:base"),
  Case(
    rails: "rails = [\"x402\"]", chain: "name = \"tempo\"\nrpc = \"https://rpc.tempo.example\"", addresses: "",
    expected: "proxy.conf:20:10: error: [[route]] \"quotes\": rails = \"x402\": nobody could pay this way\n  expected: a chain for x402; tempo: a token in USDC in [[chain]] \"tempo\" with transfers = [\"eip3009\"] or [\"permit2\"], which x402 is paid by"),
  Case(
    rails: "rails = [\"x402:base\", \"x402\"]",
    expected: "proxy.conf:21:23: error: [[route]] \"quotes\": rails = \"x402\": is there twice"),
  Case(
    rails: "rails = [\"evm:base\"]", addresses: "",
    expected: "proxy.conf:21:10: error: [[route]] \"quotes\": rails = \"evm:base\": nobody could pay this way\n  expected: addresses = { base = \"0x…\" } in [[merchant]] \"shop\", where its money goes"),
  Case(
    rails: "rails = [\"evm:base\"]", chain: facilitated,
    expected: "proxy.conf:23:10: error: [[route]] \"quotes\": rails = \"evm:base\": nobody could pay this way\n  expected: rpc and signer in [[chain]] \"base\": a facilitator settles x402 only"),
  Case(
    rails: "rails = [\"tempo:base\"]",
    expected: "proxy.conf:21:10: error: [[route]] \"quotes\": rails = \"tempo:base\": nobody could pay this way\n  expected: a chain of type = \"tempo\"; this one is paid by evm:base or x402:base"),
  Case(
    rails: "rails = [\"evm:tempo\"]", chain: ChainConfiguration().chain + tempo, addresses: both,
    expected: "proxy.conf:24:10: error: [[route]] \"quotes\": rails = \"evm:tempo\": nobody could pay this way\n  expected: tempo:tempo: the method evm is for other chains"),
  Case(
    rails: "rails = [\"x402:tempo\"]", chain: ChainConfiguration().chain + tempo, addresses: both,
    expected: "proxy.conf:24:10: error: [[route]] \"quotes\": rails = \"x402:tempo\": nobody could pay this way\n  expected: a token in USDC in [[chain]] \"tempo\" with transfers = [\"eip3009\"] or [\"permit2\"], which x402 is paid by"),
  Case(
    rails: "rails = [\"x402:base\"]", chain: ChainConfiguration().chain + "\n[[chain.token]]\ncurrency = \"usdc\"\ntransfers = []",
    expected: "proxy.conf:24:10: error: [[route]] \"quotes\": rails = \"x402:base\": nobody could pay this way\n  expected: a token in USDC in [[chain]] \"base\" with transfers = [\"eip3009\"] or [\"permit2\"], which x402 is paid by"),
  Case(
    rails: "rails = [\"x402:base\"]", price: "price = \"1 POINTS per request\"",
    chain: ChainConfiguration().chain + "\n[[currency]]\ncode = \"points\"\ndecimals = 0",
    expected: "proxy.conf:24:10: error: [[route]] \"quotes\": rails = \"x402:base\": nobody could pay this way\n  expected: [[chain.token]] in [[chain]] \"base\" with the price's currency, \"points\""),
  Case(
    rails: "rails = [\"x402:base\"]", price: "price = \"0.01 USDC per MB\"",
    expected: "proxy.conf:21:9: error: [[route]] \"quotes\": rails: excludes another key\n  expected: upto = \"0.05 USDC\", or a price with a maximum: a payment of x402 covers a sum that is known before"),
  Case(
    rails: "rails = [\"prepaid\", \"evm:base\"]", price: "price = \"0.01 USDC per MB\"",
    expected: "proxy.conf:21:9: error: [[route]] \"quotes\": rails: excludes another key\n  expected: a price per request, or escrow = \"0x…\" in [[chain]] \"base\", which holds the deposits of sessions\n  advice: what is metered cannot be charged before it is known: it is sold by sessions"),
  Case(
    rails: "rails = [\"x402:base\"]\n[route.models]\nsmall = \"0.01 USDC per request\"\nlarge = \"0.01 USDC per M output tokens\"", price: "",
    expected: "proxy.conf:21:9: error: [[route]] \"quotes\": rails: excludes another key\n  expected: upto = \"0.05 USDC\", or a price with a maximum: a payment of x402 covers a sum that is known before"),
  Case(
    rails: "rails = [\"x402:base\"]\nupto = \"0.004 USDC\"", price: "price = \"0.005 USDC per request + 0.01 USDC per MB\"",
    expected: "proxy.conf:22:8: error: [[route]] \"quotes\": upto = \"0.004 USDC\": excludes another key\n  expected: at least the 0.005 USDC that the shortest request costs"),
  Case(
    rails: "rails = [\"x402:base\"]\nupto = \"1 EUR\"", price: "price = \"0.01 USDC per MB, at most 1 USDC\"",
    expected: "proxy.conf:22:8: error: [[route]] \"quotes\": upto = \"1 EUR\": invalid value\n  expected: an amount in the price's currency, such as \"0.5 USDC\""),
  Case(
    rails: "rails = [\"x402:base\"]\nupto = \"1 USDC\"",
    expected: "proxy.conf:22:8: error: [[route]] \"quotes\": upto = \"1 USDC\": excludes another key\n  expected: a metered price: one per request is paid exactly"),
  Case(
    rails: "rails = [\"x402:base\"]\nupto = \"1 USDC\"", price: "price = \"0.01 USDC per MB\"", chain: facilitated,
    expected: "proxy.conf:23:9: error: [[route]] \"quotes\": rails: nobody could pay this way\n  expected: address = \"0x…\" in [[facilitator]] \"cdp\": who settles what is metered, as its /supported says"),
  Case(
    rails: "rails = [\"prepaid\"]\nsign-in = \"1 h\"",
    expected: "proxy.conf:22:11: error: [[route]] \"quotes\": sign-in = \"1 h\": excludes another key\n  expected: \"x402\" among the rails: it is an extension of x402"),
  Case(
    rails: "rails = [\"x402:base\"]\n[route.bazaar]\nmethod = \"GET\"\nquery = \"x\"",
    expected: "proxy.conf:24:9: error: [route.bazaar]: query = \"x\": invalid value\n  expected: a text of JSON, such as '{\"symbol\": \"ACME\"}'"),
  Case(
    rails: "rails = [\"prepaid\", \"x402:base\"]\nsell = [\"session\"]",
    expected: "proxy.conf:22:8: error: [[route]] \"quotes\": sell: excludes another key\n  expected: \"charge\" as well, or evm:base: x402 sells no sessions"),
  Case(
    rails: "rails = [\"x402:base\"]\nsell = [\"session\"]",
    expected: "proxy.conf:22:8: error: [[route]] \"quotes\": sell: excludes another key\n  expected: \"charge\" as well, or evm:base: x402 sells no sessions"),
  Case(
    rails: "rails = [\"x402:base\"]\nsell = [\"charge\", \"session\"]",
    expected: "proxy.conf:22:8: error: [[route]] \"quotes\": sell: excludes another key\n  expected: \"charge\" alone, \"prepaid\" among the rails, or evm:base: x402 sells no sessions"),
  Case(
    rails: "rails = [\"x402:base\"]\nminimum-deposit = \"1 USDC\"",
    expected: "proxy.conf:22:19: error: [[route]] \"quotes\": minimum-deposit = \"1 USDC\": excludes another key\n  expected: a route that sells sessions"),
  Case(
    rails: "rails = [\"x402:base\"]", price: "free = true",
    expected: "proxy.conf:21:9: error: [[route]] \"quotes\": rails: excludes another key\n  expected: a priced route: this one is free"),
  Case(
    rails: "", addresses: "addresses = { bse = \"\(ChainConfiguration.account)\" }",
    expected: "proxy.conf:16:21: error: [[merchant]] \"shop\" addresses: bse = \"0x70997970C51812dc3A010C7d01b50e0d17dc79C8\": nothing has this name\n  expected: one of base\n  did you mean: base"),
  Case(
    rails: "", addresses: "addresses = { base = \"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913\" }",
    expected: "proxy.conf:16:22: error: [[merchant]] \"shop\" addresses: base = \"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913\": excludes another key\n  expected: an account's address: this is a token's contract, and what it gets is lost"),
  Case(
    rails: "rails = \"x402:base\"", addresses: "addresses = { base = \"0x70997970c51812dc3A010C7d01b50e0d17dc79C8\" }",
    expected: "proxy.conf:16:22: error: [[merchant]] \"shop\" addresses: base = \"0x70997970c51812dc3A010C7d01b50e0d17dc79C8\": invalid value\n  expected: an address whose checksum is right (EIP-55: which letters are capitals)\n  advice: some digit is wrong, or a letter's case: copy the address again"),
  Case(
    rails: "rails = \"x402:base\"", addresses: "addresses = \"\(ChainConfiguration.account)\"",
    expected: "proxy.conf:16:13: error: [[merchant]] number 1: addresses = \"0x70997970C51812dc3A010C7d01b50e0d17dc79C8\": wrong type\n  expected: a table: [addresses], not a string"),
  Case(
    rails: "rails = \"x402:base\"", chain: "name = \"base\"\nrpc = \"https://a\"\nsigner = \"absent\"",
    expected: "proxy.conf:13:10: error: [[chain]] \"base\": signer = \"absent\": file cannot be read\n  expected: a file that exists\n  advice: relative paths count from the configuration's folder, FOLDER"),
]

@Suite struct RailTests {
  @Test(arguments: cases)
  fileprivate func errorNamesPlaceAndRemedy(_ example: Case) {
    #expect(example.said == [example.expected], "\(example.said)")
  }

  @Test func whatIsMeteredIsSoldByX402UpToAMaximum() throws {
    var configuration = ChainConfiguration()
    (configuration.price, configuration.rails) = ("price = \"0.01 USDC per MB, at most 1 USDC\"", "rails = [\"x402:base\"]")
    #expect(configuration.said.isEmpty, "\(configuration.said)")
    configuration.rails += "\nupto = \"0.25 USDC\""
    let route = try #require(configuration.inspect().settings?.routes[0])
    #expect(route.upto == 250_000 && route.rails == [.x402(chain: 0)] && route.intents == .session)
  }

  @Test func extensionsAreRead() throws {
    var configuration = ChainConfiguration()
    configuration.rails = """
      rails = ["x402:base"]
      sign-in = "1 h"
      [route.bazaar]
      method = "POST"
      body = '{"a": 1}'
      [x402]
      payment-identifier = "required"
      signed = true
      """
    #expect(configuration.said.isEmpty, "\(configuration.said)")
    let settings = try #require(configuration.inspect().settings)
    #expect(settings.x402.identifier == .required && settings.x402.signs)
    #expect(settings.routes[0].signIn == .seconds(3600) && settings.routes[0].bazaar?.info["input"]?["body"] == ["a": 1])
  }

  @Test func prepaidIsTheDefault() throws {
    var configuration = ChainConfiguration()
    configuration.rails = ""
    configuration.addresses = ""
    let route = try #require(configuration.inspect().settings?.routes.first)
    #expect(route.rails == [.prepaid])
    #expect(route.intents == [.charge, .session])
  }

  @Test func aDialectAloneIsEveryChainThatHasWhatItTakes() throws {
    var configuration = ChainConfiguration()
    configuration.chain += tempo + "\n[[chain]]\nname = \"polygon\"\nrpc = \"https://p\"\nsigner = \"keys/base.key\"" + "\n[[chain]]\n" + "name = \"base-sepolia\"\nfacilitator = \"cdp\"\n[[facilitator]]\nname = \"cdp\"\nurl = \"https://c\""
    configuration.addresses = "addresses = { base = \"\(ChainConfiguration.account)\", base-sepolia = \"\(ChainConfiguration.account)\", tempo = \"\(ChainConfiguration.account)\" }"
    configuration.rails = "rails = [\"evm\", \"prepaid\", \"x402\", \"tempo\"]"
    let outcome = configuration.inspect()
    // Nobody is paid on Polygon, so it is not offered.
    #expect(outcome.diagnostics.map(\.rule) == [.unused])
    let settings = try #require(outcome.settings)
    #expect(settings.routes[0].rails.map { $0.words(settings) } == ["evm:base", "prepaid", "x402:base", "x402:base-sepolia", "tempo:tempo"])
    #expect(settings.routes[0].rails.map(\.chain) == [0, nil, 0, 3, 1] && settings.routes[0].intents == [.charge, .session])
  }

  @Test func whatIsMeteredBesideAPriceIsPrepaid() throws {
    var configuration = ChainConfiguration()
    configuration.price = "[route.models]\nsmall = \"0.01 USDC per request\"\nlarge = \"0.01 USDC per M output tokens\""
    configuration.rails = ""
    configuration.price = "rails = [\"prepaid\", \"x402:base\"]\n" + configuration.price
    let outcome = configuration.inspect()
    #expect(outcome.diagnostics == [])
    let route = try #require(outcome.settings?.routes.first)
    let sold = route.sold.map { ($0.id, $0.rails) }
    #expect(sold.first { $0.0 == "quotes#small" }?.1 == [.prepaid, .x402(chain: 0)])
    #expect(sold.first { $0.0 == "quotes#large" }?.1 == [.prepaid])
  }

  @Test func whatIsAskedForIsNotSoldOnChains() throws {
    var configuration = ChainConfiguration()
    configuration.price = "price = \"http://127.0.0.1:9000/price\""
    #expect(configuration.inspect().diagnostics.map { "\($0.key ?? "") \($0.rule)" } == ["rails conflict"])
  }
}
