import Crypto
import Encoding
import Payments

/// Compares a receipt with what was bought.
struct ReceiptCheck {
  /// What the receipt has to say.
  enum Expectation {
    case charge(PrepaidOffer)
    /// A session opened with this deposit.
    case open(sessionID: String, deposit: UInt128)
    case bearer(sessionID: String)
    case topUp(sessionID: String, amount: UInt128)
    case close(sessionID: String)

    /// Bearer receipts are not signed; the close receipt covers them (PREPAID.md, "Receipts").
    var isSigned: Bool {
      switch self {
      case .charge, .open, .topUp, .close: true
      case .bearer: false
      }
    }
  }

  let expectation: Expectation
  /// The challenge that was echoed; nil where the short form echoed none.
  let challengeID: String?
  /// The request that was bought; nil where the receipt is of a management request.
  let request: AgentRequest?
  let keys: [String: Ed25519.PublicKey]

  /// Reads a `Payment-Receipt` value and checks it.
  func check(_ value: String?) -> Result<Receipt, ReceiptProblem> {
    guard let value else { return .failure(ReceiptProblem(.missing)) }
    let receipt: Receipt
    do throws(PaymentError) {
      receipt = expectation.isSigned ? try Receipt.verify(value) { keys[$0] } : try Receipt.parse(value)
    } catch {
      return .failure(ReceiptProblem(fault(of: error, value)))
    }
    if let fault = fault(of: receipt) { return .failure(ReceiptProblem(fault)) }
    return .success(receipt)
  }

  private func fault(of error: PaymentError, _ value: String) -> AgentError.ReceiptFault {
    switch error {
    case .invalidSignature, .unknownKey:
      (try? Receipt.parse(value))?.signature == nil ? .unsigned : .signature
    default: .malformed
    }
  }

  private func fault(of receipt: Receipt) -> AgentError.ReceiptFault? {
    if let challengeID, receipt.challengeID != challengeID { return .challenge }
    if let request, !OfferCheck(request: request, now: receipt.timestamp).names(receipt.resource) { return .resource }
    switch expectation {
    case .charge(let offer):
      guard case .charge(let charge) = offer.terms, receipt.amount == charge.amount, receipt.currency == charge.currency,
        receipt.recipient == charge.recipient
      else { return .amount }
      return nil
    case .open(let sessionID, let deposit):
      guard let session = receipt.session, session.id == sessionID else { return .session }
      let (sum, overflow) = session.spent.addingReportingOverflow(session.remaining)
      return !overflow && sum == deposit ? nil : .amount
    case .topUp(let sessionID, let amount):
      guard let session = receipt.session, session.id == sessionID else { return .session }
      return receipt.amount == amount ? nil : .amount
    case .bearer(let sessionID), .close(let sessionID):
      return receipt.session?.id == sessionID ? nil : .session
    }
  }
}

/// Carries the fault of a receipt: it is no reason to throw the answer away, so it is handed on beside it.
struct ReceiptProblem: Error {
  let fault: AgentError.ReceiptFault

  init(_ fault: AgentError.ReceiptFault) { self.fault = fault }
}
