import Bytes
import Encoding
import Ethereum

/// A signed `TransferWithAuthorization` (EIP-3009).
public struct EIP3009Authorization: Sendable, Hashable {
  public let from: Address
  public let to: Address
  /// Base units.
  public let value: UInt128
  /// Seconds since 1970; the transfer holds after it.
  public let validAfter: UInt64
  /// Seconds since 1970; the transfer holds before it.
  public let validBefore: UInt64
  public let nonce: Digest32
  /// As it was sent: 65 octets of a key, or what a contract checks.
  public let signature: [UInt8]

  public init(
    from: Address, to: Address, value: UInt128, validAfter: UInt64, validBefore: UInt64, nonce: Digest32, signature: [UInt8]
  ) {
    self.from = from
    self.to = to
    self.value = value
    self.validAfter = validAfter
    self.validBefore = validBefore
    self.nonce = nonce
    self.signature = signature
  }

  /// What was signed, without the signature.
  public var message: EIP3009.Authorization {
    EIP3009.Authorization(
      from: from, to: to, value: Word256(value), validAfter: Word256(validAfter), validBefore: Word256(validBefore), nonce: nonce)
  }

  init(_ payload: X402Members) throws(X402Error) {
    let members = try payload.members(.authorization)
    from = try members.address(.from)
    to = try members.address(.to)
    value = try members.units(.value)
    validAfter = try members.seconds(.validAfter)
    validBefore = try members.seconds(.validBefore)
    nonce = try members.word(.nonce)
    signature = try payload.signature()
  }

  /// The addresses keep their checksum: the official facilitators take no others.
  var json: JSONObject {
    [
      "signature": .string(HexData.text(signature)),
      "authorization": [
        "from": .string(from.checksummed), "to": .string(to.checksummed), "value": "\(value)", "validAfter": "\(validAfter)",
        "validBefore": "\(validBefore)", "nonce": .string(HexData.text(nonce)),
      ],
    ]
  }
}
