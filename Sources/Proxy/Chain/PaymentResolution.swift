import Bytes
import Encoding
import Ethereum
import Glibc
import Ledger
import Methods
import Synchronization

/// What an operator has found out about a payment of which nobody else could tell anything.
public enum PaymentFate: Sendable, Equatable {
  /// This transaction has paid.
  case settled(transaction: Digest32)
  /// Nothing has, and nothing will.
  case failed
}

/// Why a payment's fate is not taken from an operator.
public enum ResolutionObstacle: String, Sendable {
  case isElse = "the payment is not under way: see farebox payment show"
  case inTask = "the proxy is finding out by itself what becomes of the payment: wait until its time is over"
  case paysAnother = "another payment was settled by this transaction, or is to be"
  case nobodyAsked = "no node can be asked about the payment's chain here: what was found on the chain is to be believed with --force"
  case inOutbox = "a transaction of ours for it is on its way: it tells by itself what becomes of the payment"
  case noPayment = "the transaction is in no block, or not deep enough, or its Transfer events do not show this payment"
  case mayLand = "by the chain it has landed, or still may: its nonce is unused and has not run out, or it was used by what paid"
  case noAnswer = "no node answers, and only the chain can tell"
}

extension ChainDesk {
  /// How long a check may take.
  private static var resolutionTime: Duration { .seconds(30) }

  /// Compares what an operator says with the chain; nil where it agrees. Waits for nodes: not for an event loop.
  func obstacle(to fate: PaymentFate, of view: ChainPaymentView, epoch: UInt32) -> ResolutionObstacle? {
    guard let chain = chains().first(where: { $0.plan.id == view.chainID }), let order = SettlementOrder(view, epoch: epoch) else { return .nobodyAsked }
    let box = ResolutionBox()
    Task { box.set(await chain.obstacle(to: fate, of: order)) }
    let end = Instant.now() + Self.resolutionTime
    while Instant.now() < end {
      if let obstacle = box.value { return obstacle }
      usleep(2_000)
    }
    return .noAnswer
  }
}

/// Carries the outcome of a check from its task to the thread that waits.
private final class ResolutionBox: Sendable {
  private let found = Mutex<ResolutionObstacle??>(.none)

  var value: ResolutionObstacle?? { found.withLock { $0 } }

  func set(_ obstacle: ResolutionObstacle?) { found.withLock { $0 = .some(obstacle) } }
}

extension Chain {
  fileprivate func obstacle(to fate: PaymentFate, of order: SettlementOrder) async -> ResolutionObstacle? {
    guard let rpc else { return .nobodyAsked }
    switch fate {
    case .settled(let transaction):
      switch await rpc.look(for: transaction) {
      case .nothing: return .noAnswer
      case .absent: return .noPayment
      case .receipt(let receipt):
        let transfers = receipt.logs.compactMap { TransferEvent($0) }
        guard receipt.isSuccessful, order.charge.isPaid(by: transfers), await isDeep(receipt) else { return .noPayment }
        return await obstacle(to: transaction, of: order, rpc)
      }
    case .failed:
      guard case .call = order.charge.means else { return await obstacleToFailure(of: order, rpc) }
      switch await findLanded(order) {
      case .paid, .shallow, .unused(forEver: false): return .mayLand
      case .unused(forEver: true), .spent: return nil
      // The nonce was used, and whether by what paid is what the operator has looked at; or no node answers.
      case .unknown: return await rpc.isAnswering ? nil : .noAnswer
      }
    }
  }

  /// Whether a transaction that moved as much as a payment is to may have been made for something else.
  private func obstacle(to transaction: Digest32, of order: SettlementOrder, _ rpc: ChainRPC) async -> ResolutionObstacle? {
    switch order.charge.means {
    case .none: return nil
    // Which transactions replace a payer's own is the operator's to judge, but for those of before, and of after its time.
    case .transaction, .hash:
      guard case .receipt(let receipt) = await rpc.look(for: transaction), let time = try? await rpc.time(ofBlock: receipt.blockNumber),
        let record = try? await rpc.transaction(transaction)
      else { return .noAnswer }
      guard order.charge.isPayment(sender: receipt.from, to: record.to, data: record.input ?? [], at: time) else { return .noPayment }
      if case .hash = order.charge.means, time > order.charge.expires + Self.margin { return .noPayment }
      return nil
    case .call(let to, let data):
      switch await findLanded(order) {
      case .paid(let hash): return hash == transaction ? nil : .noPayment
      // Its nonce is unused, or was used by what does not pay.
      case .shallow, .unused, .spent: return .noPayment
      case .unknown: break
      }
      guard let record = try? await rpc.transaction(transaction) else { return .noAnswer }
      // What the chain's own words do not tell is the operator's to judge, but for the use of another nonce.
      guard let called = record.to, let input = record.input, let other = NonceUse(of: input, to: called) else { return nil }
      return other == NonceUse(of: data, to: to) ? nil : .noPayment
    }
  }

  /// Payers' own transactions: what is on the chain has to be judged by it, and what is not may be put there by whoever has it.
  private func obstacleToFailure(of order: SettlementOrder, _ rpc: ChainRPC) async -> ResolutionObstacle? {
    let hash: Digest32
    switch order.charge.means {
    case .transaction(_, let known), .hash(let known): hash = known
    case .call, .none: return nil
    }
    switch await rpc.look(for: hash) {
    case .nothing: return .noAnswer
    case .absent: return nil
    case .receipt(let receipt): return receipt.isSuccessful ? .mayLand : nil
    }
  }
}
