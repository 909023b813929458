import Bytes
import Encoding
import Ethereum
import Payments

/// Checks and makes payments of x402's scheme exact on EVM chains, by EIP-3009 and by Permit2 (scheme_exact_evm).
public enum ExactEVM {
  /// Checks a payment against the offer that it was made for.
  ///
  /// - Parameters:
  ///   - requirements: our own offer, never the one that the client echoes.
  ///   - token: the offer's asset as configured.
  ///   - wallets: for which signatures a contract may be asked.
  public static func check(
    _ payload: PaymentPayload, against requirements: PaymentRequirements, token: ChainToken,
    wallets: ContractWallets = .otherLengths, now: Timestamp
  ) throws(ChainChargeError) -> ChainCharge {
    guard payload.scheme == .exact, requirements.scheme == .exact else { throw .schemeMismatch }
    let terms = try X402Terms(requirements, of: payload, token: token)
    switch payload.payment {
    case .exactEIP3009(let authorization):
      guard terms.method == .eip3009 else { throw .transferMethodMismatch }
      return try AuthorizationCheck.check(
        authorization.signed, signature: authorization.signature, to: terms.recipient, amount: requirements.amount, token: token,
        wallets: wallets, latest: terms.latest(now), now: now)
    case .exactPermit2(let permit):
      guard terms.method == .permit2 else { throw .transferMethodMismatch }
      return try ProxyPermit(permit, terms: terms, token: token, wallets: wallets, now: now).settlingExactly(token: token)
    case .uptoPermit2, .batchDeposit, .batchVoucher, .batchRefund: throw .schemeMismatch
    }
  }

  /// Signs an authorization of the token for an offer.
  ///
  /// - Parameters:
  ///   - nonce: 256 fresh random bits.
  ///   - now: the authorization holds from here for as long as the offer asks.
  public static func authorization(
    for requirements: PaymentRequirements, by key: EthereumKey, token: ChainToken, nonce: Digest32, now: Timestamp
  ) throws(ChainChargeError) -> SchemePayload {
    guard requirements.scheme == .exact else { throw .schemeMismatch }
    let terms = try X402Terms(requirements, token: token)
    guard terms.method == .eip3009 else { throw .transferMethodMismatch }
    guard let domain = token.domain else { throw .tokenWithoutEIP3009 }
    let authorization = EIP3009.Authorization(
      from: key.address, to: terms.recipient, value: Word256(requirements.amount), validAfter: .zero,
      validBefore: Word256(terms.end(now)), nonce: nonce)
    let signature = key.sign(domain.digest(authorization.structHash(EIP3009.transferTypeHash)))
    return .exactEIP3009(
      EIP3009Authorization(
        from: key.address, to: terms.recipient, value: requirements.amount, validAfter: 0,
        validBefore: terms.end(now), nonce: nonce, signature: signature.bytes))
  }

  /// Signs a permit of Permit2 for an offer; the token must have been approved for Permit2 once.
  ///
  /// - Parameters:
  ///   - nonce: 256 fresh random bits.
  public static func permit(
    for requirements: PaymentRequirements, by key: EthereumKey, token: ChainToken, nonce: Word256, now: Timestamp
  ) throws(ChainChargeError) -> SchemePayload {
    guard requirements.scheme == .exact else { throw .schemeMismatch }
    let terms = try X402Terms(requirements, token: token)
    guard terms.method == .permit2 else { throw .transferMethodMismatch }
    guard token.supportsPermit2 else { throw .tokenWithoutPermit2 }
    return .exactPermit2(ProxyPermit.sign(terms, facilitator: nil, by: key, token: token, nonce: nonce, now: now))
  }
}

/// What an offer of x402 asks for, compared with the token that is configured.
struct X402Terms {
  let recipient: Address
  let amount: UInt128
  let method: AssetTransferMethod
  private let timeout: UInt64

  init(_ requirements: PaymentRequirements, of payload: PaymentPayload, token: ChainToken) throws(ChainChargeError) {
    guard payload.network == requirements.network else { throw .networkMismatch }
    try self.init(requirements, token: token)
  }

  init(_ requirements: PaymentRequirements, token: ChainToken) throws(ChainChargeError) {
    guard requirements.network.chainID == token.chain else { throw .networkMismatch }
    guard let method = requirements.assetTransferMethod else { throw .transferMethodMismatch }
    guard let asset = requirements.assetAddress, asset == token.address else {
      throw .tokenMismatch(method == .permit2 ? .permit2 : .authorization)
    }
    guard let recipient = requirements.payToAddress else { throw .malformed(.recipient) }
    self.recipient = recipient
    self.method = method
    amount = requirements.amount
    timeout = UInt64(requirements.maxTimeoutSeconds)
  }

  /// The second until which a payer's signature holds.
  func end(_ now: Timestamp) -> UInt64 { UInt64(clamping: now.seconds) &+ timeout }

  /// The second until which a signature may hold at most.
  func latest(_ now: Timestamp) -> UInt64 { end(now) &+ 60 }
}

extension EIP3009Authorization {
  /// The authorization as it was signed.
  var signed: EIP3009.Authorization {
    EIP3009.Authorization(
      from: from, to: to, value: Word256(value), validAfter: Word256(validAfter), validBefore: Word256(validBefore), nonce: nonce)
  }
}
