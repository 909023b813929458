import Agent
import Encoding
import Payments

/// Shows what a URL costs: the decoded challenge and the check of its invoice.
struct PayQuote {
  let options: Pay

  func run() throws(PayFailure) {
    let request = try PayRequest(options: options.request).request(to: try options.address())
    let agent = try options.agent()
    guard let quote = try failing({ () throws(AgentError) in try agent.quote(request) }) else {
      return try StandardOutput.tell(options.output.json ? "{\"offers\":[]}" : "no payment is asked for")
    }
    if options.output.json { return try StandardOutput.print(String(decoding: JSON.serialize(document(quote), pretty: true), as: UTF8.self)) }
    for offer in quote.offers { try tell(offer) }
    for offer in quote.chainOffers { try tell(offer) }
    for offer in quote.channelOffers { try tell(offer) }
    for offer in quote.refusedOffers { try StandardOutput.tell("not paid  \(PayFailure.text(offer))") }
    guard let invoice = quote.invoice else { return }
    try StandardOutput.tell("invoice   verified: signed by \(invoice.issuer), lists \(invoice.offers.count) offer(s)")
    try StandardOutput.tell("          issued \(invoice.issuedAt.rfc3339), expires \(invoice.expires.rfc3339)")
  }

  private func tell(_ offer: PrepaidOffer) throws(PayFailure) {
    let challenge = offer.challenge
    let resource = offer.details.resource
    try StandardOutput.tell("offer     \(challenge.method) \(challenge.intent): \(offer.priceText)")
    if let description = challenge.description { try StandardOutput.tell("          \(description)") }
    try StandardOutput.tell("          for \(resource.method) \(resource.url)")
    try StandardOutput.tell("          to \(offer.recipient) on ledger \(offer.details.ledger), realm \(challenge.realm)")
    if case .session(let terms) = offer.terms {
      let currency = offer.currency
      try StandardOutput.tell(
        "          deposit \(currency.format(terms.suggestedDeposit)) \(currency.symbol) suggested, at least "
          + "\(currency.format(terms.minimumDeposit)); refunded after \(terms.idleTimeout) s without use")
    }
    try StandardOutput.tell("          challenge \(challenge.id), until \(challenge.expires ?? "?")")
  }

  private func tell(_ offer: ChainOffer) throws(PayFailure) {
    try StandardOutput.tell("offer     \(offer.railText) charge: \(offer.priceText) on \(TrustedToken.chainName(offer.chain.number))")
    if let description = offer.description, !description.isEmpty { try StandardOutput.tell("          \(description)") }
    try StandardOutput.tell("          to \(offer.recipients.map(\.checksummed).joined(separator: ", "))")
    try StandardOutput.tell("          by \(offer.means.rawValue) of token \(offer.token.token.address.checksummed), signed until \(offer.expires.rfc3339)")
  }

  private func tell(_ offer: ChannelOffer) throws(PayFailure) {
    let currency = offer.currency
    try StandardOutput.tell("offer     evm session: \(offer.priceText) on \(TrustedToken.chainName(offer.chain.number))")
    if let description = offer.description, !description.isEmpty { try StandardOutput.tell("          \(description)") }
    try StandardOutput.tell("          to \(offer.session.recipient.checksummed)")
    let suggested = offer.session.suggestedDeposit.map { "\(currency.format($0)) \(currency.symbol) suggested, " } ?? ""
    try StandardOutput.tell(
      "          deposit \(suggested)at least \(currency.format(offer.minimumDeposit)) \(currency.symbol), held by contract "
        + offer.session.details.escrow.checksummed)
    try StandardOutput.tell("          by \(offer.means.rawValue) of token \(offer.token.token.address.checksummed), signed until \(offer.expires.rfc3339)")
  }

  private func document(_ offer: ChannelOffer) -> JSONValue {
    var object: JSONObject = [
      "rail": "evm", "intent": "session", "network": .string(offer.chain.description), "token": .string(offer.token.token.address.checksummed),
      "price": .string(offer.priceText), "currency": .string(offer.currency.code), "recipients": [.string(offer.session.recipient.checksummed)],
      "escrow": .string(offer.session.details.escrow.checksummed), "means": .string(offer.means.rawValue),
      "minimumDeposit": .string("\(offer.minimumDeposit)"), "expires": .string(offer.expires.rfc3339),
    ]
    if let suggested = offer.session.suggestedDeposit { object.set("suggestedDeposit", .string("\(suggested)")) }
    return .object(object)
  }

  private func document(_ offer: ChainOffer) -> JSONValue {
    [
      "rail": .string(offer.rail.rawValue), "network": .string(offer.chain.description), "token": .string(offer.token.token.address.checksummed),
      "price": .string(offer.priceText), "amount": .string(String(offer.amount)), "currency": .string(offer.currency.code),
      "recipients": .array(offer.recipients.map { .string($0.checksummed) }), "means": .string(offer.means.rawValue),
      "expires": .string(offer.expires.rfc3339),
    ]
  }

  private func document(_ quote: Quote) -> JSONValue {
    let offers: [JSONValue] = quote.offers.map { offer in
      var object: JSONObject = [
        "rail": "prepaid", "id": .string(offer.challenge.id), "realm": .string(offer.challenge.realm), "method": .string(offer.challenge.method),
        "intent": .string(offer.challenge.intent), "price": .string(offer.priceText),
      ]
      if let expires = offer.challenge.expires { object.set("expires", .string(expires)) }
      if let request = try? offer.challenge.requestObject() { object.set("request", .object(request)) }
      return .object(object)
    }
    var document: JSONObject = ["offers": .array(offers + quote.chainOffers.map { self.document($0) } + quote.channelOffers.map { self.document($0) })]
    if !quote.refusedOffers.isEmpty { document.set("notPaid", .array(quote.refusedOffers.map { .string(PayFailure.text($0)) })) }
    if let invoice = quote.signedInvoice {
      document.set("invoice", .string(invoice))
      document.set("verified", true)
    }
    return .object(document)
  }
}
