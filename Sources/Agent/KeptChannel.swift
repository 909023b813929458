import Bytes
import Encoding
import Ethereum
import Methods
import Payments

/// Remembers one payment channel between calls: what was signed, what that has bought by the agent's own count, and what it may buy.
public struct KeptChannel: Sendable {
  /// How far the channel has come; it is written down before its deposit is signed.
  public enum State: String, Sendable {
    case opening
    case open
    /// The server refused to open the channel, knows none of the kind, or says no more than that it is closed: nothing more is signed for it,
    /// and its deposit may lie in the escrow still, or come there while what was signed for it holds. Its payer gets that back by `requestClose`
    /// and `withdraw`.
    case gone
  }

  /// A deposit that was sent, or may have been, and whose fate is not known; it is shown again before anything else is signed.
  struct Deposit: Sendable, Equatable {
    /// Base units.
    let amount: UInt128
    /// When what was signed ends.
    let expires: Timestamp
    /// The field that carries it.
    let field: AgentRequest.Field
  }

  /// A deposit that the server has refused, and could submit all the same.
  struct Refused: Sendable, Equatable {
    /// Base units.
    let amount: UInt128
    /// When what was signed ends.
    let expires: Timestamp
  }

  /// The most refused deposits that are remembered one by one.
  static let refusedLimit = 8
  /// How long after its end a deposit may still turn out to have landed: clocks differ.
  static let margin = Duration.seconds(120)
  /// How long a channel that is gone is remembered, for its payer to look for his deposit.
  static let goneAfter = Duration.seconds(30 * 86_400)

  /// The channel's id.
  public let channelID: Digest32
  /// The origin of the server that sells.
  public let origin: String
  /// The realm of the challenge that opened the channel.
  public let realm: String
  /// The chain's id (EIP-155).
  public let chain: UInt64
  /// The contract that holds the deposit.
  public let escrow: Address
  /// The token's contract.
  public let token: Address
  /// The token's currency.
  public let currency: Currency
  /// Who is paid.
  public let payee: Address
  /// Who pays, signs vouchers, and gets back what is left.
  public let payer: Address
  /// What was drawn for the channel's id.
  let salt: Digest32
  /// How far the channel has come.
  public internal(set) var state: State
  /// What the escrow holds for the channel, with what it paid out, in base units, as are all amounts.
  public internal(set) var deposit: UInt128
  /// The highest voucher's amount: what the server can take at most. It never falls.
  public internal(set) var signed: UInt128
  /// What the server can have charged at most by the agent's own count, with what was signed for calls under way.
  public internal(set) var counted: UInt128
  /// What the server said last that it charged; never above `counted`.
  public internal(set) var told: UInt128
  /// What one top-up adds when nothing else is known.
  public internal(set) var suggestedDeposit: UInt128
  /// A deposit whose fate is not known.
  var underWay: Deposit?
  /// The routes whose terms the channel has, the newest last.
  public internal(set) var routes: [KeptSession.Route]
  /// The deposits that were refused and could land all the same, when that was looked at last.
  var refused: [Refused] = []
  /// When a channel that is gone is forgotten; nil where that is not known yet.
  var until: Timestamp?

  /// What was spent: what the server says, as far as the agent's count bears it out.
  public var spent: UInt128 { min(told, counted) }

  /// Notes that the server has refused a deposit: it counts as made until nobody can submit it any more.
  mutating func refuse(_ deposit: Deposit, at now: Timestamp) {
    if underWay == deposit { underWay = nil }
    if state == .opening { leave(at: now) }
    refused.removeAll { now > $0.expires + Self.margin }
    refused.append(Refused(amount: deposit.amount, expires: deposit.expires))
    guard refused.count > Self.refusedLimit else { return }
    // Where there are many, the oldest count as one, for as long as the longer of them.
    let (first, second) = (refused.removeFirst(), refused.removeFirst())
    refused.insert(Refused(amount: Agent.sum(first.amount, second.amount), expires: max(first.expires, second.expires)), at: 0)
  }

  /// Notes that nothing more is to be had by the channel.
  mutating func leave(at now: Timestamp) {
    state = .gone
    until = now + Self.goneAfter
  }

  /// What refused deposits, and one whose fate is not known, may still take, in base units.
  func doubtful(at now: Timestamp) -> UInt128 {
    let opening = state == .opening ? underWay.map { [Refused(amount: $0.amount, expires: $0.expires)] } ?? [] : []
    return (refused + opening).filter { now <= $0.expires + Self.margin }.reduce(0) { Agent.sum($0, $1.amount) }
  }

  /// What was signed and is not spent.
  public var ahead: UInt128 { signed > spent ? signed - spent : 0 }

  /// What of the deposit is not spent.
  public var remaining: UInt128 { deposit > spent ? deposit - spent : 0 }

  /// The channel's members.
  var descriptor: ChannelDescriptor { ChannelDescriptor(payer: payer, payee: payee, token: token, salt: salt) }

  /// The escrow, for signing.
  var sessionEscrow: SessionEscrow { SessionEscrow(rules: .evm, chain: chain, address: escrow) }

  /// The challenge that stands for a method and path, if the channel was used there before.
  func challenge(method: String, path: String) -> Challenge? { routes.last { $0.method == method && $0.path == path }?.challenge }

  /// Remembers the challenge of a method and path in the place of an older one.
  mutating func remember(_ challenge: Challenge, method: String, path: String) {
    routes.removeAll { $0.method == method && $0.path == path }
    if routes.count >= KeptSession.routeLimit { routes.removeFirst() }
    routes.append(KeptSession.Route(method: method, path: path, challenge: challenge))
  }

  /// Changes what is counted for a call from one sum to another.
  mutating func count(_ sum: UInt128, instead before: UInt128) {
    let (whole, overflows) = (counted > before ? counted - before : 0).addingReportingOverflow(sum)
    counted = overflows ? .max : whole
  }

  /// Takes a receipt's word for what was spent, as far as the count bears it out.
  mutating func learn(told spent: UInt128) { told = min(spent, counted) }

  /// The voucher of an amount: the same octets each time.
  func voucher(_ amount: UInt128, by key: EthereumKey) -> SessionVoucher {
    VoucherKey(channelID: channelID, signer: payer, escrow: sessionEscrow).sign(amount, by: key)
  }
}

extension KeptChannel {
  /// The channel as its file has it.
  var json: JSONValue {
    var object: JSONObject = [
      "version": 1, "channelId": .string(HexData.text(channelID)), "origin": .string(origin), "realm": .string(realm),
      "chain": .string("\(chain)"), "escrow": .string(escrow.checksummed), "token": .string(token.checksummed),
      "currency": .string(currency.code), "decimals": .string("\(currency.decimals)"), "payee": .string(payee.checksummed),
      "payer": .string(payer.checksummed), "salt": .string(HexData.text(salt)), "state": .string(state.rawValue),
      "deposit": .string("\(deposit)"), "signed": .string("\(signed)"), "counted": .string("\(counted)"), "told": .string("\(told)"),
      "suggestedDeposit": .string("\(suggestedDeposit)"),
      "routes": .array(
        routes.map { ["method": .string($0.method), "path": .string($0.path), "challenge": .string($0.challenge.fieldValue)] }),
    ]
    if let underWay {
      object.set(
        "underWay",
        [
          "amount": .string("\(underWay.amount)"), "expires": .string(underWay.expires.rfc3339), "name": .string(underWay.field.name),
          "value": .string(underWay.field.value),
        ])
    }
    if !refused.isEmpty {
      object.set(
        "refused", .array(refused.map { ["amount": .string("\($0.amount)"), "expires": .string($0.expires.rfc3339)] }))
    }
    if let until { object.set("until", .string(until.rfc3339)) }
    return .object(object)
  }

  /// Reads what `json` wrote; nil where anything is missing, or the id does not follow from the members.
  init?(json: JSONValue) {
    guard let object = json.objectValue, object["version"]?.intValue == 1 else { return nil }
    func text(_ name: String) -> String? { object[name]?.stringValue }
    func units(_ name: String) -> UInt128? { text(name).flatMap { DecimalUInt128.parse($0.utf8) } }
    func address(_ name: String) -> Address? { text(name).flatMap { Address($0) } }
    guard let channelID = text("channelId").flatMap({ HexData.digest($0) }), let origin = text("origin"), let realm = text("realm"),
      let chain = text("chain").flatMap({ UInt64($0) }), let escrow = address("escrow"), let token = address("token"),
      let code = text("currency"), let decimals = text("decimals").flatMap({ UInt8($0) }), let currency = Currency(code: code, decimals: decimals),
      let payee = address("payee"), let payer = address("payer"), let salt = text("salt").flatMap({ HexData.digest($0) }),
      let state = text("state").flatMap({ State(rawValue: $0) }), let deposit = units("deposit"), let signed = units("signed"),
      let counted = units("counted"), let told = units("told"), let suggestedDeposit = units("suggestedDeposit"),
      let list = object["routes"]?.arrayValue
    else { return nil }
    self.init(
      channelID: channelID, origin: origin, realm: realm, chain: chain, escrow: escrow, token: token, currency: currency, payee: payee,
      payer: payer, salt: salt, state: state, deposit: deposit, signed: signed, counted: counted, told: told, suggestedDeposit: suggestedDeposit,
      routes: [])
    guard descriptor.id(in: sessionEscrow) == channelID else { return nil }
    for entry in list {
      guard let method = entry["method"]?.stringValue, let path = entry["path"]?.stringValue,
        let challenge = entry["challenge"]?.stringValue.flatMap({ try? Challenge.parse($0) })
      else { return nil }
      routes.append(KeptSession.Route(method: method, path: path, challenge: challenge))
    }
    for entry in object["refused"]?.arrayValue ?? [] {
      guard let amount = entry["amount"]?.stringValue.flatMap({ DecimalUInt128.parse($0.utf8) }),
        let expires = entry["expires"]?.stringValue.flatMap({ Timestamp(rfc3339: $0) })
      else { return nil }
      refused.append(Refused(amount: amount, expires: expires))
    }
    until = text("until").flatMap { Timestamp(rfc3339: $0) }
    guard let pending = object["underWay"] else { return }
    guard let amount = pending["amount"]?.stringValue.flatMap({ DecimalUInt128.parse($0.utf8) }),
      let expires = pending["expires"]?.stringValue.flatMap({ Timestamp(rfc3339: $0) }), let name = pending["name"]?.stringValue,
      let value = pending["value"]?.stringValue
    else { return nil }
    underWay = Deposit(amount: amount, expires: expires, field: AgentRequest.Field(name: name, value: value))
  }
}
