import HTTP

/// Counts the request content that a worker keeps for its cashier, all together and by client: nobody is known as a payer before content
/// is looked at, so one client must not fill what all of them share.
struct CollectedContent {
  /// Whether more may be kept.
  enum Decision: Equatable {
    case kept
    /// The worker keeps as much as it may, whoever it is for.
    case full
    /// The client has as much here as it may have.
    case clientFull
  }

  /// The most octets of all clients together: one of the longest that a route may collect.
  static let limit = 64 << 20

  private(set) var count = 0
  /// By what limits are counted by; only clients of whom something is kept.
  private var counts: [ClientAddress: Int] = [:]

  /// Keeps `added` octets more of a request of which `own` are kept already.
  ///
  /// The only request of a client may be as long as its route allows; several share `clientLimit`. Clients without an address, such as
  /// those of Unix sockets, share only what everybody shares.
  mutating func keep(_ added: Int, of client: ClientAddress, own: Int, clientLimit: Int) -> Decision {
    guard added > 0 else { return .kept }
    guard count + added <= Self.limit else { return .full }
    if client != .none {
      let known = counts[client.limitKey, default: 0]
      guard known == own || known + added <= clientLimit else { return .clientFull }
      counts[client.limitKey] = known + added
    }
    count += added
    return .kept
  }

  /// Forgets octets that are not kept any more.
  mutating func release(_ removed: Int, of client: ClientAddress) {
    guard removed > 0 else { return }
    count -= removed
    guard client != .none, let known = counts[client.limitKey] else { return }
    counts[client.limitKey] = known > removed ? known - removed : nil
  }

  /// Counts content that was changed while it was kept: what pays for it is known, so no limit is asked.
  mutating func change(from old: Int, to new: Int, of client: ClientAddress) {
    release(old, of: client)
    count += new
    guard client != .none, new > 0 else { return }
    counts[client.limitKey, default: 0] += new
  }
}
