import Bytes
import Encoding
import Ethereum

/// What identifies a channel of batch-settlement: its id is the EIP-712 hash of this.
public struct ChannelConfig: Sendable, Hashable {
  public let payer: Address
  /// The key that signs vouchers; zero where the payer's contract checks them (ERC-1271).
  public let payerAuthorizer: Address
  public let receiver: Address
  /// Who authorizes claims and refunds.
  public let receiverAuthorizer: Address
  public let token: Address
  /// Seconds, of 40 bits.
  public let withdrawDelay: UInt64
  public let salt: Digest32

  public init(
    payer: Address, payerAuthorizer: Address, receiver: Address, receiverAuthorizer: Address, token: Address,
    withdrawDelay: UInt64, salt: Digest32
  ) {
    self.payer = payer
    self.payerAuthorizer = payerAuthorizer
    self.receiver = receiver
    self.receiverAuthorizer = receiverAuthorizer
    self.token = token
    self.withdrawDelay = withdrawDelay
    self.salt = salt
  }

  init(_ members: X402Members) throws(X402Error) {
    payer = try members.address(.payer)
    payerAuthorizer = try members.address(.payerAuthorizer)
    receiver = try members.address(.receiver)
    receiverAuthorizer = try members.address(.receiverAuthorizer)
    token = try members.address(.token)
    withdrawDelay = try members.whole(.withdrawDelay)
    guard withdrawDelay < 1 << 40 else { throw .overflow(.withdrawDelay) }
    salt = try members.word(.salt)
  }

  /// The object as clients and servers write it.
  public var json: JSONObject {
    [
      "payer": .string(payer.lowercase), "payerAuthorizer": .string(payerAuthorizer.lowercase), "receiver": .string(receiver.lowercase),
      "receiverAuthorizer": .string(receiverAuthorizer.lowercase), "token": .string(token.lowercase), "withdrawDelay": .integer(withdrawDelay),
      "salt": .string(HexData.text(salt)),
    ]
  }
}

/// A signed sum: all that a channel may have been charged so far.
public struct Voucher: Sendable, Hashable {
  public let channelID: Digest32
  /// Base units, cumulative over the channel's life.
  public let maxClaimableAmount: UInt128
  /// As it was sent: 65 octets of a key, or what a contract checks.
  public let signature: [UInt8]

  public init(channelID: Digest32, maxClaimableAmount: UInt128, signature: [UInt8]) {
    self.channelID = channelID
    self.maxClaimableAmount = maxClaimableAmount
    self.signature = signature
  }

  init(_ members: X402Members) throws(X402Error) {
    channelID = try members.word(.channelId)
    maxClaimableAmount = try members.units(.maxClaimableAmount)
    signature = try members.signature()
  }

  var json: JSONObject {
    [
      "channelId": .string(HexData.text(channelID)), "maxClaimableAmount": "\(maxClaimableAmount)",
      "signature": .string(HexData.text(signature)),
    ]
  }
}

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
      "from": .string(from.lowercase), "permitted": ["token": .string(token.lowercase), "amount": "\(amount)"],
      "spender": .string(spender.lowercase), "nonce": .string(nonce.decimal), "deadline": "\(deadline)",
      "witness": ["channelId": .string(HexData.text(channelID))], "signature": .string(HexData.text(signature)),
    ]
  }
}
