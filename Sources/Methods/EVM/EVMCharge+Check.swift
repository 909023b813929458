import Bytes
import Encoding
import Ethereum

// What a server verifies before it asks the chain (draft-evm-charge-00 "Verification Procedure").
extension EVMCharge {
  /// Checks a payload that answers a challenge with this request.
  ///
  /// - Parameters:
  ///   - source: the credential's `source`.
  ///   - submitter: who would submit a permit, and is its spender; nil where nobody here does.
  ///   - wallets: for which signatures a contract may be asked.
  public func check(
    _ payload: EVMChargePayload, source: String?, challenge: ChallengeTerms, token: ChainToken, submitter: Address?,
    wallets: ContractWallets = .otherLengths, now: Timestamp
  ) throws(ChainChargeError) -> ChainCharge {
    let means = payload.type.means
    guard token.chain == chainID else { throw .chainMismatch }
    guard token.address == currency else { throw .tokenMismatch(means) }
    guard accepts(payload.type) else { throw .typeNotOffered(means) }
    guard splits.isEmpty || payload.type == .permit2 else { throw .splitsNeedPermit2 }
    let account = try AccountDID.payer(source, chain: chainID)
    let charge: ChainCharge =
      switch payload {
      case .permit2(let permit):
        try check(
          permit, owner: account, challenge: challenge, token: token, submitter: submitter, wallets: wallets, now: now)
      case .authorization(let authorization, let signature):
        try check(authorization, signature: signature, challenge: challenge, token: token, wallets: wallets, now: now)
      case .transaction(let raw): try check(transaction: raw, challenge: challenge)
      case .hash(let hash): check(hash: hash, payer: account, challenge: challenge)
      }
    guard account == nil || account == charge.payer else { throw .sourceMismatch }
    return charge
  }

  /// draft-evm-charge-00 "Authorization Verification".
  private func check(
    _ authorization: EIP3009.Authorization, signature: [UInt8], challenge: ChallengeTerms, token: ChainToken,
    wallets: ContractWallets, now: Timestamp
  ) throws(ChainChargeError) -> ChainCharge {
    guard challenge.isHash(authorization.nonce) else { throw .challengeMismatch(.authorization) }
    return try AuthorizationCheck.check(
      authorization, signature: signature, to: recipient, amount: amount, token: token, wallets: wallets,
      latest: UInt64(clamping: challenge.expires.seconds), now: now)
  }

  /// draft-evm-charge-00 "Permit2 Verification".
  private func check(
    _ permit: EVMPermit, owner: Address?, challenge: ChallengeTerms, token: ChainToken, submitter: Address?,
    wallets: ContractWallets, now: Timestamp
  ) throws(ChainChargeError) -> ChainCharge {
    guard token.supportsPermit2 else { throw .tokenWithoutPermit2 }
    guard let submitter else { throw .noSpender }
    guard token.permit2 == permit2, spender ?? submitter == submitter else { throw .spenderMismatch }
    // The payload names no payer, and the call needs one.
    guard let owner else { throw .missing(.source) }
    let expires = try ValidityWindow.check(
      after: .zero, before: permit.deadline, now: now, latest: UInt64(clamping: challenge.expires.seconds), means: .permit2)
    guard challenge.isHash(permit.challengeHash) else { throw .challengeMismatch(.permit2) }
    guard permit.externalId ?? externalId == externalId else { throw .externalIDMismatch }
    try checkTransfers(permit)
    let permitted = permit.signed
    // The one that wallets' libraries produce stands first: a contract's signature can be tried with one only.
    let witnesses = [PaymentWitness.canonical, .draft].map {
      (type: $0.type, hash: $0.hash(challenge: permit.challengeHash, externalId: externalId))
    }
    let digests = witnesses.map {
      permitted.digest(spender: submitter, witness: $0.hash, of: $0.type, domain: token.permit2Domain)
    }
    let (signed, index) = try PayerSignature.check(
      permit.signature, of: digests, payer: owner, wallets: wallets, means: .permit2)
    return ChainCharge(
      id: ChainCharge.id(chain: chainID, contract: token.permit2, payer: owner, nonce: permit.nonce.octets), payer: owner,
      amount: amount, expires: expires,
      means: .call(
        to: token.permit2,
        data: permitted.transfer(
          permit.details, owner: owner, witness: witnesses[index].hash, of: witnesses[index].type, signature: signed.bytes)),
      transfers: permit.transfers.map { ExpectedTransfer(token: currency, from: owner, to: $0.to, amount: $0.amount) },
      signatureCheck: signed.check)
  }

  /// Compares a permit's transfers with the request, rule by rule.
  private func checkTransfers(_ permit: EVMPermit) throws(ChainChargeError) {
    let expected = try transfers()
    guard permit.permitted.count == permit.transfers.count, permit.transfers.count == expected.count else {
      throw .transferCountMismatch
    }
    for (index, (transfer, wanted)) in zip(permit.transfers, expected).enumerated() {
      guard permit.permitted[index].token == currency else { throw .tokenMismatch(.permit2) }
      if index == 0 {
        guard transfer.to == wanted.to else { throw .recipientMismatch(.permit2) }
        guard transfer.amount == wanted.amount else { throw .amountMismatch(.permit2) }
      } else {
        guard transfer == wanted else { throw .splitMismatch(index: index - 1) }
      }
      guard permit.permitted[index].amount >= transfer.amount else { throw .permittedTooLow(index: index) }
    }
  }

  /// draft-evm-charge-00 "Transaction Verification".
  private func check(transaction raw: [UInt8], challenge: ChallengeTerms) throws(ChainChargeError) -> ChainCharge {
    let signed: SignedTransaction
    do { signed = try SignedTransaction(decoding: raw) } catch { throw .malformedTransaction(error) }
    guard signed.transaction.kind == .dynamicFee else { throw .malformedTransaction(.transaction(.unknownType)) }
    guard signed.transaction.chainID == chainID else { throw .chainMismatch }
    do { try signed.transaction.check(chainID: chainID) } catch { throw .malformedTransaction(error) }
    guard signed.transaction.to == currency else { throw .callMismatch }
    guard let call = TokenCall(signed.transaction.data), call.memo == nil else { throw .notATransfer }
    guard call.to == recipient else { throw .recipientMismatch(.transaction) }
    guard call.amount == Word256(amount) else { throw .amountMismatch(.transaction) }
    return ChainCharge(
      id: ChainCharge.id(chain: chainID, transaction: signed.hash), payer: signed.sender, amount: amount, expires: challenge.expires,
      means: .transaction(raw: signed.encoded, hash: signed.hash),
      transfers: [ExpectedTransfer(token: currency, from: signed.sender, to: recipient, amount: amount)], signatureCheck: .recovered,
      notBefore: challenge.oldestBlock)
  }

  /// draft-evm-charge-00 "Hash Verification": everything else is the chain's to tell.
  private func check(hash: Digest32, payer: Address?, challenge: ChallengeTerms) -> ChainCharge {
    ChainCharge(
      id: ChainCharge.id(chain: chainID, transaction: hash), payer: payer ?? .zero, amount: amount, expires: challenge.expires,
      means: .hash(hash), transfers: [ExpectedTransfer(token: currency, from: payer, to: recipient, amount: amount)],
      signatureCheck: .none, notBefore: challenge.oldestBlock)
  }
}

extension AccountDID {
  /// The account on the chain that a credential's `source` names; nil where it is missing.
  static func payer(_ source: String?, chain: UInt64) throws(ChainChargeError) -> Address? {
    guard let source else { return nil }
    guard let account = AccountDID(source) else { throw .malformedSource }
    guard account.chain.number == chain else { throw .sourceMismatch }
    return account.address
  }
}

extension EVMCharge.CredentialType {
  /// The type as errors name it.
  var means: ChainChargeError.Means {
    switch self {
    case .permit2: .permit2
    case .authorization: .authorization
    case .transaction: .transaction
    case .hash: .hash
    }
  }
}
