import Bytes
import Encoding

/// The problem types of payments (draft-httpauth-payment-02 "Error Codes"; MPP.md "Problem types"; PREPAID.md).
///
/// Those of the scheme stand under `https://paymentauth.org/problems/`, those of the prepaid method and of the proxy
/// under the ledger's own origin.
public enum PaymentProblem: UInt8, Sendable, Hashable, CaseIterable {
  // The scheme's.
  case paymentRequired, malformedCredential, invalidChallenge, verificationFailed, paymentExpired, paymentInsufficient
  case invalidPayload, paymentActionRequired, internalPaymentError, badRequest, methodUnsupported
  case sessionInsufficientBalance, sessionInvalidSignature, sessionSignerMismatch, sessionAmountExceedsDeposit
  case sessionDeltaTooSmall, sessionNotFound, sessionFinalized, sessionChallengeNotFound, sessionTransactionReverted
  // Our own.
  /// The wallet's policy forbids the payment; paying again cannot help.
  case policyDenied
  /// The credential has been used and settled; the document names its reference.
  case alreadyPaid
  /// The credential is being used by another request.
  case paymentInFlight
  /// The session of this credential is open; the document holds its receipt.
  case alreadyOpen
  /// A session of this id exists, opened by another credential.
  case sessionExists
  /// The credential belongs to another wallet, ledger, currency or recipient than the session.
  case sessionMismatch
  /// More requests of the session or wallet are in flight than the route allows.
  case tooManyInFlight
  case idempotencyInFlight
  /// The key was used with another request.
  case idempotencyMismatch
  /// The request was paid and answered, but its answer was too large to be kept; the document holds its receipt.
  case outcomeNotKept
  /// The books cannot be written; nothing is sold.
  case ledgerUnavailable
  /// The signed query for a wallet is refused.
  case queryRefused
  case rateLimited
  /// The body is larger than what a route that binds digests reads.
  case bodyTooLarge
  /// The request names something, such as a model, for which there is no price.
  case notSold
  /// The payment may still settle on its chain; the same request again finds what became of it.
  case paymentPending
  /// The chain cannot be asked; nothing was claimed or sent.
  case railUnavailable
  /// The payment was made with another request.
  case paymentMismatch
  /// The ledger was restored from a backup, and no operator has confirmed the session yet.
  case sessionUnconfirmed

  /// Where the scheme's problem types stand.
  public static let schemeOrigin: StaticString = "https://paymentauth.org/problems/"

  /// Tells whether the type stands under the ledger's own origin.
  public var isOwn: Bool { rawValue >= PaymentProblem.policyDenied.rawValue }

  public var status: UInt16 {
    switch self {
    case .paymentRequired, .malformedCredential, .invalidChallenge, .verificationFailed, .paymentExpired, .paymentInsufficient,
      .invalidPayload, .paymentActionRequired, .sessionInsufficientBalance, .sessionInvalidSignature, .sessionSignerMismatch,
      .sessionAmountExceedsDeposit, .sessionDeltaTooSmall, .sessionChallengeNotFound:
      402
    case .badRequest, .methodUnsupported, .notSold: 400
    case .internalPaymentError: 500
    case .sessionNotFound, .sessionFinalized: 410
    case .policyDenied, .alreadyPaid, .sessionMismatch, .queryRefused: 403
    case .paymentInFlight, .alreadyOpen, .sessionExists, .idempotencyInFlight, .outcomeNotKept, .sessionTransactionReverted,
      .paymentMismatch:
      409
    case .idempotencyMismatch: 422
    case .rateLimited, .tooManyInFlight: 429
    case .bodyTooLarge: 413
    case .ledgerUnavailable, .paymentPending, .railUnavailable, .sessionUnconfirmed: 503
    }
  }

  /// The last part of the type's URI.
  public var name: StaticString {
    switch self {
    case .paymentRequired: "payment-required"
    case .malformedCredential: "malformed-credential"
    case .invalidChallenge: "invalid-challenge"
    case .verificationFailed: "verification-failed"
    case .paymentExpired: "payment-expired"
    case .paymentInsufficient: "payment-insufficient"
    case .invalidPayload: "invalid-payload"
    case .paymentActionRequired: "payment-action-required"
    case .internalPaymentError: "internal-payment-error"
    case .badRequest: "bad-request"
    case .methodUnsupported: "method-unsupported"
    case .sessionInsufficientBalance: "session/insufficient-balance"
    case .sessionInvalidSignature: "session/invalid-signature"
    case .sessionSignerMismatch: "session/signer-mismatch"
    case .sessionAmountExceedsDeposit: "session/amount-exceeds-deposit"
    case .sessionDeltaTooSmall: "session/delta-too-small"
    case .sessionNotFound: "session/channel-not-found"
    case .sessionFinalized: "session/channel-finalized"
    case .sessionChallengeNotFound: "session/challenge-not-found"
    case .sessionTransactionReverted: "session/transaction-reverted"
    case .policyDenied: "policy-denied"
    case .alreadyPaid: "already-paid"
    case .paymentInFlight: "payment-in-flight"
    case .alreadyOpen: "already-open"
    case .sessionExists: "session-exists"
    case .sessionMismatch: "session-mismatch"
    case .tooManyInFlight: "too-many-in-flight"
    case .idempotencyInFlight: "idempotency-in-flight"
    case .idempotencyMismatch: "idempotency-mismatch"
    case .outcomeNotKept: "outcome-not-kept"
    case .ledgerUnavailable: "ledger-unavailable"
    case .queryRefused: "query-refused"
    case .rateLimited: "rate-limited"
    case .bodyTooLarge: "body-too-large"
    case .notSold: "not-sold"
    case .paymentPending: "payment-pending"
    case .railUnavailable: "rail-unavailable"
    case .paymentMismatch: "payment-mismatch"
    case .sessionUnconfirmed: "session-unconfirmed"
    }
  }

  public var title: StaticString {
    switch self {
    case .paymentRequired: "Payment Required"
    case .malformedCredential: "Malformed Credential"
    case .invalidChallenge: "Invalid Challenge"
    case .verificationFailed: "Payment Verification Failed"
    case .paymentExpired: "Payment Expired"
    case .paymentInsufficient: "Payment Insufficient"
    case .invalidPayload: "Invalid Payload"
    case .paymentActionRequired: "Payment Action Required"
    case .internalPaymentError: "Internal Payment Error"
    case .badRequest: "Bad Request"
    case .methodUnsupported: "Payment Method Unsupported"
    case .sessionInsufficientBalance: "Insufficient Session Balance"
    case .sessionInvalidSignature: "Invalid Session Signature"
    case .sessionSignerMismatch: "Session Signer Mismatch"
    case .sessionAmountExceedsDeposit: "Amount Exceeds Deposit"
    case .sessionDeltaTooSmall: "Amount Too Small"
    case .sessionNotFound: "Session Not Found"
    case .sessionFinalized: "Session Closed"
    case .sessionChallengeNotFound: "Challenge Not Found"
    case .sessionTransactionReverted: "Transaction Reverted"
    case .policyDenied: "Denied By Wallet Policy"
    case .alreadyPaid: "Already Paid"
    case .paymentInFlight: "Payment In Flight"
    case .alreadyOpen: "Session Already Open"
    case .sessionExists: "Session Exists"
    case .sessionMismatch: "Session Mismatch"
    case .tooManyInFlight: "Too Many Requests In Flight"
    case .idempotencyInFlight: "Request In Flight"
    case .idempotencyMismatch: "Idempotency Key Reused"
    case .outcomeNotKept: "Answer Not Kept"
    case .ledgerUnavailable: "Ledger Unavailable"
    case .queryRefused: "Query Refused"
    case .rateLimited: "Too Many Requests"
    case .bodyTooLarge: "Body Too Large"
    case .notSold: "Not Sold"
    case .paymentPending: "Payment Pending"
    case .railUnavailable: "Payment Rail Unavailable"
    case .paymentMismatch: "Payment Of Another Request"
    case .sessionUnconfirmed: "Session Not Confirmed"
    }
  }

  /// What the document says where nothing more precise is known.
  public var detail: StaticString {
    switch self {
    case .paymentRequired: "Payment is required for this resource."
    case .malformedCredential: "The credential cannot be read."
    case .invalidChallenge: "The challenge is unknown, altered, or was issued for another request."
    case .verificationFailed: "The payment proof does not verify."
    case .paymentExpired: "The challenge has expired."
    case .paymentInsufficient: "The wallet is unknown here or does not hold enough."
    case .invalidPayload: "The payload does not fit the payment method and intent."
    case .paymentActionRequired: "The payment requires a further action."
    case .internalPaymentError: "The payment could not be processed."
    case .badRequest: "The request carries payment fields that contradict each other."
    case .methodUnsupported: "The payment method or intent is not offered here."
    case .sessionInsufficientBalance: "The session's budget does not cover the request."
    case .sessionInvalidSignature: "The signature does not verify."
    case .sessionSignerMismatch: "The signer does not own the session."
    case .sessionAmountExceedsDeposit: "The amount is beyond the session's deposit."
    case .sessionDeltaTooSmall: "The amount is below what the route asks for."
    case .sessionNotFound: "No session of this id is open."
    case .sessionFinalized: "The session is closed."
    case .sessionChallengeNotFound: "The challenge is unknown or has expired."
    case .sessionTransactionReverted: "The transaction on the chain was reverted."
    case .policyDenied: "The wallet's policy forbids this payment."
    case .alreadyPaid: "The credential has been used; its payment stands."
    case .paymentInFlight: "The credential is in use by another request."
    case .alreadyOpen: "The credential has opened its session already."
    case .sessionExists: "The session id is in use; choose a new secret."
    case .sessionMismatch: "The credential does not belong to the session."
    case .tooManyInFlight: "Too many requests are in flight; retry when one has ended."
    case .idempotencyInFlight: "A request with this key is in flight."
    case .idempotencyMismatch: "The key was used for another request."
    case .outcomeNotKept: "The request was paid and answered; the answer was too large to be kept."
    case .ledgerUnavailable: "The ledger cannot be written; nothing is sold at the moment."
    case .queryRefused: "The query's signature, time or nonce is not accepted."
    case .rateLimited: "Too many requests from this address."
    case .bodyTooLarge: "The body is larger than what this route binds by digest."
    case .notSold: "No price is known here for what the request asks for."
    case .paymentPending: "The payment was sent to its chain and has not settled yet. Do not pay again: repeat the same request with the same payment."
    case .railUnavailable: "Payments of this kind cannot be settled at the moment. Nothing was charged."
    case .paymentMismatch: "The payment was made with another request."
    case .sessionUnconfirmed: "The books were restored from a backup, and the session waits to be confirmed. Its money is kept."
    }
  }

  /// Appends the type's URI; `origin` is the ledger's own, without a slash at its end.
  public func appendType(origin: String, to out: inout ByteBuffer) {
    if isOwn {
      out.append(origin)
      out.append("/problems/" as StaticString)
    } else {
      out.append(PaymentProblem.schemeOrigin)
    }
    out.append(name)
  }

  /// The type's URI.
  public func type(origin: String) -> String {
    var out = ByteBuffer()
    appendType(origin: origin, to: &out)
    return out.string()
  }

  /// Appends the problem document (RFC 9457), `application/problem+json`.
  ///
  /// - Parameters:
  ///   - detail: stands in for the case's own sentence.
  ///   - members: further members, behind the standard ones.
  public func append(
    origin: String, detail: String? = nil, challengeID: String? = nil, members: JSONObject? = nil, to out: inout ByteBuffer
  ) {
    appendOpen(origin: origin, detail: detail, to: &out)
    if let challengeID {
      out.append(",\"challengeId\":" as StaticString)
      JCS.append(string: challengeID, to: &out)
    }
    appendClose(members, to: &out)
  }

  /// The problem document's octets.
  public func document(origin: String, detail: String? = nil, challengeID: String? = nil, members: JSONObject? = nil) -> [UInt8] {
    var out = ByteBuffer()
    append(origin: origin, detail: detail, challengeID: challengeID, members: members, to: &out)
    return out.array()
  }

  func appendOpen(origin: String, detail: String?, to out: inout ByteBuffer) {
    out.append("{\"type\":\"" as StaticString)
    appendType(origin: origin, to: &out)
    out.append("\",\"title\":\"" as StaticString)
    out.append(title)
    out.append("\",\"status\":" as StaticString)
    out.append(decimal: UInt64(status))
    out.append(",\"detail\":" as StaticString)
    if let detail {
      JCS.append(string: detail, to: &out)
    } else {
      out.append(byte: 0x22)
      out.append(self.detail)
      out.append(byte: 0x22)
    }
  }

  func appendClose(_ members: JSONObject?, to out: inout ByteBuffer) {
    if let members {
      for (name, value) in members.members {
        out.append(byte: 0x2C)
        JCS.append(string: name, to: &out)
        out.append(byte: 0x3A)
        JCS.append(value, to: &out)
      }
    }
    out.append(byte: 0x7D)
  }
}

extension PaymentError {
  /// The problem that answers a credential which broke this rule.
  public var problem: PaymentProblem {
    switch self {
    case .severalCredentials: .badRequest
    case .unknownChallenge, .fieldNotSelected, .ambiguousBinding, .challengeNotListed, .offerMismatch: .invalidChallenge
    case .expired: .paymentExpired
    case .invalidSignature, .unknownKey: .verificationFailed
    case .malformedAmount, .tooManyDecimals, .unknownCurrency, .overflow, .weakSecret: .internalPaymentError
    case .tooLarge, .notBase64URL, .malformedJSON, .notAnObject, .missing, .malformed, .notPaymentScheme, .malformedChallenge,
      .duplicate, .controlCharacter, .wrongType:
      .malformedCredential
    }
  }

  /// A sentence for the problem document; it names rules and members, never octets that were sent.
  public var detail: String {
    switch self {
    case .tooLarge(let limit): "The credential is larger than \(limit) octets."
    case .notBase64URL: "The credential is not base64url without padding."
    case .malformedJSON: "The credential does not decode to strict JSON."
    case .notAnObject: "The credential does not decode to a JSON object."
    case .missing(let member): "The member \(member.rawValue) is missing."
    case .malformed(let member): "The member \(member.rawValue) is malformed."
    case .severalCredentials: "The request carries more than one payment credential."
    case .unknownChallenge: "The challenge was not issued here."
    case .fieldNotSelected: "The challenge selected another field for its credential."
    case .malformedAmount, .tooManyDecimals, .unknownCurrency, .overflow, .notPaymentScheme, .malformedChallenge, .duplicate,
      .controlCharacter, .ambiguousBinding, .weakSecret, .invalidSignature, .unknownKey, .wrongType, .challengeNotListed,
      .offerMismatch, .expired:
      "\(problem.detail)"
    }
  }
}
