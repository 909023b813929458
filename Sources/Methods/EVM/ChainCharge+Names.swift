import Bytes
import Ethereum
import Payments

// What a payment is called, told from what its payer presents and nothing else: whatever is offered or configured by then, what is known
// under that name is found.
extension ChainCharge {
  /// Names a payment of x402; nil for a scheme that has no charges.
  ///
  /// - Parameter asset: the contract of an authorization, which version 1 leaves to be known.
  public static func id(_ payment: SchemePayload, chain: UInt64, asset: Address?) -> Digest32? {
    switch payment {
    case .exactEIP3009(let authorization):
      asset.map { id(chain: chain, contract: $0, payer: authorization.from, nonce: authorization.nonce) }
    case .exactPermit2(let permit), .uptoPermit2(let permit):
      id(chain: chain, contract: Permit2.address, payer: permit.from, nonce: permit.nonce.octets)
    case .batchDeposit, .batchVoucher, .batchRefund: nil
    }
  }
}

extension EVMCharge {
  /// Names the payment that a payload is; nil where it is none.
  public func id(_ payload: EVMChargePayload, source: String?) -> Digest32? {
    switch payload {
    case .permit2(let permit):
      guard let owner = try? AccountDID.payer(source, chain: chainID) else { return nil }
      return ChainCharge.id(chain: chainID, contract: permit2, payer: owner, nonce: permit.nonce.octets)
    case .authorization(let authorization, signature: _):
      return ChainCharge.id(chain: chainID, contract: currency, payer: authorization.from, nonce: authorization.nonce)
    case .transaction(let raw):
      return (try? SignedTransaction(decoding: raw)).map { ChainCharge.id(chain: chainID, transaction: $0.hash) }
    case .hash(let hash): return ChainCharge.id(chain: chainID, transaction: hash)
    }
  }
}

extension TempoCharge {
  /// Names the payment that a payload is; nil where it is none, or moves nothing.
  public func id(_ payload: TempoChargePayload) -> Digest32? {
    switch payload {
    case .transaction(let raw):
      guard let signed = try? SignedTempoTransaction(decoding: raw) else { return nil }
      return ChainCharge.id(chain: chainID, transaction: name(of: signed))
    case .hash(let hash): return ChainCharge.id(chain: chainID, transaction: hash)
    case .proof: return nil
    }
  }

  /// Names the payment of nothing by which the account of `source` is proved for a challenge; nil where that is none.
  public func id(proofOf challenge: ChallengeTerms, source: String?) -> Digest32? {
    guard amount == 0, let payer = try? AccountDID.payer(source, chain: chainID) else { return nil }
    return ChainCharge.id(chain: chainID, payer: payer, proofOf: challenge.hash())
  }

  /// What a transaction is called: one that waits for its fee payer has no hash yet, and is named by what its sender signed.
  func name(of signed: SignedTempoTransaction) -> Digest32 { feePayer ? signed.transaction.signingDigest : signed.hash }
}
