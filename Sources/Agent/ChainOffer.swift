import Bytes
import Encoding
import Ethereum
import Methods
import Payments

/// One way to pay for a request on a chain, which the agent understands and whose token it knows.
public struct ChainOffer: Sendable {
  /// How the offer was made.
  enum Dialect: Sendable {
    case evm(Challenge, EVMCharge)
    case x402(X402Version, PaymentRequired.Offer, resource: JSONObject?, extensions: JSONObject)
  }

  /// How the money is moved; both are signed here and submitted by somebody else.
  public enum Means: String, Sendable {
    /// An authorization of the token (EIP-3009).
    case authorization
    /// A permit of Permit2, which the token must have been approved for once.
    case permit2
  }

  let dialect: Dialect
  /// The token that is asked for, as the agent knows it.
  public let token: TrustedToken
  /// What is asked for, in base units.
  public let amount: UInt128
  /// Who is paid, what splits take included.
  public let recipients: [Address]
  /// How the money would be moved.
  public let means: Means
  /// Until when the signature would hold.
  public let expires: Timestamp

  /// The rail that the offer belongs to.
  public var rail: Rail {
    switch dialect {
    case .evm: .evm
    case .x402: .x402
    }
  }

  /// The rail with its version: `evm`, `x402 v2`.
  public var railText: String {
    switch dialect {
    case .evm: "evm"
    case .x402(let version, _, _, _): "x402 v\(version.rawValue)"
    }
  }

  /// The currency with the decimals that the agent knows.
  public var currency: Currency { token.token.currency }

  /// The chain.
  public var chain: ChainID { ChainID(token.token.chain) }

  /// The offer as one that is not paid.
  func refused(_ reason: RefusedOffer.Reason) -> RefusedOffer {
    RefusedOffer(rail: rail, chain: chain, token: token.token.address, amount: amount, reason: reason)
  }

  /// The price in words: `0.001 USDC`.
  public var priceText: String { "\(currency.format(amount)) \(currency.symbol)" }

  /// What was bought, in the server's words; nil where it has none.
  public var description: String? {
    switch dialect {
    case .evm(let challenge, let charge): challenge.description ?? charge.description
    case .x402(_, let offer, let resource, _): resource?["description"]?.stringValue ?? offer.object["description"]?.stringValue
    }
  }
}

/// An offer on a chain that the agent does not pay, and why.
public struct RefusedOffer: Sendable, Equatable {
  /// The rule that keeps the agent from paying.
  public enum Reason: Sendable, Equatable {
    /// The agent does not know the token, and would have to believe the server's words about it.
    case unknownToken
    /// The contract that would hold the deposit is not one that the caller trusts.
    case unknownEscrow(TrustedEscrow)
    /// The price counts what the agent does not know.
    case price
    /// Neither an authorization nor a permit can pay it, as the token or the offer stands.
    case noMeans
    /// The scheme is one that the agent does not pay.
    case scheme
    /// The recipient is no address.
    case recipient
    /// The offer is for something else than what was asked for.
    case resource
    /// A rule of the challenge does not hold.
    case challenge(AgentError.OfferFault)
    /// The caller chose another rail or currency.
    case notChosen
  }

  /// The rail.
  public let rail: Rail
  /// The chain.
  public let chain: ChainID
  /// The token's contract; nil where it is no address.
  public let token: Address?
  /// The amount in base units, whose decimals only the server knows.
  public let amount: UInt128
  /// Why.
  public let reason: Reason
}
