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
    let invoice = quote.invoice
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

  private func document(_ quote: Quote) -> JSONValue {
    let offers: [JSONValue] = quote.offers.map { offer in
      var object: JSONObject = [
        "id": .string(offer.challenge.id), "realm": .string(offer.challenge.realm), "method": .string(offer.challenge.method),
        "intent": .string(offer.challenge.intent), "price": .string(offer.priceText),
      ]
      if let expires = offer.challenge.expires { object.set("expires", .string(expires)) }
      if let request = try? offer.challenge.requestObject() { object.set("request", .object(request)) }
      return .object(object)
    }
    let document: JSONObject = ["offers": .array(offers), "invoice": .string(quote.signedInvoice), "verified": true]
    return .object(document)
  }
}
