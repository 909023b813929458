import Bytes
import HTTP
import Synchronization

/// Remembers from which client's address each channel's payer has shown himself last: by what he has signed and nobody else can have. In memory
/// only: after a restart nobody is known.
final class PayerPlaces: Sendable {
  /// The most channels; where there are more, all are forgotten.
  static let limit = 65_536

  private let places = Mutex<[Digest32: ClientAddress]>([:])

  /// A channel's payer has shown himself. An IPv6 customer's addresses are one.
  func note(_ channel: Digest32, _ client: ClientAddress) {
    places.withLock { places in
      if places[channel] == nil, places.count >= Self.limit { places = [:] }
      places[channel] = client.limitKey
    }
  }

  /// Whether a channel's payer has shown himself from here last.
  func isLast(_ channel: Digest32, _ client: ClientAddress) -> Bool { places.withLock { $0[channel] == client.limitKey } }
}
