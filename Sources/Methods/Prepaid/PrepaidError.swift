/// Names the rule of the prepaid method's objects that was broken, and the member where it was.
public enum PrepaidError: Error, Sendable, Hashable {
  /// A member that the object must have is not there.
  case missing(Member)
  /// A member has the wrong type or spelling.
  case invalid(Member)
  /// The object has a member that it must not have.
  case unexpectedMember
  /// `type` or `action` names nothing that the intent knows.
  case unknownAction
  /// A close carries both a preimage and a wallet's signature, or neither.
  case ambiguousProof
  /// The credential's `source` is another wallet than the payload's.
  case sourceDiffers
  /// The text is not one JSON object without duplicate names.
  case malformed
  /// The `Prepaid-Session` field is not `<id>; key=<preimage>`.
  case malformedField
  /// The amounts of a request object contradict each other.
  case contradiction(Member)

  /// The members that the method's objects may have.
  public enum Member: String, Sendable, Hashable {
    case action, additionalDeposit, amount, currency, decimals, deposit, description, digest, externalId, idleTimeout, ledger, method
    case methodDetails, minimumDeposit, nonce, preimage, prices, recipient, refunded, remaining, required, resource, sessionId, signature
    case spent, state, status, suggestedDeposit, time, type, unitSize, unitType, url, wallet, held, direction, minimum, maximum
  }
}
