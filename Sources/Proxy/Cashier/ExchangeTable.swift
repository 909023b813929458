import Bytes
import Encoding
import Gateway
import Ledger
import Metering
import Payments

/// What the cashier remembers of one paid exchange. Its arrays keep their storage from one exchange to the next.
struct ExchangeRecord {
  /// How the exchange is paid, and how far that has come.
  enum Payment {
    /// Nothing stands here.
    case vacant
    /// A charge whose money is set aside.
    case held(Hold)
    /// A request of a session that is debited.
    case debited(SessionHandle)
    /// Settled, voided or given back: nothing is left to be done.
    case ended
  }

  var payment = Payment.vacant
  var route: RouteIndex = 0
  var context = DebitContext(route: .none, writesLine: true)
  /// Of a charge, in base units.
  var amount: UInt128 = 0
  /// Of a charge: the wallet that pays, and the receipt's reference.
  var wallet = Digest32()
  var reference: UInt64 = 0
  var currency = ""
  var recipient = ""
  var challengeID = ""
  /// Of a session, before the first octet.
  var requestCost = ExactCost.zero
  /// Whether any of the meters may be there. They are large, and most exchanges never touch the memory that they stand in.
  var isMetered = false
  var requestMeter: Meter?
  var responseMeter: Meter?
  var requestMessageMeter: Meter?
  var responseMessageMeter: Meter?
  var secondMeter: Meter?
  /// What a price of several counts needs; the meters are not there then.
  var tally: Tally?
  /// What pays where a maximum was signed, and what was used is settled afterwards; `payment` is `ended` then.
  var promise: PromiseSeat?
  var isPromiseEnded = false
  /// What pays where the answer is withheld until it is settled; `payment` is `ended` then.
  var withheld: WithheldPayment?
  /// What pays where a channel's voucher says what one request makes of the sum (batch-settlement).
  var batch: BatchSeat?
  /// The request asks for another protocol.
  var isUpgrade = false
  /// The session that pays; nil for a charge.
  var session: ResolvedSession?
  /// The wallet that pays a charge.
  var payer: Digest32?
  /// How a charge was paid on a chain, where it was.
  var chain: ChainReceipt?
  /// The signed receipt of the request that opened its session.
  var opening: ReceiptStub?
  var idempotency: OutcomeKey?
  /// The upstream's status; 0 before its head.
  var status: UInt16 = 0
  var isCharged = false
  var isEventStream = false
  var wantsTrailer = false
  /// The response is collected for its idempotency key, or until it is whole, and nothing of it has left.
  var isWithheld = false
  /// A charge that is settled, and of which a part may go back at the end.
  var openCharge: Hold?
  /// The key whose outcome was stored at the head.
  var storedKey: OutcomeKey?
  /// By what the payer may come back for the same again, once he was served.
  var signInKey: OutcomeKey?
  /// The key of a response that is copied as it passes.
  var copiedKey: OutcomeKey?
  /// The length of the response that the upstream announced.
  var announcedLength: UInt64?
  /// A step that would only have been comfortable was refused: the next one is asked for when it is needed.
  var isExhausted = false
  /// The stream has been told that it waits.
  var isAnnounced = false
  /// What a dry stream needs, in base units.
  var required: UInt128 = 0
  /// Method, origin, path and query of the resource, one behind another.
  var resource: [UInt8] = []
  var methodCount = 0
  var originCount = 0
  var pathCount = 0
  var hasQuery = false
  /// The encoded receipt of the response's head.
  var receipt: [UInt8] = []
  /// Field lines for pages of other origins.
  var corsLines: [UInt8] = []
  /// What was counted for the request, on a route where that decides over the price.
  var counted: [CountedVolume] = []

  /// Forgets the exchange and keeps the storage.
  mutating func reset() {
    payment = .vacant
    if isMetered {
      requestMeter = nil
      responseMeter = nil
      requestMessageMeter = nil
      responseMessageMeter = nil
      secondMeter = nil
      tally = nil
      promise = nil
      isPromiseEnded = false
      isMetered = false
    }
    isUpgrade = false
    batch = nil
    withheld = nil
    session = nil
    payer = nil
    chain = nil
    opening = nil
    idempotency = nil
    status = 0
    isCharged = false
    isEventStream = false
    wantsTrailer = false
    isWithheld = false
    openCharge = nil
    storedKey = nil
    copiedKey = nil
    signInKey = nil
    announcedLength = nil
    isExhausted = false
    isAnnounced = false
    required = 0
    resource.removeAll(keepingCapacity: true)
    receipt.removeAll(keepingCapacity: true)
    corsLines.removeAll(keepingCapacity: true)
    if !counted.isEmpty { counted.removeAll() }
  }

  /// Begins a session's request.
  mutating func begin(_ session: ResolvedSession, _ context: DebitContext, _ key: OutcomeKey?) {
    payment = .debited(session.handle)
    self.session = session
    requestCost = session.requestCost
    self.context = context
    idempotency = key
  }

  /// Keeps what receipts say of the request.
  mutating func remember(
    _ route: RouteIndex, method: UnsafeRawBufferPointer, scheme: [UInt8], host: UnsafeRawBufferPointer, path: UnsafeRawBufferPointer,
    query: UnsafeRawBufferPointer?
  ) {
    self.route = route
    methodCount = method.count
    originCount = scheme.count + host.count
    pathCount = path.count
    hasQuery = query != nil
    resource.append(contentsOf: method)
    resource.append(contentsOf: scheme)
    resource.append(contentsOf: host)
    resource.append(contentsOf: path)
    if let query { resource.append(contentsOf: query) }
  }

  /// Octets of content that passed in both directions, and messages and seconds of an upgraded connection; one request where
  /// nothing is metered.
  var units: UInt64 {
    guard isMetered else { return 1 }
    if let tally { return tally.units }
    var units = (requestMeter?.passed ?? 0).addingReportingOverflow(responseMeter?.passed ?? 0).partialValue
    var isMetered = requestMeter != nil || responseMeter != nil
    if isUpgrade {
      for place in [MeterPlace.requestMessages, .responseMessages, .seconds] {
        guard let meter = self[meter: place] else { continue }
        isMetered = true
        units = units.addingReportingOverflow(meter.passed).partialValue
      }
    }
    return isMetered ? units : 1
  }

  /// What is held for the exchange beside its debits.
  var held: ExactCost { tally?.tab.held ?? batch.map { ExactCost(whole: $0.amount) } ?? .zero }

  /// What was debited for the exchange.
  var debited: ExactCost {
    guard isMetered else { return batch == nil ? requestCost : .zero }
    if let tally { return tally.tab.debited }
    let sum = Self.sum(requestCost, requestMeter?.debitedCost, responseMeter?.debitedCost)
    guard isUpgrade else { return sum }
    let messages = Self.sum(sum, requestMessageMeter?.debitedCost, responseMessageMeter?.debitedCost)
    return Self.sum(messages, secondMeter?.debitedCost, nil)
  }

  /// What was used of it, the request's own price included.
  var used: ExactCost {
    guard isMetered else { return requestCost }
    if let tally { return tally.used }
    let sum = Self.sum(requestCost, requestMeter?.passedCost, responseMeter?.passedCost)
    guard isUpgrade else { return sum }
    let messages = Self.sum(sum, requestMessageMeter?.passedCost, responseMessageMeter?.passedCost)
    return Self.sum(messages, secondMeter?.passedCost, nil)
  }

  /// The ledger has added up the same debits, so the sums fit.
  private static func sum(_ own: ExactCost, _ first: ExactCost?, _ second: ExactCost?) -> ExactCost {
    var sum = own
    if let first { sum = sum.adding(first) ?? sum }
    if let second { sum = sum.adding(second) ?? sum }
    return sum
  }
}

/// The records of a worker's paid exchanges, in places that are used again and at addresses that never move: a record is lent where
/// it stands, since a copy would take a reference to each of its arrays.
struct ExchangeTable: ~Copyable {
  /// Records that are allocated together.
  private static let chunkSize = 64

  // Safe because: chunks are allocated and initialised whole in `take`, here and only here, and are neither moved nor freed before deinit.
  private var chunks: [UnsafeMutablePointer<ExchangeRecord>] = []
  private var count = 0
  private var vacant: [UInt32] = []

  deinit {
    for chunk in chunks {
      chunk.deinitialize(count: Self.chunkSize)
      chunk.deallocate()
    }
  }

  /// Takes a place; its record is reset.
  mutating func take() -> UInt32 {
    if let place = vacant.popLast() { return place }
    if count == chunks.count * Self.chunkSize {
      let chunk = UnsafeMutablePointer<ExchangeRecord>.allocate(capacity: Self.chunkSize)
      chunk.initialize(repeating: ExchangeRecord(), count: Self.chunkSize)
      chunks.append(chunk)
    }
    count += 1
    return UInt32(count - 1)
  }

  /// Gives a place back.
  mutating func giveBack(_ place: UInt32) {
    self[place].reset()
    vacant.append(place)
  }

  /// The record of a place, lent.
  subscript(place: UInt32) -> ExchangeRecord {
    @inline(__always) unsafeAddress { UnsafePointer(address(place)) }
    @inline(__always) unsafeMutableAddress { address(place) }
  }

  @inline(__always)
  private func address(_ place: UInt32) -> UnsafeMutablePointer<ExchangeRecord> {
    // Chunks are whole, so the array's bound is that of the places as well.
    chunks[Int(place) / Self.chunkSize] + Int(place) % Self.chunkSize
  }
}
