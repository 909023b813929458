import Bytes
import Encoding
import Ethereum
import Methods
import Payments

/// What a server says of a payment on a chain: `PAYMENT-RESPONSE` of x402 or `Payment-Receipt` of the method `evm`, compared with what was
/// signed. That the transaction is on the chain is for a node to tell.
public struct ChainReceipt: Sendable, Hashable {
  /// The chain.
  public let chain: ChainID
  /// The transaction's hash.
  public let transaction: Digest32
  /// What was paid, in base units.
  public let amount: UInt128
  /// Who paid.
  public let payer: Address
  /// Who was paid, and what splits took.
  public let recipients: [Address]
  /// The value of the field, as it came.
  public let field: String

  /// Reads the receipt of an answer and compares it.
  static func read(_ head: ReceivedHead, of offer: ChainOffer, payer: Address) -> Result<ChainReceipt, ReceiptProblem> {
    let names: [String] =
      switch offer.dialect {
      case .evm: ["payment-receipt"]
      case .x402(.v2, _, _, _): ["payment-response"]
      case .x402(.v1, _, _, _): ["x-payment-response", "payment-response"]
      }
    guard let field = names.lazy.compactMap({ head.first($0) }).first else { return .failure(ReceiptProblem(.missing)) }
    let transaction: Digest32
    switch offer.dialect {
    case .evm(let challenge, let charge):
      switch read(field, of: charge, challenge) {
      case .success(let hash): transaction = hash
      case .failure(let problem): return .failure(problem)
      }
    case .x402:
      switch read(field, of: offer, payer: payer) {
      case .success(let hash): transaction = hash
      case .failure(let problem): return .failure(problem)
      }
    }
    return .success(
      ChainReceipt(
        chain: offer.chain, transaction: transaction, amount: offer.amount, payer: payer, recipients: offer.recipients, field: field))
  }

  private static func read(_ field: String, of charge: EVMCharge, _ challenge: Challenge) -> Result<Digest32, ReceiptProblem> {
    // Other servers' receipts have fewer members than ours: what is there must hold.
    guard field.utf8.count <= Receipt.limit, let octets = Base64URL.decode(field), let object = (try? JSON.parse(octets))?.objectValue,
      object["status"]?.stringValue == "success", object["method"]?.stringValue == EVMCharge.method
    else { return .failure(ReceiptProblem(.malformed)) }
    guard let transaction = object["reference"]?.stringValue.flatMap({ HexData.digest($0) }) else {
      return .failure(ReceiptProblem(.transaction))
    }
    if let chain = object["chainId"] { guard chain.intValue == Int(exactly: charge.chainID) else { return .failure(ReceiptProblem(.network)) } }
    if let id = object["challengeId"] { guard id.stringValue == challenge.id else { return .failure(ReceiptProblem(.challenge)) } }
    if let amount = object["amount"] { guard amount.stringValue == "\(charge.amount)" else { return .failure(ReceiptProblem(.amount)) } }
    return .success(transaction)
  }

  private static func read(_ field: String, of offer: ChainOffer, payer: Address) -> Result<Digest32, ReceiptProblem> {
    let response: SettlementResponse
    do throws(X402Error) { response = try settlement(field, of: offer) } catch {
      if case .malformed(.network) = error { return .failure(ReceiptProblem(.network)) }
      return .failure(ReceiptProblem(.malformed))
    }
    guard response.isSuccess, let transaction = response.transaction else { return .failure(ReceiptProblem(.transaction)) }
    if case .units(let units) = response.amount, units != offer.amount { return .failure(ReceiptProblem(.amount)) }
    if let named = response.payer.flatMap({ try? Address(text: $0, checksum: .ignored) }), named != payer { return .failure(ReceiptProblem(.payer)) }
    return .success(transaction)
  }

  /// Reads the settlement that an answer tells of.
  static func settlement(_ field: String, of offer: ChainOffer) throws(X402Error) -> SettlementResponse {
    try Array(field.utf8).withUnsafeBufferPointer { (octets) throws(X402Error) in
      try SettlementResponse(fieldValue: UnsafeRawBufferPointer(octets), network: X402Network(chainID: offer.chain.number))
    }
  }
}

/// Why a server did not take a payment on a chain.
struct ChainRefusal: Equatable {
  /// The reason's word, from a table; never a server's own text.
  let name: String
  /// Whether the payment is under way, so that it has to be shown again.
  let isPending: Bool
  /// Whether by the server's words no money has moved, nor can by this payment.
  let isDefinitive: Bool

  /// Reads an answer that came after the payment; nil where it says nothing of it.
  init?(_ head: ReceivedHead, body: [UInt8], offer: ChainOffer) {
    guard case .x402(let version, _, _, _) = offer.dialect else { return nil }
    let names = version == .v2 ? ["payment-response"] : ["x-payment-response", "payment-response"]
    if let field = names.lazy.compactMap({ head.first($0) }).first, let response = try? ChainReceipt.settlement(field, of: offer), !response.isSuccess {
      name = (response.reason ?? .unknown).rawValue
      isPending = response.isPending || response.reason == .settlementPending
      isDefinitive = response.isDefinitiveRefusal
      return
    }
    guard head.status == 402, let reason = Self.reason(head, body) else { return nil }
    name = reason.rawValue
    isPending = reason.isPending
    isDefinitive = !reason.isIndefinite
  }

  private static func reason(_ head: ReceivedHead, _ body: [UInt8]) -> X402Reason? {
    if var value = head.first("payment-required"),
      let required = try? value.withUTF8({ (octets) throws(X402Error) in try PaymentRequired(fieldValue: UnsafeRawBufferPointer(octets)) })
    {
      return required.error.map { X402Reason(wire: $0) }
    }
    let required = try? body.withUnsafeBytes { (octets) throws(X402Error) in try PaymentRequired(json: octets) }
    return required?.error.map { X402Reason(wire: $0) }
  }
}
