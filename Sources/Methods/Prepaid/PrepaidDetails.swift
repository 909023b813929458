import Encoding
import Payments

/// What `methodDetails` of every request object of the prepaid method tells.
public struct PrepaidDetails: Sendable, Hashable {
  /// How many base units one whole unit has, as a power of ten: 0 to 30.
  public let decimals: UInt8
  /// The ledger's name, so that a client knows which of its wallets to use.
  public let ledger: String
  /// The request that is bought.
  public let resource: Resource

  /// Makes the details.
  public init(decimals: UInt8, ledger: String, resource: Resource) {
    self.decimals = decimals
    self.ledger = ledger
    self.resource = resource
  }

  /// Reads the members that charge and session share.
  public init(parsing object: JSONObject) throws(PrepaidError) {
    var members = PrepaidMembers(object)
    guard let number = try members.value(.decimals).intValue, let decimals = UInt8(exactly: number),
      decimals <= Currency.decimalsLimit
    else { throw .invalid(.decimals) }
    self.decimals = decimals
    ledger = try members.string(.ledger)
    let value = try members.value(.resource)
    do { resource = try Resource(value) } catch { throw .invalid(.resource) }
  }

  /// The members that charge and session share.
  public var object: JSONObject {
    ["decimals": .integer(Int64(decimals)), "ledger": .string(ledger), "resource": .object(resource.json)]
  }
}
