/// A session's account without its terms: what each receipt says, copied without touching memory of its own.
public struct SessionFigures: Sendable, Hashable {
  /// Whether new debits are taken.
  public let isOpen: Bool
  /// All amounts are base units.
  public let deposit: UInt128
  /// ceil(settled + ahead).
  public let spent: UInt128
  /// The same without what is held for exchanges in flight.
  public let debited: UInt128
  public let remaining: UInt128
  public let units: UInt64
}

extension Ledger {
  /// Copies a session's figures; nil where the handle is void.
  public func figures(_ handle: SessionHandle) -> SessionFigures? {
    state.withLock { state in
      guard let index = try? state.slot(handle), state.balances[index].phase != .vacant else { return nil }
      let spent = state.balances[index].committed.ceiling
      let deposit = state.balances[index].deposit
      return SessionFigures(
        isOpen: state.balances[index].phase == .open && !state.balances[index].isEnding, deposit: deposit, spent: spent,
        debited: state.balances[index].total.ceiling, remaining: deposit - min(spent, deposit),
        units: state.balances[index].units)
    }
  }
}
