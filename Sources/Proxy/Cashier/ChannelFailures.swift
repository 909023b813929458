import Bytes

/// Counts, by channel, the vouchers whose signatures did not verify in the last second: checking one is what costs us most, and a channel's id
/// is everybody's to know.
struct ChannelFailures: ~Copyable {
  /// Most failures of one channel in a second (drafts, "Denial of Service").
  static let limit = 10
  /// Channels that are counted at once; all are forgotten where there are more.
  private static let channelLimit = 1_024
  private static let second: Int64 = 1_000_000_000

  private var counts: [Digest32: (since: Int64, count: Int)] = [:]

  /// Whether no further voucher of the channel is looked at for now.
  func isFull(_ channel: Digest32, at clock: Int64) -> Bool {
    guard let known = counts[channel], clock &- known.since < Self.second else { return false }
    return known.count >= Self.limit
  }

  /// Counts one.
  mutating func count(_ channel: Digest32, at clock: Int64) {
    if let known = counts[channel], clock &- known.since < Self.second {
      counts[channel] = (known.since, known.count + 1)
      return
    }
    if counts.count >= Self.channelLimit { counts.removeAll(keepingCapacity: true) }
    counts[channel] = (clock, 1)
  }
}
