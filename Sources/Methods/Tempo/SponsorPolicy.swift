import Encoding
import Ethereum

/// Bounds the fees that are paid for others, in the units of gas and gas prices of Tempo (attodollars).
public struct SponsorPolicy: Sendable, Hashable {
  /// The most units of gas.
  public var gasLimit: UInt64
  /// The most for a unit of gas.
  public var feePerGas: UInt128
  /// The most that whoever makes the block gets of it.
  public var priorityFeePerGas: UInt128
  /// The most for a transaction.
  public var total: UInt128
  /// How far ahead a transaction may run out.
  public var window: Duration

  /// Takes bounds; the defaults are those of the packages' own servers, so that their clients stay inside.
  public init(
    gasLimit: UInt64 = 2_000_000, feePerGas: UInt128 = 100_000_000_000, priorityFeePerGas: UInt128 = 50_000_000_000,
    total: UInt128 = 50_000_000_000_000_000, window: Duration = .seconds(900)
  ) {
    self.gasLimit = gasLimit
    self.feePerGas = feePerGas
    self.priorityFeePerGas = priorityFeePerGas
    self.total = total
    self.window = window
  }
}

extension SponsorPolicy {
  /// Whether the fees of a transaction are inside, and it cannot land later than they say.
  ///
  /// Everything that could make it cost more than its calls do is refused: lists, authorizations, and lanes in which it would wait.
  func covers(_ transaction: TempoTransaction, now: Timestamp) -> Bool {
    guard transaction.nonceKey == TempoTransaction.expiringNonceKey, let before = transaction.validBefore,
      before <= UInt64(clamping: (now + window).seconds), transaction.gasLimit <= gasLimit, transaction.maxFeePerGas <= feePerGas,
      transaction.maxPriorityFeePerGas <= priorityFeePerGas, let most = transaction.maximumFee, most <= Word256(total)
    else { return false }
    return transaction.accessList.isEmpty && transaction.authorizationList.isEmpty && transaction.keyAuthorization == nil
  }
}
