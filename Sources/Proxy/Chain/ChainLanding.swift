import Bytes
import Encoding
import Ethereum
import Ledger
import Methods
import Payments

/// What the chain says of a payment's call, whoever made it.
enum Landing {
  /// It has moved the money, by this transaction.
  case paid(Digest32)
  /// The same, in a block that is not deep enough yet.
  case shallow
  /// Its nonce is unused; and whether it stays so, since the authorization has run out on the chain.
  case unused(forEver: Bool)
  /// Its nonce was used without paying: it never will.
  case spent
  /// Nobody can tell.
  case unknown
}

// Finding a payment's transaction: one of ours, of an earlier version, of before a restart, or somebody else's, for whoever sees an authorization
// may send it.
extension Chain {
  /// Blocks before the claim that are searched too, since what was claimed and freed before may have landed then.
  private static var searchMargin: UInt64 { 1_000 }
  /// Blocks in one question: nodes refuse longer ranges.
  private static var searchPiece: UInt64 { 1_000 }

  /// Finds out what became of a payment's call.
  func findLanded(_ order: SettlementOrder) async -> Landing {
    guard let rpc, case .call(let to, let data) = order.charge.means, let use = NonceUse(of: data, to: to) else { return .unknown }
    if let hash = ledger.payment(order.id)?.transaction {
      switch await rpc.look(for: hash) {
      case .nothing: return .unknown
      case .absent: break
      case .receipt(let receipt): if pays(order, receipt, use) == true { return await isDeep(receipt) ? .paid(hash) : .shallow }
      }
    }
    let (contract, question) = use.question
    guard let answer = try? await rpc.call(to: contract, data: question, from: nil), let isUsed = use.isUsed(answer) else { return .unknown }
    guard isUsed else { return .unused(forEver: await isOver(order)) }
    return await search(order, use, to: to, data: data)
  }

  /// Whether the chain's own clock is past a payment's end.
  private func isOver(_ order: SettlementOrder) async -> Bool {
    guard Timestamp.now() > order.charge.expires, let rpc, let head = try? await rpc.blockNumber(), let time = try? await rpc.time(ofBlock: head) else {
      return false
    }
    return time > order.charge.expires
  }

  /// Whether a receipt shows that the payment was made; nil where its money may be another payment's.
  func pays(_ order: SettlementOrder, _ receipt: TransactionReceipt, _ use: NonceUse) -> Bool? {
    guard receipt.isSuccessful else { return false }
    let transfers = receipt.logs.compactMap { TransferEvent($0) }
    guard order.charge.isPaid(by: transfers) else { return false }
    guard case .authorization(_, let payer, _) = use, let expected = order.charge.transfers.first else { return true }
    // Several authorizations in one transaction need a transfer each: one transfer must not count for two of them.
    let amount = Word256(expected.amount)
    let matching = transfers.count(where: { $0.token == expected.token && $0.from == payer && $0.to == expected.to && $0.value == amount })
    return use.usesOfPayer(in: receipt.logs) <= matching ? true : nil
  }

  private func search(_ order: SettlementOrder, _ use: NonceUse, to: Address, data: [UInt8]) async -> Landing {
    guard let rpc, let transfer = order.charge.transfers.first, let head = try? await rpc.blockNumber() else { return .unknown }
    let since = min(order.since ?? head, head)
    var first = since > Self.searchMargin ? since - Self.searchMargin : 0
    var isDoubtful = false
    while first <= head {
      let last = min(first + (Self.searchPiece - 1), head)
      guard let logs = try? await rpc.logs(filter(use, transfer, from: first, through: last)) else { return .unknown }
      for hash in Set(logs.compactMap(\.transactionHash)) {
        guard case .receipt(let receipt) = await rpc.look(for: hash) else { return .unknown }
        switch use {
        case .authorization:
          switch pays(order, receipt, use) {
          case true?: return await isDeep(receipt) ? .paid(hash) : .shallow
          case false?: return .spent
          case nil: return .unknown
          }
        case .permit:
          // No log tells which permit moved the money: the very call does, or another one of the same contract that uses the permit's nonce.
          guard let record = try? await rpc.transaction(hash) else { return .unknown }
          guard pays(order, receipt, use) == true else { continue }
          if record.to == to, record.input == data || record.input.flatMap({ NonceUse(of: $0, to: to) }) == use { return await isDeep(receipt) ? .paid(hash) : .shallow }
          isDoubtful = true
        }
      }
      // What has run out lands in no later block.
      if last < head, let time = try? await rpc.time(ofBlock: last), time > order.charge.expires { break }
      first = last + 1
    }
    return isDoubtful ? .unknown : .spent
  }

  private func filter(_ use: NonceUse, _ transfer: ExpectedTransfer, from first: UInt64, through last: UInt64) -> LogFilter {
    let topics: [[Digest32]] =
      switch use {
      case .authorization(_, let payer, let nonce): [[EIP3009.authorizationUsed.topic], [Word256(payer).octets], [nonce]]
      case .permit(let owner, _): [[TransferEvent.transfer.topic], [Word256(owner).octets], [Word256(transfer.to).octets]]
      }
    return LogFilter(from: .number(first), to: .number(last), addresses: [transfer.token], topics: topics)
  }

  /// Whether a receipt is as deep in the chain as is asked for.
  func isDeep(_ receipt: TransactionReceipt) async -> Bool {
    guard let rpc, let head = try? await rpc.blockNumber(), head >= receipt.blockNumber else { return false }
    return head - receipt.blockNumber + 1 >= plan.confirmations
  }
}
