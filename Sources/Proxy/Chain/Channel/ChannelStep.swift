import Bytes
import Configuration
import Crypto
import Encoding
import Ethereum
import Ledger
import Methods

/// A deposit to a channel, and the channel that it is for.
struct ChannelStep: Sendable {
  /// What is submitted, handed on, or observed.
  let transaction: ChannelTransaction
  let channel: ChannelDescriptor
  let escrow: SessionEscrow
  /// What the voucher's signer has to be asked first, where that is a contract; nil where a key signed.
  var question: WalletQuestion?

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
      kind: .deposit(step), payment: payment, chain: step.escrow.chain, charge: step.charge, facilitated: nil, entry: entry)
  }

  /// What going on with a deposit after a restart needs.
  static func proof(of step: ChannelStep) -> [UInt8] {
    proof(chain: step.escrow.chain, charge: step.charge, facilitated: nil, step: step)
  }

  /// The close of a channel, which the ledger has begun by an entry. Waiters know it by the channel's id.
  static func close(channel: Digest32, chain: UInt64, entry: LSN) -> SettlementOrder {
    bare(.close(channel), id: channel, chain: chain, entry: entry)
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

  /// What no payment stands behind.
  private static func bare(_ kind: Kind, id: Digest32, chain: UInt64, entry: LSN?) -> SettlementOrder {
    let payment = ChainPaymentOrder(
      id: id, request: Digest32(), payer: "", amount: 0, currency: "", merchant: "", expires: Timestamp(microseconds: 0))
    let charge = ChainCharge(
      id: id, payer: .zero, amount: 0, expires: payment.expires, means: .none, transfers: [], signatureCheck: .none)
    return SettlementOrder(kind: kind, payment: payment, chain: chain, charge: charge, facilitated: nil, entry: entry)
  }
}

// What a restart reads of it.
extension ChannelStep {
  /// As JSON; what a payment's proof has anyway is not said twice.
  var object: JSONObject {
    var object: JSONObject = [
      "step": .string(transaction.step == .topUp ? "topUp" : "open"), "id": .string(HexData.text(transaction.channelID)),
      "escrow": .string(escrow.address.lowercase), "rules": .string(escrow.rules.name), "payee": .string(channel.payee.lowercase),
      "payer": .string(channel.payer.lowercase), "token": .string(channel.token.lowercase), "salt": .string(HexData.text(channel.salt)),
      "signer": .string(channel.authorizedSigner.lowercase), "operator": .string(channel.operator.lowercase),
      "expiringNonceHash": .string(HexData.text(channel.expiringNonceHash)),
    ]
    if let amount = transaction.amount { object.set("amount", .string(String(amount))) }
    return object
  }

  /// Reads what `object` has written; nil where it is none of it.
  init?(_ object: JSONObject, means: SettlementMeans, transfers: [ExpectedTransfer], _ view: ChainPaymentView) {
    func address(_ name: String) -> Address? { object[name]?.stringValue.flatMap { Address($0) } }
    func word(_ name: String) -> Digest32? { object[name]?.stringValue.flatMap { HexData.digest($0) } }
    guard let chain = view.currency.split(separator: ":").last.flatMap({ UInt64($0) }),
      let rules = object["rules"]?.stringValue.flatMap({ ChannelProtocol(name: $0) }), let place = address("escrow"), let id = word("id"),
      let payer = address("payer"), let payee = address("payee"), let token = address("token"), let salt = word("salt"),
      let signer = address("signer"), let named = address("operator"), let hash = word("expiringNonceHash"),
      let step = object["step"]?.stringValue
    else { return nil }
    escrow = SessionEscrow(rules: rules, chain: chain, address: place)
    channel = ChannelDescriptor(
      payer: payer, payee: payee, operator: named, token: token, salt: salt, authorizedSigner: signer, expiringNonceHash: hash)
    transaction = ChannelTransaction(
      step == "topUp" ? .topUp : .open, channelID: id, id: view.id, amount: object["amount"]?.stringValue.flatMap { UInt128($0) },
      expires: view.expires, means: means, transfers: transfers)
    question = nil
  }
}

extension ChannelProtocol {
  /// As records have it.
  var name: String {
    switch self {
    case .evm: "evm"
    case .tempoV1: "v1"
    case .tempoV2: "v2"
    }
  }

  init?(name: String) {
    guard let rules = Self.allCases.first(where: { $0.name == name }) else { return nil }
    self = rules
  }
}

extension ChannelProtocol {
  /// As configured.
  init(_ rules: Settings.Escrow.Rules) {
    switch rules {
    case .evm: self = .evm
    case .tempoV1: self = .tempoV1
    case .tempoV2: self = .tempoV2
    }
  }
}
