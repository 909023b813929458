import Bytes
import Encoding
import Ethereum
import Gateway
import HTTP
import Ledger
import Methods
import Payments

/// A channel that a challenge tells its client to go on with.
struct ChannelHint: Sendable {
  let view: ChannelView
  let stored: StoredChannel
  /// What the next voucher has to say at least, in base units.
  var required: UInt128
  /// Whether the client has shown that it holds the last voucher: to nobody else it is told.
  var isProven = false

  init(_ view: ChannelView, _ stored: StoredChannel, required: UInt128) {
    self.view = view
    self.stored = stored
    self.required = required
  }

  /// Whether an offer asks for a channel like this.
  func fits(_ offer: RouteRails.SessionOffer) -> Bool {
    offer.escrow == stored.escrow && offer.offer.token.address == stored.channel.token && offer.offer.recipient == stored.channel.payee
  }

  /// How the channel stands, for a client that has lost count.
  var snapshot: ChannelSnapshot {
    ChannelSnapshot(
      escrow: stored.escrow, descriptor: stored.channel,
      accepted: SessionVoucher(channelID: view.id, cumulativeAmount: view.voucher.amount, signature: view.voucher.signature),
      standing: ChannelStanding(view.account), spent: min(view.spent, view.budget), requiredCumulative: required,
      tellsSignature: isProven)
  }

  /// What a problem document says of the channel.
  var members: JSONObject {
    [
      "channelId": .string(HexData.text(view.id)), "acceptedCumulative": .string(String(view.budget)),
      "deposit": .string(String(view.account.deposit)),
    ]
  }
}

extension Cashier {
  /// The channel that a request without a credential names in `Payment-Session`, where it is open for what the route offers.
  func namedChannel(_ request: borrowing PaidRequest, _ index: RouteIndex) -> ChannelHint? {
    guard request.head.pointee.has(.paymentSession), !request.head.pointee.repeated.has(.paymentSession),
      let field = request.head.pointee.first(.paymentSession), let route = routes[Int(index)], !route.rails.sessions.isEmpty,
      let id = HexData.digest(String(decoding: field.value(in: request.octets), as: UTF8.self)), let view = ledger?.channel(id),
      view.phase == .open, !view.account.isEnding, let stored = StoredChannel(view.descriptor)
    else { return nil }
    let hint = ChannelHint(view, stored, required: view.spent + min(route.price.requestCost.ceiling, .max - view.spent))
    return route.rails.sessions.contains { hint.fits($0) } ? hint : nil
  }

  /// Prints the route's challenges with the channel that the client is to go on with; nil where there is none.
  func hintedPrinter(_ route: PricedRoute) -> ChallengePrinter? {
    guard let hint, let session = route.rails.sessions.firstIndex(where: { hint.fits($0) }),
      let place = route.offerFootings.firstIndex(of: .session(session))
    else { return nil }
    let offer = route.rails.sessions[session]
    return try? route.printer.replacing(
      place, with: offer.payment(offer.request.resuming(hint.view.id, snapshot: hint.snapshot)),
      realm: settings.realm)
  }

  /// Whether channels can be opened and added to for an offer at the moment.
  func isWatched(_ offer: RouteRails.SessionOffer) -> Bool { takesDeposits(offer.escrow) }

  /// Whether deposits can be submitted to an escrow, whose channels are watched; that of one channel, where it is named.
  func takesDeposits(_ escrow: SessionEscrow, to channel: Digest32? = nil) -> Bool {
    chains?.isReachable(escrow.chain) == true && isWatched(escrow, channel)
  }

  /// Whether an escrow is the one that is used on its chain, and would show a forced close in time. Vouchers need nothing else: a chain that does
  /// not answer for a moment stops no stream.
  ///
  /// - Parameter channel: one of its channels, which has to be watched itself.
  func isWatched(_ escrow: SessionEscrow, _ channel: Digest32? = nil) -> Bool {
    guard let state = escrow.rules == .batch ? chains?.batch(escrow.chain, channel) : chains?.escrow(escrow.chain, channel) else { return false }
    return state.isWatched && state.escrow == escrow
  }
}
