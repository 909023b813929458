import Ethereum
import Ledger
import Methods
import Synchronization

/// Opens, watches, settles and closes the channels of one escrow.
final class EscrowDesk: Sendable {
  let escrow: SessionEscrow
  let plan: ChainPlan
  let rpc: ChainRPC
  let submitter: ChainSubmitter
  let ledger: Ledger
  let notices: ChainNotices
  private let found = Mutex<EscrowState?>(nil)

  init(_ escrow: SessionEscrow, plan: ChainPlan, rpc: ChainRPC, submitter: ChainSubmitter, ledger: Ledger, notices: ChainNotices) {
    self.escrow = escrow
    self.plan = plan
    self.rpc = rpc
    self.submitter = submitter
    self.ledger = ledger
    self.notices = notices
  }

  /// How the escrow stands; nil while nothing is known of it.
  var state: EscrowState? { found.withLock { $0 } }

  /// Does what a request waits for.
  func settle(_ order: SettlementOrder) async -> SettlementWord { .unavailable }
}
