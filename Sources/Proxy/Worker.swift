import Bytes
import Encoding
import Gateway
import HTTP
import IO
import Ledger
import TLS

/// One event loop: its connections, upstream pools and timers, shared with nobody.
///
/// It is a struct without copies whose methods change it in place, and connections are structs at fixed addresses in
/// slabs: a class's exclusivity checks would cost a third more instructions a request. A connection that is closed
/// keeps its place until the end of the turn, so pointers stay valid throughout one.
struct Worker: ~Copyable {
  /// Which kind of thing a readiness report is about; with index and generation it makes the token.
  enum Source: UInt64 {
    case downstream = 0
    case upstream = 1
    case listener = 2
    case waker = 3
  }

  /// Connections of one side that a worker has places for at least; a place takes memory once it is used.
  static let connectionPlaces = 1 << 17
  /// Listeners that a worker has places for.
  static let listenerPlaces = 1024
  /// Reads of one connection in one turn before others get theirs.
  static let readsPerTurn = 4

  var plan: RelayPlan
  let metrics: WorkerMetrics
  let control: WorkerControl
  let ledger: Ledger?
  var cashier: Cashier

  let epoll: Epoll
  var wheel: TimerWheel
  var downstreams: Slab<DownstreamConnection>
  var upstreams: Slab<UpstreamConnection>
  var tunnels: Slab<Tunnel>
  var listeners: Slab<Listener>
  /// The place of each listener, by its number.
  var listenerPlaces: [Int: [Int]] = [:]
  /// The number of the listener at each place.
  var listenerNumbers: [Int32] = []
  var secureSockets: Slab<SecureSocket>
  var sessions: Slab<ClientSession>
  var serverSessions: Slab<ServerSession>
  /// What is known of servers that may speak HTTP/2.
  var multiplexes: [Multiplex] = []
  /// Servers whose waiting requests are looked at when the turn ends.
  var unserved: [Int] = []
  /// Connections of clients; streams have places beside them.
  var clientCount = 0
  /// The connections to each server.
  var pools: Slab<UpstreamPool>
  /// Which server of each upstream serves which request.
  var balancers: Slab<Balancer>
  /// How many requests of each upstream may be sent anew.
  var budgets: [RetryBudget] = []
  /// The addresses of each server.
  var addresses: [ServerAddresses] = []
  /// Places at servers that requests which waited may open connections for: filled and worked off within one step.
  var freedPlaces: [(ticket: UInt64, server: Int)] = []

  // Safe because: allocated in init, freed in deinit, and used by this worker's thread alone. What a receive puts
  // into `received` is used up before the next receive, since nothing receives but the top of an event's handling.
  let received: UnsafeMutableRawBufferPointer
  let ciphertext: UnsafeMutableRawBufferPointer
  let requestHead: UnsafeMutablePointer<RequestHead>
  let responseHead: UnsafeMutablePointer<ResponseHead>
  /// What spliced content passes through, and the places of those that no connection has.
  var pipes = Slab<SplicePipe>(limit: Worker.pipeLimit)
  var idlePipes: [Int32] = []
  /// Whether the system moves octets from socket to socket.
  var areSpliced = true
  /// When pipes are asked for again, after the system gave none.
  var pipesAgainAt: Int64 = 0
  /// What is about to be sent to one client: filled and emptied within one step.
  var outgoing = ByteBuffer(capacity: 80 << 10)
  /// Records of TLS that were made and not sent: filled and emptied within one step.
  var sealed = ByteBuffer()
  /// A canonical path and query that differ from what was sent.
  var target = ByteBuffer(capacity: 1024)
  /// Response fields of the cashier's.
  var fields = ByteBuffer(capacity: 2048)
  /// What may leave of content that is paid for portion by portion.
  var portions = ByteBuffer()
  /// Decoding states of heads that are incomplete, by downstream index.
  var partialRequests: [Int: RequestHead] = [:]

  /// Connections to look at again in this turn: downstream indices, and upstream ones as their complement.
  var ready: [Int] = []
  /// Downstream connections that wait for the disk, a grant or another exchange.
  var waiting: [Int] = []
  /// Connections whose sessions have something to say when the turn ends: clients', and upstreams' as their complement.
  var unflushed: [Int] = []
  var unflushedNow: [Int] = []
  /// Places to free at the end of the turn.
  var closedDownstreams: [Int] = []
  var closedUpstreams: [Int] = []
  var expired: [Int] = []

  /// Monotonic nanoseconds and the wall clock, read once a turn.
  var now: Int64
  var wall: Timestamp
  var date = HTTPDate()
  /// The ledger's state at the last turn.
  var seenChanges: UInt64 = 0
  var seenDurable: LSN = 0
  /// When answers that wait for others were asked for last.
  var lastPoll: Int64 = 0
  var waitingNow: [Int] = []
  var readyNow: [Int] = []
  var epoch: UInt32 = 0
  /// Exchanges that are paid and not at their end.
  var paidCount = 0
  /// Request content that connections keep for the cashier.
  var collected = CollectedContent()
  /// What is kept of answers of MCP endpoints.
  let messageMemory: MCPMemory
  /// What connections wait for whose price was asked for, by their places; and how many have.
  var priceTickets: [Int: PriceTicket] = [:]
  /// What connections wait for whose payment settles on a chain.
  var paymentTickets: [Int: PaymentTicket] = [:]
  var ticketCount: UInt64 = 0

  /// What is gathered for the access log, by the place that a connection names.
  var accessRecords: [AccessRecord] = []
  var vacantAccess: [Int32] = []
  /// Records that are complete, and when they are handed over at the latest.
  var accessBatch = ByteBuffer()
  var accessBatchCount: UInt64 = 0
  var accessFlushAt: Int64 = .max

  var spareDescriptor: Int32?
  /// When to try accepting again, after descriptors ran out or the connection limit was reached.
  var acceptAgainAt: Int64 = .max
  /// When the challenges that were counted are written into the audit log; `max` where none were.
  private var reportChallengesAt: Int64 = .max
  var isDraining = false
  /// The process that takes connections over; nil where none does.
  var successor: MessageChannel?
  var drainDeadline: Int64 = .max
  var isStopped = false

  /// Opens the epoll instance of a worker, with its waker in it.
  static func makeEpoll(_ control: WorkerControl) throws(IOError) -> Epoll {
    let epoll = try Epoll()
    try epoll.add(control.waker.descriptor, token: token(.waker, index: 0, generation: 0))
    return epoll
  }

  /// Makes a worker whose listeners are added afterwards.
  init(
    plan: RelayPlan, control: WorkerControl, ledger: Ledger?, cashier: consuming Cashier, addresses: [[SocketAddress]],
    epoll: consuming Epoll
  ) {
    self.plan = plan
    self.control = control
    metrics = control.metrics
    messageMemory = MCPMemory(control.metrics)
    self.ledger = ledger
    self.cashier = cashier
    self.epoll = epoll
    now = Instant.now().nanoseconds
    wall = Timestamp.now()
    wheel = TimerWheel(now: now)
    // The limits of the plan are kept where connections begin; a later plan may have larger ones.
    downstreams = Slab(limit: 2 * max(Self.connectionPlaces, plan.connectionLimit))
    upstreams = Slab(limit: max(Self.connectionPlaces, plan.servers.reduce(0) { $0 + $1.pool.connections }))
    listeners = Slab(limit: Self.listenerPlaces)
    pools = Slab(limit: PlanPlaces.serverLimit)
    balancers = Slab(limit: PlanPlaces.upstreamLimit)
    tunnels = Slab(limit: Self.tunnelPlaces)
    secureSockets = Slab(limit: 2 * Self.connectionPlaces)
    sessions = Slab(limit: Self.connectionPlaces)
    serverSessions = Slab(limit: Self.connectionPlaces)
    received = .allocate(byteCount: RelayPlan.bufferLimit + TLSEngine.slack, alignment: 64)
    ciphertext = .allocate(byteCount: RelayPlan.bufferLimit, alignment: 64)
    requestHead = .allocate(capacity: 1)
    requestHead.initialize(to: RequestHead())
    responseHead = .allocate(capacity: 1)
    responseHead.initialize(to: ResponseHead())
    addServers(addresses)
    spareDescriptor = Syscalls.spareDescriptor()
    epoch = ledger?.epoch ?? 0
    seenChanges = ledger?.changes ?? 0
  }

  deinit {
    received.deallocate()
    ciphertext.deallocate()
    requestHead.deinitialize(count: 1)
    requestHead.deallocate()
    responseHead.deinitialize(count: 1)
    responseHead.deallocate()
    if let spareDescriptor { Syscalls.close(spareDescriptor) }
  }

  @inline(__always)
  static func token(_ source: Source, index: Int, generation: UInt32) -> UInt64 {
    source.rawValue << 62 | UInt64(generation & 0x3fff_ffff) << 32 | UInt64(UInt32(truncatingIfNeeded: index))
  }

  // MARK: The loop

  /// Runs until it is stopped, or has drained.
  mutating func run() {
    while !isStopped { turn() }
    cashier.reportChallenges(at: wall)
    control.adoption.withLock { $0.isEnded = true }
    closeEverything()
    flushAccess(isLast: true)
  }

  private mutating func turn() {
    let count = wait()
    readClocks()
    for report in 0..<count { dispatch(epoll.token(report), epoll.readiness(report)) }
    runReady()
    if control.mailbox.mayHaveMessages { for message in control.mailbox.takeAll() { receive(message) } }
    if wheel.isDue(now: now) { expireTimers() }
    if now >= acceptAgainAt { acceptAgain() }
    if let ledger { followLedger(ledger) }
    reportChallenges()
    serveWaiting()
    flushSessions()
    flushAccess()
    if successor != nil { handOverIdle() }
    buryClosed()
    if isDraining { checkDrained() }
  }

  /// Waits for readiness: not at all while work is listed, and only after telling the ledger while exchanges wait for it.
  private mutating func wait() -> Int {
    if !ready.isEmpty || !unflushed.isEmpty || !unserved.isEmpty { return epoll.wait(milliseconds: 0) }
    if let ledger, !waiting.isEmpty {
      let count = epoll.wait(milliseconds: 0)
      if count > 0 { return count }
      if everybodyWaits { ledger.urge() }
    }
    control.waker.prepareToSleep()
    defer { control.waker.didWake() }
    if let ledger, mustFollow(ledger) || control.mailbox.mayHaveMessages { return epoll.wait(milliseconds: 0) }
    if control.mailbox.mayHaveMessages { return epoll.wait(milliseconds: 0) }
    return epoll.wait(milliseconds: sleepMilliseconds())
  }

  /// Whether no paid exchange is still at its upstream: then the next commit would gather nothing more, and the ones
  /// that wait for the disk should not wait for the ledger's delay as well.
  private var everybodyWaits: Bool {
    var blocked = 0
    for index in waiting where downstreams.isInUse(index) && downstreams.pointer(index).pointee.has(.paid) { blocked += 1 }
    return paidCount <= blocked
  }

  private func sleepMilliseconds() -> Int32 {
    let sleep = wheel.sleepMilliseconds(now: now)
    if accessFlushAt != .max { return min(sleep < 0 ? 50 : sleep, 50) }
    let bound: Int32 = acceptAgainAt != .max || isDraining ? 50 : (paidCount > 0 || !waiting.isEmpty ? 100 : reportMilliseconds())
    if sleep < 0 { return bound }
    return bound < 0 ? sleep : min(sleep, bound)
  }

  /// How long until the challenges are reported that were counted, rounded up; -1 where none were.
  private func reportMilliseconds() -> Int32 {
    guard reportChallengesAt != .max else { return -1 }
    return Int32(clamping: max(0, reportChallengesAt &- now) / 1_000_000 + 1)
  }

  /// Sees that challenges stand in the audit log some time after the first of them, whether or not more come.
  private mutating func reportChallenges() {
    guard reportChallengesAt != .max else {
      if cashier.hasUnreportedChallenges { reportChallengesAt = now &+ plan.timeouts.challengeReport }
      return
    }
    guard now >= reportChallengesAt else { return }
    // What the ledger cannot take now stays counted, and is tried again as late.
    reportChallengesAt = .max
    cashier.reportChallenges(at: wall)
  }

  private mutating func readClocks() {
    now = Instant.now().nanoseconds
    wall = Timestamp.now()
    cashier.clock = now
    date.update(wall)
  }

  private mutating func dispatch(_ token: UInt64, _ readiness: Readiness) {
    let index = Int(UInt32(truncatingIfNeeded: token))
    let generation = UInt32(truncatingIfNeeded: token >> 32) & 0x3fff_ffff
    switch token >> 62 {
    case Source.downstream.rawValue:
      if downstreams.isInUse(index), downstreams.generation(index) & 0x3fff_ffff == generation {
        downstreamReported(index, readiness)
      }
    case Source.upstream.rawValue:
      if upstreams.isInUse(index), upstreams.generation(index) & 0x3fff_ffff == generation {
        upstreamReported(index, readiness)
      }
    case Source.listener.rawValue:
      if listeners.isInUse(index), listeners.generation(index) & 0x3fff_ffff == generation { accept(index) }
    default:
      break
    }
  }

  /// Looks at the connections that were listed, once each; what they list is for the next turn.
  private mutating func runReady() {
    guard !ready.isEmpty else { return }
    swap(&ready, &readyNow)
    for entry in readyNow {
      if entry >= 0 {
        guard downstreams.isInUse(entry) else { continue }
        downstreams.pointer(entry).pointee.flags.remove(.listedReady)
        continueDownstream(entry)
      } else {
        let index = ~entry
        guard upstreams.isInUse(index) else { continue }
        upstreams.pointer(index).pointee.flags.remove(.listedReady)
        if upstreams.pointer(index).pointee.state == .linger { discardUpstream(index) } else { readUpstream(index) }
      }
    }
    readyNow.removeAll(keepingCapacity: true)
  }

  /// Lists a client's connection to be looked at again.
  mutating func makeReady(downstream index: Int) {
    let connection = downstreams.pointer(index)
    guard !connection.pointee.has(.listedReady) else { return }
    connection.pointee.flags.insert(.listedReady)
    ready.append(index)
  }

  /// Lists an upstream's connection to be read again.
  mutating func makeReady(upstream index: Int) {
    let connection = upstreams.pointer(index)
    guard !connection.pointee.has(.listedReady) else { return }
    connection.pointee.flags.insert(.listedReady)
    ready.append(~index)
  }

  /// Frees the places of connections that were closed in this turn.
  mutating func buryClosed() {
    for index in closedDownstreams {
      wheel.cancel(index * 2)
      partialRequests[index] = nil
      buryTransport(downstream: index)
      downstreams.remove(index)
    }
    closedDownstreams.removeAll(keepingCapacity: true)
    for index in closedUpstreams {
      wheel.cancel(index * 2 + 1)
      buryTransport(upstream: index)
      upstreams.remove(index)
    }
    closedUpstreams.removeAll(keepingCapacity: true)
  }
}
