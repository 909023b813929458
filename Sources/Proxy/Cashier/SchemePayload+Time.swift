import Encoding
import Payments

extension SchemePayload {
  /// Ten seconds before what was signed runs out: a moment at which it held.
  var lastMoment: Timestamp {
    let end: UInt64 =
      switch self {
      case .exactEIP3009(let authorization): authorization.validBefore
      case .exactPermit2(let permit), .uptoPermit2(let permit): permit.deadline
      case .batchDeposit, .batchVoucher, .batchRefund: 0
      }
    // Past this no clock comes, and the arithmetic of instants would.
    return Timestamp(seconds: Int64(min(end, 1 << 40))) - .seconds(10)
  }
}
