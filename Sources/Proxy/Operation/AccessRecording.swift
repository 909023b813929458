import Bytes
import Encoding
import Gateway
import HTTP

// What the relay notes for the access log. Nothing here costs anything while no log is written.
extension Worker {
  /// Octets of records after which they are handed over at once …
  private static var accessBatch: Int { 32 << 10 }
  /// … and nanoseconds after which they are in any case.
  private static var accessDelay: Int64 { 200_000_000 }

  /// Begins with a request whose head is `octets`; nil where there was none that could be read.
  mutating func beginAccess(_ index: Int, _ octets: UnsafeRawBufferPointer?) {
    guard plan.logsAccess else { return }
    let connection = downstreams.pointer(index)
    if connection.pointee.access < 0 {
      connection.pointee.access = vacantAccess.popLast() ?? Int32(accessRecords.count)
      if Int(connection.pointee.access) == accessRecords.count { accessRecords.append(AccessRecord()) }
    }
    let place = Int(connection.pointee.access)
    accessRecords[place].reset()
    accessRecords[place].entry.time = wall.microseconds
    accessRecords[place].entry.began = now
    let client = octets == nil ? connection.pointee.peer : connection.pointee.client
    accessRecords[place].entry.clientHigh = client.high
    accessRecords[place].entry.clientLow = client.low
    connection.pointee.contentSent = 0
    guard let octets else { return }
    let head = requestHead
    accessRecords[place].add(.method, UnsafeRawBufferPointer(rebasing: octets[head.pointee.methodRange]))
    accessRecords[place].add(.host, UnsafeRawBufferPointer(rebasing: octets[head.pointee.hostRange]))
    var target = UnsafeRawBufferPointer(rebasing: octets[head.pointee.pathRange])
    if !plan.logsQuery, let query = target.firstIndex(of: UInt8(ascii: "?")) {
      target = UnsafeRawBufferPointer(rebasing: target[..<query])
    }
    accessRecords[place].add(.target, target)
    if let agent = head.pointee.first(.userAgent) { accessRecords[place].add(.agent, agent.value(in: octets)) }
  }

  /// The request's route has been found.
  @inline(__always)
  mutating func noteRoute(_ index: Int, _ route: RouteIndex) {
    let access = downstreams.pointer(index).pointee.access
    if access >= 0 { accessRecords[Int(access)].route = route }
  }

  /// A paid exchange has ended, and has cost what it has cost.
  @inline(__always)
  mutating func notePayment(_ index: Int, _ payment: PaidSummary?) {
    let access = downstreams.pointer(index).pointee.access
    if access >= 0 { accessRecords[Int(access)].payment = payment }
  }

  /// The upstream has been asked.
  @inline(__always)
  mutating func noteAsked(_ index: Int) {
    let access = downstreams.pointer(index).pointee.access
    if access >= 0 { accessRecords[Int(access)].entry.asked = now }
  }

  /// The head of the upstream's answer has come.
  @inline(__always)
  mutating func noteAnswered(_ index: Int, status: UInt16) {
    let access = downstreams.pointer(index).pointee.access
    guard access >= 0 else { return }
    accessRecords[Int(access)].entry.answered = now
    accessRecords[Int(access)].entry.upstreamStatus = status
  }

  /// A final head has been written for the client.
  @inline(__always)
  mutating func noteStatus(_ index: Int, _ status: UInt16) {
    let connection = downstreams.pointer(index)
    guard plan.logsAccess else { return }
    if connection.pointee.access < 0 { beginAccess(index, nil) }
    accessRecords[Int(connection.pointee.access)].entry.status = status
  }

  /// Writes the line of a request that is over, if one was begun.
  @inline(__always)
  mutating func endAccess(_ index: Int) {
    if downstreams.pointer(index).pointee.access >= 0 { writeAccess(index) }
  }

  private mutating func writeAccess(_ index: Int) {
    let connection = downstreams.pointer(index)
    let place = Int(connection.pointee.access)
    connection.pointee.access = -1
    accessRecords[place].entry.ended = now
    accessRecords[place].entry.received = connection.pointee.contentCount
    accessRecords[place].entry.sent = connection.pointee.contentSent
    accessRecords[place].entry.isBroken = connection.pointee.has(.broken)
    if let number = accessRecords[place].route {
      let route = plan.routes[Int(number)]
      accessRecords[place].add(.route, route.id)
      if accessRecords[place].entry.asked > 0 { accessRecords[place].add(.upstream, Array(plan.upstreams[route.upstream].name.utf8)) }
    }
    if let paid = accessRecords[place].payment {
      accessRecords[place].entry.amountHigh = UInt64(truncatingIfNeeded: paid.amount >> 64)
      accessRecords[place].entry.amountLow = UInt64(truncatingIfNeeded: paid.amount)
      accessRecords[place].entry.reference = paid.reference
      paid.wallet.withUnsafeBytes { accessRecords[place].add(.wallet, $0) }
      paid.session?.withUnsafeBytes { accessRecords[place].add(.session, $0) }
      accessRecords[place].add(.currency, Array(paid.currency.utf8))
    }
    accessRecords[place].add(.protocol, Array(protocolName(index).utf8))
    accessRecords[place].append(to: &accessBatch)
    accessBatchCount += 1
    vacantAccess.append(Int32(place))
    if accessFlushAt == .max { accessFlushAt = now &+ Self.accessDelay }
  }

  /// As ALPN has it, with what carried it where that is not a matter of course: `h1`, `h1+tls`, `h2` (over TLS), `h2c`.
  private func protocolName(_ index: Int) -> String {
    switch downstreams.pointer(index).pointee.transport {
    case .plain: "h1"
    case .tls: "h1+tls"
    case .stream: isSecure(downstream: index) ? "h2" : "h2c"
    }
  }

  /// Hands the records over, where there are enough of them or the first has waited.
  mutating func flushAccess(isLast: Bool = false) {
    guard accessBatchCount > 0, isLast || accessBatch.count >= Self.accessBatch || now >= accessFlushAt else { return }
    control.accessLog?.take(accessBatch, count: accessBatchCount)
    accessBatch.removeAll()
    accessBatchCount = 0
    accessFlushAt = .max
  }
}

/// What an exchange cost, for the access log.
struct PaidSummary {
  var wallet: Digest32
  var session: Digest32?
  /// Base units; 0 where the money went back.
  var amount: UInt128
  var currency: String
  /// Of a charge's receipt; 0 for sessions.
  var reference: UInt64

  /// Sums an exchange up that is at its end.
  init(_ record: ExchangeRecord) {
    if let session = record.session {
      wallet = session.wallet
      self.session = session.id
      amount = record.isCharged ? record.used.ceiling : 0
      currency = session.currency
      reference = 0
    } else {
      wallet = record.wallet
      session = nil
      amount = record.isCharged ? record.amount : 0
      currency = record.currency
      reference = record.isCharged ? record.reference : 0
    }
  }
}
