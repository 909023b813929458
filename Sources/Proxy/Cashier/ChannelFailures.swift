import Bytes
import HTTP

/// Counts, by channel and client, the vouchers whose signatures did not verify in the last second: checking one is what costs us most. A
/// channel's id is everybody's to know, so that what strangers send is not held against its payer.
struct ChannelFailures: ~Copyable {
  /// Most failures of one client with one channel in a second (drafts, "Denial of Service").
  static let limit = 10
  /// Most failures of all clients in a second: a twentieth of a core's time.
  static let totalLimit = 1_000
  /// Channels and clients that are counted at once; all are forgotten where there are more.
  private static let pairLimit = 1_024
  private static let second: Int64 = 1_000_000_000

  private struct Pair: Hashable {
    let channel: Digest32
    let client: ClientAddress
  }

  private var counts: [Pair: (since: Int64, count: Int)] = [:]
  private var total: (since: Int64, count: Int) = (0, 0)

  /// Whether no further voucher of the channel is looked at for a client for now.
  func isFull(_ channel: Digest32, _ client: ClientAddress, at clock: Int64) -> Bool {
    if total.count >= Self.totalLimit, clock &- total.since < Self.second { return true }
    guard let known = counts[Pair(channel: channel, client: client.limitKey)], clock &- known.since < Self.second else { return false }
    return known.count >= Self.limit
  }

  /// Counts one.
  mutating func count(_ channel: Digest32, _ client: ClientAddress, at clock: Int64) {
    total = clock &- total.since < Self.second ? (total.since, total.count + 1) : (clock, 1)
    let pair = Pair(channel: channel, client: client.limitKey)
    if let known = counts[pair], clock &- known.since < Self.second {
      counts[pair] = (known.since, known.count + 1)
      return
    }
    if counts.count >= Self.pairLimit { counts.removeAll(keepingCapacity: true) }
    counts[pair] = (clock, 1)
  }
}
