import Ethereum

/// A chain that is known by its name, with the facts about it that nobody should have to look up.
struct ChainPreset {
  /// A token of the chain.
  struct Token {
    /// The currency that it stands for where none is written.
    let currency: String
    let address: String
    let decimals: UInt8
    let domain: Settings.Token.Domain?
    let transfers: Settings.Token.Transfers
  }

  let name: String
  let id: UInt64
  var kind = Settings.Chain.Kind.evm
  let confirmations: Int
  var gasPriceLimit: UInt128 = 50_000_000_000
  /// Tempo's escrows, by the protocol of their sessions.
  var escrows: [Settings.Escrow.Rules: String] = [:]
  let tokens: [Token]

  static func named(_ name: String) -> ChainPreset? { all.first { $0.name == name } }

  // Sources, read in November 2026:
  //  [x402]   PyPI x402 2.25.0: mechanisms/evm/default_assets.py (tokens, EIP-712 domains, decimals), mechanisms/evm/v1/constants.py (names, ids)
  //  [mppx]   wevm/mppx: src/evm/Chains.ts, src/x402/Assets.ts, src/tempo/internal/defaults.ts
  //  [legacy] x402-foundation/x402: typescript/packages/legacy/x402/src/types/shared/evm/config.ts
  //  [proxy]  x402-foundation/x402: contracts/evm/README.md, where x402's Permit2 contracts are deployed
  //  [pympp]  PyPI pympp 0.16.0: methods/tempo/_defaults.py
  //  [draft]  draft-tempo-charge-00, draft-tempo-session-00
  // Addresses are spelled by EIP-55, whatever the sources have.
  // Confirmations and fee limits are ours: Base orders blocks by one sequencer and Tempo's are final when they are made; Polygon's are final
  // after some seconds of two-second blocks, and its fees are counted in hundreds of gwei when it is busy.
  // Escrows of v1 are those of [mppx]; that of v2 is a part of the chain, at one address everywhere ([mppx], in its tests alone).
  private static let reserve = "0x4D50500000000000000000000000000000000000"
  static let all: [ChainPreset] = [
    ChainPreset(
      name: "base", id: 8453,  // [x402] [mppx]
      confirmations: 1,
      tokens: [
        Token(
          currency: "usdc", address: "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", decimals: 6,  // [x402] [mppx]
          domain: .init(name: "USD Coin", version: "2"),  // [x402] [mppx]
          transfers: [.eip3009, .permit2])  // [x402] [mppx]; [proxy]
      ]),
    ChainPreset(
      name: "base-sepolia", id: 84532,  // [x402] [mppx]
      confirmations: 1,
      tokens: [
        Token(
          currency: "usdc", address: "0x036CbD53842c5426634e7929541eC2318f3dCF7e", decimals: 6,  // [x402] [mppx]
          domain: .init(name: "USDC", version: "2"),  // [x402] [mppx]: another name than on Base
          transfers: [.eip3009, .permit2])  // [x402] [mppx]; [proxy]
      ]),
    ChainPreset(
      name: "polygon", id: 137,  // [x402]
      confirmations: 5, gasPriceLimit: 1_000_000_000_000,
      tokens: [
        Token(
          currency: "usdc", address: "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359", decimals: 6,  // [x402]
          domain: .init(name: "USD Coin", version: "2"),  // [x402]
          transfers: .eip3009)  // [x402]; [proxy] does not list the chain
      ]),
    ChainPreset(
      name: "polygon-amoy", id: 80002,  // [x402]
      confirmations: 5, gasPriceLimit: 1_000_000_000_000,
      tokens: [
        Token(
          currency: "usdc", address: "0x41E94Eb019C0762f9Bfcf9Fb1E58725BfB0e7582", decimals: 6,  // [legacy]; [x402] has no token here
          domain: .init(name: "USDC", version: "2"),  // [legacy]
          transfers: .eip3009)  // [legacy]; [proxy] does not list the chain
      ]),
    ChainPreset(
      // [mppx] [pympp], and the examples of [draft]. The table of draft-tempo-charge-00 has 42431 as the default of an absent chainId, the
      // one of draft-tempo-session-00 has 4217; clients take 4217 for the main net, so a challenge should always say which.
      name: "tempo", id: 4217,
      kind: .tempo, confirmations: 1,
      escrows: [.tempoV1: "0x33b901018174DDabE4841042ab76ba85D4e24f25", .tempoV2: reserve],
      tokens: [
        // USDC.e, bridged. [mppx] [pympp], whose default it is on the main net; [draft] only shows pathUSD.
        Token(currency: "usdc", address: "0x20C000000000000000000000b9537d11c60E8b50", decimals: 6, domain: nil, transfers: []),
        Token(currency: "pathusd", address: "0x20C0000000000000000000000000000000000000", decimals: 6, domain: nil, transfers: []),  // [mppx] [pympp] [draft]
      ]),
    ChainPreset(
      name: "tempo-testnet", id: 42431,  // [mppx] [pympp] [draft]: Moderato
      kind: .tempo, confirmations: 1,
      escrows: [.tempoV1: "0xe1c4d3dce17bc111181ddf716f75bae49e61a336", .tempoV2: reserve],
      tokens: [
        Token(currency: "pathusd", address: "0x20C0000000000000000000000000000000000000", decimals: 6, domain: nil, transfers: [])  // [mppx] [pympp] [draft]
      ]),
  ]
}
