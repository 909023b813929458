import Bytes
import Encoding
import Ethereum

// What a payer signs for a challenge of the method `tempo`.
extension TempoCharge {
  /// Signs the proof that answers a charge of nothing.
  public func proof(by key: EthereumKey, challenge: ChallengeTerms) throws(ChainChargeError) -> TempoChargePayload {
    guard amount == 0 else { throw .typeNotOffered(.proof) }
    return .proof(key.sign(TempoProof.digest(challenge, account: key.address, chain: chainID)).bytes)
  }

  /// The calls of a transaction that pays, with the memo that attributes it to the challenge where none is asked for.
  public func calls(for challenge: ChallengeTerms) throws(ChainChargeError) -> [TempoTransaction.Call] {
    let unasked = Attribution(challenge).memo
    return try transfers(from: nil, unasked: .exact(unasked)).map { transfer in
      let data =
        switch transfer.memo {
        case .exact(let memo): ERC20.transferWithMemo(to: transfer.to, value: Word256(transfer.amount), memo: memo)
        case .any, .attributed: ERC20.transferWithMemo(to: transfer.to, value: Word256(transfer.amount), memo: unasked)
        }
      return TempoTransaction.Call(to: currency, data: data)
    }
  }

  /// The `source` of a payer's credential: `did:pkh:eip155:`, the chain and the account.
  public func source(of payer: Address) -> String { AccountDID(chain: ChainID(chainID), address: payer).description }
}
