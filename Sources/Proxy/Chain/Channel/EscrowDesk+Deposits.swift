import Bytes
import Encoding
import Ethereum
import Ledger
import Methods

// Deposits: what opens a channel, or adds to it; closes that somebody waits for; and questions to contracts that sign vouchers.
extension EscrowDesk {
  /// How often a transaction whose nonce another program took, or which was undone, is made anew.
  private static var attemptLimit: Int { 3 }
  /// Rounds in which a transaction of a payer's may be unknown to the chain before it counts as none.
  private static var unknownLimit: Int { 8 }
  /// Rounds in which a channel that must be there may be missing, since nodes lag.
  private static var lagLimit: Int { 6 }
  /// Looks that have to find nothing of a transaction that no block takes any more.
  private static var lateLooks: Int { 2 }
  /// How long after its authorization has ended a deposit may still turn out to have landed.
  private static var margin: Duration { .seconds(120) }

  /// Does what a request waits for.
  func settle(_ order: SettlementOrder) async -> SettlementWord {
    switch order.kind {
    case .payment: return .unavailable
    case .deposit(let step): return await deposit(order, step)
    case .close(let channel): return await close(order, channel)
    case .question(let question): return await ask(question)
    case .giveBack(let channel, let amount): return await giveBack(channel, wanted: amount)
    case .adoption(let step, let channel): return await adopt(step, channel)
    }
  }

  /// Asks a contract whether it has signed.
  private func ask(_ question: WalletQuestion) async -> SettlementWord {
    do throws(ChainError) {
      let answer = try await rpc.call(to: question.wallet, data: question.call, from: nil)
      return ERC1271.isValid(answer) ? .settled : Self.refusal(.invalidSignature)
    } catch {
      guard case .reverted = error else { return .unavailable }
      return Self.refusal(.invalidSignature)
    }
  }

  /// Waits until a channel is closed that the ledger has begun to close.
  private func close(_ order: SettlementOrder, _ id: Digest32) async -> SettlementWord {
    guard let entry = order.entry, await ledger.isDurable(entry) else { return .unknown }
    while !Task.isCancelled {
      if case .closed(let closed)? = ledger.closeResult(id) { return await ledger.isDurable(closed.lsn) ? .settled : .unknown }
      // Gone on with by the watch where it failed.
      guard let task = attend(id, isAsked: true) else { return .unknown }
      await task.value
      if case .closed? = ledger.closeResult(id) { continue }
      guard attendsSoon(id) else { return .unknown }
      await Self.pause(0)
    }
    return .unknown
  }

  // MARK: deposits

  private func deposit(_ order: SettlementOrder, _ step: ChannelStep) async -> SettlementWord {
    var order = order
    if order.entry == nil {
      // Nothing is claimed for what may not be signed, or was never sent.
      if let question = step.question, let word = await refusal(by: question) { return word }
      if case .hash(let hash) = step.transaction.means, let word = await waitUntilSeen(hash) { return word }
      if let word = await simulate(step) { return word }
      if step.escrow.rules == .batch, !gas.hasLeft(step.channel.payer, at: .now()) { return .unavailable }
      do throws(Refusal) {
        order.entry = try ledger.awaited { () throws(Refusal) in try ledger.claim(order.payment, at: .now()) }
      } catch { return .declined(error) }
    }
    guard let entry = order.entry, await ledger.isDurable(entry) else { return .unknown }
    switch step.transaction.means {
    case .call(let to, let data): return await deposit(order, step, to: to, data: data)
    case .transaction(let raw, let hash): return await deposit(order, step, raw: raw, hash: hash)
    case .hash(let hash): return await deposit(order, step, hash: hash)
    case .none: return await release(order, .unavailable)
    }
  }

  private func refusal(by question: WalletQuestion) async -> SettlementWord? {
    let word = await ask(question)
    if case .settled = word { return nil }
    return word
  }

  /// By a transaction of ours.
  private func deposit(_ order: SettlementOrder, _ step: ChannelStep, to: Address, data: [UInt8]) async -> SettlementWord {
    let wasSubmitted = ledger.payment(order.id)?.state == .submitted
    for attempt in 0..<Self.attemptLimit {
      let outcome: ChainSubmitter.Outcome
      if attempt == 0, let known = await submitter.follow(order.id) {
        outcome = known
      } else {
        if wasSubmitted || attempt > 0 {
          guard let word = await findLanded(order, step) else { return .unknown }
          guard case .unavailable = word else { return word }
        }
        // Also where somebody else has sent it: whoever sees an authorization may.
        if let word = await simulate(step) {
          if let landed = await landed(order, step) { return landed }
          return wasSubmitted ? .unknown : await release(order, word)
        }
        if !wasSubmitted, await isBarred(step) { return await release(order, Self.refusal(.transactionReverted)) }
        // Counted where something is sent.
        if step.escrow.rules == .batch, !wasSubmitted, attempt == 0, !gas.take(step.channel.payer, at: .now()) { return await release(order, .unavailable) }
        outcome = await submitter.submit(.payment(order.id), to: to, data: data)
      }
      switch outcome {
      case .included(let receipt):
        // What was simulated and undone all the same costs gas: once is enough.
        guard receipt.isSuccessful else {
          if let landed = await landed(order, step) { return landed }
          reverts.note(step.depositor)
          return await release(order, Self.refusal(.transactionReverted, receipt.transactionHash))
        }
        return await complete(order, step, receipt, by: .call(to: to, data: data))
      case .displaced, .failed(.reverted): break
      case .failed(.stopped), .failed(.ledgerUnavailable): return .unknown
      case .failed: return wasSubmitted ? .unknown : await release(order, .unavailable)
      }
    }
    return await release(order, Self.refusal(.transactionReverted))
  }

  /// What came of a deposit that somebody else may have made; nil where nobody has, or nobody can tell.
  private func landed(_ order: SettlementOrder, _ step: ChannelStep) async -> SettlementWord? {
    guard let word = await findLanded(order, step) else { return nil }
    if case .unavailable = word { return nil }
    return word
  }

  /// Whether no gas is spent for a payer's deposits at the moment.
  private func isBarred(_ step: ChannelStep) async -> Bool {
    guard reverts.isBarred(step.depositor, isContract: true) else { return false }
    if reverts.isBarred(step.depositor, isContract: false) { return true }
    // What has code can tell a simulation from the chain.
    guard let code = try? await rpc.code(of: step.depositor) else { return true }
    return !code.isEmpty
  }

  /// By a transaction of the payer's.
  private func deposit(_ order: SettlementOrder, _ step: ChannelStep, raw: [UInt8], hash: Digest32) async -> SettlementWord {
    let wasSubmitted = ledger.payment(order.id)?.state == .submitted
    let isSponsored = SignedTempoTransaction.isSponsored(raw)
    if !wasSubmitted {
      if isSponsored, reverts.isSponsoringOver() { return await release(order, .unavailable) }
      if isSponsored, await isBarred(step) { return await release(order, Self.refusal(.transactionReverted)) }
      if let word = await simulate(step) { return await release(order, word) }
    }
    do {
      let entry = try ledger.submitted(order.id, transaction: hash, at: .now())
      guard await ledger.isDurable(entry) else { return .unknown }
    } catch { return .unknown }
    var isSent = wasSubmitted
    var looks = 0
    for round in 0..<Int.max {
      guard !Task.isCancelled else { break }
      guard Timestamp.now() < order.charge.expires + Self.margin || round <= Self.lagLimit else { return .unknown }
      switch await rpc.look(for: hash) {
      case .nothing: break
      case .receipt(let receipt):
        guard await isDeep(receipt) else { break }
        guard receipt.isSuccessful else {
          // What its payer pays for is no harm.
          if isSponsored { reverts.note(step.depositor, isSponsored: true) }
          return await release(order, Self.refusal(.transactionReverted, hash))
        }
        return await complete(order, step, receipt, by: .raw(raw))
      case .absent:
        if await rpc.isPast(SignedTempoTransaction.end(of: raw), confirmations: plan.confirmations) {
          // One node may be behind another.
          looks += 1
          if looks == Self.lateLooks { return await release(order, Self.refusal(.transactionReverted, hash)) }
          break
        }
        do throws(ChainError) {
          try await rpc.send(raw)
          isSent = true
        } catch {
          // What every node refuses has gone nowhere, unless one has taken it before.
          if case .refused(_, let kind) = error, !isSent, kind != .nonceTooLow {
            return await release(order, Self.refusal(.transactionReverted, hash))
          }
          if !isSent, round >= 3 { return await release(order, .unavailable) }
        }
      }
      await Self.pause(round)
    }
    return .unknown
  }

  /// By a transaction that the payer has broadcast.
  private func deposit(_ order: SettlementOrder, _ step: ChannelStep, hash: Digest32) async -> SettlementWord {
    var unknown = 0
    for round in 0..<Int.max {
      guard !Task.isCancelled else { break }
      switch await rpc.look(for: hash) {
      // Nothing is lost by forgetting it: the same hash may be brought again.
      case .nothing: if round >= Self.unknownLimit { return await release(order, .unavailable) }
      case .receipt(let receipt):
        guard await isDeep(receipt) else { break }
        guard receipt.isSuccessful else { return await release(order, Self.refusal(.transactionReverted, hash)) }
        return await complete(order, step, receipt)
      case .absent:
        unknown += 1
        if unknown >= Self.unknownLimit { return await release(order, Self.refusal(.channelNotFound, hash)) }
      }
      await Self.pause(min(round, 3))
    }
    return .unknown
  }

  /// Waits a moment for a transaction to be seen; nil where it is.
  private func waitUntilSeen(_ hash: Digest32) async -> SettlementWord? {
    var wasSilent = false
    for round in 0..<Self.unknownLimit {
      do throws(ChainError) { if try await rpc.transaction(hash) != nil { return nil } } catch { wasSilent = true }
      await Self.pause(min(round, 3))
    }
    return wasSilent ? .unavailable : Self.refusal(.channelNotFound, hash)
  }

  /// Asks a node what the deposit would come to; nil where it would succeed, or its payer pays for trying.
  private func simulate(_ step: ChannelStep) async -> SettlementWord? {
    do throws(ChainError) {
      if step.escrow.rules == .batch, let error = try await objectionToBatch(step) { return Self.refusal(error) }
      switch step.transaction.means {
      case .call(let to, let data): _ = try await rpc.call(to: to, data: data, from: submitter.address)
      case .transaction(let raw, _):
        guard let signed = try? SignedTempoTransaction(decoding: raw), let first = signed.transaction.calls.first, let to = first.to else { return nil }
        _ = try await rpc.call(to: to, data: first.data, from: signed.sender)
        let isCovered = try await isCovered(step, signed)
        return isCovered ? nil : Self.refusal(.depositFailed)
      case .hash, .none: break
      }
      return nil
    } catch {
      guard case .reverted(let reason) = error else { return .unavailable }
      return Self.refusal(ChannelError(reason))
    }
  }

  /// Whether a payer has what his transaction deposits, and the escrow may take it. Its calls build on each other, an approval before the
  /// opening, and only the first can be tried by itself.
  private func isCovered(_ step: ChannelStep, _ signed: SignedTempoTransaction) async throws(ChainError) -> Bool {
    // Where there is no approval, the first call was all.
    guard let transfer = step.transaction.transfers.first else { return true }
    let balance = try await rpc.call(to: transfer.token, data: ERC20.balanceOf(signed.sender), from: nil)
    guard Self.amounts(balance, to: transfer.amount) else { return false }
    let approved = signed.transaction.calls.prefix { $0.to != step.escrow.address }.last { $0.to == transfer.token }.flatMap { call -> Word256? in
      guard let values = try? ERC20.approve.arguments(of: call.data), values[0].addressValue == step.escrow.address else { return nil }
      return values[1].uintValue
    }
    if let approved { return approved >= Word256(transfer.amount) }
    let allowance = try await rpc.call(
      to: transfer.token, data: ERC20.allowance(owner: signed.sender, spender: step.escrow.address), from: nil)
    return Self.amounts(allowance, to: transfer.amount)
  }

  /// Whether a contract's answer is a number, and so much at least.
  private static func amounts(_ answer: [UInt8], to least: UInt128) -> Bool {
    guard answer.count == 32, let word = Word256(bigEndian: answer) else { return false }
    return word >= Word256(least)
  }

  /// Looks whether a deposit has landed that was sent before; `unavailable` says that it has not, nil that nobody can tell.
  private func findLanded(_ order: SettlementOrder, _ step: ChannelStep) async -> SettlementWord? {
    let stored = StoredChannel(escrow: step.escrow, channel: step.channel)
    if let hash = ledger.payment(order.id)?.transaction, case .receipt(let receipt) = await rpc.look(for: hash), receipt.isSuccessful {
      return await isDeep(receipt) ? await complete(order, step, receipt) : nil
    }
    if step.escrow.rules == .batch {
      guard let hasLanded = await hasBatchLanded(step) else { return nil }
      return hasLanded ? await complete(order, step, nil) : .unavailable
    }
    guard let sight = try? await readConfirmed(stored, step.transaction.channelID) else { return nil }
    guard case .standing(let standing) = sight else { return .unavailable }
    switch step.transaction.step {
    // One channel is opened once.
    case .open: return await complete(order, step, nil)
    case .topUp:
      guard let known = ledger.channel(step.transaction.channelID)?.account.deposit, let amount = step.transaction.amount,
        standing.deposit >= known, standing.deposit - known >= amount
      else { return .unavailable }
      return await complete(order, step, nil)
    case .settle, .close: return .unavailable
    }
  }

  // MARK: what it comes to

  /// Reads the channel that a deposit has made, and tells the ledger. What has opened one is kept once the ledger knows that one.
  private func complete(
    _ order: SettlementOrder, _ step: ChannelStep, _ receipt: TransactionReceipt?, by funding: Funding? = nil
  ) async -> SettlementWord {
    let word = await complete(order, step, receipt)
    if case .settled = word, step.transaction.step == .open, let receipt, let funding {
      keep(funding, of: step.transaction.channelID, in: receipt.blockNumber)
    }
    return word
  }

  private func complete(_ order: SettlementOrder, _ step: ChannelStep, _ receipt: TransactionReceipt?) async -> SettlementWord {
    let stored = StoredChannel(escrow: step.escrow, channel: step.channel)
    let id = step.transaction.channelID
    for round in 0..<Self.lagLimit where !Task.isCancelled {
      do throws(ChainError) {
        // What was added to a channel that was closed meanwhile went back with it, or lies there: there is nothing here to add it to.
        if step.transaction.step == .topUp, ledger.channel(id) == nil, ledger.availability == .selling {
          return await release(order, Self.refusal(.channelFinalized, receipt?.transactionHash))
        }
        if let receipt {
          let isAsSaid = try await isAsSaid(step, stored, receipt)
          if !isAsSaid { return await release(order, Self.refusal(.transactionMismatch, receipt.transactionHash)) }
        }
        let sight: Sight
        var least: UInt128 = 0
        if stored.escrow.rules == .batch {
          // A balance is as of the deposit's block: a node that lags would tell another.
          if let receipt {
            sight = .standing(try await readBatch(stored, id, asOf: receipt).standing)
          } else {
            sight = try await read(stored, id)
          }
        } else {
          sight = try await readUsable(stored, id, ledger.channel(id))
          // Nodes that lag show less than the transaction itself has told.
          least = receipt.map { step.deposit(after: $0) } ?? 0
        }
        if case .standing(let standing) = sight, standing.deposit >= least {
          return try await book(order, step, standing, receipt)
        }
        // A transaction that succeeded and made no such channel did something else. A node may lag behind the one that had the receipt.
        if round + 1 == Self.lagLimit, let receipt, case .hash = step.transaction.means, try await rpc.blockNumber() > receipt.blockNumber {
          return await release(order, Self.refusal(.channelNotFound, receipt.transactionHash))
        }
      } catch {}
      await Self.pause(round + 2)
    }
    return .unknown
  }

  /// Whether a payer's transaction has added to the channel what the credential says.
  private func isAsSaid(_ step: ChannelStep, _ stored: StoredChannel, _ receipt: TransactionReceipt) async throws(ChainError) -> Bool {
    guard case .hash = step.transaction.means, step.transaction.step == .topUp, let amount = step.transaction.amount else { return true }
    if step.transaction.event(in: receipt.logs, of: step.channel, escrow: step.escrow) != nil { return true }
    guard !receipt.logs.contains(where: { ChannelEvent($0, escrow: step.escrow) != nil }), receipt.blockNumber > 0 else { return false }
    // An escrow may tell nothing of what happens in it: what it has is compared then.
    let earlier = try await read(stored, step.transaction.channelID, atBlock: receipt.blockNumber - 1)
    let later = try await read(stored, step.transaction.channelID, atBlock: receipt.blockNumber)
    guard case .standing(let before) = earlier, case .standing(let after) = later else { return false }
    return after.deposit >= before.deposit && after.deposit - before.deposit >= amount
  }

  private func book(
    _ order: SettlementOrder, _ step: ChannelStep, _ standing: ChannelStanding, _ receipt: TransactionReceipt?
  ) async throws(ChainError) -> SettlementWord {
    let hash = receipt?.transactionHash
    if let error = Self.objection(to: standing, step, order.payment.deposit ?? ledger.payment(order.id)?.deposit) {
      return await release(order, Self.refusal(error, hash))
    }
    var block = receipt.map { ($0.blockNumber, $0.blockHash) }
    if block == nil, let head = try await rpc.header(.latest) { block = (head.number, head.hash) }
    guard let block else { throw .unreachable }
    let account = ChannelAccount(standing, block: block.0, hash: block.1)
    do {
      let entry = try ledger.deposited(order.id, account, transaction: hash, at: .now())
      return await ledger.isDurable(entry) ? .settled : .unknown
    } catch {
      switch error {
      case .sessionExists, .sessionClosed: return await release(order, Self.refusal(.channelFinalized, hash))
      case .beyondDeposit: return await release(order, Self.refusal(.amountExceedsDeposit, hash))
      default: return .unknown
      }
    }
  }

  /// Why nothing can be sold on a channel as it is on the chain; nil where something can.
  static func objection(to standing: ChannelStanding, _ step: ChannelStep, _ deposit: EscrowDeposit?) -> ChannelError? {
    do throws(ChannelError) { try standing.checkUsable() } catch { return error }
    guard step.transaction.step == .open else { return nil }
    if standing.deposit - standing.settled < step.minimumDeposit { return .depositBelowMinimum(step.minimumDeposit) }
    guard case .open(let channel)? = deposit else { return nil }
    if channel.voucher.amount > standing.deposit { return .amountExceedsDeposit }
    if channel.voucher.amount < standing.settled { return .amountNotIncreasing }
    return nil
  }

  /// Whether a receipt is as deep in the chain as is asked for.
  func isDeep(_ receipt: TransactionReceipt) async -> Bool {
    guard let head = try? await rpc.blockNumber(), head >= receipt.blockNumber else { return false }
    return head - receipt.blockNumber + 1 >= plan.confirmations
  }

  /// Frees a deposit that cannot land any more, or of which nothing was sent.
  private func release(_ order: SettlementOrder, _ word: SettlementWord) async -> SettlementWord {
    let cause: String
    if case .refused(let refusal) = word, let error = refusal.channel { cause = "\(error.problem.name)".replacing("session/", with: "") } else { cause = "unavailable" }
    do {
      let entry = try ledger.refused(order.id, cause: cause, at: .now())
      return await ledger.isDurable(entry) ? word : .unknown
    } catch { return .unknown }
  }

  static func refusal(_ error: ChannelError, _ transaction: Digest32? = nil) -> SettlementWord {
    // What is told of it is the channel's rule; chain and payer are named by x402 alone.
    .refused(SettlementRefusal(reason: .transactionFailed, chain: 0, payer: .zero, transaction: transaction, channel: error))
  }

  /// Waits before the next look: a tenth of a second at first, then twice as long each time, up to half a minute.
  static func pause(_ round: Int) async {
    try? await Task.sleep(for: .milliseconds(min(100 << min(round, 10), 30_000)))
  }
}
