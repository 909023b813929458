import Bytes
import Crypto
import Encoding
import Ethereum

/// What moves a channel on the chain: what has to be submitted or observed, and what shows that it happened.
public struct ChannelTransaction: Sendable, Hashable {
  /// Names what a transaction does.
  public enum Step: UInt8, Sendable, Hashable, CaseIterable {
    case open = 1
    case topUp
    case settle
    case close
  }

  /// What it does.
  public var step: Step
  /// The channel.
  public var channelID: Digest32
  /// Names what of the payer's is used once; nil for our own steps, which the channel's state makes idempotent.
  public var id: Digest32?
  /// Base units: what is deposited, or, for our own steps, all that is settled afterwards; nil where only the chain tells.
  public var amount: UInt128?
  /// The instant after which it cannot happen any more; nil where there is none.
  public var expires: Timestamp?
  /// How it gets onto the chain.
  public var means: SettlementMeans
  /// The tokens' movements that the receipt's logs must show, each by a log of its own; empty where only the chain tells them.
  public var transfers: [ExpectedTransfer]
  /// The payer's transaction that waits for us to sign for its fees; nil where none does. ``sponsored(by:feeToken:)`` makes it sendable.
  public private(set) var awaiting: SignedTempoTransaction?

  /// Takes the members.
  public init(
    _ step: Step, channelID: Digest32, id: Digest32? = nil, amount: UInt128?, expires: Timestamp? = nil, means: SettlementMeans,
    transfers: [ExpectedTransfer], awaiting: SignedTempoTransaction? = nil
  ) {
    self.awaiting = awaiting
    self.step = step
    self.channelID = channelID
    self.id = id
    self.amount = amount
    self.expires = expires
    self.means = means
    self.transfers = transfers
  }

  /// The same step with the fee payer's signature on the payer's transaction (draft-tempo-session-00 "Server-Paid Fees").
  ///
  /// - Throws: `payment(.feesNotSponsored)` where no transaction waits for one.
  public func sponsored(by key: EthereumKey, feeToken: Address) throws(ChannelError) -> ChannelTransaction {
    guard let signed = try? awaiting?.sponsored(by: key, feeToken: feeToken) else { throw .payment(.feesNotSponsored) }
    var transaction = self
    transaction.means = .transaction(raw: signed.encoded, hash: signed.hash)
    transaction.awaiting = nil
    return transaction
  }

  /// Finds the event that shows the step among a receipt's logs; nil where none does.
  ///
  /// An escrow without events is asked for the channel's state alone.
  public func event(in logs: [Log], of channel: ChannelDescriptor, escrow: SessionEscrow) -> ChannelEvent? {
    for log in logs {
      guard let event = ChannelEvent(log, escrow: escrow), event.channelID == channelID, event.payer == channel.payer,
        event.payee == channel.payee, shows(event.kind, channel)
      else { continue }
      return event
    }
    return nil
  }

  private func shows(_ kind: ChannelEvent.Kind, _ channel: ChannelDescriptor) -> Bool {
    switch (step, kind) {
    case (.open, .opened(let token, let signer, let deposit)):
      token == channel.token && (signer == channel.authorizedSigner || signer == channel.signer) && amount ?? deposit == deposit
    case (.topUp, .toppedUp(let additional, _)): amount ?? additional == additional
    case (.settle, .settled(_, let settled)): amount ?? settled <= settled
    case (.close, .closed): true
    case (.open, _), (.topUp, _), (.settle, _), (.close, _): false
    }
  }

  /// Names a transaction's hash as what deposits to a channel: one transaction may hold the deposits of several.
  static func id(chain: UInt64, channelID: Digest32, transaction: Digest32) -> Digest32 {
    var hash = SHA256()
    hash.update("evm-channel")
    withUnsafeBytes(of: chain.bigEndian) { hash.update($0) }
    hash.update(channelID)
    hash.update(transaction)
    return hash.finalize()
  }
}

/// What an escrow's log tells of a channel.
public struct ChannelEvent: Sendable, Hashable {
  /// Says what happened; amounts are base units.
  public enum Kind: Sendable, Hashable {
    case opened(token: Address, authorizedSigner: Address, deposit: UInt128)
    case toppedUp(additionalDeposit: UInt128, deposit: UInt128)
    /// What moved now, and all that is settled.
    case settled(paid: UInt128, settled: UInt128)
    /// The second of Unix time from which the payer can withdraw.
    case closeRequested(withdrawable: UInt64)
    case closeRequestCancelled
    /// All that the payee got from the channel, and what the payer got back.
    case closed(toPayee: UInt128, refunded: UInt128)
  }

  /// The channel.
  public let channelID: Digest32
  /// Who deposited.
  public let payer: Address
  /// Who is paid.
  public let payee: Address
  /// What happened.
  public let kind: Kind

  /// Reads a log; nil where it tells something else, comes from elsewhere, was taken back, or holds what does not fit.
  public init?(_ log: Log, escrow: SessionEscrow) {
    guard log.address == escrow.address, !log.isRemoved, let topic = log.topics.first else { return nil }
    let events = Events(escrow.rules)
    guard let event = events.all.first(where: { $0.topic == topic }), let values = event.values(of: log), values.count >= 3,
      let channelID = values[0].fixedBytesValue, let payer = values[1].addressValue, let payee = values[2].addressValue,
      let kind = events.kind(event, values)
    else { return nil }
    self.channelID = channelID
    self.payer = payer
    self.payee = payee
    self.kind = kind
  }

  /// The topics under which an escrow's logs are asked for.
  public static func topics(_ rules: ChannelProtocol) -> [Digest32] { Events(rules).all.map(\.topic) }
}

extension ChannelEvent {
  /// The events of one kind of escrow.
  private struct Events {
    let isReserve: Bool
    let opened, toppedUp, settled, closeRequested, closeRequestCancelled, closed: ABIEvent

    init(_ rules: ChannelProtocol) {
      switch rules {
      // The contract of batch-settlement tells other events, which say nothing that reading it does not.
      case .evm, .tempoV1, .batch:
        isReserve = false
        opened = ChannelEscrow.channelOpened
        toppedUp = ChannelEscrow.toppedUp
        settled = ChannelEscrow.settled
        closeRequested = ChannelEscrow.closeRequested
        closeRequestCancelled = ChannelEscrow.closeRequestCancelled
        closed = ChannelEscrow.channelClosed
      case .tempoV2:
        isReserve = true
        opened = ChannelReserve.channelOpened
        toppedUp = ChannelReserve.toppedUp
        settled = ChannelReserve.settled
        closeRequested = ChannelReserve.closeRequested
        closeRequestCancelled = ChannelReserve.closeRequestCancelled
        closed = ChannelReserve.channelClosed
      }
    }

    var all: [ABIEvent] { [opened, toppedUp, settled, closeRequested, closeRequestCancelled, closed] }

    func kind(_ event: ABIEvent, _ values: [ABIValue]) -> Kind? {
      func amount(_ index: Int) -> UInt128? { index < values.count ? values[index].uintValue?.uint128 : nil }
      func address(_ index: Int) -> Address? { index < values.count ? values[index].addressValue : nil }
      if event == opened {
        // The reserve tells the operator first, and a hash besides the salt.
        let (token, signer, deposit) = isReserve ? (address(4), address(5), amount(8)) : (address(3), address(4), amount(6))
        guard let token, let signer, let deposit else { return nil }
        return .opened(token: token, authorizedSigner: signer, deposit: deposit)
      }
      if event == toppedUp {
        guard let additional = amount(3), let deposit = amount(4) else { return nil }
        return .toppedUp(additionalDeposit: additional, deposit: deposit)
      }
      if event == settled {
        guard let paid = amount(4), let settled = amount(5) else { return nil }
        return .settled(paid: paid, settled: settled)
      }
      if event == closeRequested {
        guard let second = amount(3) else { return nil }
        return .closeRequested(withdrawable: UInt64(clamping: second))
      }
      if event == closed {
        guard let paid = amount(3), let refunded = amount(4) else { return nil }
        return .closed(toPayee: paid, refunded: refunded)
      }
      return .closeRequestCancelled
    }
  }
}
