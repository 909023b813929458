import Bytes
import Encoding
import Ethereum

/// What identifies a channel of batch-settlement: its id is the EIP-712 hash of this.
public typealias ChannelConfig = BatchSettlement.ChannelConfig
/// One voucher that is claimed on chain, with the total that is then claimed of its channel.
public typealias VoucherClaim = BatchSettlement.Claim

extension ChannelConfig {
  /// Reads the member `channelConfig`.
  init(_ members: X402Members) throws(X402Error) {
    let config = ChannelConfig(
      payer: try members.address(.payer), payerAuthorizer: try members.address(.payerAuthorizer), receiver: try members.address(.receiver),
      receiverAuthorizer: try members.address(.receiverAuthorizer), token: try members.address(.token),
      withdrawDelay: try members.whole(.withdrawDelay), salt: try members.word(.salt))
    guard let config else { throw .overflow(.withdrawDelay) }
    self = config
  }

  /// The object as clients and servers write it.
  public var json: JSONObject {
    [
      "payer": .string(payer.checksummed), "payerAuthorizer": .string(payerAuthorizer.checksummed), "receiver": .string(receiver.checksummed),
      "receiverAuthorizer": .string(receiverAuthorizer.checksummed), "token": .string(token.checksummed),
      "withdrawDelay": .integer(withdrawDelay), "salt": .string(HexData.text(salt)),
    ]
  }
}
