import Encoding
import Ethereum

/// What a server does with its channels through a facilitator (batch-settlement on EVM, "POST /settle").
///
/// Signatures are those of the receiver's authorizer; nil where that is the facilitator itself.
public enum ChannelAction: Sendable, Hashable {
  case claim([VoucherClaim], signature: [UInt8]?)
  /// Moves what was claimed to the receiver.
  case settle(receiver: Address, token: Address)
  /// Gives `amount` back to the payer, after the claims.
  case refund(
    ChannelConfig, ChannelVoucher, amount: UInt128, nonce: UInt128, claims: [VoucherClaim], signature: [UInt8]?, claimSignature: [UInt8]?)

  /// The member `payload`.
  public var json: JSONObject {
    switch self {
    case .claim(let claims, let signature):
      var object: JSONObject = ["type": "claim", "claims": .array(claims.map { Self.json($0) })]
      if let signature { object.set("claimAuthorizerSignature", .string(HexData.text(signature))) }
      return object
    case .settle(let receiver, let token):
      return ["type": "settle", "receiver": .string(receiver.checksummed), "token": .string(token.checksummed)]
    case .refund(let config, let voucher, let amount, let nonce, let claims, let signature, let claimSignature):
      var object: JSONObject = [
        "type": "refund", "channelConfig": .object(config.json), "voucher": .object(voucher.json), "amount": "\(amount)",
        "refundNonce": "\(nonce)", "claims": .array(claims.map { Self.json($0) }),
      ]
      if let signature { object.set("refundAuthorizerSignature", .string(HexData.text(signature))) }
      if let claimSignature { object.set("claimAuthorizerSignature", .string(HexData.text(claimSignature))) }
      return object
    }
  }

  private static func json(_ claim: VoucherClaim) -> JSONValue {
    [
      "voucher": ["channel": .object(claim.channel.json), "maxClaimableAmount": "\(claim.maxClaimableAmount)"],
      "signature": .string(HexData.text(claim.signature)), "totalClaimed": "\(claim.totalClaimed)",
    ]
  }
}
