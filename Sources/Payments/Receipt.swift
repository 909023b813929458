import Bytes
import Crypto
import Encoding

/// Says what was paid, for what, and by whose books: b64u(JCS(object)) in `Payment-Receipt`
/// (draft-httpauth-payment-02 "Payment-Receipt Header", PREPAID.md "Receipts, invoices, keys").
public struct Receipt: Sendable, Hashable {
  /// What a signature of a receipt covers, in front of its JCS.
  static let domain: StaticString = "receipt-v1\n"
  /// The most octets of an encoded receipt that are read.
  public static let limit = 32 * 1024

  /// A session's figures, in base units and in units of its first price.
  public struct Session: Sendable, Hashable {
    /// Hex of the session's id.
    public let id: String
    public let spent: UInt128
    public let remaining: UInt128
    public let units: UInt64

    public init(id: String, spent: UInt128, remaining: UInt128, units: UInt64) {
      self.id = id
      self.spent = spent
      self.remaining = remaining
      self.units = units
    }
  }

  /// Where the audit log's last checkpoint stood.
  public struct LogPosition: Sendable, Hashable {
    /// Count of leaves.
    public let size: UInt64
    public let root: Digest32

    public init(size: UInt64, root: Digest32) {
      self.size = size
      self.root = root
    }
  }

  public let method: String
  public let intent: String
  public let timestamp: Timestamp
  /// Of a charge the entry's id; of a session its id.
  public let reference: String
  public let challengeID: String
  /// Of this payment, in base units.
  public let amount: UInt128
  public let currency: String
  public let recipient: String
  /// Method and URL of what was bought.
  public let resource: Resource
  public let session: Session?
  /// The chain (EIP-155) that the money moved on; nil for our own books.
  public let chainID: UInt64?
  /// Set by signing.
  public private(set) var log: LogPosition?
  /// The RFC 7638 thumbprint of the signing key; nil where the receipt is not signed.
  public private(set) var kid: String?
  /// b64u of the 64 octets.
  public private(set) var signature: String?

  public init(
    method: String, intent: String, timestamp: Timestamp, reference: String, challengeID: String, amount: UInt128,
    currency: String, recipient: String, resource: Resource, session: Session? = nil, chainID: UInt64? = nil
  ) {
    self.method = method
    self.intent = intent
    self.timestamp = timestamp
    self.reference = reference
    self.challengeID = challengeID
    self.amount = amount
    self.currency = currency
    self.recipient = recipient
    self.resource = resource
    self.session = session
    self.chainID = chainID
  }

  /// Returns the receipt with the log's position, signed: Ed25519 over `receipt-v1` LF and the JCS without `sig`.
  public func signed(by signer: DocumentSigner, log: LogPosition) -> Receipt {
    var receipt = self
    receipt.log = log
    receipt.kid = signer.kid
    receipt.signature = nil
    var octets = ByteBuffer()
    octets.append(Receipt.domain)
    receipt.appendJSON(to: &octets)
    receipt.signature = octets.withUnsafeBytes { Base64URL.encode(signer.key.sign($0)) }
    return receipt
  }

  /// Appends the JCS of the receipt.
  public func appendJSON(to out: inout ByteBuffer) {
    let writer = ReceiptWriter(
      method: method, intent: intent, reference: reference, challengeID: challengeID, currency: currency, recipient: recipient)
    writer.begin(amount: amount, chainID: chainID, kid: kid, log: log, remaining: session?.remaining, to: &out)
    out.append(",\"resource\":{\"method\":" as StaticString)
    JCS.append(string: resource.method, to: &out)
    out.append(",\"url\":" as StaticString)
    JCS.append(string: resource.url, to: &out)
    out.append(byte: 0x7D)
    writer.end(session: session, signature: signature, timestamp: timestamp, to: &out)
  }

  /// The field's value: b64u of the JCS.
  public var encoded: [UInt8] {
    var json = ByteBuffer()
    appendJSON(to: &json)
    return json.withUnsafeBytes { Base64URL.encodeOctets($0) }
  }

  /// Reads a receipt without verifying it; members that are unknown are passed over.
  ///
  /// - Throws: `tooLarge`, `notBase64URL`, `malformedJSON`, `notAnObject`, `missing`, `malformed`, or `wrongType` where
  ///   `status` is not `success`.
  public static func parse(_ encoded: String) throws(PaymentError) -> Receipt {
    try Receipt(try EncodedObject.decode(encoded, limit: limit))
  }

  /// Reads a signed receipt and verifies it over all of its members, those unknown here included.
  ///
  /// - Throws: as `parse`, and `unknownKey`, or `invalidSignature` where it is absent or wrong.
  public static func verify(
    _ encoded: String, keys: (_ kid: String) -> Ed25519.PublicKey?
  ) throws(PaymentError) -> Receipt {
    var object = try EncodedObject.decode(encoded, limit: limit)
    let receipt = try Receipt(object)
    guard let kid = receipt.kid, let signature = receipt.signature.flatMap({ Base64URL.decode($0) }) else {
      throw .invalidSignature
    }
    guard let key = keys(kid) else { throw .unknownKey }
    object.remove("sig")
    var octets = ByteBuffer()
    octets.append(domain)
    JCS.append(.object(object), to: &octets)
    let isValid = octets.withUnsafeBytes { octets in
      signature.withUnsafeBytes { key.isValidSignature($0, of: octets) }
    }
    guard isValid else { throw .invalidSignature }
    return receipt
  }

  private init(_ object: JSONObject) throws(PaymentError) {
    guard try object.string(.status) == "success" else { throw .wrongType }
    guard let timestamp = Timestamp(rfc3339: try object.string(.timestamp)) else { throw .malformed(.timestamp) }
    var session: Session?
    if let id = try object.optionalString(.sessionId) {
      guard let units = UInt64(exactly: try object.units(.units)) else { throw .malformed(.units) }
      session = Session(id: id, spent: try object.units(.spent), remaining: try object.units(.remaining), units: units)
    }
    self.init(
      method: try object.string(.method), intent: try object.string(.intent), timestamp: timestamp,
      reference: try object.string(.reference), challengeID: try object.string(.challengeId),
      amount: try object.units(.amount), currency: try object.string(.currency), recipient: try object.string(.recipient),
      resource: try Resource(object["resource"]), session: session, chainID: object["chainId"]?.intValue.flatMap { UInt64(exactly: $0) })
    kid = try object.optionalString(.kid)
    signature = try object.optionalString(.sig)
    if let hex = try object.optionalString(.logRoot) {
      guard let root = Digest32(hex: hex) else { throw .malformed(.logRoot) }
      guard let size = UInt64(exactly: try object.units(.logSize)) else { throw .malformed(.logSize) }
      log = LogPosition(size: size, root: root)
    }
  }
}
