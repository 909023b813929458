import Bytes
import Encoding
import HTTP
import Ledger
import Methods
import Payments

/// What a signed receipt says that is known before the money moves; the ledger's facts complete it.
struct ReceiptStub: Sendable {
  let signer: DocumentSigner
  let intent: String
  let reference: String
  let challengeID: String
  /// Of this payment, in base units; of a close what was spent.
  let amount: UInt128
  let currency: String
  let recipient: String
  let resource: Resource
  /// The session's id in hex; nil for a charge.
  let session: String?

  /// The receipt, signed and encoded, as the field carries it.
  func encoded(_ facts: ReceiptFacts) -> [UInt8] { encoded(facts, amount: amount) }

  /// The same with another amount.
  func encoded(_ facts: ReceiptFacts, amount: UInt128) -> [UInt8] {
    Receipt(
      method: Prepaid.method, intent: intent, timestamp: facts.time, reference: reference, challengeID: challengeID, amount: amount,
      currency: currency, recipient: recipient, resource: resource,
      session: session.map { Receipt.Session(id: $0, spent: facts.spent, remaining: facts.remaining, units: facts.units) }
    ).signed(by: signer, log: Receipt.LogPosition(size: facts.logSize, root: facts.logRoot)).encoded
  }
}

extension Cashier {
  /// Prepares the receipt of a payment into or out of a session.
  func receiptStub(
    _ request: borrowing PaidRequest, _ credential: Credential, amount: UInt128, _ currency: String, _ recipient: String, session: Digest32
  ) -> ReceiptStub {
    ReceiptStub(
      signer: keys.signer, intent: "session", reference: session.hex, challengeID: credential.challenge.id, amount: amount,
      currency: currency, recipient: recipient, resource: resource(of: request), session: session.hex)
  }

  /// Method and URL of a request, as receipts name them.
  func resource(of request: borrowing PaidRequest) -> Resource {
    let method = UnsafeRawBufferPointer(rebasing: request.octets[request.head.pointee.methodRange])
    var url = ByteBuffer()
    appendOrigin(of: request, to: &url)
    url.append(request.path)
    if let query = request.query {
      url.append("?")
      url.append(query)
    }
    return Resource(method: String(decoding: method, as: UTF8.self), url: url.string())
  }
}

extension ExchangeRecord {
  /// Prints the unsigned receipt of a session's request.
  func print(
    _ printer: SessionReceipt, _ figures: SessionFigures, scratch: inout ByteBuffer, to out: inout ByteBuffer, at now: Timestamp
  ) {
    resource.withUnsafeBytes { resource in
      let originEnd = methodCount + originCount
      let pathEnd = originEnd + pathCount
      printer.append(
        amount: used.ceiling, spent: figures.spent, remaining: figures.remaining, units: figures.units, timestamp: now,
        requestMethod: UnsafeRawBufferPointer(rebasing: resource[..<methodCount]),
        origin: UnsafeRawBufferPointer(rebasing: resource[methodCount..<originEnd]),
        path: UnsafeRawBufferPointer(rebasing: resource[originEnd..<pathEnd]),
        query: hasQuery ? UnsafeRawBufferPointer(rebasing: resource[pathEnd...]) : nil, scratch: &scratch, to: &out)
    }
  }

  /// Method and URL of the exchange's request.
  var resourceValue: Resource {
    let path = resource[(methodCount + originCount)...]
    var url = String(decoding: resource[methodCount..<(methodCount + originCount)], as: UTF8.self)
    url += String(decoding: path.prefix(pathCount), as: UTF8.self)
    if hasQuery { url += "?" + String(decoding: path.dropFirst(pathCount), as: UTF8.self) }
    return Resource(method: String(decoding: resource[..<methodCount], as: UTF8.self), url: url)
  }
}
