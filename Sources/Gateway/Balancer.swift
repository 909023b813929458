/// Chooses the server for each request among those that can be used. It neither connects nor knows why one cannot.
///
/// Each worker has its own, so what is in flight is what this worker has in flight; with a seed of its own, workers
/// do not all begin with the same server.
public struct Balancer: ~Copyable {
  /// How servers are chosen.
  public enum Policy: Sendable, Hashable {
    /// In turn: a server of weight 3 gets three of four beside one of weight 1, and not three in a row.
    case roundRobin
    /// The one with the fewest requests in flight for its weight; in turn among equals.
    case leastConnections
    /// By the key: the same one each time, and the same one in every worker and every proxy that knows it by the same
    /// identity, as long as it can be used. When one leaves, for a while or for good, only its keys move.
    case hash
  }

  private struct Server {
    var weight: Int
    /// What its draws depend on.
    let identity: UInt64
    /// What it is owed in turns: grows by its weight, falls by the sum of all when it is chosen.
    var credit = 0
    var inFlight = 0
  }

  private let policy: Policy
  private var servers: [Server]

  /// Makes a balancer; a server of weight 0 is never chosen.
  ///
  /// - Parameter identities: what ``Policy/hash`` knows each server by, wherever it stands among the others; nil: its place.
  public init(policy: Policy, weights: [Int], identities: [UInt64]? = nil, seed: UInt64 = 0) {
    precondition(weights.count <= ServerSet.limit && identities.map { $0.count == weights.count } ?? true)
    self.policy = policy
    servers = weights.enumerated().map { Server(weight: max(0, $1), identity: identities?[$0] ?? UInt64($0) &+ 1) }
    let all = ServerSet(first: servers.count)
    for _ in 0..<(seed % UInt64(max(1, servers.count))) { _ = inTurn(all) }
  }

  /// Requests that were begun at the server and not ended.
  public func inFlight(_ server: Int) -> Int { servers[server].inFlight }

  /// Chooses a server; nil where none of `usable` has a weight. `key` is of use to ``Policy/hash`` only.
  public mutating func choose(among usable: ServerSet, key: UInt64) -> Int? {
    switch policy {
    case .roundRobin: inTurn(usable)
    case .leastConnections: inTurn(leastLoaded(usable))
    case .hash: keyed(usable, key)
    }
  }

  /// Counts a request that begins at the server.
  public mutating func began(_ server: Int) { servers[server].inFlight += 1 }

  /// Counts one that ended there.
  public mutating func ended(_ server: Int) { servers[server].inFlight -= 1 }

  private mutating func inTurn(_ usable: ServerSet) -> Int? {
    var rest = usable
    var chosen: Int?
    var sum = 0
    while let server = rest.popFirst() {
      guard server < servers.count, servers[server].weight > 0 else { continue }
      sum += servers[server].weight
      servers[server].credit += servers[server].weight
      if chosen.map({ servers[$0].credit < servers[server].credit }) ?? true { chosen = server }
    }
    if let chosen { servers[chosen].credit -= sum }
    return chosen
  }

  private func leastLoaded(_ usable: ServerSet) -> ServerSet {
    var rest = usable
    var least: ServerSet = []
    var load = (inFlight: 0, weight: 0)
    while let server = rest.popFirst() {
      guard server < servers.count, servers[server].weight > 0 else { continue }
      let here = (inFlight: servers[server].inFlight + 1, weight: servers[server].weight)
      // Both loads by weight, multiplied out.
      let (left, right) = (here.inFlight * load.weight, load.inFlight * here.weight)
      if least.isEmpty || left < right {
        least = ServerSet(server: server)
        load = here
      } else if left == right {
        least.insert(ServerSet(server: server))
      }
    }
    return least
  }

  // MARK: By key

  /// Rendezvous hashing: every server draws a number by the key, stretched by its weight, and the lowest wins. A
  /// server's draw depends on nothing but itself, so the others' keys stay where they are when it comes or goes.
  private func keyed(_ usable: ServerSet, _ key: UInt64) -> Int? {
    var rest = usable
    var chosen: Int?
    var lowest = UInt64.max
    while let server = rest.popFirst() {
      guard server < servers.count, servers[server].weight > 0 else { continue }
      let draw = Self.exponential(Self.mixed(key ^ Self.mixed(servers[server].identity))) / UInt64(servers[server].weight)
      if chosen == nil || draw < lowest {
        chosen = server
        lowest = draw
      }
    }
    return chosen
  }

  /// Gives -log2 of `uniform` as a fraction of 2^64, in units of 2^-50: exponentially distributed, as weights need it.
  ///
  /// The logarithm between two powers of two is approximated by x + 0.3432 · x · (1 - x), less than 0.008 off; how keys
  /// are shared out by weight depends on it by less than a hundredth, and which server a key has is the same anywhere.
  static func exponential(_ uniform: UInt64) -> UInt64 {
    let value = uniform | 1
    let zeros = UInt64(value.leadingZeroBitCount)
    // The bits behind the leading one, as a fraction of 2^32.
    let fraction = zeros >= 63 ? 0 : (value << (zeros + 1)) >> 32
    let curve = (fraction * ((1 << 32) - fraction)) >> 32
    let logarithm = fraction + (curve * 1_474_032_894) >> 32
    // From the octave's upper end down, so that the whole is never below zero.
    return (zeros + 1) << 50 - min(logarithm, 1 << 32) << 18
  }

  /// Mixes a number so that every bit of the result depends on every bit of it.
  static func mixed(_ value: UInt64) -> UInt64 {
    var mixed = value &+ 0x9E37_79B9_7F4A_7C15
    mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
    return mixed ^ mixed >> 31
  }
}

/// Makes the number by which a request is hashed to a server.
public enum BalanceKey {
  /// Hashes octets, eight at a time. The same for the same octets in every process, so that a server keeps its keys over
  /// restarts and in every proxy that stands before the same servers.
  public static func hash(_ octets: UnsafeRawBufferPointer) -> UInt64 {
    let bytes = octets.bytes
    var hash = Balancer.mixed(UInt64(bytes.byteCount))
    var index = 0
    while index &+ 8 <= bytes.byteCount {
      hash = Balancer.mixed(hash ^ bytes.word(index))
      index &+= 8
    }
    var rest: UInt64 = 0
    while index < bytes.byteCount {
      rest = rest << 8 | UInt64(bytes.octet(index))
      index &+= 1
    }
    return Balancer.mixed(hash ^ rest)
  }

  /// Hashes two halves of an address or of another number that clients choose.
  public static func hash(_ high: UInt64, _ low: UInt64) -> UInt64 { Balancer.mixed(Balancer.mixed(high) ^ low) }
}
