import Bytes
import Encoding
import Ethereum
import Ledger
import Methods
import Payments
import Synchronization

/// One chain as the program deals with it: its nodes, who submits, who settles.
final class Chain: Sendable {
  let plan: ChainPlan
  let ledger: Ledger
  /// nil where a facilitator is all that is known of the chain.
  let rpc: ChainRPC?
  /// nil where we submit nothing ourselves.
  let submitter: ChainSubmitter?
  let facilitator: Facilitator?
  private let reachable = Atomic<Bool>(false)
  private let guardian = Mutex<Task<Void, Never>?>(nil)
  /// What the last look at the chain found, for operators.
  let condition = Mutex(ChainCondition())

  init(_ plan: ChainPlan, ledger: Ledger, services: ServiceClient) {
    self.plan = plan
    self.ledger = ledger
    let rpc = plan.nodes.isEmpty ? nil : ChainRPC(chain: plan.id, nodes: plan.nodes, services: services)
    self.rpc = rpc
    facilitator = plan.facilitator.map { Facilitator($0, network: X402Network(chainID: plan.id), services: services) }
    // On Tempo nothing is submitted but payers' own transactions, whose fees the signer may pay.
    if plan.settings.kind == .evm, let rpc, let signer = plan.signer.map({ ChainSigner($0, services: services) }) {
      submitter = ChainSubmitter(plan, signer: signer, rpc: rpc, ledger: ledger)
    } else {
      submitter = nil
    }
  }

  /// Whether what is offered on the chain can be kept at the moment.
  var isReachable: Bool { reachable.load(ordering: .relaxed) }

  /// Takes up what the outbox holds, and begins to look after the chain.
  func start() async {
    await submitter?.restore()
    await look()
    let task = Task { [self] in
      while !Task.isCancelled {
        // What cannot be sold is looked at more often.
        try? await Task.sleep(for: isReachable ? ChainPlan.lookInterval : ChainPlan.closedInterval)
        await look()
      }
    }
    guardian.withLock { $0 = task }
  }

  /// Ends; what is on its way is gone on with by the next start.
  func stop() async {
    guardian.withLock { $0.take() }?.cancel()
    await submitter?.stop()
  }

  /// Finds out whether payments can be settled. One bad answer closes no shop: it is asked again first.
  private func look() async {
    var found = await inspect()
    for pause in ChainPlan.secondLooks where found.fault != nil && isReachable && !Task.isCancelled {
      try? await Task.sleep(for: pause)
      found = await inspect()
    }
    condition.withLock { $0 = found }
    reachable.store(found.fault == nil, ordering: .relaxed)
  }

  private func inspect() async -> ChainCondition {
    var found = ChainCondition()
    if let rpc {
      do throws(ChainError) {
        guard try await rpc.chainID() == plan.id else { throw .otherChain }
        found.block = try await rpc.blockNumber()
        if let submitter {
          found.balance = try await rpc.balance(of: submitter.address)
          let (base, tip) = try await rpc.fees()
          found.gasPrice = base &+ tip
          if found.gasPrice > plan.feeLimit { throw .tooDear }
          // Without money for gas nothing can be submitted.
          if found.balance / ChainPlan.gasOfOnePayment < found.gasPrice { throw .refused(code: 0, .insufficientFunds) }
        }
      } catch { found.fault = error }
    } else if let facilitator, await !facilitator.answers() {
      found.fault = .unreachable
    }
    return found
  }
}

/// What the last look at a chain found.
struct ChainCondition: Sendable {
  var block: UInt64?
  /// Of the address that submits, in wei.
  var balance: UInt128 = 0
  /// What a unit of gas costs now, in wei.
  var gasPrice: UInt128 = 0
  /// Why nothing can be settled; nil: it can be.
  var fault: ChainError?
}
