import Methods

extension EscrowDesk.Sight {
  /// What lies in the escrow, in base units; 0 where there is no channel.
  var deposit: UInt128 {
    switch self {
    case .standing(let standing): standing.deposit
    case .absent: 0
    }
  }

  /// The same with a deposit that is not above what counts; none where nothing does.
  func limited(to deposit: UInt128) -> EscrowDesk.Sight {
    guard case .standing(var standing) = self, deposit > 0 else { return .absent }
    standing.deposit = min(standing.deposit, deposit)
    return .standing(standing)
  }
}
