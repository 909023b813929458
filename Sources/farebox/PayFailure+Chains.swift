import Agent
import Ethereum
import Payments

// What keeps an agent from paying on a chain, in words, with advice.
extension PayFailure {
  static func text(_ offers: [RefusedOffer]) -> String {
    let list = offers.prefix(4).map { text($0) }.joined(separator: "; ")
    return "the server asks for a payment on a chain, and none of its offers is paid: " + list + (offers.count > 4 ? "; and more" : "")
  }

  static func text(_ offer: RefusedOffer) -> String {
    let place = "\(offer.rail.rawValue) on \(TrustedToken.chainName(offer.chain.number))"
    switch offer.reason {
    case .unknownToken:
      let token = offer.token.map { "\(offer.chain):\($0.checksummed)" } ?? "of no address"
      return "\(place): the token \(token) is not known here, and what the server says of its decimals does not count "
        + "(if you know it: --token \(token)=code:decimals:name:version)"
    case .unknownEscrow(let escrow):
      return "\(place): a session would be deposited into the contract \(escrow.words), which is not trusted here "
        + "(if you trust it with the deposit: --escrow \(escrow.words))"
    case .price: return "\(place): its price counts what this agent does not know"
    case .noMeans: return "\(place): it takes neither an authorization nor a permit that this agent can sign"
    case .scheme: return "\(place): its scheme is not one that is paid here (only exact is)"
    case .recipient: return "\(place): its recipient is no address"
    case .resource: return "\(place): it is for another resource than the one asked for"
    case .challenge(let fault): return "\(place): \(text(fault))"
    case .notChosen: return "\(place): --rail, --session, --charge or the currency of --max rules it out"
    }
  }

  static func text(_ fault: AgentError.LimitFault) -> String {
    let advice = "see: farebox pay --limits"
    switch fault {
    case .day(let amount, let left, let currency):
      return "\(currency.format(amount)) \(currency.symbol) are asked for, and the day's limit leaves \(currency.format(left)) (\(advice))"
    case .payment(let amount, let currency): return "\(currency.format(amount)) \(currency.symbol) are over the limit of one payment (\(advice))"
    case .session(let amount, let currency):
      return "the session would come to \(currency.format(amount)) \(currency.symbol), over the limit of one session (\(advice))"
    case .recipient(let name): return "\(name) is not among those who may be paid (\(advice))"
    }
  }
}
