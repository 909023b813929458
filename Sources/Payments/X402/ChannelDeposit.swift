import Bytes
import Encoding
import Ethereum

/// Money that is put into a channel.
public struct ChannelDeposit: Sendable, Hashable {
  /// How the token moves into the channel.
  public enum Authorization: Sendable, Hashable {
    /// `ReceiveWithAuthorization` (EIP-3009) to the collector; its nonce is the hash of channel id and salt.
    case eip3009(validAfter: UInt64, validBefore: UInt64, salt: Digest32, signature: [UInt8])
    /// `PermitWitnessTransferFrom` whose witness is the channel's id.
    case permit2(ChannelPermit)
  }

  /// Base units.
  public let amount: UInt128
  public let authorization: Authorization

  public init(amount: UInt128, authorization: Authorization) {
    self.amount = amount
    self.authorization = authorization
  }

  init(_ members: X402Members) throws(X402Error) {
    amount = try members.units(.amount)
    let ways = try members.members(.authorization)
    switch (ways[.erc3009Authorization], ways[.permit2Authorization]) {
    case (_?, nil):
      let way = try ways.members(.erc3009Authorization)
      authorization = .eip3009(
        validAfter: try way.seconds(.validAfter), validBefore: try way.seconds(.validBefore), salt: try way.word(.salt),
        signature: try way.signature())
    case (nil, _?): authorization = .permit2(try ChannelPermit(try ways.members(.permit2Authorization)))
    case (nil, nil), (_?, _?): throw .unknownTransfer
    }
  }

  var json: JSONObject {
    let way: JSONObject =
      switch authorization {
      case .eip3009(let validAfter, let validBefore, let salt, let signature):
        [
          "erc3009Authorization": [
            "validAfter": "\(validAfter)", "validBefore": "\(validBefore)", "salt": .string(HexData.text(salt)),
            "signature": .string(HexData.text(signature)),
          ]
        ]
      case .permit2(let permit): ["permit2Authorization": .object(permit.json)]
      }
    return ["amount": "\(amount)", "authorization": .object(way)]
  }
}

/// A signed Permit2 transfer into a channel.
public struct ChannelPermit: Sendable, Hashable {
  public let from: Address
  public let token: Address
  /// Base units.
  public let amount: UInt128
  public let spender: Address
  public let nonce: Word256
  /// Seconds since 1970.
  public let deadline: UInt64
  /// The witness.
  public let channelID: Digest32
  /// As it was sent: 65 octets of a key, or what a contract checks.
  public let signature: [UInt8]

  public init(
    from: Address, token: Address, amount: UInt128, spender: Address, nonce: Word256, deadline: UInt64, channelID: Digest32,
    signature: [UInt8]
  ) {
    self.from = from
    self.token = token
    self.amount = amount
    self.spender = spender
    self.nonce = nonce
    self.deadline = deadline
    self.channelID = channelID
    self.signature = signature
  }

  /// What was signed, without spender, witness and signature.
  public var permit: Permit2.Permit {
    Permit2.Permit(
      permitted: [Permit2.TokenPermissions(token: token, amount: Word256(amount))], nonce: nonce, deadline: Word256(deadline))
  }

  init(_ members: X402Members) throws(X402Error) {
    let permitted = try members.members(.permitted)
    from = try members.address(.from)
    token = try permitted.address(.token)
    amount = try permitted.units(.amount)
    spender = try members.address(.spender)
    nonce = try members.number(.nonce)
    deadline = try members.seconds(.deadline)
    channelID = try members.members(.witness).word(.channelId)
    signature = try members.signature()
  }

  var json: JSONObject {
    [
      "from": .string(from.checksummed), "permitted": ["token": .string(token.checksummed), "amount": "\(amount)"],
      "spender": .string(spender.checksummed), "nonce": .string(nonce.decimal), "deadline": "\(deadline)",
      "witness": ["channelId": .string(HexData.text(channelID))], "signature": .string(HexData.text(signature)),
    ]
  }
}
