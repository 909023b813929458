import Encoding

/// What a route asks for in one of its challenges.
public struct Offer: Sendable, Hashable {
  /// The payment method's identifier.
  public let method: String
  public let intent: String
  /// Base units, as in the request's `amount`.
  public let amount: UInt128
  public let currency: String
  public let recipient: String?
  public let description: String?
  /// The request object without `methodDetails.resource`, which is filled in for each request.
  public let request: JSONObject

  public init(
    method: String, intent: String, amount: UInt128, currency: String, recipient: String?, description: String? = nil,
    request: JSONObject
  ) {
    self.method = method
    self.intent = intent
    self.amount = amount
    self.currency = currency
    self.recipient = recipient
    self.description = description
    self.request = request
  }
}
