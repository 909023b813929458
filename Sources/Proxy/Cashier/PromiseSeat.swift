import Bytes
import Encoding
import Ethereum
import Ledger
import Methods
import Payments

/// What an exchange that is paid by scheme upto needs at its end: what was signed, to settle what was used.
final class PromiseSeat {
  /// How long before the payer's signature runs out content stops: settling takes its time.
  static var margin: Duration { .seconds(60) }
  /// For how long content may pass at least when serving begins.
  static var least: Duration { .seconds(10) }

  let id: Digest32
  let chain: UInt64
  let maximum: UInt128
  let expires: Timestamp
  private let payment: UptoEVM
  /// What a facilitator is asked with; nil where we settle ourselves.
  private let facilitated: (payload: PaymentPayload, requirements: PaymentRequirements, resource: ResourceInfo)?

  init(
    _ payment: UptoEVM, chain: UInt64, facilitated: (payload: PaymentPayload, requirements: PaymentRequirements, resource: ResourceInfo)?
  ) {
    id = payment.charge.id
    maximum = payment.maximum
    expires = payment.charge.expires
    self.chain = chain
    self.payment = payment
    self.facilitated = facilitated
  }

  /// When content stops.
  var end: Timestamp { expires - Self.margin }

  /// What settling an amount needs; empty for nothing, nil above the maximum.
  ///
  /// - Parameter since: the newest block that is known: its transaction is searched from there on.
  func proof(_ amount: UInt128, since: UInt64?) -> [UInt8]? {
    guard let charge = try? payment.settling(amount) else { return amount == 0 ? [] : nil }
    return SettlementOrder.proof(chain: chain, charge: charge, facilitated: content(amount), since: since)
  }

  /// The body of `/settle` for an amount, or of `/verify` for the maximum; nil where we settle ourselves.
  func content(_ amount: UInt128) -> [UInt8]? {
    guard let facilitated else { return nil }
    var out = ByteBuffer()
    guard FacilitatorRequest.append(facilitated.payload, facilitated.requirements, amount: amount, resource: facilitated.resource, to: &out) else {
      return nil
    }
    return out.array()
  }
}
