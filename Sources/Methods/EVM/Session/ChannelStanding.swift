import Bytes
import Ethereum

/// What the chain says of a channel, as last read.
public struct ChannelStanding: Sendable, Hashable {
  /// Base units deposited in all.
  public var deposit: UInt128
  /// Base units paid to the payee.
  public var settled: UInt128
  /// The second of Unix time in which a forced close began; zero for none.
  public var closeRequestedAt: UInt64
  /// Whether the channel is closed for good.
  public var isFinalized: Bool

  /// Takes the members.
  public init(deposit: UInt128, settled: UInt128 = 0, closeRequestedAt: UInt64 = 0, isFinalized: Bool = false) {
    self.deposit = deposit
    self.settled = settled
    self.closeRequestedAt = closeRequestedAt
    self.isFinalized = isFinalized
  }

  /// Encodes the question to the escrow for a channel's state.
  public static func question(_ channelID: Digest32, rules: ChannelProtocol) -> [UInt8] {
    switch rules {
    case .evm, .tempoV1: ChannelEscrow.getChannel(channelID)
    case .tempoV2: ChannelReserve.getChannelState(channelID)
    case .batch: BatchSettlement.channels(channelID)
    }
  }

  /// Reads the escrow's answer about a channel, and compares the parties that it names.
  ///
  /// - Throws: `malformedState`, `channelNotFound`, `stateMismatch` where the channel has other members than it should.
  public init(returned data: [UInt8], of channel: ChannelDescriptor, rules: ChannelProtocol) throws(ChannelError) {
    switch rules {
    case .evm, .tempoV1:
      let state: ChannelEscrow.Channel
      do { state = try ChannelEscrow.Channel(returned: data, isTempo: rules == .tempoV1) } catch { throw .malformedState }
      guard !state.payer.isZero else { throw .channelNotFound }
      guard state.payer == channel.payer, state.payee == channel.payee, state.token == channel.token,
        state.signer == channel.signer
      else { throw .stateMismatch }
      self.init(
        deposit: state.deposit, settled: state.settled, closeRequestedAt: state.closeRequestedAt, isFinalized: state.isFinalized)
    case .tempoV2:
      guard let members = (try? ChannelReserve.getChannelState.results(of: data))?.first?.elements, members.count == 3,
        let settled = members[0].uintValue?.uint128, let deposit = members[1].uintValue?.uint128,
        let closeRequestedAt = members[2].uintValue?.uint64
      else { throw .malformedState }
      // The state knows no parties: the id that was asked for follows from them.
      guard deposit > 0 else { throw .channelNotFound }
      self.init(deposit: deposit, settled: settled, closeRequestedAt: closeRequestedAt)
    // Its state takes more than one question: ``BatchStanding``.
    case .batch: throw .protocolMismatch
    }
    guard settled <= deposit else { throw .malformedState }
  }

  /// Checks that a channel can be used (drafts, "Open Verification").
  ///
  /// - Parameters:
  ///   - amount: what its rest has to pay for at least, in base units.
  /// - Throws: `channelFinalized`, `closeRequested`, `insufficientBalance`.
  public func checkUsable(for amount: UInt128 = 0) throws(ChannelError) {
    guard !isFinalized else { throw .channelFinalized }
    guard closeRequestedAt == 0 else { throw .closeRequested }
    let rest = deposit - min(settled, deposit)
    guard rest >= amount else { throw .insufficientBalance(amount - rest) }
  }

  /// The second of Unix time from which the payer can withdraw; nil where no forced close has begun.
  public func withdrawable(gracePeriod: UInt64) -> UInt64? {
    guard closeRequestedAt > 0 else { return nil }
    let (end, overflows) = closeRequestedAt.addingReportingOverflow(gracePeriod)
    return overflows ? .max : end
  }
}

extension SessionEscrow {
  /// Checks an escrow's grace period, as the answer to `ChannelEscrow.closeGracePeriod` tells it.
  ///
  /// - Returns: the seconds.
  /// - Throws: `malformedState`, `gracePeriodTooShort`.
  public static func gracePeriod(returned data: [UInt8]) throws(ChannelError) -> UInt64 {
    guard let seconds = (try? ChannelEscrow.closeGracePeriod.results(of: data))?.first?.uintValue?.uint64 else {
      throw .malformedState
    }
    guard seconds >= leastGracePeriod else { throw .gracePeriodTooShort }
    return seconds
  }
}
