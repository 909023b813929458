/// Names the rule that a JSON-RPC message, a credential in it, or a pattern of calls breaks.
///
/// Offsets count octets of the text; no case carries octets that a peer sent.
public enum MCPError: Error, Hashable, Sendable {
  // The text.
  /// The text is not one JSON value (RFC 8259) in UTF-8 without lone surrogates.
  case notJSON(offset: Int)
  /// Arrays and objects are nested deeper than ``RPCText/depthLimit``.
  case tooDeep(offset: Int)

  // The messages (JSON-RPC 2.0).
  /// The batch has no message.
  case emptyBatch
  /// The batch has more messages than ``RPCText/messageLimit``.
  case tooManyMessages
  /// The value is no request, notification or response.
  case invalidMessage(offset: Int)
  /// A member that decides something stands there twice.
  case duplicateMember(offset: Int)
  /// A member is spelled as one that decides something but for its case: lenient readers take the one for the other.
  case ambiguousMember(offset: Int)
  /// The id is neither a string nor a number nor null.
  case invalidIdentifier(offset: Int)
  /// Two requests of a batch have the same id.
  case repeatedIdentifier(offset: Int)

  // What a call asks for.
  /// `params` names nothing that could be called, read or got.
  case missingTarget
  /// The name or URI is longer than ``CallTarget/limit``.
  case targetTooLong
  /// The URI has another spelling that means the same, by which it may be known to the upstream.
  case ambiguousURI

  // Credentials.
  /// The request carries more than one credential.
  case severalCredentials
  /// The credential has more octets than a credential may have.
  case credentialTooLarge
  /// The credential is not strict JSON: RFC 8259 without duplicate names.
  case credentialNotJSON
  /// The credential is no object, or a member of it is of the wrong type.
  case credentialMalformed
}
