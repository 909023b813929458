import Encoding
import Ethereum

// What is known of payers' transactions on Tempo by their octets alone.
extension SignedTempoTransaction {
  /// When no block takes a transaction any more; nil where that is never, or it is none of Tempo's.
  static func end(of raw: [UInt8]) -> Timestamp? {
    (try? SignedTempoTransaction(decoding: raw))?.transaction.validBefore.map { Timestamp(seconds: Int64(clamping: $0)) }
  }

  /// Whether we pay the fees of a payer's transaction.
  static func isSponsored(_ raw: [UInt8]) -> Bool {
    guard let signed = try? SignedTempoTransaction(decoding: raw), case .signed = signed.transaction.feePayment else { return false }
    return true
  }
}
