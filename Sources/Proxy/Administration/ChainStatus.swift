import Bytes
import Configuration
import Encoding
import Ethereum
import Ledger

/// Tells operators how chains stand: what their nodes said last, and what is on its way. Without a desk, what the ledger knows.
struct ChainStatus {
  private let settings: Settings
  private let ledger: Ledger
  /// nil in a process that serves nothing.
  private let desk: ChainDesk?

  init(settings: Settings, ledger: Ledger, desk: ChainDesk?) {
    self.settings = settings
    self.ledger = ledger
    self.desk = desk
  }

  /// The state of every chain that is configured, or on which something of ours is; amounts are decimal strings of wei.
  func json(at now: Timestamp) -> JSONObject {
    let senders = ledger.chainSenders()
    let live = Dictionary((desk?.chains() ?? []).map { ($0.plan.id, $0) }, uniquingKeysWith: { $1 })
    let configured = Set(settings.chains.map(\.id))
    var chains = settings.chains.map { chain in
      status(of: chain, live[chain.id], senders.filter { $0.chain == chain.id }, at: now)
    }
    for id in Set(senders.map(\.chain)).subtracting(configured).sorted() {
      chains.append(formerStatus(of: id, senders.filter { $0.chain == id }, at: now))
    }
    let counts = ledger.paymentCounts
    let problems = unservedByNobody(counts.open)
    let isWell = problems.isEmpty && chains.allSatisfy { $0["problems"]?.arrayValue?.isEmpty ?? true }
    return [
      "running": .bool(desk != nil), "well": .bool(isWell), "chains": .array(chains.map { .object($0) }),
      "payments": [
        "open": .integer(counts.open), "unserved": .integer(counts.unserved), "unresolved": .integer(ledger.unresolvedPayments(at: now).count),
      ],
      "problems": .array(problems.map { .string($0) }),
    ]
  }

  private func unservedByNobody(_ open: Int) -> [String] {
    guard desk == nil, open > 0 else { return [] }
    return ["no proxy runs, and payments under way (\(open)) are gone on with only when one does"]
  }

  // MARK: one chain

  private func status(of chain: Settings.Chain, _ live: Chain?, _ senders: [ChainSenderView], at now: Timestamp) -> JSONObject {
    let condition = live?.condition.withLock { $0 }
    var problems: [String] = []
    var object: JSONObject = [
      "name": .string(chain.name), "chain": .string(chain.reference), "type": .string(chain.kind.rawValue),
      "state": .string(state(chain, condition)), "nodes": .array(chain.rpc.map { .string($0.words) }),
    ]
    if let live, let fault = condition?.cause {
      let words = live.words(of: fault)
      object.set("fault", ["code": .string(fault.code), "message": .string(words)])
      problems.append(words)
    }
    if let block = condition?.block { object.set("block", .integer(block)) }
    if let price = condition?.gasPrice { object.set("gasPriceWei", .string(String(price))) }
    if chain.signer != nil { object.set("gasPriceLimitWei", .string(String(chain.gasPriceLimit))) }
    let signer = live?.submitter?.address ?? chain.signerAddress
    if let signer {
      object.set("signer", .object(Self.json(signer, condition)))
      if let left = condition?.paymentsLeft, left < ChainPlan.paymentsLow, condition?.cause == nil {
        problems.append("the gas money of \(signer.checksummed) lasts for \(left) payments: fill it up")
      }
    }
    for money in condition?.feeMoney ?? [] where money.paymentsLeft < ChainPlan.paymentsLow {
      let whose = "\(chain.signerAddress?.checksummed ?? "the signer") in \(money.currency.symbol)"
      problems.append("the money for fees of \(whose) lasts for \(money.paymentsLeft) payments: fill it up")
    }
    if let index = chain.facilitator {
      let facilitator = settings.facilitators[index]
      var view: JSONObject = ["name": .string(facilitator.name), "url": .string(facilitator.endpoint.words)]
      if let answers = condition?.facilitatorAnswers {
        view.set("answers", .bool(answers))
        if !answers, condition?.fault == nil {
          let words = condition?.facilitatorFault == .unreachable ? "does not answer" : "settles nothing on the chain by its own words"
          problems.append("the facilitator \(facilitator.name) \(words)")
        }
      }
      object.set("facilitator", .object(view))
    }
    problems += outboxProblems(chain, signer, senders, at: now)
    problems += appendSessions(chain, live, to: &object)
    let unresolved = ledger.unresolvedPayments(chain: chain.id, at: now).count
    if unresolved > 0 { problems.append("what became of payments (\(unresolved)) is not known: see farebox payment list --open") }
    appendSent(senders, to: &object, at: now)
    object.set("problems", .array(problems.map { .string($0) }))
    return object
  }

  /// A chain that is gone from the configuration, of which the ledger still knows.
  private func formerStatus(of id: UInt64, _ senders: [ChainSenderView], at now: Timestamp) -> JSONObject {
    var object: JSONObject = ["chain": .string("eip155:\(id)"), "state": "not-configured"]
    let waiting = senders.reduce(0) { $0 + $1.outgoing }
    appendSent(senders, to: &object, at: now)
    let problem = "the chain is not configured, and nobody looks after what was sent on it (\(waiting))"
    object.set("problems", .array(waiting > 0 ? [.string(problem)] : []))
    return object
  }

  private func state(_ chain: Settings.Chain, _ condition: ChainCondition?) -> String {
    guard desk != nil else { return "not-running" }
    // A chain that a reload has added is not there at once.
    guard let condition, condition.isKnown else { return "starting" }
    // One way to settle is enough.
    let settlesItself = chain.signer != nil || chain.facilitator == nil
    return settlesItself && condition.cause == nil || condition.fault == nil && condition.facilitatorAnswers == true ? "usable" : "unusable"
  }

  private static func json(_ signer: Address, _ condition: ChainCondition?) -> JSONObject {
    var object: JSONObject = ["address": .string(signer.checksummed)]
    if let balance = condition?.balance { object.set("balanceWei", .string(String(balance))) }
    if let left = condition?.paymentsLeft { object.set("paymentsLeft", .string(String(left))) }
    let money = (condition?.feeMoney ?? []).map { money -> JSONValue in
      [
        "currency": .string(money.currency.code), "balance": .string(String(money.units)), "paymentsLeft": .string(String(money.paymentsLeft)),
      ]
    }
    if !money.isEmpty { object.set("feeMoney", .array(money)) }
    return object
  }

  // MARK: sessions over channels

  /// Tells how the chain's sessions stand.
  ///
  /// - Returns: what needs an operator.
  private func appendSessions(_ chain: Settings.Chain, _ live: Chain?, to object: inout JSONObject) -> [String] {
    let totals = ledger.channelTotals().filter { $0.currency.hasSuffix("@\(chain.reference)") }
    let batch = appendBatch(chain, live, to: &object)
    guard let escrow = chain.escrow else {
      let count = chain.batch == nil ? totals.reduce(0) { $0 + $1.open + $1.suspended + $1.closing } - batchChannels(chain) : 0
      return count == 0 ? batch : batch + ["no escrow is configured, and nobody looks after its channels (\(count)): write escrow again until they are closed"]
    }
    var problems = batch
    var view: JSONObject = ["escrow": .string(escrow.address.checksummed)]
    if let name = escrow.rules.name { view.set("protocol", .string(name)) }
    if let state = live?.escrow?.state {
      view.set("watched", .bool(state.isWatched))
      view.set("graceSeconds", .integer(state.gracePeriod))
      if !state.isWatched { problems.append("channels cannot be watched: no sessions are sold") }
    }
    if let fault = live?.escrow?.fault { problems.append("no sessions are sold, for the escrow \(escrow.address.checksummed) cannot be used: \(fault)") }
    if let count = live?.escrow?.failingCount, count > 0 { problems.append("channels (\(count)) could not be settled or closed, and are tried again: see the log") }
    if let count = live?.escrow?.unreadableCount, count > 0 { problems.append(Self.unreadable(count)) }
    view.set("channels", Self.json(totals))
    object.set("sessions", .object(view))
    return problems
  }

  /// Tells how the chain's channels of batch-settlement stand; sums are of all channels of the chain.
  ///
  /// - Returns: what needs an operator.
  private func appendBatch(_ chain: Settings.Chain, _ live: Chain?, to object: inout JSONObject) -> [String] {
    guard let batch = chain.batch else {
      let count = batchChannels(chain)
      return count == 0 ? [] : ["batch is not configured, and nobody looks after its channels (\(count)): write batch again until they are closed"]
    }
    var problems: [String] = []
    var view: JSONObject = ["contract": .string(batch.address.checksummed), "withdrawDelaySeconds": .integer(Int(batch.withdrawDelay / .seconds(1)))]
    if let state = live?.batch?.state {
      view.set("watched", .bool(state.isWatched))
      if !state.isWatched { problems.append("channels of batch-settlement cannot be watched: nothing is sold by them") }
    }
    if let fault = live?.batch?.fault { problems.append("nothing is sold by batch-settlement, for its contract cannot be used: \(fault)") }
    if let count = live?.batch?.failingCount, count > 0 {
      problems.append("channels of batch-settlement (\(count)) could not be claimed or closed, and are tried again: see the log")
    }
    if let count = live?.batch?.unreadableCount, count > 0 { problems.append(Self.unreadable(count)) }
    view.set("channels", Self.json(ledger.channelTotals().filter { $0.currency.hasSuffix("@\(chain.reference)") }))
    object.set("batch", .object(view))
    return problems
  }

  private static func unreadable(_ count: Int) -> String {
    "channels (\(count)) cannot be read though the chain can be asked: nothing is sold on them until they can; see the log"
  }

  private func batchChannels(_ chain: Settings.Chain) -> Int {
    ledger.openChannels(chain: chain.id).count { StoredChannel($0.descriptor)?.escrow.rules == .batch }
  }

  private static func json(_ totals: [ChannelTotals]) -> JSONValue {
    .array(
      totals.map { total in
        [
          "account": .string(total.currency), "open": .integer(total.open), "suspended": .integer(total.suspended), "closing": .integer(total.closing),
          "earned": .string(String(total.earned)), "claimable": .string(String(total.claimable)),
        ]
      })
  }

  // MARK: what was sent

  private func outboxProblems(_ chain: Settings.Chain, _ signer: Address?, _ senders: [ChainSenderView], at now: Timestamp) -> [String] {
    var problems: [String] = []
    for sender in senders where sender.outgoing > 0 {
      let address = Address(bytes: sender.sender)?.checksummed ?? ""
      guard desk != nil else {
        problems.append("no proxy runs, and nobody looks after what \(address) has sent (\(sender.outgoing))")
        continue
      }
      if sender.sender != signer?.bytes {
        problems.append("\(address) is not the signer any more, and nobody looks after what it has sent (\(sender.outgoing))")
      } else if ledger.outgoing(chain: chain.id, sender: sender.sender).contains(where: { isStuck($0, chain, at: now) }) {
        problems.append("a transaction of \(address) is stuck: \(chain.name) has not taken it after \(ChainPlan.stuckAfter) times resubmit-after")
      }
    }
    return problems
  }

  private func isStuck(_ transaction: OutgoingTransaction, _ chain: Settings.Chain, at now: Timestamp) -> Bool {
    now >= transaction.createdAt + chain.resubmitAfter * ChainPlan.stuckAfter
  }

  private func appendSent(_ senders: [ChainSenderView], to object: inout JSONObject, at now: Timestamp) {
    let waiting = senders.flatMap { ledger.outgoing(chain: $0.chain, sender: $0.sender) }
    object.set("outbox", .array(waiting.map { .object(json($0, at: now)) }))
    object.set(
      "sent",
      .array(
        senders.map { sender in
          [
            "sender": .string(Address(bytes: sender.sender)?.checksummed ?? ""), "gasWei": .string(String(sender.gas)),
            "succeeded": .integer(sender.succeeded), "failed": .integer(sender.failed),
          ]
        }))
  }

  private func json(_ transaction: OutgoingTransaction, at now: Timestamp) -> JSONObject {
    let purpose = ledger.payment(transaction.purpose) != nil ? "payment" : ledger.channel(transaction.purpose) != nil ? "channel" : "other"
    let age = max(0, (now - transaction.createdAt).components.seconds)
    return [
      "sender": .string(Address(bytes: transaction.sender)?.checksummed ?? ""), "nonce": .string(String(transaction.nonce)),
      "transaction": .string("0x" + transaction.hash.hex), "seconds": .integer(age), "replaced": .integer(transaction.replaced.count),
      "purpose": .string(purpose), "for": .string(transaction.purpose.hex),
    ]
  }
}
