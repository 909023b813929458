import Bytes
import Configuration
import Crypto
import Encoding
import Ledger
import Payments

/// Carries out the operators' commands on a ledger: behind the running proxy's socket, or in a process of its own when none runs.
public struct Administration: Sendable {
  /// The commands, named as in the path `/v1/<command>`.
  public enum Command: String, Sendable, CaseIterable {
    case walletCreate = "wallet/create"
    case walletFund = "wallet/fund"
    case walletDefund = "wallet/defund"
    case walletPolicy = "wallet/policy"
    case walletFreeze = "wallet/freeze"
    case walletThaw = "wallet/thaw"
    case walletRekey = "wallet/rekey"
    case walletShow = "wallet/show"
    case walletList = "wallet/list"
    case sessionList = "session/list"
    case sessionShow = "session/show"
    case sessionClose = "session/close"
    case sessionConfirm = "session/confirm"
    case merchantList = "merchant/list"
    case merchantPayout = "merchant/payout"
    case refund
    case ledgerBalance = "ledger/balance"
    case ledgerVerify = "ledger/verify"
    case ledgerCopy = "ledger/copy"
    case ledgerCopyState = "ledger/copy-state"
    case keysList = "keys/list"
    case keysRotate = "keys/rotate"
    case auditRotate = "audit/rotate"
    case chainStatus = "chain/status"
    case paymentList = "payment/list"
    case paymentShow = "payment/show"
    case paymentWriteOff = "payment/write-off"
    case channelList = "channel/list"
    case channelShow = "channel/show"
    case channelSettle = "channel/settle"
    case channelClose = "channel/close"
    case paymentResolve = "payment/resolve"
  }

  /// The most wallets or sessions in one answer.
  public static let pageLimit = 1000
  /// How long a close waits for the session's exchanges.
  private static let closeWait = Duration.seconds(5)

  private let settings: Settings
  let ledger: Ledger
  private let keys: KeyRing
  /// Who deals with chains; nil in a process that serves nothing.
  let chains: ChainDesk?

  /// Makes a handler for a ledger that this process keeps.
  public init(settings: Settings, ledger: Ledger, keys: KeyRing) {
    self.init(settings: settings, ledger: ledger, keys: keys, chains: nil)
  }

  /// Makes a handler in a process that serves.
  init(settings: Settings, ledger: Ledger, keys: KeyRing, chains: ChainDesk?) {
    self.settings = settings
    self.ledger = ledger
    self.keys = keys
    self.chains = chains
  }

  /// Carries out a command; what it changed is durable when this returns. May wait for the disk: not for an event loop.
  public func run(_ name: String, _ object: JSONObject, at now: Timestamp) throws(AdministrationError) -> JSONValue {
    guard let command = Command(rawValue: name) else { throw .unknownCommand(name) }
    var arguments = AdministrationArguments(object, currencies: settings.currencies)
    return .object(try run(command, &arguments, at: now))
  }

  private func run(
    _ command: Command, _ arguments: inout AdministrationArguments, at now: Timestamp
  ) throws(AdministrationError) -> JSONObject {
    switch command {
    case .walletCreate, .walletPolicy: return try changePolicy(command, &arguments, at: now)
    case .walletFund, .walletDefund: return try moveFunds(command, &arguments, at: now)
    case .walletFreeze, .walletThaw, .walletShow:
      let wallet = try arguments.wallet("wallet")
      try arguments.finish()
      if command == .walletFreeze { try commit { () throws(Refusal) in try ledger.freeze(wallet, at: now) } }
      if command == .walletThaw { try commit { () throws(Refusal) in try ledger.thaw(wallet, at: now) } }
      var answer = try view(wallet)
      if command == .walletShow { tellVolumes(of: wallet, of: nil, in: &answer, at: now) }
      return answer
    case .walletRekey:
      let (wallet, next) = (try arguments.wallet("wallet"), try arguments.wallet("to"))
      try arguments.finish()
      try commit { () throws(Refusal) in try ledger.rekey(wallet, to: next, at: now) }
      return try view(next)
    case .walletList:
      let (offset, limit) = try page(&arguments)
      try arguments.finish()
      return ["wallets": .array(ledger.wallets(from: offset, limit: limit).map { .object(AdministrationViews.json($0)) })]
    case .sessionList:
      let wallet = try arguments.optionalWallet("wallet")
      let (offset, limit) = try page(&arguments)
      try arguments.finish()
      let sessions = ledger.sessions(of: wallet, from: offset, limit: limit)
      return ["sessions": .array(sessions.map { .object(AdministrationViews.json($0)) })]
    case .sessionShow:
      let session = try arguments.session("session")
      try arguments.finish()
      var answer = try view(session: session)
      if let handle = ledger.session(session), let known = ledger.view(handle) {
        // A variant of a route is counted with it.
        let routes = known.terms.routes.map { String($0.routeID.prefix { $0 != "#" }) }
        tellVolumes(of: known.wallet, of: Set(routes), in: &answer, at: now)
      }
      return answer
    case .sessionClose:
      let session = try arguments.session("session")
      try arguments.finish()
      return try close(session, at: now)
    case .sessionConfirm: return try confirm(&arguments, at: now)
    case .merchantList:
      try arguments.finish()
      return ["merchants": .array(merchants)]
    case .merchantPayout: return try payOut(&arguments, at: now)
    case .refund:
      let reference = try arguments.reference("reference")
      try arguments.finish()
      let entry = try commit { () throws(Refusal) in try ledger.refund(reference, at: now) }
      return ["reference": .string(String(reference)), "entry": .string(String(entry))]
    case .ledgerBalance, .ledgerVerify:
      try arguments.finish()
      return AdministrationViews.json(ledger.verify())
    case .ledgerCopy:
      let path = try arguments.path("file")
      try arguments.finish()
      guard ledger.beginCopy(to: path) else { throw ledger.availability == .unavailable ? .refused(.unavailable) : .copying }
      return ledger.copyState.json
    case .ledgerCopyState:
      try arguments.finish()
      return ledger.copyState.json
    case .keysList:
      try arguments.finish()
      return keyList
    case .keysRotate:
      guard let kind = KeyRing.Kind(rawValue: try arguments.text("kind")) else { throw .malformedMember("kind", form: .kind) }
      try arguments.finish()
      do { try keys.rotate(kind, at: now) } catch { throw .keys(error) }
      var event = AuditEvent(.keysRotated)
      event.cause = kind.rawValue
      ledger.record(event, at: now)
      return keyList
    case .auditRotate:
      try arguments.finish()
      ledger.rotate()
      return ["rotating": true]
    case .chainStatus:
      try arguments.finish()
      return ChainStatus(settings: settings, ledger: ledger, desk: chains).json(at: now)
    case .paymentList:
      let (offset, limit) = try page(&arguments)
      let selection = try arguments.selection("state")
      try arguments.finish()
      var payments = ledger.payments(selection, from: offset, limit: limit).map { JSONValue.object(AdministrationViews.json($0, at: now)) }
      // Promises stand in front: those that are lost are for operators to see.
      if selection == .all, offset == 0 { payments = ledger.promises([.lost, .serving], limit: limit).map { .object(AdministrationViews.json($0)) } + payments }
      return ["payments": .array(payments)]
    case .paymentShow, .paymentWriteOff:
      let payment = try arguments.payment("payment")
      try arguments.finish()
      if command == .paymentWriteOff { try commit { () throws(Refusal) in try ledger.writeOff(payment, at: now) } }
      if let view = ledger.payment(payment) { return AdministrationViews.json(view, at: now) }
      guard let promise = ledger.promise(payment) else { throw .refused(ledger.availability == .unavailable ? .unavailable : .unknownPayment) }
      return AdministrationViews.json(promise)
    case .channelList: return try channels(&arguments)
    case .channelShow, .channelSettle, .channelClose: return try channel(command, &arguments, at: now)
    case .paymentResolve: return try resolve(&arguments, at: now)
    }
  }

  /// Ends a payment of which nobody could tell what became of it.
  private func resolve(_ arguments: inout AdministrationArguments, at now: Timestamp) throws(AdministrationError) -> JSONObject {
    let payment = try arguments.payment("payment")
    let transaction = arguments.optional("transaction") == nil ? nil : try arguments.transaction("transaction")
    let name = try arguments.text("operator")
    let isForced = try arguments.flag("force")
    try arguments.finish()
    // While it is looked at nothing is done for it: what is given up here must not be settled a moment later.
    let isFree = chains?.reserve(payment) ?? true
    defer { if isFree { chains?.giveBack(payment) } }
    let epoch = ledger.epoch
    guard let view = ledger.payment(payment) else { throw .refused(ledger.availability == .unavailable ? .unavailable : .unknownPayment) }
    guard view.state == .submitted else { throw .unresolved(.isElse) }
    let isOnItsWay = ledger.chainSenders().contains { sender in
      sender.outgoing > 0 && ledger.outgoing(chain: sender.chain, sender: sender.sender).contains { $0.purpose == payment }
    }
    guard !isOnItsWay else { throw .unresolved(.inOutbox) }
    let fate = transaction.map { PaymentFate.settled(transaction: $0) } ?? .failed
    // What has arrived may be booked twice without harm; what is given up may not arrive afterwards.
    guard isFree || isForced && fate != .failed else { throw .unresolved(.inTask) }
    if let transaction, ledger.payment(by: transaction, besides: payment) != nil { throw .unresolved(.paysAnother) }
    let obstacle = chains.map { $0.obstacle(to: fate, of: view, epoch: epoch) } ?? .nobodyAsked
    if let obstacle, !isForced || obstacle != .nobodyAsked { throw .unresolved(obstacle) }
    let cause = String("operator: \(name)".prefix(100))
    try commit { () throws(Refusal) in
      switch fate {
      case .settled(let transaction): try ledger.settled(payment, transaction: transaction, cause: cause, at: now)
      case .failed: try ledger.refused(payment, cause: cause, at: now)
      }
    }
    for chain in chains?.chains() ?? [] { chain.lastLooks.forget(payment) }
    guard let view = ledger.payment(payment) else { return ["payment": .string(payment.hex), "state": "failed"] }
    return AdministrationViews.json(view, at: now)
  }

  /// Makes a change and waits until it is durable.
  @discardableResult
  func commit(in account: Settings.Account? = nil, _ change: () throws(Refusal) -> LSN) throws(AdministrationError) -> LSN {
    let lsn: LSN
    do { lsn = try change() } catch {
      guard let account, case .insufficientFunds(let required, let available) = error else { throw .refused(error) }
      throw .tooLittle(
        required: "\(account.currency.format(required)) \(account.words)", available: "\(account.currency.format(available)) \(account.words)")
    }
    guard ledger.awaitDurable(lsn) else { throw .notDurable }
    return lsn
  }

  func page(_ arguments: inout AdministrationArguments) throws(AdministrationError) -> (offset: Int, limit: Int) {
    let offset = try arguments.count("offset", default: 0)
    return (offset, min(try arguments.count("limit", default: Self.pageLimit), Self.pageLimit))
  }

  // MARK: Wallets

  private func view(_ wallet: Digest32) throws(AdministrationError) -> JSONObject {
    guard let view = ledger.walletView(wallet) else { throw .refused(.unknownWallet) }
    return AdministrationViews.json(view)
  }

  /// Adds what a wallet has used of what is free or cheaper by volume, on some routes or all.
  private func tellVolumes(of wallet: Digest32, of routes: Set<String>?, in answer: inout JSONObject, at now: Timestamp) {
    let volumes = settings.routes.compactMap { route -> JSONValue? in
      guard routes?.contains(route.id) ?? true, let plan = VolumePlan(route, scope: route.id), plan.countsWallets else { return nil }
      return .object(plan.usage(of: wallet, in: ledger, at: now))
    }
    if !volumes.isEmpty { answer.set("volumes", .array(volumes)) }
  }

  private func changePolicy(
    _ command: Command, _ arguments: inout AdministrationArguments, at now: Timestamp
  ) throws(AdministrationError) -> JSONObject {
    let wallet = try arguments.wallet("wallet")
    let limits = arguments.optional("policy")
    guard let object = limits == nil ? JSONObject() : limits?.objectValue else { throw .malformedMember("policy", form: .policy) }
    try arguments.finish()
    let change = try PolicyChange(object, currencies: settings.currencies)
    if command == .walletCreate {
      try commit { () throws(Refusal) in try ledger.createWallet(wallet, policy: change.applied(to: .unlimited), at: now) }
    } else {
      guard let current = ledger.walletView(wallet) else { throw .refused(.unknownWallet) }
      try commit { () throws(Refusal) in try ledger.setPolicy(wallet, change.applied(to: current.policy), at: now) }
    }
    return try view(wallet)
  }

  private func moveFunds(
    _ command: Command, _ arguments: inout AdministrationArguments, at now: Timestamp
  ) throws(AdministrationError) -> JSONObject {
    let wallet = try arguments.wallet("wallet")
    let (units, currency) = try arguments.amount("amount")
    let reference = try arguments.text("reference")
    try arguments.finish()
    let account = Settings.Account(currency: currency, chain: nil, chainName: nil)
    let lsn = try commit(in: account) { () throws(Refusal) in
      command == .walletFund
        ? try ledger.fund(wallet, currency: currency.code, amount: units, reference: reference, at: now)
        : try ledger.defund(wallet, currency: currency.code, amount: units, reference: reference, at: now)
    }
    var answer = try view(wallet)
    answer.set("repeated", .bool(lsn == 0))
    return answer
  }

  // MARK: Sessions

  private func view(session id: Digest32) throws(AdministrationError) -> JSONObject {
    if let handle = ledger.session(id), let view = ledger.view(handle) { return AdministrationViews.json(view) }
    guard case .closed(let session) = ledger.closeResult(id) else { throw .refused(.unknownSession) }
    return AdministrationViews.json(id, session)
  }

  private func close(_ id: Digest32, at now: Timestamp) throws(AdministrationError) -> JSONObject {
    if let handle = ledger.session(id) {
      try commit { () throws(Refusal) in
        do throws(Refusal) { return try ledger.beginClose(handle, cause: .operated, at: now) } catch {
          // Somebody else closes it at this moment, which is what was asked for.
          guard error == .sessionClosing || error == .sessionClosed else { throw error }
          return 0
        }
      }
    }
    let end = Instant.now() + Self.closeWait
    while true {
      switch ledger.closeResult(id) {
      case .closed(let session):
        guard ledger.awaitDurable(session.lsn) else { throw .notDurable }
        return AdministrationViews.json(id, session)
      case .pending:
        guard Instant.now() < end else { throw .stillClosing }
        AdministrationPause.briefly()
      case nil: throw .refused(.unknownSession)
      }
    }
  }

  /// Opens sessions again that were read from a backup.
  private func confirm(_ arguments: inout AdministrationArguments, at now: Timestamp) throws(AdministrationError) -> JSONObject {
    if try arguments.flag("all") {
      try arguments.finish()
      var count = 0
      try commit { () throws(Refusal) in
        let (lsn, confirmed) = try ledger.confirmAll(at: now)
        count = confirmed
        return lsn
      }
      return ["confirmed": .integer(count)]
    }
    let session = try arguments.session("session")
    try arguments.finish()
    let lsn = try commit { () throws(Refusal) in try ledger.confirm(session, at: now) }
    return ["session": .string(session.hex), "confirmed": .integer(lsn == 0 ? 0 : 1)]
  }

  // MARK: Merchants and keys

  private var merchants: [JSONValue] {
    let accounts = ledger.merchants()
    let configured = settings.merchants.map(\.id)
    let others = accounts.map(\.name).filter { !configured.contains($0) }
    return (configured + others).map { id in
      let balances = accounts.first { $0.name == id }?.balances ?? settings.currencies.map { ($0.code, 0) }
      let name = settings.merchants.first { $0.id == id }?.displayName ?? id
      return [
        "merchant": .string(id), "name": .string(name),
        "balances": .object(JSONObject(balances.map { ($0.currency, JSONValue.string(String($0.balance))) })),
      ]
    }
  }

  private func payOut(_ arguments: inout AdministrationArguments, at now: Timestamp) throws(AdministrationError) -> JSONObject {
    let merchant = try arguments.text("merchant")
    let (units, account) = try arguments.amount("amount", ofAccount: "account", in: settings)
    let reference = try arguments.text("reference")
    try arguments.finish()
    let lsn = try commit(in: account) { () throws(Refusal) in
      try ledger.payout(merchant: merchant, currency: account.code, amount: units, reference: reference, at: now)
    }
    return [
      "merchant": .string(merchant), "amount": .string(String(units)), "currency": .string(account.code),
      "reference": .string(reference), "repeated": .bool(lsn == 0), "merchants": .array(merchants),
    ]
  }

  private var keyList: JSONObject {
    var answer: JSONObject = ["keys": .array(keys.entries.map { AdministrationViews.json($0) })]
    if let verifier = SignedNote.verifierKey(name: "\(settings.ledger.name)/audit", key: keys.checkpointKey.publicKey) {
      answer.set("checkpointVerifier", .string(verifier))
    }
    return answer
  }
}
