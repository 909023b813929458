import Bytes
import Encoding
import Ethereum
import Payments

/// A permit for one of x402's proxies, which exact and upto have in common; its signature was looked at.
struct ProxyPermit: Sendable {
  let permit: Permit2Authorization
  let expires: Timestamp
  private let signature: PayerSignature

  /// Checks everything but the facilitator, in the order of the specification's own facilitators.
  init(
    _ permit: Permit2Authorization, terms: X402Terms, token: ChainToken, wallets: ContractWallets, now: Timestamp
  ) throws(ChainChargeError) {
    guard token.supportsPermit2 else { throw .tokenWithoutPermit2 }
    guard permit.spender == permit.proxy else { throw .spenderMismatch }
    guard permit.to == terms.recipient else { throw .recipientMismatch(.permit2) }
    expires = try ValidityWindow.check(
      after: Word256(permit.validAfter), before: Word256(permit.deadline), now: now, latest: terms.latest(now), means: .permit2)
    guard permit.amount == terms.amount else { throw .amountMismatch(.permit2) }
    guard permit.token == token.address else { throw .tokenMismatch(.permit2) }
    (signature, _) = try PayerSignature.check(
      permit.signature, of: [permit.digest(token.permit2Domain)], payer: permit.from, wallets: wallets, means: .permit2)
    self.permit = permit
  }

  /// Signs a permit for an offer: with a facilitator upto's, without one exact's.
  static func sign(
    _ terms: X402Terms, facilitator: Address?, by key: EthereumKey, token: ChainToken, nonce: Word256, now: Timestamp
  ) -> Permit2Authorization {
    func permit(_ signature: [UInt8]) -> Permit2Authorization {
      Permit2Authorization(
        from: key.address, token: token.address, amount: terms.amount,
        spender: facilitator == nil ? ExactPermit2Proxy.address : UptoPermit2Proxy.address, nonce: nonce,
        deadline: terms.end(now), to: terms.recipient, facilitator: facilitator, validAfter: 0,
        signature: signature)
    }
    return permit(key.sign(permit([]).digest(token.permit2Domain)).bytes)
  }

  /// The settlement of an exact payment.
  func settlingExactly(token: ChainToken) -> ChainCharge {
    let data = ExactPermit2Proxy.settle(
      permit.signed, owner: permit.from, to: permit.to, validAfter: Word256(permit.validAfter),
      signature: signature.bytes)
    return charge(permit.amount, means: .call(to: ExactPermit2Proxy.address, data: data), token: token)
  }

  /// The settlement of an amount of an upto payment, which only its facilitator may make.
  func settling(_ amount: UInt128, facilitator: Address, token: ChainToken) -> ChainCharge {
    let data = UptoPermit2Proxy.settle(
      permit.signed, amount: Word256(amount), owner: permit.from, to: permit.to, facilitator: facilitator,
      validAfter: Word256(permit.validAfter), signature: signature.bytes)
    return charge(amount, means: .call(to: UptoPermit2Proxy.address, data: data), token: token)
  }

  private func charge(_ amount: UInt128, means: SettlementMeans, token: ChainToken) -> ChainCharge {
    let payer = permit.from
    return ChainCharge(
      id: ChainCharge.id(chain: token.chain, contract: token.permit2, payer: payer, nonce: permit.nonce.octets), payer: payer,
      amount: amount, expires: expires, means: means,
      transfers: [ExpectedTransfer(token: token.address, from: payer, to: permit.to, amount: amount)],
      signatureCheck: signature.check)
  }
}

extension Permit2Authorization {
  /// The contract that settles the permit's scheme.
  fileprivate var proxy: Address { facilitator == nil ? ExactPermit2Proxy.address : UptoPermit2Proxy.address }

  /// The permit as it was signed.
  fileprivate var signed: Permit2.Permit {
    Permit2.Permit(
      permitted: [Permit2.TokenPermissions(token: token, amount: Word256(amount))], nonce: nonce,
      deadline: Word256(deadline))
  }

  fileprivate func digest(_ domain: TypedData.PreparedDomain) -> Digest32 {
    let (type, witness) =
      if let facilitator {
        (
          UptoPermit2Proxy.witnessType,
          UptoPermit2Proxy.witnessHash(to: to, facilitator: facilitator, validAfter: Word256(validAfter))
        )
      } else {
        (ExactPermit2Proxy.witnessType, ExactPermit2Proxy.witnessHash(to: to, validAfter: Word256(validAfter)))
      }
    return signed.digest(spender: spender, witness: witness, of: type, domain: domain)
  }
}
