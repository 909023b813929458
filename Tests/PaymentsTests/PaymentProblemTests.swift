import Encoding
import Testing

@testable import Payments

@Suite struct PaymentProblemTests {
  private static let scheme = "https://paymentauth.org/problems/"

  /// The table of the scheme (draft -02, "Error Codes") and of its sessions, and our own.
  @Test(arguments: [
    (.paymentRequired, scheme + "payment-required", 402), (.paymentInsufficient, scheme + "payment-insufficient", 402),
    (.paymentExpired, scheme + "payment-expired", 402), (.verificationFailed, scheme + "verification-failed", 402),
    (.methodUnsupported, scheme + "method-unsupported", 400), (.malformedCredential, scheme + "malformed-credential", 402),
    (.invalidChallenge, scheme + "invalid-challenge", 402), (.badRequest, scheme + "bad-request", 400),
    (.invalidPayload, scheme + "invalid-payload", 402), (.internalPaymentError, scheme + "internal-payment-error", 500),
    (.paymentActionRequired, scheme + "payment-action-required", 402),
    (.sessionInsufficientBalance, scheme + "session/insufficient-balance", 402),
    (.sessionInvalidSignature, scheme + "session/invalid-signature", 402), (.sessionSignerMismatch, scheme + "session/signer-mismatch", 402),
    (.sessionAmountExceedsDeposit, scheme + "session/amount-exceeds-deposit", 402), (.sessionDeltaTooSmall, scheme + "session/delta-too-small", 402),
    (.sessionNotFound, scheme + "session/channel-not-found", 410), (.sessionFinalized, scheme + "session/channel-finalized", 410),
    (.sessionChallengeNotFound, scheme + "session/challenge-not-found", 402),
    (.sessionTransactionReverted, scheme + "session/transaction-reverted", 409),
    (.policyDenied, "https://r/problems/policy-denied", 403), (.alreadyPaid, "https://r/problems/already-paid", 403),
    (.paymentInFlight, "https://r/problems/payment-in-flight", 409), (.alreadyOpen, "https://r/problems/already-open", 409),
    (.sessionExists, "https://r/problems/session-exists", 409), (.sessionMismatch, "https://r/problems/session-mismatch", 403),
    (.tooManyInFlight, "https://r/problems/too-many-in-flight", 429), (.idempotencyInFlight, "https://r/problems/idempotency-in-flight", 409),
    (.idempotencyMismatch, "https://r/problems/idempotency-mismatch", 422), (.outcomeNotKept, "https://r/problems/outcome-not-kept", 409),
    (.ledgerUnavailable, "https://r/problems/ledger-unavailable", 503), (.queryRefused, "https://r/problems/query-refused", 403),
    (.rateLimited, "https://r/problems/rate-limited", 429), (.bodyTooLarge, "https://r/problems/body-too-large", 413),
  ] as [(PaymentProblem, String, UInt16)])
  func typesAndStatuses(problem: PaymentProblem, type: String, status: UInt16) {
    #expect(problem.type(origin: "https://r") == type)
    #expect(problem.status == status)
  }

  @Test func everyDocumentIsJSON() throws {
    var types: Set<String> = []
    for problem in PaymentProblem.allCases {
      let object = try #require(JSON.parse(problem.document(origin: "https://r", challengeID: "abc", members: ["a": ["b"]])).objectValue)
      #expect(object.members.map(\.name) == ["type", "title", "status", "detail", "challengeId", "a"])
      #expect(object["status"]?.intValue == Int(problem.status))
      types.insert(object["type"]?.stringValue ?? "")
    }
    #expect(types.count == PaymentProblem.allCases.count)
  }

  @Test func detailsAreEscaped() throws {
    let object = try #require(JSON.parse(PaymentProblem.policyDenied.document(origin: "https://r", detail: "a \"cap\"\n")).objectValue)
    #expect(object["detail"] == "a \"cap\"\n")
    #expect(object["challengeId"] == nil)
  }

  @Test(arguments: [
    (.severalCredentials, .badRequest), (.unknownChallenge, .invalidChallenge), (.fieldNotSelected, .invalidChallenge),
    (.expired, .paymentExpired), (.invalidSignature, .verificationFailed), (.notBase64URL, .malformedCredential),
    (.missing(.payload), .malformedCredential),
  ] as [(PaymentError, PaymentProblem)])
  func errorsHaveTheirProblem(error: PaymentError, problem: PaymentProblem) { #expect(error.problem == problem) }
}
