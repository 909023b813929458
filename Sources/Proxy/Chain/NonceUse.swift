import Bytes
import Ethereum

/// What a payment's call may use once: a payer's nonce at the token (EIP-3009) or at Permit2. Whoever sends the call, the contract knows.
enum NonceUse: Sendable, Equatable {
  case authorization(token: Address, payer: Address, nonce: Digest32)
  case permit(owner: Address, nonce: Word256)

  /// Finds it in a call; nil for other calls.
  init?(of call: [UInt8], to contract: Address) {
    let transfers = [EIP3009.transferWithAuthorization, EIP3009.transferWithAuthorizationBytes]
    if let values = transfers.lazy.compactMap({ try? $0.arguments(of: call) }).first, values.count > 5, let payer = values[0].addressValue,
      let nonce = values[5].fixedBytesValue
    {
      self = .authorization(token: contract, payer: payer, nonce: nonce)
      return
    }
    // Where permit and owner stand among the arguments.
    let settlements: [(ABIFunction, permit: Int, owner: Int)] = [
      (ExactPermit2Proxy.settle, 0, 1), (ExactPermit2Proxy.settleWithPermit, 1, 2), (UptoPermit2Proxy.settle, 0, 2),
      (UptoPermit2Proxy.settleWithPermit, 1, 3), (Permit2.permitWitnessTransferFrom, 0, 2), (Permit2.permitBatchWitnessTransferFrom, 0, 2),
    ]
    for (function, permit, owner) in settlements {
      guard let values = try? function.arguments(of: call), values.count > max(permit, owner), let owner = values[owner].addressValue,
        let members = values[permit].elements, members.count > 1, let nonce = members[1].uintValue
      else { continue }
      self = .permit(owner: owner, nonce: nonce)
      return
    }
    return nil
  }

  /// The call that asks whether it has been used.
  var question: (to: Address, data: [UInt8]) {
    switch self {
    case .authorization(let token, let payer, let nonce): (token, EIP3009.authorizationState(authorizer: payer, nonce: nonce))
    case .permit(let owner, let nonce): (Permit2.address, Permit2.nonceBitmap(owner: owner, nonce: nonce))
    }
  }

  /// Reads the answer to the question; nil where it is none.
  func isUsed(_ answer: [UInt8]) -> Bool? {
    guard answer.count == 32, let word = Word256(bigEndian: answer) else { return nil }
    switch self {
    case .authorization: return !word.isZero
    case .permit(_, let nonce): return Permit2.isUsed(nonce: nonce, bitmap: word)
    }
  }

  /// How many authorizations of the payer a transaction's logs say were used; 0 for permits, whose use no log tells.
  func usesOfPayer(in logs: [Log]) -> Int {
    guard case .authorization(let token, let payer, _) = self else { return 0 }
    let (topic, account) = (EIP3009.authorizationUsed.topic, Word256(payer).octets)
    return logs.count(where: { $0.address == token && $0.topics.count > 1 && $0.topics[0] == topic && $0.topics[1] == account })
  }
}
