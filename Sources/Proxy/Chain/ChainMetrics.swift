import Bytes
import Ledger

/// How many payments came to what, since the process was started.
struct ChainCounts: Sendable {
  private(set) var settled: UInt64 = 0
  private(set) var refused: UInt64 = 0
  private(set) var unknown: UInt64 = 0
  private(set) var unavailable: UInt64 = 0

  mutating func count(_ word: SettlementWord) {
    switch word {
    case .settled: settled &+= 1
    case .refused, .declined: refused &+= 1
    case .unknown: unknown &+= 1
    case .unavailable: unavailable &+= 1
    }
  }
}

/// Prints how chains stand as Prometheus text.
enum ChainMetricsText {
  static func append(_ desk: ChainDesk, _ ledger: Ledger, to text: inout ByteBuffer) {
    func head(_ name: StaticString, _ kind: StaticString, _ help: StaticString) {
      for piece in ["# HELP farebox_chain_", name, " ", help, "\n# TYPE farebox_chain_", name, " ", kind, "\n"] as [StaticString] { text.append(piece) }
    }
    func value(_ name: StaticString, _ label: StaticString, _ content: String, _ number: UInt128) {
      for piece in ["farebox_chain_", name, "{", label, "=\""] as [StaticString] { text.append(piece) }
      text.append(ServerMetricsText.escaped(content))
      text.append("\"} " as StaticString)
      text.append(decimal: number)
      text.append("\n" as StaticString)
    }
    let counts = desk.counts
    let chains = desk.chains()
    let conditions = chains.map { chain in (name: chain.plan.name, found: chain.condition.withLock { $0 }) }
    let senders = ledger.chainSenders()
    let payments = ledger.paymentCounts

    head("payments_total", "counter", "Payments on chains by what they came to; unknown ones are gone on with by the next start or reload.")
    let outcomes = [("settled", counts.settled), ("refused", counts.refused), ("unknown", counts.unknown), ("unavailable", counts.unavailable)]
    for (outcome, count) in outcomes { value("payments_total", "outcome", outcome, UInt128(count)) }
    head("reachable", "gauge", "Whether payments can be settled on a chain: 0 withdraws its offers.")
    for chain in chains { value("reachable", "chain", chain.plan.name, chain.isReachable || chain.isFacilitated ? 1 : 0) }
    head("signer_balance_wei", "gauge", "What the account that pays for gas has, at the last look.")
    for (name, found) in conditions { if let balance = found.balance { value("signer_balance_wei", "chain", name, balance) } }
    head("outbox_length", "gauge", "Transactions of ours that the chain has not taken yet.")
    for chain in chains {
      value("outbox_length", "chain", chain.plan.name, UInt128(senders.reduce(0) { $0 + ($1.chain == chain.plan.id ? $1.outgoing : 0) }))
    }
    head("gas_spent_wei", "counter", "What our transactions have cost since the ledger was made.")
    for chain in chains { value("gas_spent_wei", "chain", chain.plan.name, spent(on: chain.plan.id, senders)) }
    head("escrow_watched", "gauge", "Whether the forced close of a channel would be seen in time: 0 withdraws the chain's sessions.")
    for chain in chains { if let escrow = chain.escrow { value("escrow_watched", "chain", chain.plan.name, escrow.state?.isWatched == true ? 1 : 0) } }
    head("batch_watched", "gauge", "Whether the withdrawal from a channel of batch-settlement would be seen in time: 0 withdraws these offers.")
    for chain in chains { if let batch = chain.batch { value("batch_watched", "chain", chain.plan.name, batch.state?.isWatched == true ? 1 : 0) } }
    head("channels_unreadable", "gauge", "Channels that cannot be read though their chain can be asked: nothing is sold on them.")
    for chain in chains where chain.escrow != nil || chain.batch != nil {
      value("channels_unreadable", "chain", chain.plan.name, UInt128((chain.escrow?.unreadableCount ?? 0) + (chain.batch?.unreadableCount ?? 0)))
    }
    let totals = ledger.channelTotals()
    head("channels_open", "gauge", "Channels that sessions run over, by the account that they pay into.")
    for total in totals { value("channels_open", "account", total.currency, UInt128(total.open + total.suspended)) }
    head("channels_closing", "gauge", "Channels that wait to be closed on their chain.")
    for total in totals { value("channels_closing", "account", total.currency, UInt128(total.closing)) }
    head("channels_earned", "gauge", "What was spent over channels and is not settled yet, in base units.")
    for total in totals { value("channels_earned", "account", total.currency, total.earned) }
    head("channels_claimable", "gauge", "What vouchers allow to be settled and is not yet, in base units.")
    for total in totals { value("channels_claimable", "account", total.currency, total.claimable) }
    let rows: [(StaticString, StaticString, StaticString, UInt64)] = [
      ("chain_open_payments", "gauge", "Payments on chains that have neither settled nor failed.", UInt64(payments.open)),
      ("chain_unserved_payments", "gauge", "Payments on chains that have settled and for which nothing was served yet.", UInt64(payments.unserved)),
    ]
    MetricsText.append(rows, to: &text)
  }

  private static func spent(on chain: UInt64, _ senders: [ChainSenderView]) -> UInt128 {
    senders.reduce(0) { sum, sender in
      guard sender.chain == chain else { return sum }
      let (total, overflows) = sum.addingReportingOverflow(sender.gas)
      return overflows ? .max : total
    }
  }
}
