import Bytes
import Encoding
import Ethereum
import Ledger
import Payments

// The operators' commands about payment channels.
extension Administration {
  /// How long a command waits for what follows on a chain; what takes longer goes on without it.
  private static let chainWait = Duration.seconds(5)

  func channels(_ arguments: inout AdministrationArguments) throws(AdministrationError) -> JSONObject {
    let (offset, limit) = try page(&arguments)
    let selection = try arguments.channels("state")
    try arguments.finish()
    let views = ledger.channels(selection, from: offset, limit: limit)
    return ["channels": .array(views.map { .object(AdministrationViews.json($0)) })]
  }

  func channel(_ command: Command, _ arguments: inout AdministrationArguments, at now: Timestamp) throws(AdministrationError) -> JSONObject {
    let id = try arguments.channel("channel")
    try arguments.finish()
    if command == .channelClose { return try closeChannel(id, at: now) }
    return command == .channelSettle ? try settle(id) : try view(channel: id)
  }

  private func view(channel id: Digest32) throws(AdministrationError) -> JSONObject {
    if let view = ledger.channel(id) { return AdministrationViews.json(view) }
    if case .closed(let session) = ledger.closeResult(id), let channel = session.channel { return AdministrationViews.json(id, session, channel) }
    throw .refused(ledger.availability == .unavailable ? .unavailable : .unknownSession)
  }

  /// Has the last voucher settled now, whatever the schedule says.
  private func settle(_ id: Digest32) throws(AdministrationError) -> JSONObject {
    guard let channel = ledger.channel(id) else { return try view(channel: id) }
    guard channel.budget > channel.booked else { return AdministrationViews.json(channel) }
    guard let chains else { throw .noDesk }
    guard chains.settleNow(channel) else { throw .noEscrow }
    return try wait(for: id) { $0.underWay != nil || $0.booked >= channel.budget || $0.phase == .closing }
  }

  /// Stops a channel, and has it closed on its chain.
  private func closeChannel(_ id: Digest32, at now: Timestamp) throws(AdministrationError) -> JSONObject {
    guard let channel = ledger.channel(id) else { return try view(channel: id) }
    try commit { () throws(Refusal) in
      do throws(Refusal) { return try ledger.beginClose(channel.handle, cause: .operated, voucher: nil, at: now) } catch {
        // Somebody else closes it at this moment, which is what was asked for.
        guard error == .sessionClosing || error == .sessionClosed else { throw error }
        return 0
      }
    }
    chains?.closeNow(channel)
    return try wait(for: id) { _ in false }
  }

  /// Looks at a channel until it is as it should be, or closed, or nothing came for a while.
  private func wait(for id: Digest32, until isDone: (ChannelView) -> Bool) throws(AdministrationError) -> JSONObject {
    let end = Instant.now() + (chains == nil ? .zero : Self.chainWait)
    while Instant.now() < end, let channel = ledger.channel(id), !isDone(channel) { AdministrationPause.briefly() }
    return try view(channel: id)
  }
}

extension AdministrationViews {
  static func json(_ channel: ChannelView) -> JSONObject {
    let routes = channel.terms.routes.map { terms -> JSONValue in
      ["route": .string(terms.routeID), "price": .string(terms.price.words), "priceVersion": .string(terms.priceVersion)]
    }
    var object: JSONObject = [
      "channel": .string("0x" + channel.id.hex), "state": .string(state(channel)), "chain": .string(ChainID(channel.chain).description),
      "payer": .string(channel.payer), "merchant": .string(channel.merchant), "currency": .string(channel.currency),
      "deposit": .string(String(channel.account.deposit)), "signed": .string(String(channel.budget)), "spent": .string(String(channel.spent)),
      "settled": .string(String(channel.booked)),
      "unsettled": .string(String(channel.budget > channel.booked ? channel.budget - channel.booked : 0)),
      "inFlight": .integer(channel.inFlight), "opened": .string(channel.opened.rfc3339), "lastUse": .string(channel.lastUse.rfc3339),
      "routes": .array(routes),
    ]
    if let since = channel.unsettledSince { object.set("unsettledSince", .string(since.rfc3339)) }
    if channel.account.closeRequestedAt > 0, let second = Int64(exactly: channel.account.closeRequestedAt) {
      object.set("closeRequested", .string(Timestamp(seconds: second).rfc3339))
    }
    if let transaction = channel.openedBy { object.set("openedBy", .string("0x" + transaction.hex)) }
    if let transaction = channel.underWay {
      object.set("underWay", .string("0x" + transaction.hex))
      object.set("underWayFor", channel.isCloseUnderWay ? "close" : "settle")
    }
    if let cause = channel.cause { object.set("cause", .string(self.cause(cause))) }
    return object
  }

  static func json(_ id: Digest32, _ session: ClosedSession, _ channel: ClosedChannel) -> JSONObject {
    var object: JSONObject = [
      "channel": .string("0x" + id.hex), "state": "closed", "chain": .string(ChainID(channel.chain).description), "payer": .string(channel.payer),
      "merchant": .string(session.merchant), "currency": .string(session.currency), "deposit": .string(String(channel.deposit)),
      "spent": .string(String(session.spent)), "settled": .string(String(channel.captured)), "unsettled": "0",
      "refunded": .string(String(session.refunded)), "overpaid": .string(String(channel.overpaid)), "lost": .string(String(channel.lost)),
      "cause": .string(cause(session.cause)), "closed": .string(session.time.rfc3339),
    ]
    if let transaction = channel.transaction { object.set("transaction", .string("0x" + transaction.hex)) }
    return object
  }

  private static func state(_ channel: ChannelView) -> String {
    switch channel.phase {
    case .open: channel.account.isEnding ? "ending" : "open"
    case .suspended, .unconfirmed: "suspended"
    case .closing: "closing"
    }
  }
}
