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
  /// nil where no sessions are sold.
  let escrow: EscrowDesk?
  /// The same for channels of x402's batch-settlement.
  let batch: EscrowDesk?
  /// Whose payments have cost gas and brought nothing.
  let reverts: PaidReverts
  /// At which blocks what is owed was found to be lost for the first time.
  let lastLooks = LastLooks()
  private let reachable = Atomic<Bool>(false)
  private let facilitated = Atomic<Bool>(false)
  /// Tokens whose contracts are what the configuration says: that does not change.
  private let checkedTokens = Mutex<Set<Address>>([])
  private let guardians = Mutex<[Task<Void, Never>]>([])
  private let notices: ChainNotices
  /// What the last look at the chain found, for operators.
  let condition = Mutex(ChainCondition())

  init(_ plan: ChainPlan, ledger: Ledger, services: ServiceClient, gas: GasAllowances, notices: ChainNotices) {
    self.plan = plan
    self.ledger = ledger
    self.notices = notices
    let rpc = plan.nodes.isEmpty ? nil : ChainRPC(chain: plan.id, nodes: plan.nodes, services: services)
    self.rpc = rpc
    let reverts = PaidReverts()
    self.reverts = reverts
    facilitator = plan.facilitator.map { Facilitator($0, network: X402Network(chainID: plan.id), services: services, notices: notices) }
    // On Tempo nothing is submitted but payers' own transactions, whose fees the signer may pay, and what settles and closes channels.
    if plan.settings.kind == .evm || plan.settings.escrow != nil, let rpc, let signer = plan.signer.map({ ChainSigner($0, services: services) }) {
      let submitter = ChainSubmitter(plan, signer: signer, rpc: rpc, ledger: ledger, notices: notices)
      self.submitter = submitter
      func desk(_ escrow: SessionEscrow) -> EscrowDesk {
        EscrowDesk(escrow, plan: plan, rpc: rpc, submitter: submitter, ledger: ledger, reverts: reverts, gas: gas, notices: notices)
      }
      escrow = plan.escrow.map(desk)
      batch = plan.batch.map(desk)
    } else {
      (submitter, escrow, batch) = (nil, nil, nil)
    }
  }

  /// Whether what we settle ourselves, or only look at, can be settled at the moment.
  var isReachable: Bool { reachable.load(ordering: .relaxed) }

  /// Whether what the facilitator settles can be settled at the moment.
  var isFacilitated: Bool { facilitated.load(ordering: .relaxed) }

  /// Takes up what the outbox holds, and begins to look after the chain.
  func start() async {
    await submitter?.restore()
    escrow?.start()
    batch?.start()
    let tasks = [
      Task { [self] in
        while !Task.isCancelled {
          await look()
          // What cannot be sold is looked at more often.
          let isOpen = isReachable && (facilitator == nil || isFacilitated)
          try? await Task.sleep(for: isOpen ? ChainPlan.lookInterval : ChainPlan.closedInterval)
        }
      }
    ]
    guardians.withLock { $0 = tasks }
  }

  /// Ends; what is on its way is gone on with by the next start.
  func stop() async {
    let tasks = guardians.withLock { tasks in
      defer { tasks = [] }
      return tasks
    }
    for task in tasks { task.cancel() }
    await submitter?.stop()
    await escrow?.stop()
    await batch?.stop()
  }

  /// Finds out whether payments can be settled. One bad answer closes no shop: it is asked again first.
  private func look() async {
    var found = await inspect()
    for pause in ChainPlan.secondLooks where (found.cause != nil && isReachable || found.facilitatorFault != nil && isFacilitated) && !Task.isCancelled {
      try? await Task.sleep(for: pause)
      found = await inspect()
    }
    found.isKnown = true
    condition.withLock { $0 = found }
    reachable.store(found.cause == nil && rpc != nil, ordering: .relaxed)
    facilitated.store(found.fault == nil && facilitator != nil && found.facilitatorFault == nil, ordering: .relaxed)
    tell(found)
  }

  private func inspect() async -> ChainCondition {
    var found = ChainCondition()
    if let rpc {
      do throws(ChainError) {
        guard try await rpc.chainID() == plan.id else { throw .otherChain }
        found.block = try await rpc.blockNumber()
        try await checkTokens(rpc)
      } catch { found.fault = error }
      if found.fault == nil, let submitter {
        do throws(ChainError) {
          let balance = try await rpc.balance(of: submitter.address)
          found.balance = balance
          let (base, tip) = try await rpc.fees()
          let (price, overflows) = base.addingReportingOverflow(tip)
          if overflows { throw .tooDear }
          found.gasPrice = price
          if price > plan.feeLimit { throw .tooDear }
          // Without money for gas nothing can be submitted.
          if balance / ChainPlan.gasOfOnePayment < price { throw .refused(code: 0, .insufficientFunds) }
        } catch { found.signerFault = error }
      }
    }
    if let rpc, plan.settings.kind == .tempo, let signer = plan.signer?.address, found.fault == nil {
      found.feeMoney = (try? await feeMoney(of: signer, rpc)) ?? []
    }
    if let facilitator {
      found.facilitatorFault = await facilitator.fault()
      found.facilitatorAnswers = found.facilitatorFault == nil
      if rpc == nil { found.fault = found.facilitatorFault }
    }
    return found
  }

  /// What there is for fees on Tempo, where they are paid in the token that a payment is made in.
  private func feeMoney(of signer: Address, _ rpc: ChainRPC) async throws(ChainError) -> [ChainCondition.FeeMoney] {
    let (base, tip) = try await rpc.fees()
    let (price, overflows) = base.addingReportingOverflow(tip)
    if overflows { throw .tooDear }
    var money: [ChainCondition.FeeMoney] = []
    for token in plan.settings.tokens {
      let answer = try await rpc.call(to: token.address, data: ERC20.balanceOf(signer), from: nil)
      guard answer.count == 32, let units = Word256(bigEndian: answer) else { throw .unreachable }
      money.append(ChainCondition.FeeMoney(currency: token.currency, units: units.uint128 ?? .max, price: price))
    }
    return money
  }

  /// Compares the configured tokens with their contracts, each until it was found to be what is said of it.
  private func checkTokens(_ rpc: ChainRPC) async throws(ChainError) {
    for token in plan.settings.tokens where !checkedTokens.withLock({ $0.contains(token.address) }) {
      guard try await word(ERC20.decimals, of: token.address, rpc) == Word256(UInt64(token.currency.decimals)) else { throw .tokenDiffers(token.address) }
      if let domain = token.domain, token.transfers.contains(.eip3009), let separator = try await word(ERC20.domainSeparator, of: token.address, rpc) {
        let expected = TypedData.Domain(name: domain.name, version: domain.version, chainID: plan.id, verifyingContract: token.address).separator
        guard separator.octets == expected else { throw .tokenDiffers(token.address) }
      }
      checkedTokens.withLock { _ = $0.insert(token.address) }
    }
  }

  /// What a contract answers; nil where it has no such function.
  private func word(_ function: ABIFunction, of contract: Address, _ rpc: ChainRPC) async throws(ChainError) -> Word256? {
    guard let question = try? function.call(with: []) else { return nil }
    do throws(ChainError) {
      let answer = try await rpc.call(to: contract, data: question, from: nil)
      return answer.count == 32 ? Word256(bigEndian: answer) : nil
    } catch {
      guard case .reverted = error else { throw error }
      return nil
    }
  }

  /// Says what operators should know of it.
  private func tell(_ found: ChainCondition) {
    notices.looked((found.cause ?? found.facilitatorFault).map { words(of: $0, isFacilitator: found.cause == nil) })
    if let submitter, let payments = found.paymentsLeft, payments < ChainPlan.paymentsLow {
      notices.tell(.gasMoneyLow(signer: submitter.address.checksummed, payments: payments))
    }
    if let signer = plan.signer?.address, let money = found.feeMoney.first(where: { $0.paymentsLeft < ChainPlan.paymentsLow }) {
      notices.tell(.gasMoneyLow(signer: "\(signer.checksummed) in \(money.currency.symbol)", payments: money.paymentsLeft))
    }
    if notices.isDue(.paymentUnresolved), let payment = ledger.unresolvedPayments(chain: plan.id, at: .now()).first {
      notices.tell(.paymentUnresolved(payment: payment.id.hex))
    }
  }

  /// A fault in words: who is asked where there are no nodes is the facilitator.
  func words(of fault: ChainError, isFacilitator: Bool = false) -> String {
    fault == .unreachable && (rpc == nil || isFacilitator) ? "the facilitator does not answer with what can be read" : fault.words
  }
}

/// What the last look at a chain found.
struct ChainCondition: Sendable {
  /// Whether there was one.
  var isKnown = false
  var block: UInt64?
  /// Of the address that submits, in wei; nil where nobody does, or it could not be asked.
  var balance: UInt128?
  /// What a unit of gas costs now, in wei; nil where it is not needed, or could not be asked.
  var gasPrice: UInt128?
  /// What the signer has of each token, on a chain whose fees are paid in tokens; empty elsewhere, and where it could not be asked.
  var feeMoney: [FeeMoney] = []
  /// Whether the facilitator has answered when it was asked last; nil where there is none, or it was not asked yet.
  var facilitatorAnswers: Bool?
  /// What the facilitator has instead of settling.
  var facilitatorFault: ChainError?
  /// Why nothing at all can be settled; nil: it can be.
  var fault: ChainError?
  /// Why nothing can be submitted by us.
  var signerFault: ChainError?

  /// Why what we settle ourselves cannot be settled.
  var cause: ChainError? { fault ?? signerFault }

  /// What a signer has of a token in which it pays fees.
  struct FeeMoney: Sendable {
    let currency: Currency
    let units: UInt128
    /// Of a unit of gas, in parts of 10^18 of a whole token.
    let price: UInt128

    /// For how many payments it lasts at the present price.
    var paymentsLeft: UInt64 {
      let (fee, isDear) = ChainPlan.gasOfOnePayment.multipliedReportingOverflow(by: price)
      guard fee > 0, !isDear else { return isDear ? 0 : .max }
      let scale = (0..<max(0, 18 - Int(currency.decimals))).reduce(UInt128(1)) { scale, _ in scale * 10 }
      let (parts, isMuch) = units.multipliedReportingOverflow(by: scale)
      return isMuch ? .max : UInt64(clamping: parts / fee)
    }
  }

  /// For how many payments the balance lasts at the present price of gas; nil where either is unknown, or gas costs nothing.
  var paymentsLeft: UInt64? {
    guard let balance, let gasPrice, gasPrice > 0 else { return nil }
    return UInt64(clamping: balance / ChainPlan.gasOfOnePayment / gasPrice)
  }
}

extension Ledger {
  /// Payments on a chain that were sent, and of which nobody has said what became of them though they cannot settle any more.
  func unresolvedPayments(chain: UInt64? = nil, at now: Timestamp) -> [ChainPaymentView] {
    let suffix = chain.map { "@eip155:\($0)" } ?? ""
    return openPayments().filter { $0.currency.hasSuffix(suffix) && $0.isUnresolved(at: now) }
  }
}

extension ChainPaymentView {
  /// Whether an operator has to look: it was sent, its time is over, and so is the time for finding out.
  func isUnresolved(at now: Timestamp) -> Bool { state == .submitted && now >= expires + ChainPlan.unresolvedAfter }
}
