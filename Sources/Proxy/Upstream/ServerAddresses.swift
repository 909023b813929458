import IO

/// The addresses of one server, and which of them the next connection is opened to: all of one family in turn.
///
/// One that failed is left out for a while. The other family's are used when all of the first's have failed, and from then on: where
/// `localhost` is ::1 and 127.0.0.1, and the server listens on one of them, the other is not tried again and again.
struct ServerAddresses {
  /// How long an address is left out that could not be connected to, nanoseconds.
  static let rest: Int64 = 10_000_000_000

  /// As they were found.
  private(set) var all: [SocketAddress]
  /// Until when each is left out, monotonic nanoseconds.
  private var restsUntil: [Int64]
  /// Which one was taken last.
  private var turn: Int
  private var family: SocketAddress.Family

  /// Begins with the first address, or one of its family's others by the seed, so that workers do not all begin with the same.
  init(_ all: [SocketAddress], seed: UInt64 = 0) {
    self.all = all
    restsUntil = all.map { _ in .min }
    turn = max(0, all.count - 1)
    family = all.first?.family ?? .inet
    let alike = all.count { $0.family == all[0].family }
    for _ in 0..<(seed % UInt64(max(1, alike))) { _ = next(at: .max) }
  }

  /// Takes what a look-up has found; what is known of addresses that stay is kept.
  mutating func adopt(_ found: [SocketAddress]) {
    if all.isEmpty, let first = found.first { family = first.family }
    let known = Dictionary(zip(all, restsUntil), uniquingKeysWith: max)
    restsUntil = found.map { known[$0] ?? .min }
    all = found
    turn = found.isEmpty ? 0 : turn % found.count
  }

  /// Takes the address for the next connection; nil where none is known.
  mutating func next(at now: Int64) -> SocketAddress? {
    guard !all.isEmpty else { return nil }
    turn = place(of: family, at: now) ?? place(of: nil, at: now) ?? (turn + 1) % all.count
    family = all[turn].family
    return all[turn]
  }

  /// Finds the next one in turn that is not left out.
  private func place(of family: SocketAddress.Family?, at now: Int64) -> Int? {
    for step in 1...all.count {
      let place = (turn + step) % all.count
      if restsUntil[place] <= now, family == nil || all[place].family == family { return place }
    }
    return nil
  }

  /// A connect to an address has failed.
  mutating func failed(_ address: SocketAddress, at now: Int64) {
    guard let place = all.firstIndex(of: address) else { return }
    restsUntil[place] = now &+ Self.rest
  }
}
