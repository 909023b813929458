import Bytes
import Payments

/// One question to a pricer.
struct PriceQuestion: Sendable {
  /// A digest of where is asked, and of everything that is shown.
  let key: Digest32
  /// The upstream's place in the plan.
  let upstream: Int
  /// The request, whole.
  let request: [UInt8]
  /// Nanoseconds.
  let timeout: Int64
  /// How long the answer holds, where it does not say less: nanoseconds.
  let lifetime: Int64
  /// What prices may be in.
  let currencies: [Currency]
  /// The pricer's URL, for notices.
  let url: String
}
