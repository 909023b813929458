import Bytes
import Encoding
import Gateway
import HTTP
import IO
import Ledger

extension Worker {
  /// Begins with a request whose head is complete at the front of `octets`; returns how many of them are used up.
  mutating func beginRequest(_ index: Int, _ octets: UnsafeRawBufferPointer) -> Int {
    let connection = downstreams.pointer(index)
    let head = requestHead
    let headCount = head.pointee.byteCount
    metrics.requests.add()
    connection.pointee.requestCount &+= 1
    connection.pointee.method = head.pointee.method
    connection.pointee.minorVersion = head.pointee.minorVersion
    connection.pointee.attempt = 0
    connection.pointee.interimCount = 0
    connection.pointee.tried = []
    connection.pointee.mcp = nil
    if !connection.pointee.freeRequests.isEmpty { connection.pointee.freeRequests = [] }
    connection.pointee.since = now
    connection.pointee.contentCount = 0
    connection.pointee.contentSent = 0
    connection.pointee.progress = ContentProgress(head.pointee.framing)
    if connection.pointee.transport == .stream {
      streamContent(index)
    } else if connection.pointee.progress == .chunked {
      connection.pointee.decoder.reset()
    }
    var flags = connection.pointee.flags
    if !head.pointee.keepAlive || endsConnection(index) || connection.pointee.requestCount >= plan.requestLimit { flags.insert(.closing) }
    if head.pointee.expectsContinue, octets.count == headCount { flags.insert(.expectsContinue) }
    if head.pointee.acceptsTrailers { flags.insert(.acceptsTrailers) }
    connection.pointee.flags = flags
    connection.pointee.client = connection.pointee.peer
    if !plan.trustedProxies.isEmpty {
      connection.pointee.client = Forwarded.client(
        peer: connection.pointee.peer, head: head.pointee, octets: octets, trusted: plan.trustedProxies)
    }
    beginAccess(index, UnsafeRawBufferPointer(rebasing: octets[..<headCount]))
    route(index, UnsafeRawBufferPointer(rebasing: octets[..<headCount]))
    return connection.pointee.state == .closed ? octets.count : headCount
  }

  /// Finds what the request is for. `octets` is the head.
  mutating func route(_ index: Int, _ octets: UnsafeRawBufferPointer) {
    let head = requestHead
    let raw = UnsafeRawBufferPointer(rebasing: octets[head.pointee.pathRange])
    if downstreams.pointer(index).pointee.has(.redirects) { return redirect(index, raw) }
    if head.pointee.targetForm == .asterisk { return answerAsterisk(index) }
    target.removeAll()
    let canonical: CanonicalTarget
    do {
      canonical = try CanonicalTarget.canonicalise(raw, into: &target)
    } catch {
      downstreams.pointer(index).pointee.flags.insert(.closing)
      return fail(index, .malformed(error))
    }
    // Safe because: `target` is not touched again before the next request's routing.
    let base = canonical.isUnchanged ? raw : target.withUnsafeBytes { $0 }
    let path = UnsafeRawBufferPointer(rebasing: base[canonical.path])
    let query = canonical.query.map { UnsafeRawBufferPointer(rebasing: base[$0]) }
    let whole = UnsafeRawBufferPointer(rebasing: base[canonical.range])
    if OwnPath.mayBe(path), answerOwnPath(index, octets, path, query) { return }
    let host = UnsafeRawBufferPointer(rebasing: octets[head.pointee.hostNameRange])
    switch plan.router.match(host: host, path: path, method: head.pointee.method) {
    case .none:
      if let refused = refusedByAddress(index) { return answer(index, refused) }
      fail(index, .noRoute)
    case .methodNotAllowed(let route, let allowed):
      // A preflight asks for a method that the route may have; the cashier answers it where CORS is configured.
      if head.pointee.method == .options, head.pointee.has(.accessControlRequestMethod), plan.routes[Int(route)].isPriced {
        return admit(index, route, octets, path, query, whole, host)
      }
      // A session is managed on its route's URL by any method, known to the route or not.
      if plan.routes[Int(route)].isPriced, carriesCredential(octets), cashier.manages(paidRequest(index, route, octets, path, query)) {
        return admit(index, route, octets, path, query, whole, host)
      }
      if let refused = refusedByAddress(index) { return answer(index, refused) }
      fail(index, .methodNotAllowed(allowed))
    case .route(let route): admit(index, route, octets, path, query, whole, host)
    }
  }

  /// Asks the cashier about a priced route, and goes on with a free one.
  private mutating func admit(
    _ index: Int, _ route: RouteIndex, _ octets: UnsafeRawBufferPointer, _ path: UnsafeRawBufferPointer,
    _ query: UnsafeRawBufferPointer?, _ whole: UnsafeRawBufferPointer, _ host: UnsafeRawBufferPointer
  ) {
    let connection = downstreams.pointer(index)
    connection.pointee.route = route
    noteRoute(index, route)
    if carriesCredential(octets) { connection.pointee.flags.insert(.carriesCredential) }
    if plan.routes[Int(route)].tellsGRPC, connection.pointee.transport == .stream, GRPCAnswer.isAsked(by: requestHead.pointee, octets) {
      connection.pointee.flags.insert(.grpc)
    }
    if case .length(let count) = connection.pointee.progress, count > plan.routes[Int(route)].contentLimit {
      return fail(index, .contentTooLarge)
    }
    if requestHead.pointee.has(.upgrade) || connection.pointee.tunnel >= 0, let refused = prepareUpgrade(index, octets) {
      return answer(index, refused)
    }
    if var refused = refusedByAddress(index) {
      refused.fields += cashier.corsLines(paidRequest(index, route, octets, path, query))
      return answer(index, refused)
    }
    if let mcp = plan.routes[Int(route)].mcp {
      return admitMessages(index, mcp, Asked(octets: octets, path: path, query: query, whole: whole))
    }
    guard plan.routes[Int(route)].isPriced else {
      if let refused = refusedWithoutUpgrade(index) ?? refusedByRoute(index) { return answer(index, refused) }
      return forward(index, octets, whole)
    }
    let request = paidRequest(index, route, octets, path, query)
    if let refused = refusedWithoutUpgrade(index), !cashier.manages(request) { return answer(index, refused) }
    // What cannot be served is refused before anybody pays for it; sessions are managed and pages are told all the same.
    if let refusal = refusal(of: route), !requestHead.pointee.has(.accessControlRequestMethod), !cashier.manages(request) {
      var reply = refusal.answer()
      reply.fields += cashier.corsLines(request)
      return answer(index, reply)
    }
    switch cashier.admit(request, at: wall) {
    case .free:
      connection.pointee.freeRequests = cashier.takeFreeRequests()
      if let refused = refusedByRoute(index) {
        returnFreeRequests(index)
        return answer(index, refused)
      }
      forward(index, octets, whole)
    case .answer(let reply): answer(index, reply)
    case .pending(let pending): awaitOthers(index, pending)
    case .collectBody(let limit): startCollecting(index, octets, limit: limit)
    case .awaitPrice(let question): awaitPrice(index, octets, question)
    case .awaitSettlement(let order): awaitSettlement(index, octets, order)
    case .paid(let exchange):
      connection.pointee.exchange = exchange
      connection.pointee.flags.insert(.paid)
      paidCount += 1
      metrics.requestsPaid.add()
      if exchange.changesContent { changeContent(index) }
      forward(index, octets, whole)
    }
  }

  /// 429 where the client asks too often. A request counts once, also where it is looked at again with its content.
  @inline(__always)
  mutating func refusedByAddress(_ index: Int) -> Answer? {
    let connection = downstreams.pointer(index)
    guard !connection.pointee.has(.collected), cashier.offered == nil else { return nil }
    return cashier.refusedByAddress(connection.pointee.client, at: Instant(nanoseconds: now))
  }

  /// 429 where a request that costs nothing comes beyond its route's rate; the cashier looks at it for those that pay. A batch counts as
  /// many times as it has calls.
  mutating func refusedByRoute(_ index: Int, count: Int = 1) -> Answer? {
    guard let rate = plan.routes[Int(downstreams.pointer(index).pointee.route)].rate else { return nil }
    return cashier.refusedByService(wallet: nil, session: nil, rate: rate, count: UInt32(clamping: count), at: Instant(nanoseconds: now))
  }

  /// The upstream has not served what an address had free: it has it again.
  mutating func returnFreeRequests(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard !connection.pointee.freeRequests.isEmpty else { return }
    cashier.giveBack(connection.pointee.freeRequests)
    connection.pointee.freeRequests = []
  }

  /// Describes the request to the cashier.
  func paidRequest(
    _ index: Int, _ route: RouteIndex?, _ octets: UnsafeRawBufferPointer, _ path: UnsafeRawBufferPointer,
    _ query: UnsafeRawBufferPointer?
  ) -> PaidRequest {
    let connection = downstreams.pointer(index)
    let content: RequestContent
    if connection.pointee.has(.collected) {
      content = .buffered(connection.pointee.collected.withUnsafeBytes { $0 })
    } else {
      switch connection.pointee.progress {
      case .complete: content = .none
      case .length(let count): content = .streaming(length: count)
      case .chunked, .untilClose, .stream: content = .streaming(length: nil)
      }
    }
    return PaidRequest(
      octets: octets, head: UnsafePointer(requestHead), route: route,
      host: UnsafeRawBufferPointer(rebasing: octets[requestHead.pointee.hostRange]), path: path, query: query,
      content: content, client: connection.pointee.client, monotonic: Instant(nanoseconds: now), isUpgrade: connection.pointee.tunnel >= 0)
  }

  private func carriesCredential(_ octets: UnsafeRawBufferPointer) -> Bool {
    let present = requestHead.pointee.present
    guard present.has(.authorization) || !present.isDisjoint(with: .payment) else { return false }
    if present.has(.paymentAuthorization) || present.has(.prepaidSession) || present.has(.signInWithX) { return true }
    for field in requestHead.pointee.fields where field.name == .authorization {
      if PaymentScheme.occurs(in: field.value(in: octets)) { return true }
    }
    return false
  }

  // MARK: Content for the cashier

  /// Keeps the head, and collects the content before the cashier is asked again.
  mutating func startCollecting(_ index: Int, _ octets: UnsafeRawBufferPointer, limit: Int) {
    let connection = downstreams.pointer(index)
    if case .length(let count) = connection.pointee.progress, count > UInt64(max(0, limit)) {
      return fail(index, .contentTooLarge)
    }
    if connection.pointee.keptHead.withUnsafeBytes({ $0.baseAddress != octets.baseAddress }) {
      connection.pointee.keptHead.removeAll()
      connection.pointee.keptHead.append(octets)
    }
    releaseCollected(index)
    connection.pointee.collectLimit = limit
    connection.pointee.state = .content
    if connection.pointee.progress == .complete { return contentCollected(index) }
    if connection.pointee.has(.expectsContinue) {
      connection.pointee.flags.remove(.expectsContinue)
      outgoing.append(Status.continueLine)
      markHead(index)
      transmit(index)
      guard connection.pointee.state == .content else { return }
    }
    setDeadline(index, now &+ plan.timeouts.bodyIdle)
  }

  /// Adds to the collected content.
  mutating func collectContent(_ index: Int, _ octets: UnsafeMutableRawBufferPointer) -> Int {
    let connection = downstreams.pointer(index)
    let used: Int
    let content: Range<Int>
    do {
      (used, content) = try Self.takeContent(&connection.pointee.progress, &connection.pointee.decoder, octets)
    } catch {
      connection.pointee.flags.insert(.closing)
      fail(index, .malformed(error))
      return octets.count
    }
    guard connection.pointee.collected.count + content.count <= connection.pointee.collectLimit else {
      fail(index, .contentTooLarge)
      return used
    }
    let decision = collected.keep(
      content.count, of: connection.pointee.client, own: connection.pointee.collected.count, clientLimit: plan.collectedPerClient)
    switch decision {
    case .kept: connection.pointee.collected.append(UnsafeRawBufferPointer(rebasing: octets[content]))
    case .full:
      fail(index, .contentMemoryUsed)
      return used
    case .clientFull:
      fail(index, .clientContentUsed)
      return used
    }
    metrics.octetsCollected.set(UInt64(collected.count))
    if connection.pointee.progress == .complete {
      contentCollected(index)
    } else {
      setDeadline(index, contentDeadline(index))
    }
    return used
  }

  /// Has the cashier change the content that was collected for it.
  private mutating func changeContent(_ index: Int) {
    let connection = downstreams.pointer(index)
    let before = connection.pointee.collected.count
    cashier.changeContent(of: connection.pointee.exchange, &connection.pointee.collected)
    collected.change(from: before, to: connection.pointee.collected.count, of: connection.pointee.client)
  }

  /// Gives the memory of collected content back.
  mutating func releaseCollected(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard !connection.pointee.collected.isEmpty else { return connection.pointee.collected.release() }
    collected.release(connection.pointee.collected.count, of: connection.pointee.client)
    metrics.octetsCollected.set(UInt64(collected.count))
    connection.pointee.collected.release()
  }

  /// Asks the cashier again, now with the content.
  mutating func contentCollected(_ index: Int) {
    let connection = downstreams.pointer(index)
    connection.pointee.flags.insert(.collected)
    // Safe because: `keptHead` is not changed before the next request of this connection.
    let octets = connection.pointee.keptHead.withUnsafeBytes { $0 }
    requestHead.pointee.reset()
    // It was complete and valid before, so it is again.
    guard (try? RequestDecoder.decode(octets, limits: plan.headLimits, into: &requestHead.pointee)) == true else {
      return fail(index, .malformed(.requestLineInvalid(at: 0)))
    }
    if connection.pointee.transport == .stream, !connection.pointee.collected.isEmpty { requestHead.pointee.declareContent() }
    route(index, octets)
  }

  /// When request content must have gone on: the idle time, shortened where it comes slower than the least rate.
  func contentDeadline(_ index: Int) -> Int64 {
    let connection = downstreams.pointer(index)
    let idle = now &+ plan.timeouts.bodyIdle
    guard plan.timeouts.bodyMinimumRate > 0 else { return idle }
    // What has come so far paid for this much time beyond the grace period.
    let earned = min(connection.pointee.contentCount / UInt64(plan.timeouts.bodyMinimumRate), 1 << 30)
    let bound = connection.pointee.since &+ plan.timeouts.bodyMinimumRateAfter &+ Int64(earned) &* 1_000_000_000
    return min(idle, bound)
  }

  // MARK: Answers that wait for others

  mutating func awaitOthers(_ index: Int, _ pending: PendingAnswer) {
    let connection = downstreams.pointer(index)
    connection.pointee.pending = pending
    connection.pointee.state = .pendingAnswer
    setDeadline(index, .max)
    makeWaiting(index)
  }
}
