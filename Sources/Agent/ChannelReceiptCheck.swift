import Bytes
import Encoding
import Methods

/// Compares a receipt of a session over a channel with what was signed. It is not signed itself: what it says binds nobody, and is believed no
/// further than the agent's own count goes.
struct ChannelReceiptCheck {
  let channel: KeptChannel
  /// What was signed at the time.
  let signed: UInt128

  init(_ channel: KeptChannel, signed: UInt128? = nil) {
    self.channel = channel
    self.signed = signed ?? channel.signed
  }

  /// Reads a `Payment-Receipt` value and checks it.
  func check(_ value: String?) -> Result<ChannelReceipt, ReceiptProblem> {
    guard let value else { return .failure(ReceiptProblem(.missing)) }
    guard let receipt = try? ChannelReceipt(field: value) else { return .failure(ReceiptProblem(.malformed)) }
    return check(receipt)
  }

  /// Reads an event's data and checks it.
  func check(text: String) -> Result<ChannelReceipt, ReceiptProblem> {
    guard let receipt = try? ChannelReceipt(text: Array(text.utf8)) else { return .failure(ReceiptProblem(.malformed)) }
    return check(receipt)
  }

  private func check(_ receipt: ChannelReceipt) -> Result<ChannelReceipt, ReceiptProblem> {
    guard receipt.method == ChannelProtocol.evm.method, receipt.channelID == channel.channelID else { return .failure(ReceiptProblem(.session)) }
    if let chain = receipt.chainID, chain != channel.chain { return .failure(ReceiptProblem(.network)) }
    guard receipt.acceptedCumulative <= signed, receipt.spent <= receipt.acceptedCumulative else { return .failure(ReceiptProblem(.amount)) }
    return .success(receipt)
  }
}
