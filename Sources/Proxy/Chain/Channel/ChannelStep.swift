import Bytes
import Configuration
import Crypto
import Encoding
import Ethereum
import HTTP
import Ledger
import Methods

/// A deposit to a channel, and the channel that it is for.
struct ChannelStep: Sendable {
  /// What is submitted, handed on, or observed.
  let transaction: ChannelTransaction
  let channel: ChannelDescriptor
  let escrow: SessionEscrow
  /// What an opening deposits at least, in base units: where only the chain tells how much there is, it is compared then.
  var minimumDeposit: UInt128 = 0
  /// What the voucher's signer has to be asked first, where that is a contract; nil where a key signed.
  var question: WalletQuestion?
  /// What has to be claimed already for the voucher to fit that came with the deposit (batch-settlement); nil where that is known otherwise.
  var claimed: UInt128?

  /// Whose tokens are deposited: anybody may add to a channel.
  var depositor: Address { transaction.transfers.first?.from ?? channel.payer }

  /// What lies in the escrow for the channel after its transaction, as that tells; 0 where it tells nothing.
  func deposit(after receipt: TransactionReceipt) -> UInt128 {
    switch transaction.event(in: receipt.logs, of: channel, escrow: escrow)?.kind {
    case .toppedUp(_, let deposit): deposit
    case .opened(_, _, let deposit): deposit
    case .settled, .closeRequested, .closeRequestCancelled, .closed, nil: 0
    }
  }

  /// The deposit as a payment is settled.
  var charge: ChainCharge {
    ChainCharge(
      id: transaction.id ?? transaction.channelID, payer: channel.payer, amount: transaction.amount ?? 0,
      expires: transaction.expires ?? Timestamp(microseconds: .max), means: transaction.means, transfers: transaction.transfers,
      signatureCheck: .recovered)
  }
}

extension SettlementOrder {
  /// A deposit to a channel; `payment` has its `deposit`, and the proof that ``proof(of:)`` makes.
  static func deposit(_ payment: ChainPaymentOrder, _ step: ChannelStep, entry: LSN?) -> SettlementOrder {
    SettlementOrder(
      kind: .deposit(step), payment: payment, chain: step.escrow.chain, charge: step.charge, facilitated: nil, entry: entry.map { AwaitedEntry(lsn: $0) })
  }

  /// What going on with a deposit after a restart needs.
  static func proof(of step: ChannelStep) -> [UInt8] {
    proof(chain: step.escrow.chain, charge: step.charge, facilitated: nil, since: nil, step: step)
  }

  /// The close of a channel, which the ledger has begun by an entry. Waiters know it by the channel's id.
  static func close(channel: Digest32, chain: UInt64, isBatch: Bool = false, entry: LSN) -> SettlementOrder {
    var order = bare(.close(channel), id: channel, chain: chain, entry: entry)
    order.closesBatch = isBatch
    return order
  }

  /// The question to a voucher's signer. Waiters know it by what was signed and the signature: another signature is another question.
  static func question(_ question: WalletQuestion, chain: UInt64) -> SettlementOrder {
    var hash = SHA256()
    hash.update("channel-question")
    hash.update(question.wallet.bytes)
    hash.update(question.digest)
    hash.update(question.signature)
    return bare(.question(question), id: hash.finalize(), chain: chain, entry: nil)
  }

  /// What a payer wants back of a channel that stays open.
  static func giveBack(channel: Digest32, _ amount: UInt128, chain: UInt64, entry: LSN, client: ClientAddress) -> SettlementOrder {
    var hash = SHA256()
    hash.update("channel-return")
    hash.update(channel)
    hash.update(Word256(amount).octets)
    return bare(.giveBack(channel, amount), id: hash.finalize(), chain: chain, entry: entry, client: client)
  }

  /// A channel that a voucher is for, and that the ledger does not know: only its signer can have made that.
  static func adoption(_ step: ChannelStep, _ channel: ChannelOrder, client: ClientAddress) -> SettlementOrder {
    var hash = SHA256()
    hash.update("channel-adoption")
    hash.update(channel.id)
    return bare(.adoption(step, channel), id: hash.finalize(), chain: step.escrow.chain, entry: nil, client: client)
  }

  /// What no payment stands behind.
  private static func bare(_ kind: Kind, id: Digest32, chain: UInt64, entry: LSN?, client: ClientAddress = .none) -> SettlementOrder {
    let payment = ChainPaymentOrder(
      id: id, request: Digest32(), payer: "", amount: 0, currency: "", merchant: "", client: client, expires: Timestamp(microseconds: 0))
    let charge = ChainCharge(
      id: id, payer: .zero, amount: 0, expires: payment.expires, means: .none, transfers: [], signatureCheck: .none)
    return SettlementOrder(kind: kind, payment: payment, chain: chain, charge: charge, facilitated: nil, entry: entry.map { AwaitedEntry(lsn: $0) })
  }
}

// What a restart reads of it.
extension ChannelStep {
  /// As JSON; what a payment's proof has anyway is not said twice.
  var object: JSONObject {
    var object: JSONObject = [
      "isTopUp": .bool(transaction.step == .topUp), "id": .string(HexData.text(transaction.channelID)),
      "channel": .string(HexData.text(StoredChannel(escrow: escrow, channel: channel).octets)), "least": .string(String(minimumDeposit)),
    ]
    if let amount = transaction.amount { object.set("amount", .string(String(amount))) }
    return object
  }

  /// Reads what `object` has written; nil where it is none of it.
  init?(_ object: JSONObject, means: SettlementMeans, transfers: [ExpectedTransfer], _ view: ChainPaymentView) {
    guard let id = object["id"]?.stringValue.flatMap({ HexData.digest($0) }),
      let stored = object["channel"]?.stringValue.flatMap({ HexData.parse($0) }).flatMap({ StoredChannel($0) }),
      let least = object["least"]?.stringValue.flatMap({ UInt128($0) })
    else { return nil }
    escrow = stored.escrow
    channel = stored.channel
    minimumDeposit = least
    transaction = ChannelTransaction(
      object["isTopUp"] == true ? .topUp : .open, channelID: id, id: view.id, amount: object["amount"]?.stringValue.flatMap { UInt128($0) },
      expires: view.expires, means: means, transfers: transfers)
    question = nil
  }
}

extension ChannelProtocol {
  /// As configured.
  init(_ rules: Settings.Escrow.Rules) {
    switch rules {
    case .evm: self = .evm
    case .tempoV1: self = .tempoV1
    case .tempoV2: self = .tempoV2
    case .batch: self = .batch
    }
  }
}
