import Ethereum
import Foundation
import Testing

@testable import Agent
@testable import Configuration

@Suite struct TrustedTokenTests {
  @Test func readsWords() throws {
    let plain = try #require(TrustedToken("eip155:31337:0x036CbD53842c5426634e7929541eC2318f3dCF7e=EURC:18"))
    #expect(plain.token.chain == 31337)
    #expect(plain.token.currency.code == "eurc")
    #expect(plain.token.currency.decimals == 18)
    #expect(!plain.token.supportsEIP3009 && plain.token.supportsPermit2)
    let full = try #require(TrustedToken("eip155:84532:0x036cbd53842c5426634e7929541ec2318f3dcf7e=usdc:6:USD Coin:2"))
    #expect(full.token.supportsEIP3009)
    #expect(full.token.name == "USD Coin")
  }

  @Test(arguments: [
    "", "usdc", "eip155:84532=usdc:6", "84532:0x036CbD53842c5426634e7929541eC2318f3dCF7e=usdc:6",
    "eip155:84532:0x036CbD53842c5426634e7929541eC2318f3dCF7E=usdc:6", "eip155:84532:0x036CbD53842c5426634e7929541eC2318f3dCF7e=usdc",
    "eip155:84532:0x036CbD53842c5426634e7929541eC2318f3dCF7e=usdc:31", "eip155:84532:0x036CbD53842c5426634e7929541eC2318f3dCF7e=usdc:6:USDC",
    "eip155:84532:0x036CbD53842c5426634e7929541eC2318f3dCF7e=usdc:6::2", "eip155:0:0x036CbD53842c5426634e7929541eC2318f3dCF7e=usdc:6",
  ])
  func refuses(words: String) { #expect(TrustedToken(words) == nil) }

  /// The agent's table and the proxy's are one.
  @Test func knowsWhatTheProxyKnows() {
    let presets = ChainPreset.all.flatMap { chain in
      chain.tokens.compactMap { token in
        token.domain.map { domain in
          "\(chain.id) \(token.address) \(token.currency) \(token.decimals) \(domain.name) \(domain.version) \(token.transfers.contains(.permit2))"
        }
      }
    }
    let known = TrustedToken.known.map { known in
      let token = known.token
      return "\(token.chain) \(token.address.checksummed) \(token.currency.code) \(token.currency.decimals) \(token.name ?? "") \(token.version ?? "") \(token.supportsPermit2)"
    }
    #expect(known.sorted() == presets.sorted())
  }

  @Test func readsKeysThatNobodyElseCan() throws {
    let path = NSTemporaryDirectory() + "key-\(UUID().uuidString)"
    try Data((String(repeating: "11", count: 32) + "\n").utf8).write(to: URL(fileURLWithPath: path))
    chmod(path, 0o600)
    #expect(try AccountKey.load(path: path).address.checksummed == "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A")
    chmod(path, 0o640)
    #expect(throws: AgentError.keeper(.tooOpen(path: path))) { try AccountKey.load(path: path) }
    try Data("nothing".utf8).write(to: URL(fileURLWithPath: path))
    chmod(path, 0o600)
    #expect(throws: AgentError.keeper(.malformed(path: path))) { try AccountKey.load(path: path) }
    #expect(throws: AgentError.keeper(.unreadable(path: path + ".none", code: 2))) { try AccountKey.load(path: path + ".none") }
    try FileManager.default.removeItem(atPath: path)
  }
}
