import Bytes
import Encoding
import Ethereum
import Ledger
import Methods
import Payments

/// A payment on a chain that a request waits for, and how it comes to be settled; or what a request waits for with a channel.
struct SettlementOrder: Sendable {
  /// What is waited for.
  enum Kind: Sendable {
    /// A payment that buys one answer.
    case payment
    /// A deposit to a channel; `payment.deposit` tells the ledger of it.
    case deposit(ChannelStep)
    /// The close of a channel, which the ledger has begun by `entry`.
    case close(Digest32)
    /// A part of what is left of a channel, in base units, that its payer wants back.
    case giveBack(Digest32, UInt128)
    /// The word of a contract on whether a voucher is signed; nothing is claimed.
    case question(WalletQuestion)
    /// A channel that the ledger does not know, and may take over if the chain does.
    case adoption(ChannelStep, ChannelOrder)
  }

  /// What is waited for.
  var kind = Kind.payment
  /// What the ledger claims, its proof included.
  let payment: ChainPaymentOrder
  /// The chain's number.
  let chain: UInt64
  let charge: ChainCharge
  /// The content of a facilitator's `/verify` and `/settle`; nil: we settle ourselves.
  let facilitated: [UInt8]?
  /// The newest block that was known when the payment was claimed: a transaction for it is searched from there on.
  var since: UInt64?
  /// The claim's entry; nil where only the chain can tell whether there is anything to claim.
  var entry: AwaitedEntry?
  /// Whether it is a promise, of which only is asked whether its payer can keep it: what it comes to is settled later.
  var isPromise = false
  /// Whether the answer is withheld until it has settled: what cannot be settled is forgotten, and the payment may be brought again.
  var isWithheld: Bool { payment.isWithheld }
  /// Whether the channel that is closed is one of batch-settlement.
  var closesBatch = false

  var id: Digest32 { payment.id }

  /// Whether it is about a channel of batch-settlement.
  var isBatch: Bool {
    switch kind {
    case .deposit(let step): step.escrow.rules == .batch
    case .close: closesBatch
    case .adoption, .giveBack: true
    case .payment, .question: false
    }
  }
}

/// What is said to a request that waits for its payment.
enum SettlementWord: Sendable {
  /// The money has arrived; the ledger says so too.
  case settled
  /// It never will, and why: a reason of x402's, or a problem's sentence.
  case refused(SettlementRefusal)
  /// The ledger did not take its claim.
  case declined(Refusal)
  /// It may still arrive; that is found out in the background.
  case unknown
  /// Nothing was sent anywhere, since nobody could be asked.
  case unavailable
}

/// Why a payment cannot be settled.
struct SettlementRefusal: Sendable, Equatable {
  let reason: X402Reason
  /// Of the payment; zeros where it was about a channel.
  var chain: UInt64 = 0
  var payer = Address.zero
  /// The transaction that failed, where there was one.
  var transaction: Digest32?
  /// Which rule of sessions was broken, where it was about a channel.
  var channel: ChannelError?
}

extension SettlementOrder {
  /// A word of refusal.
  func refused(_ reason: X402Reason, _ transaction: Digest32? = nil) -> SettlementWord {
    .refused(SettlementRefusal(reason: reason, chain: chain, payer: charge.payer, transaction: transaction))
  }
}

// What going on after a restart needs: JSON in the ledger's record.
extension SettlementOrder {
  /// Writes the proof.
  static func proof(chain: UInt64, charge: ChainCharge, facilitated: [UInt8]?, since: UInt64?, step: ChannelStep? = nil) -> [UInt8] {
    var object: JSONObject = ["chain": .string(String(chain)), "payer": .string(charge.payer.lowercase)]
    switch charge.means {
    case .call(let to, let data):
      object.set("to", .string(to.lowercase))
      object.set("data", .string(Base64URL.encode(data)))
    case .transaction(let raw, let hash):
      object.set("raw", .string(Base64URL.encode(raw)))
      object.set("hash", .string(HexData.text(hash)))
    case .hash(let hash): object.set("hash", .string(HexData.text(hash)))
    case .none: break
    }
    if charge.signatureCheck == .byContract { object.set("byContract", true) }
    if let since { object.set("since", .string(String(since))) }
    if let notBefore = charge.notBefore { object.set("notBefore", .string(String(notBefore.microseconds))) }
    let transfers = charge.transfers.map { transfer -> JSONValue in
      var entry: JSONObject = [
        "token": .string(transfer.token.lowercase), "to": .string(transfer.to.lowercase), "amount": .string(String(transfer.amount)),
      ]
      if let from = transfer.from { entry.set("from", .string(from.lowercase)) }
      switch transfer.memo {
      case .any: break
      case .exact(let memo): entry.set("memo", .string(HexData.text(memo)))
      case .attributed(let attribution): entry.set("attribution", .string(HexData.text(attribution.memo)))
      }
      return .object(entry)
    }
    object.set("transfers", .array(transfers))
    if let facilitated { object.set("facilitated", .string(String(decoding: facilitated, as: UTF8.self))) }
    if let step { object.set("channel", .object(step.object)) }
    return JSON.serialize(.object(object))
  }

  /// Reads what was claimed for a payment; nil where its record cannot be read.
  ///
  /// - Parameter epoch: the ledger's, as it was before the payment was looked up.
  init?(_ view: ChainPaymentView, epoch: UInt32) {
    guard let object = (try? JSON.parse(view.proof))?.objectValue, let chain = object["chain"]?.stringValue.flatMap({ UInt64($0) }),
      let payer = object["payer"]?.stringValue.flatMap({ Address($0) }), let means = Self.means(object),
      let entries = object["transfers"]?.arrayValue
    else { return nil }
    var transfers: [ExpectedTransfer] = []
    for entry in entries {
      guard let entry = entry.objectValue, let token = entry["token"]?.stringValue.flatMap({ Address($0) }),
        let to = entry["to"]?.stringValue.flatMap({ Address($0) }), let amount = entry["amount"]?.stringValue.flatMap({ UInt128($0) })
      else { return nil }
      func digest(_ name: String) -> Digest32? { entry[name]?.stringValue.flatMap { HexData.digest($0) } }
      let attribution = digest("attribution").map { ExpectedMemo.attributed(Attribution($0)) }
      transfers.append(
        ExpectedTransfer(
          token: token, from: entry["from"]?.stringValue.flatMap { Address($0) }, to: to, amount: amount, memo: attribution ?? digest("memo").map { .exact($0) } ?? .any))
    }
    if let channel = object["channel"] {
      guard let channel = channel.objectValue, let step = ChannelStep(channel, means: means, transfers: transfers, view) else { return nil }
      kind = .deposit(step)
    }
    let notBefore = object["notBefore"]?.stringValue.flatMap { Int64($0) }.map { Timestamp(microseconds: $0) }
    charge = ChainCharge(
      id: view.id, payer: payer, amount: view.amount, expires: view.expires, means: means, transfers: transfers, signatureCheck: object["byContract"] == true ? .byContract : .recovered,
      notBefore: notBefore)
    payment = ChainPaymentOrder(
      id: view.id, request: view.request, payer: view.payer, recipient: view.recipient, presented: view.presented, amount: view.amount,
      currency: view.currency, merchant: view.merchant, client: view.client, expires: view.expires, challengeID: view.challengeID, proof: view.proof)
    self.chain = chain
    facilitated = object["facilitated"]?.stringValue.map { Array($0.utf8) }
    since = object["since"]?.stringValue.flatMap { UInt64($0) }
    entry = AwaitedEntry(lsn: view.changed, epoch: epoch)
  }

  /// What a proof says is submitted, handed on, or observed; nil where it cannot be read.
  static func means(of proof: [UInt8]) -> SettlementMeans? { (try? JSON.parse(proof))?.objectValue.flatMap { means($0) } }

  private static func means(_ object: JSONObject) -> SettlementMeans? {
    let hash = object["hash"]?.stringValue.flatMap { HexData.digest($0) }
    if let to = object["to"]?.stringValue.flatMap({ Address($0) }), let data = object["data"]?.stringValue.flatMap({ Base64URL.decode($0) }) {
      return .call(to: to, data: data)
    }
    guard let hash else { return nil }
    guard let raw = object["raw"]?.stringValue else { return .hash(hash) }
    return Base64URL.decode(raw).map { .transaction(raw: $0, hash: hash) }
  }
}
