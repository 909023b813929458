import Bytes
import Encoding
import Ethereum
import HTTP
import Methods
import Payments

/// Reads what a 402 offers on chains, and sorts what can be paid from what cannot.
struct ChainOffers {
  /// The longest that a signature holds, whatever an offer asks: what is signed may be used until then.
  static let validityLimit = Duration.seconds(3600)
  /// The shortest: below it a server would refuse what it is shown.
  static let validityMinimum = Duration.seconds(10)

  /// In the order of preference: MPP's method evm, then x402 of version 2, then of version 1, each in the server's own order.
  private(set) var usable: [ChainOffer] = []
  /// Sessions of the method evm, in the server's own order.
  private(set) var channels: [ChannelOffer] = []
  private(set) var refused: [RefusedOffer] = []

  private let check: OfferCheck
  private let tokens: [TrustedToken]
  private let escrows: [TrustedEscrow]

  /// Reads a 402.
  ///
  /// - Parameters:
  ///   - body: the octets of its body where they were read: x402 of version 1 stands there.
  init(_ head: ReceivedHead, body: [UInt8], request: AgentRequest, options: AgentOptions, now: Timestamp) {
    check = OfferCheck(request: request, now: now)
    tokens = options.tokens
    escrows = options.escrows
    for challenge in ChallengeList.parse(head.all("www-authenticate")) { take(challenge) }
    if var value = head.first("payment-required"),
      let required = try? value.withUTF8({ (octets) throws(X402Error) in try PaymentRequired(fieldValue: UnsafeRawBufferPointer(octets)) })
    {
      take(required)
    }
    if let required = try? body.withUnsafeBytes({ (octets) throws(X402Error) in try PaymentRequired(json: octets) }), required.version == .v1 {
      take(required)
    }
  }

  private func trusted(_ chain: UInt64, _ address: Address?) -> TrustedToken? {
    tokens.first { $0.token.chain == chain && $0.token.address == address }
  }

  // MARK: - MPP

  private mutating func take(_ challenge: Challenge) {
    if challenge.intent == ChannelProtocol.intent { return takeSession(challenge) }
    guard challenge.method == EVMCharge.method, challenge.intent == EVMCharge.intent, let request = try? challenge.requestObject(),
      let charge = try? EVMCharge(parsing: request)
    else { return }
    do throws(AgentError) {
      try check.check(challenge)
      guard let token = trusted(charge.chainID, charge.currency) else { return refuse(charge, .unknownToken) }
      guard let means = means(for: charge, token.token) else { return refuse(charge, .noMeans) }
      guard let expiry = challenge.expiry, expiry - check.now >= Self.validityMinimum else { throw .offer(.expired) }
      usable.append(
        ChainOffer(
          dialect: .evm(challenge, charge), token: token, amount: charge.amount, recipients: [charge.recipient] + charge.splits.map(\.recipient),
          means: means, expires: min(expiry, check.now + Self.validityLimit)))
    } catch {
      if case .offer(let fault) = error { refuse(charge, .challenge(fault)) }
    }
  }

  private func means(for charge: EVMCharge, _ token: ChainToken) -> ChainOffer.Means? {
    if charge.accepts(.authorization), charge.splits.isEmpty, token.supportsEIP3009 { return .authorization }
    // A permit names its spender, and may only be given where Permit2 stands by the agent's own knowledge.
    if charge.accepts(.permit2), token.supportsPermit2, charge.spender != nil, charge.permit2 == token.permit2 { return .permit2 }
    return nil
  }

  private mutating func refuse(_ charge: EVMCharge, _ reason: RefusedOffer.Reason) {
    refused.append(
      RefusedOffer(rail: .evm, chain: ChainID(charge.chainID), token: charge.currency, amount: charge.amount, reason: reason))
  }

  // MARK: - Sessions over channels

  private mutating func takeSession(_ challenge: Challenge) {
    guard challenge.method == ChannelProtocol.evm.method, let request = try? challenge.requestObject(),
      let session = try? ChannelSession(parsing: request, method: challenge.method)
    else { return }
    func refuse(_ reason: RefusedOffer.Reason) -> RefusedOffer {
      RefusedOffer(rail: .evm, chain: ChainID(session.details.chainID), token: session.currency, amount: session.amount, reason: reason)
    }
    do throws(AgentError) {
      try check.check(challenge)
      guard let token = trusted(session.details.chainID, session.currency) else { return refused.append(refuse(.unknownToken)) }
      let escrow = TrustedEscrow(chain: session.details.chainID, address: session.details.escrow)
      guard escrows.contains(escrow) else { return refused.append(refuse(.unknownEscrow(escrow))) }
      guard let price = session.price(in: token.token.currency) else { return refused.append(refuse(.price)) }
      guard let means = means(for: session, token.token), !session.recipient.isZero else { return refused.append(refuse(.noMeans)) }
      guard let expiry = challenge.expiry, expiry - check.now >= Self.validityMinimum else { throw .offer(.expired) }
      channels.append(
        ChannelOffer(
          challenge: challenge, session: session, token: token, means: means, price: price, expires: min(expiry, check.now + Self.validityLimit)))
    } catch {
      if case .offer(let fault) = error { refused.append(refuse(.challenge(fault))) }
    }
  }

  private func means(for session: ChannelSession, _ token: ChainToken) -> ChainOffer.Means? {
    if session.accepts(.authorization), token.supportsEIP3009 { return .authorization }
    if session.accepts(.permit2), token.supportsPermit2, session.details.permit2 ?? Permit2.address == token.permit2 { return .permit2 }
    return nil
  }

  // MARK: - x402

  private mutating func take(_ required: PaymentRequired) {
    for offer in required.offers {
      let terms = offer.requirements
      let address = terms.assetAddress
      func refuse(_ reason: RefusedOffer.Reason) -> RefusedOffer {
        RefusedOffer(rail: .x402, chain: terms.network.chain, token: address, amount: terms.amount, reason: reason)
      }
      guard terms.scheme == .exact, terms.paymentFlow != nil, terms.amount > 0 else {
        refused.append(refuse(.scheme))
        continue
      }
      guard names(required.version == .v1 ? offer.resource : required.resourceURL) else {
        refused.append(refuse(.resource))
        continue
      }
      guard let recipient = terms.payToAddress, !recipient.isZero else {
        refused.append(refuse(.recipient))
        continue
      }
      guard let token = trusted(terms.network.chainID, address) else {
        refused.append(refuse(.unknownToken))
        continue
      }
      let seconds = Duration.seconds(Int64(terms.maxTimeoutSeconds))
      guard let means = means(for: terms, token.token), seconds >= Self.validityMinimum else {
        refused.append(refuse(.noMeans))
        continue
      }
      usable.append(
        ChainOffer(
          dialect: .x402(required.version, offer, resource: required.resource, extensions: required.extensions), token: token,
          amount: terms.amount, recipients: [recipient], means: means, expires: check.now + min(seconds, Self.validityLimit)))
    }
  }

  private func means(for terms: PaymentRequirements, _ token: ChainToken) -> ChainOffer.Means? {
    switch terms.assetTransferMethod {
    case .eip3009: token.supportsEIP3009 ? .authorization : nil
    case .permit2: token.supportsPermit2 ? .permit2 : nil
    case nil: nil
    }
  }

  /// Whether a resource is what was asked for. One without a query stands for all of its queries, and the scheme may be another one, since
  /// servers behind a TLS terminator take themselves for plain ones; where none is named, nothing contradicts.
  private func names(_ url: String?) -> Bool {
    guard let url, !url.isEmpty else { return true }
    let asked = check.request.address
    guard let address = try? WebAddress(url), address.authority == asked.authority else { return false }
    return address.target == asked.target || address.target == asked.path
  }
}
