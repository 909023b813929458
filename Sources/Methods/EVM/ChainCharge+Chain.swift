import Bytes
import Encoding
import Ethereum

// What is decided by what the chain shows.
extension ChainCharge {
  /// Whether a transaction's transfers are all that this payment asks for, each of them a transfer of its own.
  ///
  /// A transfer with a memo tells two events (TIP-20): they count once.
  public func isPaid(by events: [TransferEvent]) -> Bool {
    var left = Self.movements(events)
    // Those that ask for a memo choose first; the others take what is left.
    for transfer in transfers.sorted(by: { $0.memo.rank < $1.memo.rank }) {
      guard let index = left.firstIndex(where: { transfer.isMade(by: $0) }) else { return false }
      left.remove(at: index)
    }
    return true
  }

  /// One event for each movement: of the two of a transfer with a memo, the one that tells it.
  private static func movements(_ events: [TransferEvent]) -> [TransferEvent] {
    let told = events.filter { $0.memo != nil }
    var plain = events.filter { $0.memo == nil }
    for event in told {
      var companion = event
      companion.memo = nil
      if let index = plain.firstIndex(of: companion) { plain.remove(at: index) }
    }
    return told + plain
  }

  /// Whether a transaction was made for this payment, where only the chain can tell: for those that the payer has sent himself.
  ///
  /// A receipt's logs do not say enough: with the hash of any transaction that brought as much, such as one of our own settlements,
  /// somebody could have the same money counted twice. So either the memo attributes it to the challenge, or it is a plain call of the
  /// token's `transfer` by the payer (draft-evm-charge-00 "Hash Payload"), and in a block that is not older than the challenge.
  ///
  /// - Parameters:
  ///   - to: what the transaction calls.
  ///   - data: the call.
  ///   - block: the time of its block.
  public func isPayment(sender: Address, to: Address?, data: [UInt8], at block: Timestamp) -> Bool {
    if let notBefore, block < notBefore { return false }
    guard case .hash = means else { return true }
    guard let transfer = transfers.first else { return false }
    if case .attributed = transfer.memo { return true }
    guard to == transfer.token, transfer.from ?? sender == sender else { return false }
    guard let call = TokenCall(data), transfers.count == 1 else { return false }
    return call.to == transfer.to && call.amount == Word256(transfer.amount) && transfer.memo.isMet(by: call.memo)
  }
}

extension ExpectedTransfer {
  /// Whether an event is this transfer.
  func isMade(by event: TransferEvent) -> Bool {
    token == event.token && from ?? event.from == event.from && to == event.to && Word256(amount) == event.value
      && memo.isMet(by: event.memo)
  }
}

extension ExpectedMemo {
  /// The fewer memos will do, the lower.
  fileprivate var rank: Int {
    switch self {
    case .exact: 0
    case .attributed: 1
    case .any: 2
    }
  }
}

/// A call of a token that moves the caller's own money, with a memo or without.
struct TokenCall: Hashable {
  let to: Address
  let amount: Word256
  let memo: Digest32?

  /// Reads a call in its one encoding; nil for every other call.
  init?(_ data: [UInt8]) {
    let selector = Selector(of: data)
    guard selector == ERC20.transfer.selector || selector == ERC20.transferWithMemo.selector else { return nil }
    let function = selector == ERC20.transfer.selector ? ERC20.transfer : ERC20.transferWithMemo
    guard let values = try? function.arguments(of: data), values.count >= 2, let to = values[0].addressValue,
      let amount = values[1].uintValue
    else { return nil }
    (self.to, self.amount) = (to, amount)
    memo = values.count > 2 ? values[2].fixedBytesValue : nil
  }
}
