import Encoding
import Payments

/// What a request costs: the offers of a 402, the prepaid ones with their verified invoice. Nothing is paid for it.
public struct Quote: Sendable {
  /// The prepaid offers, which passed every check, best first as the server lists them.
  public let offers: [PrepaidOffer]
  /// The claims of the invoice, its signature verified; nil where nothing prepaid is offered.
  public let invoice: Invoice?
  /// The invoice as it was signed; whoever keeps it can show what was asked.
  public let signedInvoice: String?
  /// The offers on chains that the agent would pay, best first.
  public let chainOffers: [ChainOffer]
  /// The sessions over channels that it would use, best first.
  public let channelOffers: [ChannelOffer]
  /// The offers on chains that it would not, and why.
  public let refusedOffers: [RefusedOffer]
}

extension Agent {
  /// Asks what a request costs, without paying.
  ///
  /// - Returns: nil where the answer is no 402: the request is free, or cannot be made.
  /// - Throws: `.offer` or `.serverKeys` where the challenge or the invoice does not hold, `.noUsableOffer` where none is of a kind that is known.
  public func quote(_ request: AgentRequest) throws(AgentError) -> Quote? {
    client.restartClock(at: .now())
    let (head, body) = try client.send(request)
    guard head.status == 402 else {
      body.discard()
      return nil
    }
    let octets = try body.collect(limit: ProblemDocument.byteLimit)
    let offers = ChallengeList.parse(head.all("www-authenticate")).compactMap { PrepaidOffer($0) }
    let now = Timestamp.now()
    let chains = ChainOffers(head, body: octets, request: request, options: options, now: now)
    guard !offers.isEmpty else {
      guard !chains.usable.isEmpty || !chains.channels.isEmpty || !chains.refused.isEmpty else { throw .noUsableOffer }
      return Quote(
        offers: [], invoice: nil, signedInvoice: nil, chainOffers: chains.usable, channelOffers: chains.channels, refusedOffers: chains.refused)
    }
    let jws = head.first("payment-invoice") ?? ProblemDocument(octets, from: request.address)?.invoice
    let keys = try keys(of: request.address, signing: jws)
    let check = OfferCheck(request: request, now: now)
    var invoice: Invoice?
    for offer in offers {
      try check.check(offer)
      invoice = try check.check(offer, invoice: jws, keys: keys)
    }
    guard let invoice, let jws else { throw .offer(.invoiceMissing) }
    return Quote(
      offers: offers, invoice: invoice, signedInvoice: jws, chainOffers: chains.usable, channelOffers: chains.channels,
      refusedOffers: chains.refused)
  }
}
