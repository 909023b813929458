import Bytes
import Encoding
import Payments

/// The request object of a charge by the prepaid method.
public struct PrepaidCharge: Sendable, Hashable {
  /// The price, in base units.
  public let amount: UInt128
  /// The ledger's code of the asset, in lower case.
  public let currency: String
  /// The merchant account that is credited.
  public let recipient: String
  /// What is bought, for people.
  public let description: String?
  /// The merchant's own reference.
  public let externalId: String?
  /// How ledger, decimals and resource are told.
  public let details: PrepaidDetails

  /// Makes the object's content.
  public init(
    amount: UInt128, currency: String, recipient: String, description: String? = nil, externalId: String? = nil, details: PrepaidDetails
  ) {
    self.amount = amount
    self.currency = currency
    self.recipient = recipient
    self.description = description
    self.externalId = externalId
    self.details = details
  }

  /// Reads a request object; members that are unknown are passed over, since later versions may add some.
  public init(parsing object: JSONObject) throws(PrepaidError) {
    var members = PrepaidMembers(object)
    amount = try members.amount(.amount)
    currency = try members.string(.currency)
    recipient = try members.string(.recipient)
    description = try members.optionalString(.description)
    externalId = try members.optionalString(.externalId)
    details = try PrepaidDetails(parsing: try members.object(.methodDetails))
    guard amount > 0 else { throw .invalid(.amount) }
  }

  /// The request object.
  public var object: JSONObject {
    var object: JSONObject = [
      "amount": .string(String(amount)), "currency": .string(currency), "recipient": .string(recipient),
      "methodDetails": .object(details.object),
    ]
    if let description { object.set("description", .string(description)) }
    if let externalId { object.set("externalId", .string(externalId)) }
    return object
  }
}
