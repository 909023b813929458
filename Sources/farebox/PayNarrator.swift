import Agent
import Encoding
import Payments

/// Tells on standard error what happens to the payment: all of it with `-v`, otherwise only what a person must know.
final class PayNarrator {
  private let isVerbose: Bool
  private let isSilent: Bool
  /// The currency of the payment, so that receipts can be told in whole units.
  private var currency: Currency?
  /// The line that is drawn while the body arrives.
  var progress: PayProgress?

  init(isVerbose: Bool, isSilent: Bool) {
    self.isVerbose = isVerbose
    self.isSilent = isSilent
  }

  private func say(_ text: String, onlyVerbose: Bool = true) {
    guard isVerbose || (!onlyVerbose && !isSilent) else { return }
    progress?.interrupt()
    StandardError.write("* \(PayText.printable(text))\n")
  }

  func tell(_ head: ReceivedHead) {
    StandardError.write("< HTTP/1.1 \(head.status) \(head.reason)\n")
    for field in head.fields { StandardError.write("< \(field.name): \(field.value)\n") }
  }

  func tell(_ event: AgentEvent) {
    switch event {
    case .challenged(let offer, let invoice):
      currency = offer.currency
      tell(offer, invoice)
    case .chosen(let offer):
      currency = offer.currency
      say("402: \(offer.railText) charge of \(offer.priceText) on \(TrustedToken.chainName(offer.chain.number)) to \(offer.recipients[0].checksummed)")
      say("  by \(offer.means.rawValue) of token \(offer.token.token.address.checksummed), signed until \(offer.expires.rfc3339)")
    case .chosenChannel(let offer):
      currency = offer.currency
      let place = TrustedToken.chainName(offer.chain.number)
      say("402: evm session of \(offer.priceText) on \(place) to \(offer.session.recipient.checksummed)")
      say("  deposit by \(offer.means.rawValue) into \(offer.session.details.escrow.checksummed), signed until \(offer.expires.rfc3339)")
    case .usingChannel(let channel):
      currency = channel.currency
      say("using channel \(PayText.short(channel)): \(channel.currency.format(channel.signed)) of \(channel.currency.format(channel.deposit)) "
        + "\(channel.currency.symbol) signed, \(channel.currency.format(channel.spent)) spent")
    case .voucher(let amount, let currency): say("signed a voucher over \(amount.formatted(in: currency)) in all")
    case .channelReceipt(let receipt, let currency):
      var text = "receipt: spent \(currency.format(receipt.spent)) of \(currency.format(receipt.acceptedCumulative)) \(currency.symbol) signed, unsigned"
      if let transaction = receipt.transaction { text += ", transaction 0x\(transaction.hex)" }
      say(text)
    case .settled(let receipt, let currency):
      let place = TrustedToken.chainName(receipt.chain.number)
      say("settled: \(currency.format(receipt.amount)) \(currency.symbol) on \(place), transaction 0x\(receipt.transaction.hex)")
    case .paying(let amount, let currency): say("paying \(amount.formatted(in: currency))")
    case .usingSession(let session):
      currency = session.currency
      say("using session \(session.sessionID.prefix(16))…, \(session.currency.format(session.remaining)) \(session.currency.symbol) left")
    case .repeating(let count): say("no answer; sending the same credential again (\(count))", onlyVerbose: false)
    case .waiting(let amount, let currency): say("the stream waits for \(amount.formatted(in: currency)) more")
    case .pacing(let wait): say("--rate is reached; the next top-up waits \(Self.seconds(wait)) s", onlyVerbose: false)
    case .resuming(let wait, let attempt):
      say("the answer broke off; asking for the rest in \(Self.seconds(wait)) s (\(attempt))", onlyVerbose: false)
    case .resumed: say("the rest comes")
    case .toppedUp(let amount, let deposit, let currency):
      say("topped up by \(amount.formatted(in: currency)), deposit now \(deposit.formatted(in: currency))")
    case .receipt(let receipt, let isSigned): tell(receipt, isSigned)
    case .receiptFault(let fault): say("receipt does not hold: \(fault)", onlyVerbose: false)
    }
  }

  private func tell(_ offer: PrepaidOffer, _ invoice: Invoice) {
    let resource = offer.details.resource
    say("402: \(offer.challenge.intent) of \(offer.priceText) to \(offer.recipient) on ledger \(offer.details.ledger)")
    say("  for \(resource.method) \(resource.url), realm \(offer.challenge.realm), until \(offer.challenge.expires ?? "?")")
    if let description = offer.challenge.description { say("  \(description)") }
    say("  invoice verified: issuer \(invoice.issuer), \(invoice.offers.count) offer(s), this challenge among them")
  }

  /// Seconds with one decimal, rounded up.
  private static func seconds(_ duration: Duration) -> String {
    let tenths = duration.components.seconds * 10 + (duration.components.attoseconds + 99_999_999_999_999_999) / 100_000_000_000_000_000
    return tenths % 10 == 0 ? "\(tenths / 10)" : "\(tenths / 10).\(tenths % 10)"
  }

  private func tell(_ receipt: Receipt, _ isSigned: Bool) {
    var text = "receipt: \(amount(receipt.amount, receipt)), reference \(receipt.reference)"
    if let session = receipt.session {
      text += ", spent \(amount(session.spent, receipt)), remaining \(amount(session.remaining, receipt))"
    }
    say(text + (isSigned ? ", signature verified" : ", unsigned"))
    if isSigned, let log = receipt.log { say("  audit log at \(log.size) leaves, root \(log.root.hex)") }
  }

  private func amount(_ units: UInt128, _ receipt: Receipt) -> String {
    guard let currency, currency.code == receipt.currency else { return "\(units) base units" }
    return "\(currency.format(units)) \(currency.symbol)"
  }
}

/// Spells values of the agent for people and documents.
enum PayText {
  static func kind(_ kind: AgentPayment.Kind) -> String {
    switch kind {
    case .charge: "charge"
    case .opened: "session-opened"
    case .session: "session"
    }
  }

  /// A channel's id, shortened for people.
  static func short(_ channel: KeptChannel) -> String { "0x\(channel.channelID.hex.prefix(16))…" }

  /// A server's words without what could steer a terminal.
  static func printable(_ text: String) -> String {
    String(String.UnicodeScalarView(text.unicodeScalars.filter { $0.value >= 0x20 && !(0x7F...0x9F).contains($0.value) }))
  }
}
