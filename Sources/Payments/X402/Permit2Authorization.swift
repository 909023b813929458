import Bytes
import Encoding
import Ethereum

/// A signed `PermitWitnessTransferFrom` of Permit2, with the witness of x402's proxies.
public struct Permit2Authorization: Sendable, Hashable {
  public let from: Address
  public let token: Address
  /// Base units: the price for exact, the most that may be taken for upto.
  public let amount: UInt128
  /// The proxy contract that may take the money.
  public let spender: Address
  public let nonce: Word256
  /// Seconds since 1970.
  public let deadline: UInt64
  public let to: Address
  /// Who may settle; nil in exact, whose witness has no such member.
  public let facilitator: Address?
  /// Seconds since 1970.
  public let validAfter: UInt64
  /// As it was sent: 65 octets of a key, or what a contract checks.
  public let signature: [UInt8]

  public init(
    from: Address, token: Address, amount: UInt128, spender: Address, nonce: Word256, deadline: UInt64, to: Address,
    facilitator: Address?, validAfter: UInt64, signature: [UInt8]
  ) {
    self.from = from
    self.token = token
    self.amount = amount
    self.spender = spender
    self.nonce = nonce
    self.deadline = deadline
    self.to = to
    self.facilitator = facilitator
    self.validAfter = validAfter
    self.signature = signature
  }

  /// What was signed, without spender, witness and signature.
  public var permit: Permit2.Permit {
    Permit2.Permit(
      permitted: [Permit2.TokenPermissions(token: token, amount: Word256(amount))], nonce: nonce, deadline: Word256(deadline))
  }

  /// Reads the payload; `namesFacilitator` says whether the scheme's witness has that member.
  init(_ payload: X402Members, names namesFacilitator: Bool) throws(X402Error) {
    let members = try payload.members(.permit2Authorization)
    let permitted = try members.members(.permitted)
    let witness = try members.members(.witness)
    from = try members.address(.from)
    token = try permitted.address(.token)
    amount = try permitted.units(.amount)
    spender = try members.address(.spender)
    nonce = try members.number(.nonce)
    deadline = try members.seconds(.deadline)
    to = try witness.address(.to)
    // A witness with the member belongs to upto's contract, whatever the scheme says.
    guard namesFacilitator || witness[.facilitator] == nil else { throw .unknownTransfer }
    facilitator = namesFacilitator ? try witness.address(.facilitator) : nil
    validAfter = try witness.seconds(.validAfter)
    signature = try payload.signature()
  }

  /// The addresses keep their checksum: the official facilitators take no others.
  var json: JSONObject {
    var witness: JSONObject = ["to": .string(to.checksummed)]
    if let facilitator { witness.set("facilitator", .string(facilitator.checksummed)) }
    witness.set("validAfter", "\(validAfter)")
    return [
      "signature": .string(HexData.text(signature)),
      "permit2Authorization": [
        "from": .string(from.checksummed), "permitted": ["token": .string(token.checksummed), "amount": "\(amount)"],
        "spender": .string(spender.checksummed), "nonce": .string(nonce.decimal), "deadline": "\(deadline)",
        "witness": .object(witness),
      ],
    ]
  }
}
