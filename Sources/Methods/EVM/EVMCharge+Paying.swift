import Bytes
import Encoding
import Ethereum

// What a payer signs for a challenge of the method `evm`.
extension EVMCharge {
  /// Signs an authorization of the token (draft-evm-charge-00 "Authorization Payload").
  ///
  /// - Parameters:
  ///   - hash: over what the challenge's hash is taken: the draft's form, or pympp's.
  /// - Throws: what keeps the payment from being made so.
  public func authorization(
    by key: EthereumKey, challenge: ChallengeTerms, token: ChainToken, hash: ChallengeTerms.HashForm = .packed
  ) throws(ChainChargeError) -> EVMChargePayload {
    try checkPayable(.authorization, token: token)
    guard let domain = token.domain else { throw .tokenWithoutEIP3009 }
    let authorization = EIP3009.Authorization(
      from: key.address, to: recipient, value: Word256(amount), validAfter: .zero,
      validBefore: Word256(UInt64(clamping: challenge.expires.seconds)), nonce: challenge.hash(hash))
    let signature = key.sign(domain.digest(authorization.structHash(EIP3009.transferTypeHash)))
    return .authorization(authorization, signature: signature.bytes)
  }

  /// Signs a permit of Permit2 (draft-evm-charge-00 "Permit2 Payload"); the credential's `source` must name the key's account.
  ///
  /// - Parameters:
  ///   - nonce: 256 fresh random bits; each is used once, in whatever order.
  /// - Throws: what keeps the payment from being made so.
  public func permit(
    by key: EthereumKey, challenge: ChallengeTerms, token: ChainToken, nonce: Word256, hash: ChallengeTerms.HashForm = .packed
  ) throws(ChainChargeError) -> EVMChargePayload {
    try checkPayable(.permit2, token: token)
    guard token.supportsPermit2 else { throw .tokenWithoutPermit2 }
    // Another contract than the one that was allowed once could do with the signature what it likes.
    guard let spender, token.permit2 == permit2 else { throw .noSpender }
    let transfers = try transfers()
    var permit = EVMPermit(
      permitted: transfers.map { EVMPermit.Permission(token: currency, amount: $0.amount) }, nonce: nonce,
      deadline: Word256(UInt64(clamping: challenge.expires.seconds)), transfers: transfers, challengeHash: challenge.hash(hash),
      externalId: externalId, signature: [])
    let witness = PaymentWitness.draft
    let digest = permit.signed.digest(
      spender: spender, witness: witness.hash(challenge: permit.challengeHash, externalId: externalId), of: witness.type,
      domain: token.permit2Domain)
    permit.signature = key.sign(digest).bytes
    return .permit2(permit)
  }

  private func checkPayable(_ type: CredentialType, token: ChainToken) throws(ChainChargeError) {
    guard token.chain == chainID else { throw .chainMismatch }
    guard token.address == currency else { throw .tokenMismatch(type.means) }
    guard accepts(type) else { throw .typeNotOffered(type.means) }
    guard splits.isEmpty || type == .permit2 else { throw .splitsNeedPermit2 }
  }

  /// The `source` of a payer's credential: `did:pkh:eip155:`, the chain and the account.
  public func source(of payer: Address) -> String { AccountDID(chain: ChainID(chainID), address: payer).description }
}
