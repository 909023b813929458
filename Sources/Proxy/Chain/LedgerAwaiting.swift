import Encoding
import Ledger

extension Ledger {
  /// Waits until an entry is durable; false where it never will be, or did not become it within ten seconds.
  func isDurable(_ entry: LSN) async -> Bool {
    let epoch = epoch
    let end = Instant.now() + .seconds(10)
    while true {
      switch durability(of: entry, epoch: epoch) {
      case .durable: return true
      case .void: return false
      case .pending:
        guard Instant.now() < end else { return false }
        urge()
        try? await Task.sleep(for: .microseconds(200))
      }
    }
  }
}
