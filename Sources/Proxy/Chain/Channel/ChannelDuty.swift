import Bytes
import Encoding
import Ledger
import Methods

/// What has to be done for a channel now.
enum ChannelDuty: Equatable {
  case nothing
  /// Take what was signed.
  case settle
  /// Stop selling on it, and close it.
  case end(CloseCause)
  /// Wait until its exchanges have stopped.
  case wait
  /// Close it on the chain.
  case close
}

/// When channels are settled and closed without anybody asking.
struct ChannelSchedule: Equatable {
  /// Base units that may be signed and unsettled.
  let amount: UInt128
  /// How long something may be.
  let age: Duration
  /// How long a channel may be without use.
  let idle: Duration

  /// Decides what is to be done for a channel, by what the ledger and the chain say of it.
  func duty(of view: ChannelView, _ standing: ChannelStanding, at now: Timestamp) -> ChannelDuty {
    switch view.phase {
    case .closing: return view.inFlight > 0 ? .wait : .close
    case .suspended: return .nothing
    // Who has confirmed nothing cannot stop a chain: what was signed by the backup is taken.
    case .unconfirmed: return standing.isFinalized || standing.closeRequestedAt != 0 ? .end(.forced) : .nothing
    case .open: break
    }
    if standing.isFinalized || standing.closeRequestedAt != 0 { return .end(.forced) }
    if view.inFlight == 0, now - view.lastUse >= idle { return .end(.idle) }
    let choice = ChannelChoice(view, rejected: nil)
    let schedule = SettlementSchedule(amount: amount, age: age)
    guard let since = view.unsettledSince, let voucher = choice.covering(view.spent),
      schedule.isDue(accepted: voucher.amount, settled: standing.settled, since: since, now: now)
    else { return .nothing }
    return .settle
  }
}

/// The vouchers of a channel, of which one is handed to the escrow.
struct ChannelChoice {
  private let vouchers: [AcceptedVoucher]

  /// - Parameter rejected: the lowest amount whose signature the escrow did not take, where that happened: a contract that signs may change
  ///   its mind. What is signed for as much or more is not tried again.
  init(_ view: ChannelView, rejected: UInt128?) {
    vouchers = ([view.closing, view.voucher, view.previous] as [AcceptedVoucher?]).compactMap { $0 }
      .filter { voucher in rejected.map { voucher.amount < $0 } ?? true && voucher.amount <= view.account.deposit }
  }

  /// The voucher that takes the least and still pays for what was spent, the greatest where none does; nil where there is none.
  ///
  /// Escrows pay what a voucher says, whatever was bought with it.
  func covering(_ spent: UInt128) -> AcceptedVoucher? {
    vouchers.filter { $0.amount >= spent }.min { $0.amount < $1.amount } ?? vouchers.max { $0.amount < $1.amount }
  }

  /// How a channel is closed: by the voucher that covers what was spent, and by nothing where what is settled covers it already.
  func closing(_ id: Digest32, _ standing: ChannelStanding, spent: UInt128, rules: ChannelProtocol) -> ChannelClosing {
    // Where the rules let less be taken than is signed, any voucher does that is high enough, and what was spent is taken.
    let voucher =
      (rules.capturesExactly ? vouchers.max { $0.amount < $1.amount } : covering(spent)) ?? AcceptedVoucher(amount: standing.settled, signature: [])
    let amount = rules.capturesExactly ? min(spent, voucher.amount) : voucher.amount
    let captured = min(max(amount, standing.settled), standing.deposit)
    return ChannelClosing(voucher: voucher.signed(of: id), captured: captured, refunded: standing.deposit - captured)
  }
}

extension AcceptedVoucher {
  /// As escrows take it.
  func signed(of channel: Digest32) -> SessionVoucher { SessionVoucher(channelID: channel, cumulativeAmount: amount, signature: signature) }
}

/// When a channel with which something failed is looked after again.
struct ChannelPause {
  private static let shortest = 5
  private static let longest = 3600

  private(set) var failures = 0
  private(set) var until = Instant(nanoseconds: 0)

  /// Something failed: twice as long as the last time.
  ///
  /// - Parameter limit: seconds; what has to land within a time waits no longer than this.
  mutating func fail(at now: Instant, limit: UInt64?) {
    let seconds = min(Self.shortest << min(failures, 12), Self.longest, Int(clamping: limit ?? .max))
    failures += 1
    until = now + .seconds(max(1, seconds))
  }
}

extension ChannelAccount {
  /// What is known of a channel once the chain says something new. A node that lags behind does not lower the deposit: that only happens where
  /// blocks were taken back.
  func renewed(by standing: ChannelStanding, lowersDeposit: Bool, at block: (number: UInt64, hash: Digest32)? = nil) -> ChannelAccount {
    ChannelAccount(
      deposit: lowersDeposit ? standing.deposit : max(deposit, standing.deposit), settled: max(settled, standing.settled),
      closeRequestedAt: standing.closeRequestedAt, isFinalized: isFinalized || standing.isFinalized, block: block?.number ?? self.block,
      blockHash: block?.hash ?? blockHash)
  }

  /// What a channel that is not known yet starts with.
  init(_ standing: ChannelStanding, block: UInt64, hash: Digest32) {
    self.init(
      deposit: standing.deposit, settled: standing.settled, closeRequestedAt: standing.closeRequestedAt, isFinalized: standing.isFinalized,
      block: block, blockHash: hash)
  }
}
