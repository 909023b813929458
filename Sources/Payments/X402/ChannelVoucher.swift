import Bytes
import Encoding
import Ethereum

/// A signed sum: all that a channel may have been charged so far.
public struct ChannelVoucher: Sendable, Hashable {
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
