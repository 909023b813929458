import Ethereum
import Payments

extension Settings {
  /// The contract that holds the deposits of a chain's sessions, and when we take from it what was signed.
  public struct Escrow: Sendable, Hashable {
    /// By whose rules it keeps channels.
    public enum Rules: Sendable, Hashable, CaseIterable {
      /// Those of MPP's method `evm`.
      case evm
      /// Those of `tempo`, `sessionProtocol` "v1".
      case tempoV1
      /// Those of `tempo`, `sessionProtocol` "v2".
      case tempoV2
      /// Those of x402's scheme batch-settlement.
      case batch

      /// The value of `escrow-protocol`; nil where there is no choice.
      public var name: String? {
        switch self {
        case .evm, .batch: nil
        case .tempoV1: "v1"
        case .tempoV2: "v2"
        }
      }
    }

    /// The most currencies with an amount of their own.
    public static let amountLimit = Chain.tokenLimit

    /// The contract.
    public var address: Address
    /// By whose rules it keeps channels.
    public var rules: Rules
    /// By a currency's code: a channel is settled once this many base units of it are signed and unsettled.
    public var settleAmounts: [String: UInt128] = [:]
    /// By a currency's code: a voucher adds so many base units of it to the one before at least; nothing where there is none.
    public var voucherSteps: [String: UInt128] = [:]
    /// A channel is settled once something signed has been unsettled for this long.
    public var settleAfter = Duration.seconds(86_400)
    /// A channel that nothing was bought with for this long is closed.
    public var closeIdleAfter = Duration.seconds(7 * 86_400)
    /// How long a payer's withdrawal from a channel of batch-settlement waits; elsewhere the contract says it.
    public var withdrawDelay = Duration.zero

    /// Makes an escrow with the usual bounds.
    public init(address: Address, rules: Rules) {
      self.address = address
      self.rules = rules
    }

    /// How much of a currency may be signed and unsettled, in base units: ten whole ones where nothing else is said.
    public func settleAmount(of currency: Currency) -> UInt128 {
      if let amount = settleAmounts[currency.code] { return amount }
      return (try? currency.parse("10")) ?? 10
    }
  }
}

extension Settings {
  /// The escrow of the sessions that a rail sells for a merchant; nil where it sells none, see ``sessionLack(of:merchant:)``.
  public func sessionEscrow(of rail: Rail, merchant: String) -> Escrow? {
    guard let chain = rail.chain, sessionLack(of: rail, merchant: merchant) == nil else { return nil }
    return chains[chain].escrow
  }

  /// Says what is missing for a rail to sell sessions over channels; nil where nothing is.
  ///
  /// Channels are settled and closed by whoever they pay, so that the key that submits has to be the merchant's own.
  public func sessionLack(of rail: Rail, merchant: String) -> String? {
    let index: Int
    switch rail {
    case .prepaid: return "a chain: prepaid sessions need no channel"
    case .x402(let chain): return "evm:\(chains[chain].name): x402 sells no sessions"
    case .evm(let chain), .tempo(let chain): index = chain
    }
    let chain = chains[index]
    guard chain.escrow != nil else { return "escrow = \"0x…\" in [[chain]] \"\(chain.name)\", which holds the deposits of sessions" }
    guard let payee = merchants.first(where: { $0.id == merchant })?.addresses[chain.name], let signer = chain.signerAddress, payee != signer else {
      return nil
    }
    return "the signer of [[chain]] \"\(chain.name)\", \(signer.checksummed), to be the address of [[merchant]] \"\(merchant)\" there, \(payee.checksummed): only who is paid can settle and close a channel"
  }
}
