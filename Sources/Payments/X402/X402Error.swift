/// Names the rule of x402 that a document breaks.
///
/// The dialect has an enum of its own, because `PaymentError` maps to MPP's problem types, which x402 does not speak: its answer
/// to the peer is the wire string of ``reason``. No case carries octets that a peer sent.
public enum X402Error: Error, Hashable, Sendable {
  /// The members of x402's documents that a case may point at.
  public enum Member: String, Hashable, Sendable {
    case x402Version, error, resource, accepts, accepted, extensions, payload
    case scheme, network, amount, maxAmountRequired, asset, payTo, maxTimeoutSeconds, extra, description, mimeType, url
    case serviceName, tags, iconUrl
    case signature, authorization, permit2Authorization, from, to, value, validAfter, validBefore, nonce
    case permitted, token, spender, deadline, witness, facilitator
    case type, channelConfig, voucher, deposit, erc3009Authorization, salt
    case payer, payerAuthorizer, receiver, receiverAuthorizer, withdrawDelay, channelId, maxClaimableAmount
    case balance, totalClaimed, withdrawRequestedAt, refundNonce, chargedCumulativeAmount, signedMaxClaimable
    case channelState, voucherState, chargedAmount
    case success, errorReason, errorMessage, transaction, isValid, invalidReason, invalidMessage
    case kinds, signers, info, id, required
    case domain, address, uri, version, chainId, issuedAt, expirationTime, notBefore, requestId, statement, resources
    case signatureScheme, kid
  }

  // What every document shares.
  /// The document is larger than its limit, in octets.
  case tooLarge(limit: Int)
  /// The text is not base64 (RFC 4648), in neither alphabet.
  case notBase64
  /// The octets are not JSON of the strict kind: RFC 8259 without duplicate names or lone surrogates.
  case malformedJSON
  /// The decoded value is no JSON object.
  case notAnObject
  case missing(Member)
  /// The member is present, but of another type or form than its specification gives it.
  case malformed(Member)
  /// The number is greater than what is held inside: 128 bits for amounts, 64 for times.
  case overflow(Member)
  /// The signature has more octets than ``PaymentPayload/signatureLimit``.
  case signatureTooLong
  /// A list has more elements than its limit.
  case tooMany(Member, limit: Int)
  /// A text holds a control character, which would break out of its line.
  case controlCharacter(Member)

  // What a payment names.
  /// The version is none of 1 and 2.
  case unsupportedVersion
  /// The version is not that of the field which carried the payment.
  case versionMismatch
  /// The scheme is none of exact, upto and batch-settlement, or in version 1 another one than exact.
  case unknownScheme
  /// The network is no chain of the namespace `eip155`, or in version 1 has no known name.
  case unknownNetwork
  /// The payload pays by none of the ways of its scheme, or by several at once.
  case unknownTransfer
}

extension X402Error {
  /// The wire string that tells a peer about it.
  public var reason: X402Reason {
    switch self {
    case .unsupportedVersion, .versionMismatch: .invalidX402Version
    case .unknownScheme: .unsupportedScheme
    case .unknownNetwork: .invalidNetwork
    case .tooLarge, .notBase64, .malformedJSON, .notAnObject, .missing, .malformed, .overflow, .signatureTooLong, .tooMany,
      .controlCharacter, .unknownTransfer:
      .invalidPayload
    }
  }
}
