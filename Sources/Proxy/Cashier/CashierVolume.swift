import Encoding
import Gateway
import Ledger
import Metering

// Requests that are free, or cost less, by how many were asked for before.
extension Cashier {
  /// Debits a session's request at what it costs its wallet now.
  ///
  /// It is counted before it is debited: of two at once only one gets the last free request, and whatever a crash leaves of the debit, the
  /// count stands before it. A request that costs nothing in the end is not counted.
  mutating func beginByVolume(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ session: ResolvedSession, key: OutcomeKey?, at now: Timestamp
  ) throws(Refusal) -> PaidExchange {
    guard let route = routes[Int(index)], route.countsWallets, let plan = route.volume, let ledger else {
      return try begin(request, index, session, key: key, at: now)
    }
    var counted: [CountedVolume] = []
    do throws(Refusal) {
      let free = isOverFree(index) ? nil : try plan.takeFree(of: session.wallet, from: ledger, at: now)
      if let free { counted.append(free) }
      let volume = try plan.count(of: session.wallet, in: ledger, at: now)
      if let volume { counted.append(volume) }
      var price = session.price
      if free != nil {
        price = .free(session.price.currency)
      } else if let volume, session.price.version == route.price.version {
        // A session that was opened at another price goes on at that.
        price = plan.price(at: volume.position) ?? price
      }
      let exchange = try begin(request, index, price == session.price ? session : session.at(price), key: key, at: now)
      exchanges[exchange.place].counted = counted
      return exchange
    } catch {
      for volume in counted { ledger.uncount(volume, at: now) }
      throw error
    }
  }

  /// Takes back what was counted for an exchange that costs nothing.
  mutating func uncount(_ place: UInt32, at now: Timestamp) {
    guard let ledger, !exchanges[place].counted.isEmpty else { return }
    for volume in exchanges[place].counted { ledger.uncount(volume, at: now) }
    exchanges[place].counted.removeAll()
  }

  /// Whether the request that was read asks for more output than is given away at once: nothing is held for what is free.
  private func isOverFree(_ index: RouteIndex) -> Bool {
    guard let facts, let usage = routes[Int(index)]?.usage else { return false }
    return facts.heldOutput > usage.defaultOutputTokens
  }

  /// Whether a request without a credential is one of those that its client's address has free; it was read, where it had to be.
  mutating func isFreeForAddress(_ request: borrowing PaidRequest, _ index: RouteIndex, at now: Timestamp) -> Bool {
    guard let plan = routes[Int(index)]?.volume, let free = plan.address else { return false }
    defer { facts = nil }
    guard !isOverFree(index) else { return false }
    guard let counted = addressVolumes.take(plan.addressScope, request.client, free.period, below: free.count, at: now) else { return false }
    freeRequests.append(counted)
    return true
  }

  /// Hands over the free requests of the address that were counted for the request that was decided about.
  mutating func takeFreeRequests() -> [AddressVolumes.Counted] {
    guard !freeRequests.isEmpty else { return [] }
    defer { freeRequests.removeAll() }
    return freeRequests
  }

  /// Gives free requests back to their address: the upstream has not served them.
  func giveBack(_ counted: [AddressVolumes.Counted]) { for request in counted { addressVolumes.giveBack(request) } }

  /// Whether a status says that a request on the route was served.
  func isServed(_ index: RouteIndex, status: UInt16) -> Bool {
    Int(index) < routes.count ? routes[Int(index)]?.chargeStatus.contains(status) ?? (200...299).contains(status) : true
  }

  /// Reads a request without a credential where that decides whether it is free; nil where it may go on.
  mutating func readForAddress(_ request: borrowing PaidRequest, _ index: RouteIndex) -> Verdict? {
    guard routes[Int(index)]?.volume?.address != nil, routes[Int(index)]?.readsContent == true else { return nil }
    if case .streaming = request.content, let refused = refusedUnread(request, index) { return .answer(refused) }
    return read(request, index)
  }
}
