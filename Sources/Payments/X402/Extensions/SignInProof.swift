import Bytes
import Encoding
import Ethereum

/// What a client sends in `SIGN-IN-WITH-X`: the message of CAIP-122 by its parts, and the wallet's signature, nothing of it verified yet.
public struct SignInProof: Sendable, CustomStringConvertible {
  /// The most octets of the field's value, as encoded.
  public static let fieldLimit = 16 * 1024
  /// The most resources.
  public static let resourceLimit = 32

  public let domain: String
  /// As it was sent, which is how it stands in the message.
  public let addressText: String
  public let address: Address
  public let uri: String
  public let network: X402Network
  public let nonce: String
  /// RFC 3339 texts, as they stand in the message.
  public let issuedAt: String
  public let expirationTime: String?
  public let notBefore: String?
  public let requestID: String?
  public let statement: String?
  public let resources: [String]
  /// As it was sent: 65 octets of a key, or what a contract checks.
  public let signature: [UInt8]

  /// Keeps signatures out of logs.
  public var description: String { "<sign-in>" }

  /// Parses the field's value: base64 of either alphabet, padded or not.
  ///
  /// - Throws: `tooLarge`, `notBase64`, `malformedJSON`, `notAnObject`, `missing`, `malformed`, `controlCharacter`, `signatureTooLong`,
  ///   `tooMany`; `unknownNetwork` for chains that are not EVM's.
  public init(fieldValue: UnsafeRawBufferPointer) throws(X402Error) {
    let json = try X402Text.decode(fieldValue, limit: Self.fieldLimit)
    let members = try X402Text.parse(json, limit: Self.fieldLimit)
    guard try members.string(.type) == "eip191" else { throw .unknownNetwork }
    guard let network = X402Network(caip2: try members.string(.chainId)) else { throw .unknownNetwork }
    guard try members.string(.version) == "1" else { throw .malformed(.version) }
    self.network = network
    domain = try Self.line(.domain, members)
    addressText = try Self.line(.address, members)
    address = try members.address(.address)
    uri = try Self.line(.uri, members)
    nonce = try Self.line(.nonce, members)
    guard nonce.utf8.count >= 8, nonce.utf8.allSatisfy(Self.isAlphanumeric) else { throw .malformed(.nonce) }
    issuedAt = try Self.line(.issuedAt, members)
    expirationTime = try Self.optionalLine(.expirationTime, members)
    notBefore = try Self.optionalLine(.notBefore, members)
    requestID = try Self.optionalLine(.requestId, members)
    statement = try Self.optionalLine(.statement, members)
    var resources: [String] = []
    if members[.resources] != nil {
      for value in try members.array(.resources, limit: Self.resourceLimit) {
        guard let text = value.stringValue else { throw .malformed(.resources) }
        guard Self.isPrintable(text) else { throw .controlCharacter(.resources) }
        resources.append(text)
      }
    }
    self.resources = resources
    signature = try members.signature()
  }

  /// The text that was signed (EIP-4361, "Message Format"); its EIP-191 hash is what the signature is over.
  public var message: String {
    var text = "\(domain) wants you to sign in with your Ethereum account:\n\(addressText)\n\n"
    if let statement { text += "\(statement)\n" }
    text += "\nURI: \(uri)\nVersion: 1\nChain ID: \(network.chainID)\nNonce: \(nonce)\nIssued At: \(issuedAt)"
    if let expirationTime { text += "\nExpiration Time: \(expirationTime)" }
    if let notBefore { text += "\nNot Before: \(notBefore)" }
    if let requestID { text += "\nRequest ID: \(requestID)" }
    if !resources.isEmpty { text += "\nResources:" + resources.map { "\n- \($0)" }.joined() }
    return text
  }

  /// Names a fault of a proof by the strings of the official packages.
  public enum Fault: String, Sendable, Hashable, Error {
    case domainMismatch = "invalid_siwx_domain_mismatch"
    case uriMismatch = "invalid_siwx_uri_mismatch"
    case malformedIssuedAt = "invalid_siwx_issued_at"
    case tooOld = "invalid_siwx_issued_at_too_old"
    case issuedInFuture = "invalid_siwx_issued_at_in_future"
    case malformedExpirationTime = "invalid_siwx_expiration_time"
    case expired = "invalid_siwx_expired"
    case malformedNotBefore = "invalid_siwx_not_before"
    case notYetValid = "invalid_siwx_not_yet_valid"
    case unsupportedChain = "invalid_siwx_unsupported_chain"
    /// The nonce is not one that may be used, or was used before; whoever keeps the nonces finds this.
    case nonce = "invalid_siwx_nonce"
    /// The signature is not the address's; whoever verifies finds this.
    case signature = "invalid_siwx_signature"
  }

  /// Finds what is wrong with the proof's text, before its signature is looked at ("Validate Message Fields"); nil where nothing is.
  public func fault(_ declared: SignInWithX, now: Timestamp) -> Fault? {
    guard domain.hasSameOctets(as: declared.domain) else { return .domainMismatch }
    guard let (origin, _) = Self.split(uri), origin.hasSameOctets(as: declared.origin) else { return .uriMismatch }
    guard declared.networks.contains(network) else { return .unsupportedChain }
    guard let issued = Timestamp(rfc3339: issuedAt) else { return .malformedIssuedAt }
    guard issued <= now else { return .issuedInFuture }
    guard now - issued <= SignInWithX.maximumAge else { return .tooOld }
    if let expirationTime {
      guard let expires = Timestamp(rfc3339: expirationTime) else { return .malformedExpirationTime }
      guard now < expires else { return .expired }
    }
    if let notBefore {
      guard let begins = Timestamp(rfc3339: notBefore) else { return .malformedNotBefore }
      guard begins <= now else { return .notYetValid }
    }
    return nil
  }

  /// Cuts an absolute URI into its origin and the authority in it; nil for anything without scheme and authority.
  static func split(_ uri: String) -> (origin: String, authority: String)? {
    guard let colon = uri.utf8.firstIndex(of: 0x3A), colon > uri.startIndex else { return nil }
    let rest = uri.utf8[uri.utf8.index(after: colon)...]
    guard rest.starts(with: [0x2F, 0x2F]) else { return nil }
    let start = rest.index(rest.startIndex, offsetBy: 2)
    let end = rest[start...].firstIndex { $0 == 0x2F || $0 == 0x3F || $0 == 0x23 } ?? rest.endIndex
    guard start < end, !rest[start..<end].contains(0x40) else { return nil }
    return (String(uri[..<end]), String(uri[start..<end]))
  }

  /// Whether a text can stand in a line of the message.
  static func isPrintable(_ text: String) -> Bool { text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F } }

  private static func isAlphanumeric(_ octet: UInt8) -> Bool {
    switch octet {
    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
    default: false
    }
  }

  private static func line(_ member: X402Error.Member, _ members: X402Members) throws(X402Error) -> String {
    let text = try members.string(member)
    guard isPrintable(text) else { throw .controlCharacter(member) }
    return text
  }

  private static func optionalLine(_ member: X402Error.Member, _ members: X402Members) throws(X402Error) -> String? {
    members[member] == nil ? nil : try line(member, members)
  }
}
