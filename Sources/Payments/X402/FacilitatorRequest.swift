import Bytes
import Encoding
import Ethereum

/// Writes the bodies of `/verify` and `/settle` (x402 v2 section 7): the payment as it was sent, and our own requirements, never the
/// client's copy.
public enum FacilitatorRequest {
  /// Appends the body for a client's payment.
  ///
  /// - Parameters:
  ///   - amount: what is settled, where that is less than the requirements' (upto); nil for the requirements' own.
  ///   - resource: the URL and description that version 1 has in its requirements; unused in version 2.
  /// - Returns: false, and nothing appended, where version 1 has no words for the requirements.
  public static func append(
    _ payload: PaymentPayload, _ requirements: PaymentRequirements, amount: UInt128? = nil, resource: ResourceInfo,
    to out: inout ByteBuffer
  ) -> Bool {
    switch payload.version {
    case .v2:
      begin("{\"x402Version\":2,\"paymentPayload\":", payload.json, to: &out)
      requirements.append(amount: amount, to: &out)
    case .v1:
      guard let prepared = PreparedRequirementsV1(requirements, info: resource) else { return false }
      begin("{\"x402Version\":1,\"paymentPayload\":", payload.json, to: &out)
      var url = resource.url
      url.withUTF8 { prepared.append(url: UnsafeRawBufferPointer($0), to: &out) }
    }
    out.append(byte: 0x7D)
    return true
  }

  /// Appends the body for what a server does with its channels.
  public static func append(_ action: ChannelAction, _ requirements: PaymentRequirements, to out: inout ByteBuffer) {
    out.append("{\"x402Version\":2,\"paymentPayload\":{\"x402Version\":2,\"accepted\":" as StaticString)
    requirements.append(to: &out)
    out.append(",\"payload\":" as StaticString)
    JSON.append(.object(action.json), to: &out)
    out.append("},\"paymentRequirements\":" as StaticString)
    requirements.append(to: &out)
    out.append(byte: 0x7D)
  }

  private static func begin(_ start: StaticString, _ json: [UInt8], to out: inout ByteBuffer) {
    out.append(start)
    out.append(json)
    out.append(",\"paymentRequirements\":" as StaticString)
  }
}

/// One voucher that is claimed on chain, with the total that is then claimed of its channel.
public struct VoucherClaim: Sendable, Hashable {
  public let channel: ChannelConfig
  /// Base units, as signed.
  public let maxClaimableAmount: UInt128
  public let signature: [UInt8]
  /// Base units, cumulative; at most what was signed.
  public let totalClaimed: UInt128

  public init(channel: ChannelConfig, maxClaimableAmount: UInt128, signature: [UInt8], totalClaimed: UInt128) {
    self.channel = channel
    self.maxClaimableAmount = maxClaimableAmount
    self.signature = signature
    self.totalClaimed = totalClaimed
  }

  var json: JSONValue {
    [
      "voucher": ["channel": .object(channel.json), "maxClaimableAmount": "\(maxClaimableAmount)"],
      "signature": .string(HexData.text(signature)), "totalClaimed": "\(totalClaimed)",
    ]
  }
}

/// What a server does with its channels through a facilitator (batch-settlement on EVM, "POST /settle").
///
/// Signatures are those of the receiver's authorizer; nil where that is the facilitator itself.
public enum ChannelAction: Sendable, Hashable {
  case claim([VoucherClaim], signature: [UInt8]?)
  /// Moves what was claimed to the receiver.
  case settle(receiver: Address, token: Address)
  /// Gives `amount` back to the payer, after the claims.
  case refund(ChannelConfig, Voucher, amount: UInt128, nonce: UInt128, claims: [VoucherClaim], signature: [UInt8]?, claimSignature: [UInt8]?)

  /// The member `payload`.
  public var json: JSONObject {
    switch self {
    case .claim(let claims, let signature):
      var object: JSONObject = ["type": "claim", "claims": .array(claims.map(\.json))]
      if let signature { object.set("claimAuthorizerSignature", .string(HexData.text(signature))) }
      return object
    case .settle(let receiver, let token):
      return ["type": "settle", "receiver": .string(receiver.lowercase), "token": .string(token.lowercase)]
    case .refund(let config, let voucher, let amount, let nonce, let claims, let signature, let claimSignature):
      var object: JSONObject = [
        "type": "refund", "channelConfig": .object(config.json), "voucher": .object(voucher.json), "amount": "\(amount)",
        "refundNonce": "\(nonce)", "claims": .array(claims.map(\.json)),
      ]
      if let signature { object.set("refundAuthorizerSignature", .string(HexData.text(signature))) }
      if let claimSignature { object.set("claimAuthorizerSignature", .string(HexData.text(claimSignature))) }
      return object
    }
  }
}
