import Bytes
import Crypto
import Encoding
import Ledger

/// What commands answer with. Amounts are decimal strings of base units, as everywhere on the wire.
enum AdministrationViews {
  static func did(_ key: Digest32) -> JSONValue { .string(DIDKey.encode(Ed25519.PublicKey(key))) }

  static func json(_ wallet: WalletView) -> JSONObject {
    let balances = wallet.accounts.map { ($0.currency, JSONValue.string(String($0.balance))) }
    let today = wallet.accounts.map { account in
      var object: JSONObject = ["outflow": .string(String(account.outflowToday))]
      if let left = account.leftToday { object.set("left", .string(String(left))) }
      return (account.currency, JSONValue.object(object))
    }
    return [
      "wallet": did(wallet.key), "state": wallet.isFrozen ? "frozen" : "active", "balances": .object(JSONObject(balances)),
      "policy": wallet.policy.json, "today": .object(JSONObject(today)),
      "sessions": .array(wallet.sessions.map { .string($0.hex) }),
    ]
  }

  static func json(_ session: SessionView) -> JSONObject {
    let routes = session.terms.routes.map { terms -> JSONValue in
      ["route": .string(terms.routeID), "price": .string(terms.price.words), "priceVersion": .string(terms.priceVersion)]
    }
    let owner: (String, JSONValue) = session.payer.map { ("payer", .string($0)) } ?? ("wallet", did(session.wallet))
    var object: JSONObject = [
      "session": .string(session.id.hex), "state": .string(session.state.rawValue),
      "currency": .string(session.terms.currency), "merchant": .string(session.terms.merchant),
      "deposit": .string(String(session.deposit)), "spent": .string(String(session.spent)), "held": .string(String(session.held)),
      "remaining": .string(String(session.remaining)), "required": .string(String(session.required)),
      "units": .string(String(session.units)), "inFlight": .integer(session.inFlight), "routes": .array(routes),
    ]
    object.set(owner.0, owner.1)
    return object
  }

  static func json(_ id: Digest32, _ session: ClosedSession) -> JSONObject {
    var object: JSONObject = [
      "session": .string(id.hex), "state": "closed", "currency": .string(session.currency),
      "merchant": .string(session.merchant), "deposit": .string(String(session.deposit)), "spent": .string(String(session.spent)),
      "held": "0", "remaining": "0", "refunded": .string(String(session.refunded)), "units": .string(String(session.units)),
      "cause": .string(cause(session.cause)), "closed": .string(session.time.rfc3339),
    ]
    guard let channel = session.channel else {
      object.set("wallet", did(session.wallet))
      return object
    }
    object.set("payer", .string(channel.payer))
    object.set("captured", .string(String(channel.captured)))
    object.set("overpaid", .string(String(channel.overpaid)))
    object.set("lost", .string(String(channel.lost)))
    if let transaction = channel.transaction { object.set("transaction", .string("0x" + transaction.hex)) }
    return object
  }

  static func cause(_ cause: CloseCause) -> String {
    switch cause {
    case .payer: "payer"
    case .idle: "idle"
    case .frozen: "frozen"
    case .rekeyed: "rekeyed"
    case .operated: "operator"
    case .restart: "restart"
    case .forced: "forced"
    case .reorganised: "reorganised"
    }
  }

  static func json(_ payment: ChainPaymentView, at now: Timestamp) -> JSONObject {
    var object: JSONObject = [
      "payment": .string(payment.id.hex), "state": .string(state(payment.state)), "since": .string(payment.since.rfc3339),
      "payer": .string(payment.payer), "amount": .string(String(payment.amount)), "currency": .string(payment.currency),
      "merchant": .string(payment.merchant), "request": .string(payment.request.hex), "expires": .string(payment.expires.rfc3339),
      "reference": .string(String(payment.reference)), "unresolved": .bool(payment.isUnresolved(at: now)),
    ]
    if !payment.splits.isEmpty {
      let splits = payment.splits.map { JSONValue.object(["recipient": .string($0.recipient), "amount": .string(String($0.amount))]) }
      object.set("splits", .array(splits))
    }
    if let channel = payment.channel { object.set("channel", .string("0x" + channel.hex)) }
    if let transaction = payment.transaction { object.set("transaction", .string("0x" + transaction.hex)) }
    return object
  }

  /// A promise: what is owed of it is a payment of the same name, as long as that is kept.
  static func json(_ promise: ChainPromiseView) -> JSONObject {
    let state =
      switch promise.state {
      case .promised: "promised"
      case .serving: "serving"
      case .owed: "owed"
      case .kept: "served"
      case .lost: "lost"
      }
    return [
      "payment": .string(promise.id.hex), "state": .string(state), "since": .string(promise.since.rfc3339), "payer": .string(promise.payer),
      "amount": .string(String(promise.amount)), "maximum": .string(String(promise.maximum)), "currency": .string(promise.currency),
      "merchant": .string(promise.merchant), "request": .string(promise.request.hex), "expires": .string(promise.expires.rfc3339),
      "reference": .string(String(promise.reference)), "unresolved": false,
    ]
  }

  private static func state(_ state: ChainPaymentState) -> String {
    switch state {
    case .claimed: "claimed"
    case .submitted: "submitted"
    case .settled: "unserved"
    case .serving: "serving"
    case .served: "served"
    case .writtenOff: "written-off"
    }
  }

  static func json(_ report: BooksReport) -> JSONObject {
    let currencies = report.balances.map { balances -> JSONValue in
      [
        "currency": .string(balances.currency), "issued": .string(String(balances.issued)), "wallets": .string(String(balances.wallets)),
        "sessions": .string(String(balances.sessions)), "held": .string(String(balances.held)),
        "merchants": .string(String(balances.merchants)), "paidOut": .string(String(balances.paidOut)),
        "sum": balances.sum.map { .string(String($0)) } ?? .null,
      ]
    }
    return ["balanced": .bool(report.isBalanced), "currencies": .array(currencies)]
  }

  static func json(_ entry: KeyRing.Entry) -> JSONValue {
    var object: JSONObject = [
      "kind": .string(entry.kind), "created": .string(entry.created.rfc3339), "current": .bool(entry.isCurrent),
    ]
    if let kid = entry.kid { object.set("kid", .string(kid)) }
    if let key = entry.publicKey { object.set("publicKey", .string(key)) }
    return .object(object)
  }
}
