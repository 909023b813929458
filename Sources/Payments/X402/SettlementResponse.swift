import Bytes
import Encoding
import Ethereum

/// How a settlement ended (x402 v2 section 5.3; the answer of `/settle` and the field `PAYMENT-RESPONSE`).
public struct SettlementResponse: Sendable, Hashable {
  /// The most octets of the JSON.
  public static let limit = 64 * 1024

  /// What was settled, in base units.
  public enum Amount: Sendable, Hashable {
    /// Not said: exact, whose amount is known.
    case unsaid
    /// The empty string: no money moved on chain, as for a voucher or a claim of batch-settlement.
    case nothing
    case units(UInt128)
  }

  public var isSuccess: Bool
  /// Nil on success.
  public var reason: X402Reason?
  /// A facilitator's sentence, for the log; never written to a client.
  public var message: String?
  /// As the answer spells it.
  public var payer: String?
  /// The transaction's hash; nil where there is none.
  public var transaction: Digest32?
  public var network: X402Network
  public var amount: Amount
  /// What this request was charged, of a channel.
  public var chargedAmount: UInt128?
  public var channelState: ChannelState?
  /// Further members of `extra`.
  public var extra: JSONObject
  public var extensions: JSONObject

  public init(
    isSuccess: Bool, reason: X402Reason? = nil, message: String? = nil, payer: String?, transaction: Digest32?, network: X402Network,
    amount: Amount = .unsaid, chargedAmount: UInt128? = nil, channelState: ChannelState? = nil, extra: JSONObject = JSONObject(),
    extensions: JSONObject = JSONObject()
  ) {
    self.isSuccess = isSuccess
    self.reason = reason
    self.message = message
    self.payer = payer
    self.transaction = transaction
    self.network = network
    self.amount = amount
    self.chargedAmount = chargedAmount
    self.channelState = channelState
    self.extra = extra
    self.extensions = extensions
  }

  /// Says that a payment did not hold.
  public static func failure(_ reason: X402Reason, payer: Address?, network: X402Network) -> SettlementResponse {
    SettlementResponse(isSuccess: false, reason: reason, payer: payer?.lowercase, transaction: nil, network: network)
  }

  /// Whether the transaction was broadcast and is not confirmed: the identical request is to be made again, no other one.
  public var isPending: Bool { !isSuccess && transaction != nil && reason?.isPending ?? false }

  /// Whether this is a refusal by which no money can have moved: only then may what was claimed be let go.
  public var isDefinitiveRefusal: Bool { !isSuccess && transaction == nil && reason.map { !$0.isIndefinite } ?? false }
}

// Writing.
extension SettlementResponse {
  /// Appends the JSON; version 1 names the network by its word where it has one.
  public func append(json version: X402Version, to out: inout ByteBuffer) {
    out.append(isSuccess ? "{\"success\":true,\"transaction\":\"" as StaticString : "{\"success\":false,\"transaction\":\"" as StaticString)
    if let transaction {
      out.append("0x" as StaticString)
      out.append(hex: transaction)
    }
    out.append("\",\"network\":\"" as StaticString)
    out.append(network.text(version) ?? network.caip2)
    out.append(byte: 0x22)
    if let reason {
      out.append(",\"errorReason\":\"" as StaticString)
      out.append(reason.rawValue)
      out.append(byte: 0x22)
    }
    if let payer {
      out.append(",\"payer\":" as StaticString)
      JCS.append(string: payer, to: &out)
    }
    switch amount {
    case .unsaid: break
    case .nothing: out.append(",\"amount\":\"\"" as StaticString)
    case .units(let units):
      out.append(",\"amount\":\"" as StaticString)
      out.append(decimal: units)
      out.append(byte: 0x22)
    }
    appendExtra(to: &out)
    if !extensions.isEmpty {
      out.append(",\"extensions\":" as StaticString)
      JSON.append(.object(extensions), to: &out)
    }
    out.append(byte: 0x7D)
  }

  private func appendExtra(to out: inout ByteBuffer) {
    guard chargedAmount != nil || channelState != nil || !extra.isEmpty else { return }
    var comma = ",\"extra\":{" as StaticString
    if let chargedAmount {
      out.append(comma)
      out.append("\"chargedAmount\":\"" as StaticString)
      out.append(decimal: chargedAmount)
      out.append(byte: 0x22)
      comma = ","
    }
    if let channelState {
      out.append(comma)
      out.append("\"channelState\":" as StaticString)
      channelState.append(to: &out)
      comma = ","
    }
    for member in extra.members {
      out.append(comma)
      JCS.append(string: member.name, to: &out)
      out.append(byte: 0x3A)
      JSON.append(member.value, to: &out)
      comma = ","
    }
    out.append(byte: 0x7D)
  }

  /// Appends the field line `PAYMENT-RESPONSE`, or `X-PAYMENT-RESPONSE` of version 1, with its CR LF.
  public func appendField(_ version: X402Version, to out: inout ByteBuffer) {
    var json = ByteBuffer()
    append(json: version, to: &json)
    switch version {
    case .v1: out.append("X-PAYMENT-RESPONSE: " as StaticString)
    case .v2: out.append("PAYMENT-RESPONSE: " as StaticString)
    }
    json.withUnsafeBytes { Base64.append($0, to: &out) }
    out.append("\r\n" as StaticString)
  }
}

// Reading.
extension SettlementResponse {
  /// Reads the JSON of a facilitator or a server.
  ///
  /// - Parameters:
  ///   - network: the one that was asked for: an answer that names another is refused, and one of version 1 may name none.
  /// - Throws: `tooLarge`, `malformedJSON`, `notAnObject`, `missing`, `malformed`, `overflow`: whoever asked for a settlement
  ///   does not know then how it ended.
  public init(json: UnsafeRawBufferPointer, network: X402Network) throws(X402Error) {
    try self.init(try X402Text.parse(json, limit: Self.limit), network: network)
  }

  /// Reads a field's value, as above.
  public init(fieldValue: UnsafeRawBufferPointer, network: X402Network) throws(X402Error) {
    try self.init(try X402Text.parse(try X402Text.decode(fieldValue, limit: Self.limit), limit: Self.limit), network: network)
  }

  private init(_ members: X402Members, network: X402Network) throws(X402Error) {
    isSuccess = try members.bool(.success)
    reason = try members.optionalString(.errorReason).map { X402Reason(wire: $0) }
    message = try members.optionalString(.errorMessage)
    payer = try members.optionalString(.payer)
    let hash = try members.optionalString(.transaction) ?? ""
    transaction = hash.isEmpty ? nil : try members.word(.transaction)
    if let text = try members.optionalString(.network), !text.isEmpty {
      guard X402Network(caip2: text) ?? X402Network(name: text) == network else { throw .malformed(.network) }
    }
    self.network = network
    switch try members.optionalString(.amount) {
    case nil: amount = .unsaid
    case ""?: amount = .nothing
    case _?: amount = .units(try members.units(.amount))
    }
    extensions = try members.optionalObject(.extensions)
    var extra = try members.optionalObject(.extra)
    let known = X402Members(extra)
    chargedAmount = known[.chargedAmount] == nil ? nil : try known.units(.chargedAmount)
    // A server adds to the snapshot what it charged, and nothing else where it knows nothing else.
    channelState = known[.channelState]?["channelId"] == nil ? nil : try ChannelState(try known.members(.channelState))
    extra.remove(X402Error.Member.chargedAmount.rawValue)
    if channelState != nil { extra.remove(X402Error.Member.channelState.rawValue) }
    self.extra = extra
  }
}
