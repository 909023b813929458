import Bytes
import Crypto
import Encoding
import Ethereum

// What a server verifies before it asks the chain (draft-tempo-charge-00 "Transaction Verification", "Proof Verification").
extension TempoCharge {
  /// A payment that passed, and what is left to do with it.
  public struct Checked: Sendable {
    /// The payment. Where we pay the fees, the transaction in it waits for our signature and cannot be broadcast: see ``sponsored(by:feeToken:)``.
    public let charge: ChainCharge
    /// The transaction, where one was handed over.
    public let transaction: SignedTempoTransaction?

    /// The payment with the fee payer's signature on its transaction (draft-tempo-charge-00 "Server-Paid Fees"); the same id.
    ///
    /// - Throws: `feesNotSponsored` where there is no transaction that waits for one.
    public func sponsored(by key: EthereumKey, feeToken: Address) throws(ChainChargeError) -> ChainCharge {
      guard let transaction, let signed = try? transaction.sponsored(by: key, feeToken: feeToken) else { throw .feesNotSponsored }
      var charge = charge
      charge.means = .transaction(raw: signed.encoded, hash: signed.hash)
      return charge
    }
  }

  /// Checks a payload that answers a challenge with this request.
  ///
  /// - Parameters:
  ///   - source: the credential's `source`.
  ///   - wallets: whether signatures are taken that only the chain can check.
  ///   - policy: bounds the fees where we pay them.
  public func check(
    _ payload: TempoChargePayload, source: String?, challenge: ChallengeTerms, token: ChainToken,
    wallets: ContractWallets = .otherLengths, policy: SponsorPolicy = SponsorPolicy(), now: Timestamp
  ) throws(ChainChargeError) -> Checked {
    guard token.chain == chainID else { throw .chainMismatch }
    guard token.address == currency else { throw .tokenMismatch(payload.means) }
    let account = try AccountDID.payer(source, chain: chainID)
    switch payload {
    case .transaction(let raw):
      guard amount > 0, accepts(.pull) else { throw .typeNotOffered(.transaction) }
      return try check(transaction: raw, account: account, challenge: challenge, wallets: wallets, policy: policy, now: now)
    case .hash(let hash):
      guard amount > 0, accepts(.push), !feePayer else { throw .typeNotOffered(.hash) }
      return Checked(charge: try charge(hash: hash, payer: account, challenge: challenge), transaction: nil)
    case .proof(let signature):
      guard amount == 0 else { throw .typeNotOffered(.proof) }
      guard let account else { throw .missing(.source) }
      return Checked(charge: try charge(proof: signature, payer: account, challenge: challenge), transaction: nil)
    }
  }

  private func check(
    transaction raw: [UInt8], account: Address?, challenge: ChallengeTerms, wallets: ContractWallets, policy: SponsorPolicy,
    now: Timestamp
  ) throws(ChainChargeError) -> Checked {
    let signed: SignedTempoTransaction
    do { signed = try SignedTempoTransaction(decoding: raw) } catch { throw .malformedTransaction(error) }
    guard signed.transaction.chainID == chainID else { throw .chainMismatch }
    do { try signed.transaction.check(chainID: chainID) } catch { throw .malformedTransaction(error) }
    guard account ?? signed.sender == signed.sender else { throw .sourceMismatch }
    guard signed.isSenderProven || wallets != .refused else { throw .signatureMismatch(.transaction) }
    try checkFees(signed, policy: policy, now: now)
    try signed.transaction.checkWindow(latest: challenge.expires, now: now)
    try checkCalls(signed.transaction, challenge: challenge)
    return Checked(
      charge: ChainCharge(
        id: ChainCharge.id(chain: chainID, transaction: name(of: signed)), payer: signed.sender, amount: amount, expires: challenge.expires,
        means: .transaction(raw: signed.encoded, hash: signed.hash), transfers: try transfers(from: signed.sender, unasked: .any),
        signatureCheck: signed.isSenderProven ? .recovered : .byContract, notBefore: challenge.oldestBlock),
      transaction: signed)
  }

  /// Who pays the fees is who the offer says, and we pay within bounds.
  private func checkFees(_ signed: SignedTempoTransaction, policy: SponsorPolicy, now: Timestamp) throws(ChainChargeError) {
    let transaction = signed.transaction
    guard feePayer else {
      guard transaction.feePayment != .awaited else { throw .feesNotSponsored }
      return
    }
    guard transaction.feePayment == .awaited, transaction.feeToken == nil, signed.isSenderProven,
      policy.covers(transaction, now: now)
    else { throw .feesNotSponsored }
  }

  /// Every transfer that is asked for is a call of its own; where we pay the fees, there are no others.
  private func checkCalls(_ transaction: TempoTransaction, challenge: ChallengeTerms) throws(ChainChargeError) {
    let attribution = Attribution(challenge)
    var left = transaction.calls.compactMap { call in
      call.to == currency && call.value.isZero ? TokenCall(call.data) : nil
    }
    guard !left.isEmpty else { throw .callMismatch }
    let expected = try transfers(from: nil, unasked: .any)
    guard !feePayer || transaction.calls.count == expected.count else { throw .transferMismatch }
    // Those that ask for a memo choose first.
    for transfer in expected.filter({ $0.memo != .any }) + expected.filter({ $0.memo == .any }) {
      let matches = left.indices.filter { left[$0].to == transfer.to && left[$0].amount == Word256(transfer.amount) }
      guard !matches.isEmpty else { throw .transferMismatch }
      let fitting = matches.first { index in
        guard let memo = left[index].memo else { return transfer.memo == .any }
        // What is attributed to another challenge pays for that one.
        return transfer.memo == .any ? !Attribution.isPresent(in: memo) || attribution.isMade(in: memo) : transfer.memo.isMet(by: memo)
      }
      guard let fitting else { throw .memoMismatch }
      left.remove(at: fitting)
    }
  }

  /// draft-tempo-charge-00 "Hash Verification": the logs tell the rest, and the memo that they pay for this challenge.
  ///
  /// The draft binds such a transaction to nothing; every client that broadcasts attributes it to its challenge, and without that
  /// somebody could show a transaction that paid for something else.
  private func charge(hash: Digest32, payer: Address?, challenge: ChallengeTerms) throws(ChainChargeError) -> ChainCharge {
    ChainCharge(
      id: ChainCharge.id(chain: chainID, transaction: hash), payer: payer ?? .zero, amount: amount, expires: challenge.expires,
      means: .hash(hash), transfers: try transfers(from: payer, unasked: .attributed(Attribution(challenge))), signatureCheck: .none,
      notBefore: challenge.oldestBlock)
  }

  /// draft-tempo-charge-00 "Proof Verification".
  private func charge(proof signature: [UInt8], payer: Address, challenge: ChallengeTerms) throws(ChainChargeError) -> ChainCharge {
    let digests = [
      TempoProof.digest(challenge, account: payer, chain: chainID), TempoProof.draftDigest(challenge, chain: chainID),
    ]
    // Nothing reaches the chain that could tell for a contract.
    _ = try PayerSignature.check(signature, of: digests, payer: payer, wallets: .refused, means: .proof)
    return ChainCharge(
      id: ChainCharge.id(chain: chainID, payer: payer, proofOf: challenge.hash()), payer: payer, amount: 0,
      expires: challenge.expires, means: .none, transfers: [], signatureCheck: .recovered)
  }
}

extension TempoTransaction {
  /// Seconds by which a transaction may outlast the challenge that it answers: clocks differ.
  private static let tolerance: UInt64 = 60

  /// Checks when a payer's transaction may land: soon, and not much longer than its challenge holds (draft-tempo-charge-00, "Submission Modes"), for
  /// what could land whenever its sender likes would have to be waited for as long.
  ///
  /// - Parameter latest: the challenge's end.
  func checkWindow(latest: Timestamp, now: Timestamp) throws(ChainChargeError) {
    let seconds = UInt64(clamping: now.seconds)
    guard let before = validBefore, before <= UInt64(clamping: latest.seconds) &+ Self.tolerance else { throw .validTooLong(.transaction) }
    if before < seconds &+ ValidityWindow.margin { throw .expired(.transaction) }
    if let after = validAfter, after > seconds { throw .notYetValid(.transaction) }
  }
}
