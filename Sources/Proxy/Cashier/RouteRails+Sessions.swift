import Bytes
import Configuration
import Encoding
import Ethereum
import Metering
import Methods
import Payments

// What a route's price comes to in sessions over payment channels.
extension RouteRails {
  /// A session over channels of one escrow.
  struct SessionOffer: Sendable {
    /// Its amount is the leading rate's, in base units.
    let offer: Offer
    let escrow: SessionEscrow
    let rail: Settings.Rail
    let request: ChannelSession

    /// As challenges carry it.
    var payment: Payments.Offer { payment(request) }

    /// The same with a request that says more.
    func payment(_ request: ChannelSession) -> Payments.Offer {
      Payments.Offer(
        method: escrow.rules.method, intent: ChannelProtocol.intent, amount: offer.amount, currency: offer.token.address.checksummed,
        recipient: offer.recipient.checksummed, description: request.description, request: request.object)
    }

    /// Whether a challenge with this request was issued for the offer, with or without a channel to go on with.
    func issued(_ quote: ChannelSession) -> Bool { quote.general == request.general }
  }

  /// Works out a route's sessions; none where it is not sold by them, or no chain of it can keep them.
  static func sessions(of route: Settings.Route, _ price: Price, _ settings: Settings) -> [SessionOffer] {
    guard PricedRoute.intents(of: route, price).contains(.session), let leading = price.parts.first,
      let merchant = settings.merchants.first(where: { $0.id == route.merchant })
    else { return [] }
    let deposits = PricedRoute.deposits(route, price)
    var sessions: [SessionOffer] = []
    for rail in route.rails {
      guard let index = rail.chain, let escrow = settings.sessionEscrow(of: rail, merchant: route.merchant) else { continue }
      let chain = settings.chains[index]
      guard let recipient = merchant.addresses[chain.name] else { continue }
      for token in chain.tokens where token.currency == price.currency {
        let account = account(token.currency, chain: chain.id)
        let offer = Offer(
          token: ChainToken(token, chain: chain.id), recipient: recipient, amount: leading.amount, account: account, isFacilitated: false)
        let known = SessionEscrow(rules: ChannelProtocol(escrow.rules), chain: chain.id, address: escrow.address)
        var details = details(offer, known, chain)
        details.minimum = price.minimum
        details.maximum = price.maximum
        details.minimumDeposit = deposits.minimum
        details.minimumDelta = escrow.voucherSteps[token.currency.code] ?? 0
        details.idleTimeout = UInt64(clamping: escrow.closeIdleAfter.components.seconds)
        details.decimals = UInt8(clamping: token.currency.decimals)
        let request = ChannelSession(
          rules: known.rules, rates: price.parts, suggestedDeposit: deposits.suggested, currency: token.address, recipient: recipient,
          description: route.description, details: details)
        sessions.append(SessionOffer(offer: offer, escrow: known, rail: rail, request: request))
      }
    }
    return sessions
  }

  /// How deposits are taken: best what we submit, since its payer needs no coins for fees.
  private static func details(_ offer: Offer, _ escrow: SessionEscrow, _ chain: Settings.Chain) -> ChannelDetails {
    var details = ChannelDetails(chainID: chain.id, escrow: escrow.address)
    switch escrow.rules {
    case .evm:
      var kinds: [ChannelFunding.Kind] = []
      if offer.token.supportsEIP3009 { kinds.append(.authorization) }
      if offer.token.supportsPermit2 { kinds.append(.permit2) }
      details.paysFees = !kinds.isEmpty
      details.credentialTypes = kinds + [.hash]
    case .tempoV1, .tempoV2: details.paysFees = chain.canSponsor
    case .batch: break
    }
    return details
  }
}

extension ChainToken {
  /// A token as configured.
  init(_ token: Settings.Token, chain: UInt64) {
    self.init(
      chain: chain, address: token.address, currency: token.currency, name: token.domain?.name, version: token.domain?.version,
      supportsEIP3009: token.transfers.contains(.eip3009), supportsPermit2: token.transfers.contains(.permit2))
  }
}

extension ChannelSession {
  /// The offer as all requests get it: without a channel to go on with, beside which no deposit is suggested.
  var general: ChannelSession {
    var details = details
    details.channelID = nil
    details.snapshot = nil
    return with(details)
  }

  /// The offer for a client whose channel is known.
  ///
  /// - Parameter snapshot: how the channel stands, which Tempo's v2 tells.
  func resuming(_ channel: Digest32, snapshot: ChannelSnapshot?) -> ChannelSession {
    var details = details
    details.channelID = channel
    details.snapshot = rules == .tempoV2 ? snapshot : nil
    return with(details)
  }

  private func with(_ details: ChannelDetails) -> ChannelSession {
    ChannelSession(
      rules: rules, amount: amount, unitType: unitType, currency: currency, recipient: recipient, description: description,
      externalId: externalId, details: details)
  }
}
