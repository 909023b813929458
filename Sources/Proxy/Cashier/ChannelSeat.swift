import Bytes
import Crypto
import Ethereum
import Ledger
import Methods

/// A payment channel as the credentials of one challenge use it: what checking their vouchers and printing their receipts needs.
final class ChannelSeat: Sendable {
  let id: Digest32
  let escrow: SessionEscrow
  let channel: ChannelDescriptor
  let key: VoucherKey
  /// The challenge that receipts name.
  let challengeID: String
  let receipt: ChannelReceiptStub
  /// The least that a new voucher adds, in base units.
  let minimumDelta: UInt128
  /// What stands for the payer where wallets are counted.
  let payer: Digest32

  init(id: Digest32, _ stored: StoredChannel, challengeID: String, minimumDelta: UInt128) {
    self.id = id
    escrow = stored.escrow
    channel = stored.channel
    key = VoucherKey(channelID: id, signer: stored.channel.signer, escrow: stored.escrow)
    self.challengeID = challengeID
    receipt = ChannelReceiptStub(escrow: stored.escrow, challengeID: challengeID, channelID: id)
    self.minimumDelta = minimumDelta
    var hash = SHA256()
    hash.update("eip155")
    hash.update(stored.channel.payer.bytes)
    payer = hash.finalize()
  }

  var rules: ChannelProtocol { escrow.rules }

  /// A voucher as it was sent.
  func voucher(_ accepted: AcceptedVoucher) -> SessionVoucher {
    SessionVoucher(channelID: id, cumulativeAmount: accepted.amount, signature: accepted.signature)
  }
}

extension AcceptedVoucher {
  init(_ voucher: SessionVoucher) { self.init(amount: voucher.cumulativeAmount, signature: voucher.signature) }
}

extension ChannelStanding {
  init(_ account: ChannelAccount) {
    self.init(
      deposit: account.deposit, settled: account.settled, closeRequestedAt: account.closeRequestedAt, isFinalized: account.isFinalized)
  }
}
