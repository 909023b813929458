import Bytes
import Encoding

/// The request that is answered by a 402 of x402, and why; its octets live as long as the call.
public struct PaymentRequiredOccasion {
  /// Scheme and authority of the URL that the client used: `https://api.example.com`.
  public var origin: UnsafeRawBufferPointer
  /// The canonical path.
  public var path: UnsafeRawBufferPointer
  /// The canonical query without its `?`; nil where there is none.
  public var query: UnsafeRawBufferPointer?
  public var now: Timestamp
  /// 16 octets that are used once, for sign-in-with-x.
  public var nonce: (UInt64, UInt64)
  /// Why the payment that was made did not hold; nil where none was made.
  public var reason: X402Reason?

  public init(
    origin: UnsafeRawBufferPointer, path: UnsafeRawBufferPointer, query: UnsafeRawBufferPointer?, now: Timestamp,
    nonce: (UInt64, UInt64), reason: X402Reason? = nil
  ) {
    self.origin = origin
    self.path = path
    self.query = query
    self.now = now
    self.nonce = nonce
    self.reason = reason
  }

  /// Appends the URL as it is.
  func appendURL(to out: inout ByteBuffer) {
    out.append(origin)
    out.append(path)
    guard let query else { return }
    out.append(byte: 0x3F)
    out.append(query)
  }
}

/// What a client that lost count of its channel is told, in the `extra` of the offer that it took ("Corrective 402").
public struct ChannelCorrection: Sendable, Hashable {
  /// The offer, by index.
  public let offer: Int
  public let channelState: ChannelState
  /// Nil where the server holds no voucher of the channel.
  public let voucherState: VoucherState?

  public init(offer: Int, channelState: ChannelState, voucherState: VoucherState?) {
    self.offer = offer
    self.channelState = channelState
    self.voucherState = voucherState
  }
}
