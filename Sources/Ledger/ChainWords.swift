import Bytes
import Encoding

/// The members of a line that tell of a chain.
struct ChainWords {
  var chain: UInt64?
  /// What a transaction cost in the chain's own base units.
  var gas: UInt128?
  var nonce: UInt64?
  /// Whether the chain did what a transaction asked for.
  var succeeded: Bool?
  /// The payer's address.
  var payer: String?
  /// What of the payment goes to others.
  var splits: [ChainSplit] = []
  /// The payment's id.
  var payment: Digest32?
  /// What a transaction was for.
  var purpose: Digest32?
  /// The address that a transaction was sent from.
  var sender: [UInt8]?
  var transaction: Digest32?
  /// What lies in an escrow for a channel.
  var deposit: UInt128?
  /// What a channel's end came to: what the merchant got all in all, what the payer got back, and what was paid beyond what was spent or the
  /// other way round.
  var captured: UInt128?
  var refunded: UInt128?
  var overpaid: UInt128?
  var lost: UInt128?

  init() {}

  /// What lines say of a payment; its id where operators may need it.
  init(of payment: ChainPayment, id: Digest32?) {
    payer = payment.payer
    self.payment = id
    transaction = payment.transaction
    splits = payment.splits
  }

  /// Appends the members between `event` and `prev`, in JCS order.
  func appendBeforePrevious(to line: inout ByteBuffer) {
    if let gas { Self.append(",\"gas\":\"", gas, to: &line) }
    if let lost { Self.append(",\"lost\":\"", lost, to: &line) }
    if let nonce { Self.append(",\"nonce\":\"", UInt128(nonce), to: &line) }
    if let succeeded {
      line.append(succeeded ? ",\"outcome\":\"succeeded\"" as StaticString : ",\"outcome\":\"failed\"" as StaticString)
    }
    if let overpaid { Self.append(",\"overpaid\":\"", overpaid, to: &line) }
    if let payer {
      line.append(",\"payer\":" as StaticString)
      JCS.append(string: payer, to: &line)
    }
    if let payment { Self.append(",\"payment\":\"", payment, to: &line) }
  }

  /// Appends the member before `time`.
  func appendBeforeTime(to line: inout ByteBuffer) {
    guard !splits.isEmpty else { return }
    line.append(",\"splits\":[" as StaticString)
    for (index, split) in splits.enumerated() {
      Self.append(index == 0 ? "{\"amount\":\"" : ",{\"amount\":\"", split.amount, to: &line)
      line.append(",\"recipient\":" as StaticString)
      JCS.append(string: split.recipient, to: &line)
      line.append("}" as StaticString)
    }
    line.append("]" as StaticString)
  }

  /// Appends the member behind `time`.
  func appendAfterTime(to line: inout ByteBuffer) {
    if let transaction { Self.append(",\"transaction\":\"0x", transaction, to: &line) }
  }

  /// Appends a member whose value is a number.
  static func append(_ name: StaticString, _ number: UInt128, to line: inout ByteBuffer) {
    line.append(name)
    line.append(decimal: number)
    line.append("\"" as StaticString)
  }

  /// Appends a member whose value is a digest.
  static func append(_ name: StaticString, _ digest: Digest32, to line: inout ByteBuffer) {
    line.append(name)
    line.append(hex: digest)
    line.append("\"" as StaticString)
  }
}
