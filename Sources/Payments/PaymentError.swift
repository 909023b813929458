/// Names the rule that an amount, a challenge, a credential, a receipt or an invoice broke.
///
/// No case carries octets that a peer sent: credentials must not reach logs or error messages
/// (draft-httpauth-payment-02, "Credential Handling").
public enum PaymentError: Error, Hashable, Sendable {
  /// The members of the documents of this module that a case may point at.
  public enum Member: String, Hashable, Sendable {
    case id, realm, method, intent, request, expires, digest, opaque, header, description
    case challenge, payload, source
    case status, timestamp, reference, challengeId, amount, currency, recipient, resource, url
    case sessionId, spent, remaining, units, logSize, logRoot, kid, sig
    case iss, iat, exp, offers
  }

  // Amounts.
  /// The text is no decimal number with the unit that was expected.
  case malformedAmount
  /// The amount has more decimals than its currency.
  case tooManyDecimals(limit: UInt8)
  /// No currency of this code is known.
  case unknownCurrency
  /// The value does not fit into 128 bits.
  case overflow

  // What every document shares.
  /// The document is larger than its limit, in octets.
  case tooLarge(limit: Int)
  /// The text is not strict base64url without padding (RFC 4648 section 5).
  case notBase64URL
  /// The octets are not JSON of the strict kind: RFC 8259 without duplicate names or lone surrogates.
  case malformedJSON
  /// The decoded value is no JSON object.
  case notAnObject
  case missing(Member)
  /// The member is present, but of another type or form than its specification gives it.
  case malformed(Member)

  // Challenges.
  /// The field value's scheme is not `Payment`.
  case notPaymentScheme
  /// The syntax of RFC 9110 section 11.3 ends at this octet.
  case malformedChallenge(at: Int)
  /// The parameter occurs twice, so that two readers may see two challenges.
  case duplicate(Member)
  /// A parameter's value would break out of its header line.
  case controlCharacter(Member)
  /// The value holds `|`, which separates the slots of the binding.
  case ambiguousBinding(Member)
  /// A challenge-binding secret has fewer than 32 octets.
  case weakSecret

  // Credentials.
  /// More than one Payment credential stands in one field value.
  case severalCredentials
  /// The id is not one that this scheme's binding can have produced.
  case unknownChallenge
  /// The credential arrived in another field than its challenge selected.
  case fieldNotSelected

  // Receipts and invoices.
  /// The signature does not verify under the key that `kid` names.
  case invalidSignature
  /// No key is known by this `kid`.
  case unknownKey
  /// The document is of another type (`typ`, `alg`, `status`) than was asked for.
  case wrongType
  /// The invoice does not list the challenge, or lists it with another request.
  case challengeNotListed
  /// The invoice's offer says something else than the challenge's request.
  case offerMismatch(Member)
  /// The document's time has passed, or not begun.
  case expired
}
