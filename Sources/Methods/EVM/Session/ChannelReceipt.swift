import Bytes
import Encoding
import Ethereum

/// The receipt of a session over a channel (drafts, "Receipt Generation").
public struct ChannelReceipt: Sendable, Hashable {
  /// The most octets of a field's value that is read.
  public static let limit = 8192
  /// The greatest whole number that JSON's numbers hold exactly.
  private static let wholeLimit = UInt64(1) << 53

  /// The payment method.
  public let method: String
  /// The chain's id; nil where the method's receipts have none.
  public let chainID: UInt64?
  /// The challenge's id.
  public let challengeID: String
  /// The channel, which is the receipt's reference as well.
  public let channelID: Digest32
  /// The highest voucher's amount that was accepted, in base units.
  public var acceptedCumulative: UInt128
  /// What was charged in all, in base units.
  public var spent: UInt128
  /// When.
  public var timestamp: Timestamp
  /// The units of this request.
  public var units: UInt64?
  /// The transaction that opened, settled or closed.
  public var transaction: Digest32?

  /// Takes the members.
  public init(
    escrow: SessionEscrow, challengeID: String, channelID: Digest32, acceptedCumulative: UInt128, spent: UInt128,
    timestamp: Timestamp, units: UInt64? = nil, transaction: Digest32? = nil
  ) {
    method = escrow.rules.method
    // Only draft-evm-session-00 has the member.
    chainID = escrow.rules == .evm ? escrow.chain : nil
    self.challengeID = challengeID
    self.channelID = channelID
    self.acceptedCumulative = acceptedCumulative
    self.spent = spent
    self.timestamp = timestamp
    self.units = units
    self.transaction = transaction
  }

  /// Reads a field's value: base64url without padding of the object.
  ///
  /// - Throws: `tooLong`, `missing`, `malformed`, `overflow`.
  public init(field value: String) throws(ChainChargeError) {
    guard value.utf8.count <= Self.limit else { throw .tooLong(.receipt, limit: Self.limit) }
    guard let octets = Base64URL.decode(value) else { throw .malformed(.receipt) }
    try self.init(text: octets)
  }

  /// Reads an event's data: the object itself.
  ///
  /// - Throws: as above.
  public init(text octets: [UInt8]) throws(ChainChargeError) {
    guard octets.count <= Self.limit else { throw .tooLong(.receipt, limit: Self.limit) }
    let json: JSONValue
    do { json = try JSON.parse(octets) } catch { throw .malformed(.receipt) }
    guard let object = json.objectValue else { throw .malformed(.receipt) }
    let members = ChainMembers(object)
    guard try members.string(.status) == "success" else { throw .malformed(.status) }
    guard try members.string(.intent) == ChannelProtocol.intent else { throw .malformed(.intent) }
    method = try members.string(.method)
    chainID = members[.chainId] == nil ? nil : try members.whole(.chainId)
    challengeID = try members.string(.challengeId)
    channelID = try members.word(.channelId)
    guard try members.word(.reference) == channelID else { throw .malformed(.reference) }
    acceptedCumulative = try members.units(.acceptedCumulative)
    spent = try members.units(.spent)
    guard let timestamp = Timestamp(rfc3339: try members.string(.timestamp)) else { throw .malformed(.timestamp) }
    self.timestamp = timestamp
    units = members[.units] == nil ? nil : try members.whole(.units)
    transaction = members[.txHash] == nil ? nil : try members.word(.txHash)
  }

  /// Appends JCS of the receipt.
  public func append(to out: inout ByteBuffer) {
    ChannelReceiptStub(self).append(
      acceptedCumulative: acceptedCumulative, spent: spent, timestamp: timestamp, units: units, transaction: transaction, to: &out)
  }

  /// The field's value.
  public var fieldValue: [UInt8] {
    var text = ByteBuffer()
    append(to: &text)
    var out = ByteBuffer()
    Base64URL.append(text, to: &out)
    return out.array()
  }

  /// Whether a number of units is told: one that JSON's numbers hold.
  fileprivate static func isTold(_ units: UInt64) -> Bool { units <= wholeLimit }
}

/// What the receipts of one channel have in common, serialised once, so that a request's costs neither strings nor objects.
public struct ChannelReceiptStub: Sendable {
  /// What stands between the amount accepted and the one spent.
  private let members: [UInt8]

  /// Prepares the receipts of a channel.
  public init(escrow: SessionEscrow, challengeID: String, channelID: Digest32) {
    self.init(
      ChannelReceipt(
        escrow: escrow, challengeID: challengeID, channelID: channelID, acceptedCumulative: 0, spent: 0, timestamp: .earliest))
  }

  fileprivate init(_ receipt: ChannelReceipt) {
    var out = ByteBuffer()
    if let chainID = receipt.chainID {
      out.append("\",\"chainId\":" as StaticString)
      out.append(decimal: chainID)
      out.append(",\"challengeId\":" as StaticString)
    } else {
      out.append("\",\"challengeId\":" as StaticString)
    }
    JCS.append(string: receipt.challengeID, to: &out)
    out.append(",\"channelId\":\"0x" as StaticString)
    out.append(hex: receipt.channelID)
    out.append("\",\"intent\":\"session\",\"method\":" as StaticString)
    JCS.append(string: receipt.method, to: &out)
    out.append(",\"reference\":\"0x" as StaticString)
    out.append(hex: receipt.channelID)
    out.append("\",\"spent\":\"" as StaticString)
    members = out.array()
  }

  /// Appends JCS of a receipt.
  ///
  /// - Parameters:
  ///   - acceptedCumulative: the highest voucher's amount, in base units.
  ///   - spent: what was charged in all, in base units.
  ///   - units: of this request; nil, or past 2⁵³, where they are not told.
  public func append(
    acceptedCumulative: UInt128, spent: UInt128, timestamp: Timestamp, units: UInt64? = nil, transaction: Digest32? = nil,
    to out: inout ByteBuffer
  ) {
    out.append("{\"acceptedCumulative\":\"" as StaticString)
    out.append(decimal: acceptedCumulative)
    out.append(members)
    out.append(decimal: spent)
    out.append("\",\"status\":\"success\",\"timestamp\":\"" as StaticString)
    timestamp.append(rfc3339: &out)
    out.append(byte: 0x22)
    if let transaction {
      out.append(",\"txHash\":\"0x" as StaticString)
      out.append(hex: transaction)
      out.append(byte: 0x22)
    }
    if let units, ChannelReceipt.isTold(units) {
      out.append(",\"units\":" as StaticString)
      out.append(decimal: units)
    }
    out.append(byte: 0x7D)
  }
}
