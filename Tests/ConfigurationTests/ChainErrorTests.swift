import Testing

@testable import Configuration

private let node = "rpc = \"https://rpc.example.com\"\n"
private let rpc = node + "signer = \"keys/base.key\"\n"
private let base = "name = \"base\"\n" + rpc
private let lab = "name = \"lab\"\nchain-id = 1337\n" + rpc + "[[chain.token]]\n"
private let token = "currency = \"usdc\"\naddress = \"0x00000000000000000000000000000000000000aa\"\n"

/// What is said about a `[[chain]]`, which begins on line 11; no rail names it.
private func said(_ chain: String, currencies: String = "code = \"usdc\"\ndecimals = 6") -> [String] {
  var configuration = ChainConfiguration()
  configuration.chain = chain
  configuration.currencies = currencies
  configuration.addresses = ""
  configuration.rails = ""
  return configuration.said
}

private struct Case: CustomTestStringConvertible, Sendable {
  let text: String
  let expected: [String]
  var testDescription: String { expected.first ?? text }

  init(_ text: String, _ expected: String...) {
    self.text = text
    self.expected = expected
  }
}

private let chainCases = [
  Case(
    "rpc = \"https://a\"\nsigner = \"keys/base.key\"",
    "proxy.conf:10:1: error: [[chain]] number 1: name: missing key\n  expected: one of base, base-sepolia, polygon, polygon-amoy, tempo, tempo-testnet, or any name with chain-id beside it"),
  Case(
    "name = \"bse\"\n" + rpc,
    "proxy.conf:11:8: error: [[chain]] \"bse\": name = \"bse\": nothing has this name\n  expected: one of base, base-sepolia, polygon, polygon-amoy, tempo, tempo-testnet, or the chain's number beside another name: chain-id = 8453\n  did you mean: base"),
  Case(
    "name = \"base\"\nchain-id = 84532\n" + rpc,
    "proxy.conf:12:12: error: [[chain]] \"base\": chain-id = 84532: excludes another key\n  expected: 8453, which is the chain of this name\n  advice: give the chain another name: \"base\" is a preset"),
  Case(
    "name = \"base\"\ntype = \"tempo\"\n" + rpc,
    "proxy.conf:12:8: error: [[chain]] \"base\": type = \"tempo\": excludes another key\n  expected: \"evm\", which the chain of this name is\n  advice: give the chain another name: \"base\" is a preset"),
  Case(
    "name = \"base\"\ntype = \"temp\"\n" + rpc,
    "proxy.conf:12:8: error: [[chain]] \"base\": type = \"temp\": invalid value\n  expected: \"evm\" or \"tempo\"\n  did you mean: tempo"),
  Case(
    "name = \"lab\"\nchain-id = 0\n" + rpc + "[[chain.token]]\n" + token + "transfers = []",
    "proxy.conf:12:12: error: [[chain]] \"lab\": chain-id = 0: out of range\n  expected: a whole number from 1 to 9007199254740991"),
  Case(
    base + "[[chain]]\n" + base,
    "proxy.conf:15:8: error: [[chain]] \"base\": name = \"base\": is there twice"),
  Case(
    base + "[[chain]]\nname = \"mine\"\nchain-id = 8453\n" + rpc + "[[chain.token]]\n" + token + "transfers = []",
    "proxy.conf:16:12: error: [[chain]] \"mine\": chain-id = 8453: is there twice\n  expected: another chain than eip155:8453, which is \"base\" already\n  advice: write all nodes and tokens of a chain into one [[chain]]"),
  Case(
    base + "confirmations = 0",
    "proxy.conf:14:17: error: [[chain]] \"base\": confirmations = 0: out of range\n  expected: a whole number from 1 to 1000"),
  Case(
    base + "confirmation = 1",
    "proxy.conf:14:1: error: [[chain]] \"base\": confirmation: unknown key\n  did you mean: confirmations"),
]

private let serviceCases = [
  Case(
    "name = \"base\"",
    "proxy.conf:10:1: error: [[chain]] \"base\": rpc: missing key\n  expected: rpc = [\"https://rpc.example.com\"] and signer = \"keys/base.key\", or facilitator = \"…\": somebody has to settle"),
  Case(
    "name = \"tempo\"",
    "proxy.conf:10:1: error: [[chain]] \"tempo\": rpc: missing key\n  expected: rpc = [\"https://rpc.example.com\"], or facilitator = \"…\": somebody has to settle"),
  Case(
    "name = \"base\"\n" + node,
    "proxy.conf:10:1: error: [[chain]] \"base\": signer: missing key\n  expected: the key that submits payments and pays for their gas, such as signer = \"keys/base.key\"\n  advice: or name a [[facilitator]] that does it: facilitator = \"…\""),
  Case(
    "name = \"base\"\nsigner = \"keys/base.key\"",
    "proxy.conf:10:1: error: [[chain]] \"base\": rpc: missing key\n  expected: the nodes that the signer's transactions are given to: rpc = [\"https://rpc.example.com\"]"),
  Case(
    "name = \"base\"\nrpc = []\nsigner = \"keys/base.key\"",
    "proxy.conf:12:7: error: [[chain]] \"base\": rpc: out of range\n  expected: 1 to 8 URLs, which are asked in turn when one fails"),
  Case(
    "name = \"base\"\nrpc = [\"https://a/k\", \"https://b\", \"https://a/k\"]\nsigner = \"keys/base.key\"",
    "proxy.conf:12:36: error: [[chain]] \"base\": rpc: is there twice"),
  Case(
    "name = \"base\"\nrpc = \"wss://rpc.example.com/hush\"\nsigner = \"keys/base.key\"",
    "proxy.conf:12:7: error: [[chain]] \"base\": rpc: invalid value\n  expected: the URL of a node's JSON-RPC, such as \"https://rpc.example.com\""),
  Case(
    "name = \"base\"\nrpc = \"https://user:hush@rpc.example.com\"\nsigner = \"keys/base.key\"",
    "proxy.conf:12:7: error: [[chain]] \"base\": rpc: invalid value\n  expected: the URL of a node's JSON-RPC, such as \"https://rpc.example.com\"\n  advice: a name and a password belong into an authorization file, as Basic and their base64"),
  Case(
    "name = \"base\"\nrpc = \"https://rpc.example.com/hush#1\"\nsigner = \"keys/base.key\"",
    "proxy.conf:12:7: error: [[chain]] \"base\": rpc: invalid value\n  expected: the URL of a node's JSON-RPC, such as \"https://rpc.example.com\""),
  Case(
    "name = \"base\"\nrpc = [\"https://a\", \"http://rpc.example.com/hush\"]\nsigner = \"keys/base.key\"",
    "proxy.conf:12:21: error: [[chain]] \"base\": rpc: payments would pass in plain text\n  expected: https://, since rpc.example.com is not this machine\n  advice: who is on the way could say that money has come; where nobody can be, confirm that with plaintext = true"),
  Case(
    "name = \"base\"\nrpc = \"http://127.0.0.1.example.com/hush\"\nsigner = \"keys/base.key\"",
    "proxy.conf:12:7: error: [[chain]] \"base\": rpc: payments would pass in plain text\n  expected: https://, since 127.0.0.1.example.com is not this machine\n  advice: who is on the way could say that money has come; where nobody can be, confirm that with plaintext = true"),
  Case(
    "name = \"base\"\nrpc-authorization-file = \"rpc.secret\"\nrpc-timeout = \"1 s\"\nfacilitator = \"cdp\"\n[[facilitator]]\nname = \"cdp\"\nurl = \"https://c\"",
    "proxy.conf:12:26: error: [[chain]] \"base\": rpc-authorization-file = \"rpc.secret\": excludes another key\n  expected: rpc beside it: the URL of a node's JSON-RPC, such as \"https://rpc.example.com\"",
    "proxy.conf:13:15: error: [[chain]] \"base\": rpc-timeout = \"1 s\": excludes another key\n  expected: rpc beside it: the URL of a node's JSON-RPC, such as \"https://rpc.example.com\""),
  Case(
    base + "rpc-timeout = \"10 min\"",
    "proxy.conf:14:15: error: [[chain]] \"base\": rpc-timeout = \"10 min\": out of range\n  expected: a time from 100 ms to 5 min"),
  Case(
    base + "rpc-authorization-file = \"absent\"",
    "proxy.conf:14:26: error: [[chain]] \"base\": rpc-authorization-file = \"absent\": file cannot be read\n  expected: a file that exists\n  advice: relative paths count from the configuration's folder, FOLDER"),
  Case(
    base + "rpc-authorization-file = \"torn.secret\"",
    "proxy.conf:14:26: error: [[chain]] \"base\": rpc-authorization-file = \"torn.secret\": invalid value\n  expected: a file with one line such as \"Bearer …\", the content of an Authorization field (it is not shown here)"),
  Case(
    base + "rpc-authorization-file = \"empty.secret\"",
    "proxy.conf:14:26: error: [[chain]] \"base\": rpc-authorization-file = \"empty.secret\": invalid value\n  expected: a file with one line such as \"Bearer …\", the content of an Authorization field (it is not shown here)"),
  Case(
    base + "facilitator = \"cpd\"\n[[facilitator]]\nname = \"cdp\"\nurl = \"https://c\"",
    "proxy.conf:14:15: error: [[chain]] \"base\": facilitator = \"cpd\": nothing has this name\n  expected: one of cdp\n  did you mean: cdp"),
  Case(
    base + "facilitator = \"cdp\"",
    "proxy.conf:14:15: error: [[chain]] \"base\": facilitator = \"cdp\": nothing has this name\n  expected: the name of a [[facilitator]], of which there is none"),
  Case(
    base + "[[facilitator]]\nname = \"cdp\"\nurl = \"http://c.example.com/hush\"",
    "proxy.conf:16:7: error: [[facilitator]] \"cdp\": url: payments would pass in plain text\n  expected: https://, since c.example.com is not this machine\n  advice: who is on the way could say that money has come; where nobody can be, confirm that with plaintext = true"),
  Case(
    base + "[[facilitator]]\nname = \"cdp\"\nurl = \"https://c/x402?hush=1\"",
    "proxy.conf:16:7: error: [[facilitator]] \"cdp\": url: invalid value\n  expected: the URL before /verify and /settle, such as \"https://facilitator.example.com/x402\""),
  Case(
    base + "[[facilitator]]\nname = \"cdp\"",
    "proxy.conf:14:1: error: [[facilitator]] \"cdp\": url: missing key\n  expected: the URL before /verify and /settle, such as \"https://facilitator.example.com/x402\""),
  Case(
    base + "[[facilitator]]\nurl = \"https://c\"",
    "proxy.conf:14:1: error: [[facilitator]] number 1: name: missing key\n  expected: a name that chains refer to, such as name = \"cdp\""),
  Case(
    base + "[[facilitator]]\nname = \"cdp\"\nurl = \"https://c\"\n[[facilitator]]\nname = \"cdp\"\nurl = \"https://d\"",
    "proxy.conf:18:8: error: [[facilitator]] \"cdp\": name = \"cdp\": is there twice"),
]

private let signerCases = [
  Case(
    "name = \"base\"\n" + node + "signer = \"keys/absent.key\"",
    "proxy.conf:13:10: error: [[chain]] \"base\": signer = \"keys/absent.key\": file cannot be read\n  expected: a file that exists\n  advice: relative paths count from the configuration's folder, FOLDER"),
  Case(
    "name = \"base\"\n" + node + "signer = \"keys\"",
    "proxy.conf:13:10: error: [[chain]] \"base\": signer = \"keys\": file cannot be read\n  expected: a file, not a folder\n  advice: relative paths count from the configuration's folder, FOLDER"),
  Case(
    "name = \"base\"\n" + node + "signer = \"keys/group.key\"",
    "proxy.conf:13:10: error: [[chain]] \"base\": signer = \"keys/group.key\": others can read this file\n  expected: a file that only its owner may read, of mode 0600\n  advice: chmod 600 FOLDER/keys/group.key; if others could read it, make a new key"),
  Case(
    "name = \"base\"\n" + node + "signer = \"keys/world.key\"",
    "proxy.conf:13:10: error: [[chain]] \"base\": signer = \"keys/world.key\": others can read this file\n  expected: a file that only its owner may read, of mode 0600\n  advice: chmod 600 FOLDER/keys/world.key; if others could read it, make a new key"),
  Case(
    "name = \"base\"\n" + node + "signer = \"keys/short.key\"",
    "proxy.conf:13:10: error: [[chain]] \"base\": signer = \"keys/short.key\": invalid value\n  expected: a file with 64 hexadecimal digits, with or without 0x before them (they are not shown here)"),
  Case(
    "name = \"base\"\n" + node + "signer = \"keys/text.key\"",
    "proxy.conf:13:10: error: [[chain]] \"base\": signer = \"keys/text.key\": invalid value\n  expected: a file with 64 hexadecimal digits, with or without 0x before them (they are not shown here)"),
  Case(
    "name = \"base\"\n" + node + "signer = \"keys/zero.key\"",
    "proxy.conf:13:10: error: [[chain]] \"base\": signer = \"keys/zero.key\": invalid value\n  expected: a secret key of secp256k1, which is neither zero nor as large as the order of its group"),
  Case(
    "name = \"base\"\n" + node + "signer = \"keys/long.key\"",
    "proxy.conf:13:10: error: [[chain]] \"base\": signer = \"keys/long.key\": invalid value\n  expected: a file with 64 hexadecimal digits, with or without 0x before them (they are not shown here)"),
  Case(
    "name = \"base\"\n" + node + "signer = \"\"",
    "proxy.conf:13:10: error: [[chain]] \"base\": signer = \"\": invalid value\n  expected: the file of a key such as \"keys/base.key\", or the URL of a web3signer"),
  Case(
    "name = \"base\"\n" + node + "signer = \"http://127.0.0.1:9000\"",
    "proxy.conf:10:1: error: [[chain]] \"base\": signer-address: missing key\n  expected: the address whose key the signer has, such as signer-address = \"0x…\""),
  Case(
    "name = \"base\"\n" + node + "signer = \"http://10.0.0.1:9000/hush\"\nsigner-address = \"\(ChainConfiguration.account)\"",
    "proxy.conf:13:10: error: [[chain]] \"base\": signer: payments would pass in plain text\n  expected: https://, since 10.0.0.1:9000 is not this machine\n  advice: who is on the way could say that money has come; where nobody can be, confirm that with plaintext = true"),
  Case(
    "name = \"base\"\n" + node + "signer = \"https://s\"\nsigner-address = \"0x70997970c51812dc3A010C7d01b50e0d17dc79C8\"",
    "proxy.conf:14:18: error: [[chain]] \"base\": signer-address = \"0x70997970c51812dc3A010C7d01b50e0d17dc79C8\": invalid value\n  expected: an address whose checksum is right (EIP-55: which letters are capitals)\n  advice: some digit is wrong, or a letter's case: copy the address again"),
  Case(
    "name = \"base\"\n" + node + "signer = \"https://s\"\nsigner-address = \"0x0000000000000000000000000000000000000000\"",
    "proxy.conf:14:18: error: [[chain]] \"base\": signer-address = \"0x0000000000000000000000000000000000000000\": invalid value\n  expected: an address that somebody has: this one is zero"),
  Case(
    base + "signer-address = \"\(ChainConfiguration.account)\"",
    "proxy.conf:14:18: error: [[chain]] \"base\": signer-address = \"0x70997970C51812dc3A010C7d01b50e0d17dc79C8\": excludes another key\n  expected: a signer that is a URL: a key in a file has its own address\n  advice: remove it"),
  Case(
    "name = \"tempo\"\n" + node + "signer-address = \"\(ChainConfiguration.account)\"",
    "proxy.conf:13:18: error: [[chain]] \"tempo\": signer-address = \"0x70997970C51812dc3A010C7d01b50e0d17dc79C8\": excludes another key\n  expected: the URL of a web3signer beside it: signer = \"http://127.0.0.1:9000\""),
  Case(
    "name = \"tempo\"\n" + node + "resubmit-after = \"5 s\"\ngas-limit-price = \"5 gwei\"",
    "proxy.conf:13:18: error: [[chain]] \"tempo\": resubmit-after = \"5 s\": excludes another key\n  expected: a signer beside it: nothing is submitted without one",
    "proxy.conf:14:19: error: [[chain]] \"tempo\": gas-limit-price = \"5 gwei\": excludes another key\n  expected: a signer beside it: nothing is submitted without one"),
  Case(
    base + "gas-limit-price = \"50\"",
    "proxy.conf:14:19: error: [[chain]] \"base\": gas-limit-price = \"50\": invalid value\n  expected: a fee for a unit of gas, such as \"50 gwei\""),
  Case(
    base + "gas-limit-price = \"0 gwei\"",
    "proxy.conf:14:19: error: [[chain]] \"base\": gas-limit-price = \"0 gwei\": invalid value\n  expected: a fee for a unit of gas, such as \"50 gwei\""),
  Case(
    base + "resubmit-after = \"0 s\"",
    "proxy.conf:14:18: error: [[chain]] \"base\": resubmit-after = \"0 s\": out of range\n  expected: a time from 1 s to 1 h"),
]

private let tokenCases = [
  Case(
    "name = \"lab\"\nchain-id = 1337\n" + rpc,
    "proxy.conf:10:1: error: [[chain]] \"lab\": token: missing key\n  expected: [[chain.token]] with currency, address and transfers"),
  Case(
    lab + "address = \"0x00000000000000000000000000000000000000aa\"\ntransfers = []",
    "proxy.conf:15:1: error: [[chain]] \"lab\" [[chain.token]] number 1: currency: missing key\n  expected: one of usdc"),
  Case(
    lab + token.replacing("usdc", with: "usdt") + "transfers = []",
    "proxy.conf:16:12: error: [[chain]] \"lab\" [[chain.token]] number 1: currency = \"usdt\": nothing has this name\n  expected: one of usdc\n  did you mean: usdc"),
  Case(
    lab + "currency = \"usdc\"\ntransfers = []",
    "proxy.conf:15:1: error: [[chain]] \"lab\" [[chain.token]] number 1: address: missing key\n  expected: the token's contract: address = \"0x…\""),
  Case(
    lab + token,
    "proxy.conf:15:1: error: [[chain]] \"lab\" [[chain.token]] number 1: transfers: missing key\n  expected: what the contract can do: [\"eip3009\", \"permit2\"], one of them, or [] where payers send transactions of their own"),
  Case(
    lab + token + "transfers = [\"eip3009\", \"permit\"]",
    "proxy.conf:15:1: error: [[chain]] \"lab\" [[chain.token]] number 1: name: missing key\n  expected: name and version of the contract's EIP-712 domain, under which payers sign: name = \"USD Coin\", version = \"2\"",
    "proxy.conf:18:25: error: [[chain]] \"lab\" [[chain.token]] number 1: transfers = \"permit\": invalid value\n  expected: \"eip3009\" or \"permit2\"\n  did you mean: permit2"),
  Case(
    lab + token + "transfers = [\"permit2\", \"permit2\"]",
    "proxy.conf:18:25: error: [[chain]] \"lab\" [[chain.token]] number 1: transfers = \"permit2\": is there twice"),
  Case(
    lab + token + "transfers = \"eip3009\"",
    "proxy.conf:15:1: error: [[chain]] \"lab\" [[chain.token]] number 1: name: missing key\n  expected: name and version of the contract's EIP-712 domain, under which payers sign: name = \"USD Coin\", version = \"2\""),
  Case(
    lab + token + "transfers = \"eip3009\"\nname = \"Test Dollar\"",
    "proxy.conf:15:1: error: [[chain]] \"lab\" [[chain.token]] number 1: version: missing key\n  expected: name and version of the contract's EIP-712 domain, such as name = \"USD Coin\" and version = \"2\""),
  Case(
    lab + token.replacing("aa\"", with: "a\"") + "transfers = []",
    "proxy.conf:17:11: error: [[chain]] \"lab\" [[chain.token]] number 1: address = \"0x00000000000000000000000000000000000000a\": invalid value\n  expected: an address: 0x and 40 hexadecimal digits"),
  Case(
    lab + "currency = \"usdc\"\naddress = \"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02914\"\ntransfers = []",
    "proxy.conf:17:11: error: [[chain]] \"lab\" [[chain.token]] number 1: address = \"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02914\": invalid value\n  expected: an address whose checksum is right (EIP-55: which letters are capitals)\n  advice: some digit is wrong, or a letter's case: copy the address again"),
  Case(
    lab + token + "transfers = []\n[[chain.token]]\n" + token + "transfers = []",
    "proxy.conf:21:11: error: [[chain]] \"lab\" [[chain.token]] number 2: address = \"0x00000000000000000000000000000000000000aa\": is there twice\n  expected: another contract than that of token number 1"),
  Case(
    lab + token + "transfers = []\n[[chain.token]]\n" + token.replacing("aa\"", with: "bb\"") + "transfers = []",
    "proxy.conf:20:12: error: [[chain]] \"lab\" [[chain.token]] number 2: currency = \"usdc\": is there twice\n  expected: another currency: two tokens are never the same money\n  advice: give this one a [[currency]] of its own"),
  Case(
    base + "token = []",
    "proxy.conf:14:9: error: [[chain]] \"base\": token: out of range\n  expected: 1 to 16 tokens"),
]

@Suite struct ChainErrorTests {
  @Test(arguments: chainCases + serviceCases + signerCases + tokenCases)
  fileprivate func errorNamesPlaceAndRemedy(_ example: Case) {
    let lines = said(example.text).filter { !$0.contains("is never used") }
    #expect(lines == example.expected, "\(lines)")
    for line in lines { #expect(!line.contains("hush")) }
  }

  @Test func plaintextIsForThoseWhoSaySo() {
    let chain = "name = \"base\"\nrpc = \"http://10.0.0.1:8545\"\nsigner = \"http://10.0.0.1:9000\"\nsigner-address = \"\(ChainConfiguration.account)\"\nplaintext = true"
    #expect(said(chain).filter { !$0.contains("is never used") } == [])
    #expect(said(base + "[[facilitator]]\nname = \"cdp\"\nurl = \"http://c\"\nplaintext = true").filter { !$0.contains("is never used") } == [])
  }

  @Test func anAuthorizationThatOthersReadIsWarnedOf() {
    #expect(
      said(base + "rpc-authorization-file = \"open.secret\"").last
        == "proxy.conf:14:26: warning: [[chain]] \"base\": rpc-authorization-file = \"open.secret\": others can read this file\n  advice: chmod o-r FOLDER/open.secret"
    )
  }

  @Test func decimalsAreTheTokens() {
    let currencies = "code = \"usdc\"\ndecimals = 18"
    let rule = "excludes another key\n  expected: a [[currency]] of 6 decimals, as the token has them; \"usdc\" has 18"
    #expect(said(base, currencies: currencies) == ["proxy.conf:11:8: error: [[chain]] \"base\": name = \"base\": \(rule)"])
    let written = "[[chain]] \"base\" [[chain.token]] number 1: currency = \"usdc\""
    #expect(said(base + "[[chain.token]]\ncurrency = \"usdc\"", currencies: currencies) == ["proxy.conf:15:12: error: \(written): \(rule)"])
    let stranger = "code = \"gbp\"\ndecimals = 2"
    #expect(
      said(base, currencies: stranger).first
        == "proxy.conf:11:8: error: [[chain]] \"base\": name = \"base\": nothing has this name\n  expected: a [[currency]] of its tokens: code = \"usdc\", decimals = 6\n  advice: or [[chain.token]] with the currency that a token of the chain is"
    )
  }

  @Test func thereAreLimits() {
    let chains = (1...33).map { "name = \"c\($0)\"\nchain-id = \($0)\n\(node)facilitator = \"f\"\n[[chain.token]]\n\(token)transfers = []\n" }
    let facilitator = "[[facilitator]]\nname = \"f\"\nurl = \"https://f\"\n"
    #expect(said(chains.joined(separator: "[[chain]]\n") + facilitator).contains { $0.contains("at most 32 chains") })
    let facilitators = (1...17).map { "[[facilitator]]\nname = \"f\($0)\"\nurl = \"https://f\"\n" }
    #expect(said(base + facilitators.joined()).contains { $0.contains("at most 16 facilitators") })
    let tokens = (10...26).map { "[[chain.token]]\ncurrency = \"usdc\"\naddress = \"0x00000000000000000000000000000000000000\($0)\"\ntransfers = []\n" }
    #expect(said(base + tokens.joined()).contains { $0.contains("1 to 16 tokens") })
    #expect(said("name = \"base\"\nsigner = \"keys/base.key\"\nrpc = [\((1...9).map { "\"https://n\($0)\"" }.joined(separator: ", "))]").contains { $0.contains("1 to 8 URLs") })
  }
}
