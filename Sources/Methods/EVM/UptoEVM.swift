import Bytes
import Encoding
import Ethereum
import Payments

/// Checks payments of x402's scheme upto on EVM chains: a maximum is signed, and what was used is settled (scheme_upto_evm).
public struct UptoEVM: Sendable {
  /// The payment as if all of its maximum were settled: what a simulation tries.
  public let charge: ChainCharge
  private let permit: ProxyPermit
  private let facilitator: Address
  private let token: ChainToken

  /// The most that may be settled, in base units.
  public var maximum: UInt128 { charge.amount }

  /// Checks a payment against the offer that it was made for.
  ///
  /// - Parameters:
  ///   - requirements: our own offer, whose amount is the maximum.
  ///   - facilitator: who will settle, us or the facilitator that the offer names.
  public static func check(
    _ payload: PaymentPayload, against requirements: PaymentRequirements, token: ChainToken, facilitator: Address,
    wallets: ContractWallets = .otherLengths, now: Timestamp
  ) throws(ChainChargeError) -> UptoEVM {
    guard payload.scheme == .upto, requirements.scheme == .upto else { throw .schemeMismatch }
    let terms = try X402Terms(requirements, of: payload, token: token)
    guard case .uptoPermit2(let permit) = payload.payment else { throw .transferMethodMismatch }
    guard terms.method == .permit2 else { throw .transferMethodMismatch }
    guard let named = permit.facilitator, named == facilitator else { throw .facilitatorMismatch }
    let checked = try ProxyPermit(permit, terms: terms, token: token, wallets: wallets, now: now)
    return UptoEVM(
      charge: checked.settling(permit.amount, facilitator: facilitator, token: token), permit: checked, facilitator: facilitator,
      token: token)
  }

  /// The payment of what was used; the same id, since one settlement uses it up.
  ///
  /// - Returns: nil for zero, which needs no transaction: the permit runs out unused.
  /// - Throws: `settlementAboveMaximum`.
  public func settling(_ amount: UInt128) throws(ChainChargeError) -> ChainCharge? {
    guard amount <= maximum else { throw .settlementAboveMaximum }
    return amount > 0 ? permit.settling(amount, facilitator: facilitator, token: token) : nil
  }

  /// Signs a permit for an offer's maximum; the token must have been approved for Permit2 once.
  ///
  /// - Parameters:
  ///   - nonce: 256 fresh random bits.
  public static func permit(
    for requirements: PaymentRequirements, by key: EthereumKey, token: ChainToken, nonce: Word256, now: Timestamp
  ) throws(ChainChargeError) -> SchemePayload {
    guard requirements.scheme == .upto else { throw .schemeMismatch }
    let terms = try X402Terms(requirements, token: token)
    guard terms.method == .permit2 else { throw .transferMethodMismatch }
    guard token.supportsPermit2 else { throw .tokenWithoutPermit2 }
    guard let facilitator = requirements.facilitatorAddress else { throw .facilitatorMismatch }
    return .uptoPermit2(
      ProxyPermit.sign(terms, facilitator: facilitator, by: key, token: token, nonce: nonce, now: now))
  }
}
