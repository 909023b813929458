import Bytes
import HTTP

/// Counts, by channel and client, the vouchers whose signatures did not verify in the last second: checking one is what costs us most. A
/// channel's id is everybody's to know, so that what strangers send is not held against its payer.
struct ChannelFailures: ~Copyable {
  /// Most failures of one client with one channel in a second (drafts, "Denial of Service").
  static let limit = 10
  /// Most failures of one client with all channels in a second; nobody else is held up by it.
  static let clientLimit = 50
  /// Channels and clients that are counted at once; all are forgotten where there are more.
  private static let pairLimit = 1_024
  private static let second: Int64 = 1_000_000_000

  private struct Pair: Hashable {
    let channel: Digest32
    let client: ClientAddress
  }

  private var counts: [Pair: (since: Int64, count: Int)] = [:]
  private var clients: [ClientAddress: (since: Int64, count: Int)] = [:]

  /// Whether no further voucher of the channel is looked at for a client for now.
  func isFull(_ channel: Digest32, _ client: ClientAddress, at clock: Int64) -> Bool {
    if let known = clients[client.limitKey], clock &- known.since < Self.second, known.count >= Self.clientLimit { return true }
    guard let known = counts[Pair(channel: channel, client: client.limitKey)], clock &- known.since < Self.second else { return false }
    return known.count >= Self.limit
  }

  /// Counts one.
  mutating func count(_ channel: Digest32, _ client: ClientAddress, at clock: Int64) {
    Self.count(client.limitKey, in: &clients, at: clock)
    Self.count(Pair(channel: channel, client: client.limitKey), in: &counts, at: clock)
  }

  private static func count<Key>(_ key: Key, in counts: inout [Key: (since: Int64, count: Int)], at clock: Int64) {
    if let known = counts[key], clock &- known.since < second {
      counts[key] = (known.since, known.count + 1)
      return
    }
    if counts.count >= pairLimit { counts.removeAll(keepingCapacity: true) }
    counts[key] = (clock, 1)
  }
}
