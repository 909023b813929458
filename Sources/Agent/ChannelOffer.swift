import Bytes
import Encoding
import Ethereum
import Metering
import Methods
import Payments

/// A session over a payment channel (draft-evm-session-00), as a challenge offers it: its token and its escrow are ones that the agent knows.
public struct ChannelOffer: Sendable {
  /// The challenge as it was received.
  public let challenge: Challenge
  /// What the challenge asks for.
  public let session: ChannelSession
  /// The token that is asked for, as the agent knows it.
  public let token: TrustedToken
  /// How the deposit would be moved.
  public let means: ChainOffer.Means
  /// By what the session is charged.
  public let price: Price
  /// Until when the signature of a deposit would hold.
  public let expires: Timestamp

  /// The currency with the decimals that the agent knows.
  public var currency: Currency { token.token.currency }

  /// The chain.
  public var chain: ChainID { ChainID(session.details.chainID) }

  /// The price in words, for people: `0.01 USDC per MB`.
  public var priceText: String { price.words }

  /// What a new channel has to hold at least, in base units.
  public var minimumDeposit: UInt128 { session.details.minimumDeposit }

  /// What a payer without an opinion deposits: the server's suggestion, or where it has none what a hundred requests sign for at first.
  var suggestedDeposit: UInt128 {
    if let suggested = session.suggestedDeposit { return suggested }
    let (many, overflows) = terms.need(requestOctets: 0, step: nil).wanted.multipliedReportingOverflow(by: 100)
    return max(overflows ? .max : many, minimumDeposit)
  }

  /// What is bought, in the server's words; nil where it has none.
  public var description: String? { challenge.description ?? session.description }

  /// How vouchers of the offer grow.
  var terms: VoucherTerms { VoucherTerms(session, price: price) }

  /// The offer as one that is not paid.
  func refused(_ reason: RefusedOffer.Reason) -> RefusedOffer {
    RefusedOffer(rail: .evm, chain: chain, token: session.currency, amount: session.amount, reason: reason)
  }

  /// Whether a kept channel can buy by these terms: the same escrow, token and payee in the same realm.
  func fits(_ channel: KeptChannel, origin: String) -> Bool {
    channel.origin == origin && channel.realm == challenge.realm && channel.escrow == session.details.escrow
      && channel.chain == session.details.chainID && channel.token == session.currency && channel.payee == session.recipient
      && channel.currency == currency
  }
}

/// What a session's offer says of the sums that its vouchers grow by: how much is signed before it is used.
///
/// An answer whose price is known is signed for to the base unit. Of one that is metered no more is signed than what has come by the agent's own
/// count and a window beyond it, which grows with what was delivered.
struct VoucherTerms: Sendable {
  /// The doublings after which the window no longer grows.
  static let doublingLimit = 4

  /// By what the session is charged.
  let price: Price
  /// The least that a voucher adds, in base units.
  let minimumDelta: UInt128
  /// What a window comes to after all of its doublings.
  private let suggestion: UInt128

  init(_ session: ChannelSession, price: Price) {
    self.price = price
    minimumDelta = session.details.minimumDelta
    let (sixteen, overflows) = session.amount.multipliedReportingOverflow(by: 16)
    suggestion = session.suggestedDeposit ?? max(session.details.minimumDeposit, overflows ? .max : sixteen)
  }

  /// Reads the terms of a challenge that was kept; nil where it offers no session of the method.
  init?(_ challenge: Challenge, currency: Currency) {
    guard challenge.method == ChannelProtocol.evm.method, challenge.intent == ChannelProtocol.intent, let request = try? challenge.requestObject(),
      let session = try? ChannelSession(parsing: request, method: challenge.method), let price = session.price(in: currency)
    else { return nil }
    self.init(session, price: price)
  }

  /// How much may be signed beyond what has come, after so many vouchers for one answer.
  ///
  /// - Parameter step: the caller's choice; nil: a sixteenth of what the server suggests as a deposit, twice as much each time.
  func window(after vouchers: Int, step: UInt128?) -> UInt128 {
    let one = price.parts.first.flatMap { ExactCost(units: 1, rate: $0)?.ceiling } ?? 1
    let least = max(minimumDelta, one, 1)
    if let step { return max(step, least) }
    let (window, overflows) = max(suggestion / 16, least).multipliedReportingOverflow(by: 1 << UInt128(min(vouchers, Self.doublingLimit)))
    return overflows ? .max : window
  }

  /// What an answer costs before anything of it has come, and what is signed for it at first: all of it where that is known.
  func need(requestOctets: UInt64, step: UInt128?) -> (least: UInt128, wanted: UInt128) {
    let begun = price.cost(of: Quantities(requestOctets: requestOctets))?.ceiling ?? .max
    guard price.isMetered else { return (begun, begun) }
    let (wanted, overflows) = begun.addingReportingOverflow(window(after: 0, step: step))
    let whole = price.maximum < .max ? price.maximum : .max
    return (max(begun, 1), max(begun, min(overflows ? .max : wanted, whole), 1))
  }

  /// Whether all that the price counts can be counted here.
  var isCountable: Bool { !price.countsUnits && !price.needsUpgrade }

  /// What has come costs so much at most, rounded up; nil where it overflows.
  ///
  /// - Parameter isEstimate: tokens are a guess: those of the input are then at most the octets of the request.
  func cost(of quantities: Quantities, isEstimate: Bool) -> UInt128? {
    var most = quantities
    if isEstimate { most.inputTokens = max(most.inputTokens, most.requestOctets) }
    return price.cost(of: most)?.ceiling
  }
}
