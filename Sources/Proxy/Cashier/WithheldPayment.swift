import Bytes
import Encoding
import Ethereum
import Ledger
import Payments

/// What an exchange needs whose answer is withheld until its payment has settled: it is answered when neither request nor exchange are there
/// any more.
final class WithheldPayment {
  /// For how long a payer's signature has to hold at least when his request goes upstream: the answer is still to come, and to be settled.
  static var least: Duration { .seconds(20) }

  let id: Digest32
  let chain: UInt64
  let payer: Address
  let version: X402Version
  /// What settling it needs.
  let proof: [UInt8]
  /// What was asked for, as signed receipts name it.
  let url: String
  /// Under what the answer is kept.
  let key: OutcomeKey
  /// By what the payer may come back for the same; nil where he may not.
  let signInKey: OutcomeKey?
  /// Field lines for pages of other origins.
  var corsLines: [UInt8] = []
  /// The answer, once it is whole and is owed for; nil before.
  var outcome: StoredOutcome?

  init(
    id: Digest32, chain: UInt64, payer: Address, version: X402Version, proof: [UInt8], url: String, key: OutcomeKey, signInKey: OutcomeKey?
  ) {
    self.id = id
    self.chain = chain
    self.payer = payer
    self.version = version
    self.proof = proof
    self.url = url
    self.key = key
    self.signInKey = signInKey
  }
}
