import Bytes
import Crypto
import Encoding
import Testing

@testable import Payments

func secrets(_ current: String = "a-secret-of-tests-with-enough-octets", previous: [String] = []) throws -> ChallengeSecrets {
  try ChallengeSecrets(current: SecretBytes(Array(current.utf8)), previous: previous.map { SecretBytes(Array($0.utf8)) })
}

func object(_ text: String) throws -> JSONObject {
  try #require(JSON.parse(text).objectValue)
}

let noon = Timestamp(rfc3339: "2026-11-21T12:00:00Z")!

let seed = SecretBytes(Array(0..<32))

func signer() throws -> DocumentSigner { DocumentSigner(try #require(Ed25519.SigningKey(seed: seed))) }

func parse(_ fieldValue: String, _ field: CredentialField = .authorization) throws -> Credential {
  let octets = Array(fieldValue.utf8)
  return try octets.withUnsafeBytes { value in
    guard case .one(let range) = CredentialScan(value) else { throw PaymentError.notPaymentScheme }
    return try Credential.parse(UnsafeRawBufferPointer(rebasing: value[range]), field: field)
  }
}

/// A generator whose sequence a seed fixes (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}

/// Lends the octets of a method, an origin, a path and a query.
func octets<R>(
  _ method: String, _ origin: String, _ path: String, _ query: String?,
  _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer, UnsafeRawBufferPointer, UnsafeRawBufferPointer?) throws -> R
) rethrows -> R {
  try Array(method.utf8).withUnsafeBytes { method in
    try Array(origin.utf8).withUnsafeBytes { origin in
      try Array(path.utf8).withUnsafeBytes { path in
        guard let query else { return try body(method, origin, path, nil) }
        // One octet in front keeps an empty query's pointer from being nil.
        return try Array("?\(query)".utf8).withUnsafeBytes { query in
          try body(method, origin, path, UnsafeRawBufferPointer(rebasing: query.dropFirst()))
        }
      }
    }
  }
}
