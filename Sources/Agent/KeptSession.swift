import Bytes
import Encoding
import Payments

/// Remembers one session between calls: its secret, what it may buy, and what is known of its budget.
public struct KeptSession: Sendable {
  /// How far the session has come; it is written down before its deposit leaves, so that a crash loses no money.
  public enum State: String, Sendable {
    case opening
    case open
  }

  /// A method and path whose terms the session has, with the challenge that a bearer credential echoes for it.
  public struct Route: Sendable {
    /// The HTTP method of the requests.
    public let method: String
    /// The path of the requests, without query.
    public let path: String
    /// The challenge that credentials for these requests echo.
    public let challenge: Challenge
  }

  /// The routes that are remembered; the oldest gives way.
  static let routeLimit = 32

  /// SHA-256 of the preimage, in hexadecimal.
  public let sessionID: String
  /// The secret of the session in hexadecimal; whoever has it can spend the budget.
  let preimage: String
  /// The origin of the server that sells.
  public let origin: String
  /// The realm of the challenge that opened the session.
  public let realm: String
  /// The ledger that keeps the session.
  public let ledger: String
  /// The currency of the budget.
  public let currency: Currency
  /// The merchant account that is paid.
  public let recipient: String
  /// The wallet that pays and gets the refund.
  public let wallet: String
  /// How far the session has come.
  public internal(set) var state: State
  /// What was moved into the session when last heard of, in base units.
  public internal(set) var deposit: UInt128
  /// What was spent when last heard of.
  public internal(set) var spent: UInt128
  /// What one top-up adds when nothing else is known.
  public internal(set) var suggestedDeposit: UInt128
  /// The routes whose terms the session has, the newest last.
  public internal(set) var routes: [Route]

  /// What is left when last heard of.
  public var remaining: UInt128 { deposit > spent ? deposit - spent : 0 }

  /// The challenge that stands for a method and path, if the session was used there before.
  func challenge(method: String, path: String) -> Challenge? {
    routes.last { $0.method == method && $0.path == path }?.challenge
  }

  /// Any challenge of the session: enough for status, top-up and close.
  var anyChallenge: Challenge? { routes.last?.challenge }

  /// Remembers the challenge of a method and path in the place of an older one.
  mutating func remember(_ challenge: Challenge, method: String, path: String) {
    routes.removeAll { $0.method == method && $0.path == path }
    if routes.count >= Self.routeLimit { routes.removeFirst() }
    routes.append(Route(method: method, path: path, challenge: challenge))
  }
}

extension KeptSession {
  /// The session as its file has it.
  var json: JSONValue {
    var object = JSONObject()
    object.set("version", 1)
    object.set("sessionId", .string(sessionID))
    object.set("preimage", .string(preimage))
    object.set("origin", .string(origin))
    object.set("realm", .string(realm))
    object.set("ledger", .string(ledger))
    object.set("currency", .string(currency.code))
    object.set("decimals", .string(String(currency.decimals)))
    object.set("recipient", .string(recipient))
    object.set("wallet", .string(wallet))
    object.set("state", .string(state.rawValue))
    object.set("deposit", .string(String(deposit)))
    object.set("spent", .string(String(spent)))
    object.set("suggestedDeposit", .string(String(suggestedDeposit)))
    object.set("routes", .array(routes.map { route in
      .object(["method": .string(route.method), "path": .string(route.path), "challenge": .string(route.challenge.fieldValue)])
    }))
    return .object(object)
  }

  /// Reads what `json` wrote; nil where anything is missing.
  init?(json: JSONValue) {
    guard let object = json.objectValue else { return nil }
    func text(_ name: String) -> String? { object[name]?.stringValue }
    func units(_ name: String) -> UInt128? { text(name).flatMap { DecimalUInt128.parse($0.utf8) } }
    guard let sessionID = text("sessionId"), Digest32(hex: sessionID) != nil, let preimage = text("preimage"),
      Digest32(hex: preimage) != nil, let origin = text("origin"), let realm = text("realm"),
      let ledger = text("ledger"), let code = text("currency"), let decimals = text("decimals").flatMap({ UInt8($0) }),
      let currency = Currency(code: code, decimals: decimals), let recipient = text("recipient"),
      let wallet = text("wallet"), let state = text("state").flatMap({ State(rawValue: $0) }),
      let deposit = units("deposit"), let spent = units("spent"), let suggested = units("suggestedDeposit"),
      let list = object["routes"]?.arrayValue
    else { return nil }
    self.sessionID = sessionID
    self.preimage = preimage
    self.origin = origin
    self.realm = realm
    self.ledger = ledger
    self.currency = currency
    self.recipient = recipient
    self.wallet = wallet
    self.state = state
    self.deposit = deposit
    self.spent = spent
    suggestedDeposit = suggested
    routes = []
    for entry in list {
      guard let route = entry.objectValue, let method = route["method"]?.stringValue,
        let path = route["path"]?.stringValue, let challenge = route["challenge"]?.stringValue.flatMap({ try? Challenge.parse($0) })
      else { return nil }
      routes.append(Route(method: method, path: path, challenge: challenge))
    }
  }
}
