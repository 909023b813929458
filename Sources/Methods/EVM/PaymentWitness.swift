import Bytes
import Ethereum

/// The witness that binds a permit of the method `evm` to its challenge (draft-evm-charge-00 "Witness Data").
struct PaymentWitness {
  /// What the contract is told of the type, and what follows for the permit's.
  let type: Permit2.WitnessType
  private let typeHash: Digest32

  private init(separator: String) {
    let structure = "PaymentWitness(bytes32 challengeHash,\(separator)string externalId)"
    type = Permit2.WitnessType("PaymentWitness witness)\(structure)TokenPermissions(address token,uint256 amount)")
    typeHash = TypedData.typeHash(structure)
  }

  /// The type with the draft's text, letter by letter.
  static let draft = PaymentWitness(separator: " ")
  /// The type as wallets encode it, who are given structures and no texts: without the space (EIP-712 "Definition of encodeType").
  static let canonical = PaymentWitness(separator: "")

  /// The hash of a witness.
  func hash(challenge: Digest32, externalId: String?) -> Digest32 {
    var hash = TypedData.StructHash(typeHash)
    hash.append(challenge)
    hash.append(string: externalId ?? "")
    return hash.finalize()
  }
}

extension Permit2.Permit {
  /// The digest that is signed: of a single permit, or of a batch where there are several tokens.
  func digest(spender: Address, witness: Digest32, of type: Permit2.WitnessType, domain: TypedData.PreparedDomain) -> Digest32 {
    domain.digest(
      permitted.count > 1
        ? Permit2.batchStructHash(self, spender: spender, witness: witness, of: type)
        : Permit2.singleStructHash(self, spender: spender, witness: witness, of: type))
  }

  /// The call that moves what was permitted: single or batch, as it was signed.
  func transfer(
    _ details: [Permit2.TransferDetails], owner: Address, witness: Digest32, of type: Permit2.WitnessType, signature: [UInt8]
  ) -> [UInt8] {
    if permitted.count == 1, details.count == 1, let only = details.first {
      return Permit2.transfer(self, details: only, owner: owner, witness: witness, of: type, signature: signature)
    }
    return Permit2.transfer(self, batch: details, owner: owner, witness: witness, of: type, signature: signature)
  }
}
