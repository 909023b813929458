import Bytes
import Configuration
import Crypto
import Encoding
import HTTP
import Ledger
import Methods
import Payments

// The paths that are ours whatever the routes say: discovery documents and the wallet query.
extension Cashier {
  /// Whether a path is one that ``answerOwn(_:at:)`` answers.
  func owns(_ path: UnsafeRawBufferPointer) -> Bool {
    discovery.document(at: path) != nil || Prepaid.walletPath.utf8.elementsEqual(path)
  }

  /// Answers a path of our own; `.free` where it is none.
  mutating func answerOwn(_ request: borrowing PaidRequest, at now: Timestamp) -> Verdict {
    renewKeys()
    if let document = discovery.document(at: request.path) {
      switch request.head.pointee.method {
      case .get, .head: return .answer(Answer(status: 200, fields: document.fields, body: document.body))
      case .post, .put, .patch, .delete, .options, .query, .trace, .connect, .other: return .answer(notAllowed("GET, HEAD"))
      }
    }
    guard Prepaid.walletPath.utf8.elementsEqual(request.path) else { return .free }
    if let preflight = preflight(request), case .answer = preflight { return preflight }
    guard request.head.pointee.method == .post else { return .answer(notAllowed("POST")) }
    var answer: Answer
    switch request.content {
    case .none: answer = problem(.badRequest, detail: "The query is the request's content.")
    case .streaming: return .collectBody(limit: WalletQuery.byteLimit)
    case .buffered(let octets): answer = wallet(request, octets, at: now)
    }
    answer.fields += corsLines(request)
    return .answer(answer)
  }

  private func notAllowed(_ methods: String) -> Answer {
    Answer(
      status: 405, fields: Array("Allow: \(methods)\r\nContent-Type: application/problem+json\r\n".utf8),
      body: Array(#"{"type":"about:blank","title":"Method Not Allowed","status":405}"#.utf8))
  }

  /// Answers a signed wallet query.
  private mutating func wallet(_ request: borrowing PaidRequest, _ octets: UnsafeRawBufferPointer, at now: Timestamp) -> Answer {
    guard let ledger, isAvailable else { return unavailable() }
    switch admission.credential(request.client, at: request.monotonic) {
    case .admitted: break
    case .refused(let seconds): return problem(.rateLimited, retryAfter: seconds)
    }
    let query: WalletQuery
    do throws(PrepaidError) { query = try WalletQuery(parsing: octets) } catch {
      return refuse(request, "\(error.detail)")
    }
    guard query.isTimely(at: now) else { return refuse(request, "The query's time is not within 60 seconds of ours.") }
    guard query.isAuthentic else { return refuse(request, "The signature does not verify.") }
    // Anybody can make keys and sign with them: only wallets that exist, or may be made, take up room among the nonces.
    let isKnown = ledger.walletView(query.wallet.octets) != nil
    if !isKnown {
      guard settings.registration else { return refuse(request, "The wallet is not known here.") }
      switch admission.registration(request.client, at: request.monotonic) {
      case .admitted: break
      case .refused(let seconds): return problem(.rateLimited, retryAfter: seconds)
      }
    }
    guard QueryNonces.shared.use(query.claim, at: now) else { return refuse(request, "The nonce has been used.") }
    var registered: LSN = 0
    if !isKnown {
      do throws(Refusal) { registered = try ledger.registerWallet(query.wallet.octets, at: now) } catch {
        if error != .walletExists { return unavailable() }
      }
    }
    guard let view = ledger.walletView(query.wallet.octets) else { return refuse(request, "The wallet is not known here.") }
    let body = JCS.serialize(state(view, of: query.wallet, at: now).object)
    let lines = Array("Content-Type: application/json\r\nCache-Control: no-store\r\n".utf8)
    return Answer(status: 200, fields: lines, body: body, after: registered)
  }

  private mutating func refuse(_ request: borrowing PaidRequest, _ detail: String) -> Answer {
    admission.failed(request.client, at: request.monotonic)
    return problem(.queryRefused, detail: detail)
  }

  // MARK: what a wallet may see of itself

  private func state(_ view: WalletView, of wallet: Ed25519.PublicKey, at now: Timestamp) -> WalletState {
    var policy = JSONObject()
    var left = JSONObject()
    policy.set("frozen", .bool(view.isFrozen))
    if let expires = view.policy.expires { policy.set("expires", .string(expires.rfc3339)) }
    if let allowed = view.policy.allowed { policy.set("allow", .array(allowed.map { .string($0) })) }
    if let most = view.policy.maximumSessions {
      policy.set("max-sessions", .string(String(most)))
      left.set("max-sessions", .string(String(most - min(most, UInt32(clamping: view.sessions.count)))))
    }
    add("daily-cap", view, to: &policy) { $0.caps.daily }
    add("payment-cap", view, to: &policy) { $0.caps.payment }
    add("session-cap", view, to: &policy) { $0.caps.session }
    add("daily-cap", view, to: &left) { $0.leftToday }
    return WalletState(
      wallet: wallet, ledger: settings.ledger.name, time: now,
      balances: view.accounts.map { account in
        let decimals = settings.currencies.first { $0.code == account.currency }?.decimals ?? 0
        return WalletState.Balance(currency: account.currency, decimals: decimals, available: account.balance)
      }, policy: policy, left: left, sessions: sessions(view.sessions))
  }

  /// Adds a limit's amounts by currency, where any currency has it.
  private func add(_ name: String, _ view: WalletView, to object: inout JSONObject, _ amount: (WalletView.Account) -> UInt128?) {
    var amounts = JSONObject()
    for account in view.accounts {
      if let units = amount(account) { amounts.set(account.currency, .string(String(units))) }
    }
    if !amounts.isEmpty { object.set(name, .object(amounts)) }
  }

  private func sessions(_ ids: [Digest32]) -> [WalletState.Session] {
    ids.compactMap { id in
      guard let ledger, let view = ledger.session(id).flatMap({ ledger.view($0) }) else { return nil }
      return WalletState.Session(id: id, currency: view.terms.currency, recipient: view.terms.merchant, state: SessionStatus(view))
    }
  }
}
