import Bytes
import Ethereum

// What a server verifies of a payer's own transaction (draft-tempo-session-00 "Open Verification").
extension ChannelSession {
  func descriptor(
    of opening: ChannelOpening, transaction octets: [UInt8], escrow: SessionEscrow
  ) throws(ChannelError) -> ChannelDescriptor {
    throw .payment(.typeNotOffered(.transaction))
  }

  func deposit(
    opening octets: [UInt8], _ channel: ChannelDescriptor, _ id: Digest32, escrow: SessionEscrow
  ) throws(ChannelError) -> ChannelTransaction {
    throw .payment(.typeNotOffered(.transaction))
  }

  func deposit(
    topUp octets: [UInt8], _ amount: UInt128, _ channel: ChannelDescriptor, _ id: Digest32, escrow: SessionEscrow
  ) throws(ChannelError) -> ChannelTransaction {
    throw .payment(.typeNotOffered(.transaction))
  }
}
