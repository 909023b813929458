import Bytes
import Crypto
import Encoding
import HTTP

/// The constant pieces of audit lines, kept ready by index, and the lines made of them: members in JCS order.
struct AuditPieces: ~Copyable {
  private var sessions: [Digest32] = []
  private var wallets: [[UInt8]] = []
  /// Payers of channels, by their sessions.
  private var payers: [[UInt8]] = []
  private var merchants: [[UInt8]] = []
  private var routes: [[UInt8]] = []
  private var currencies: [[UInt8]] = []
  private var codes: [String] = []
  private var clients: [ClientAddress: [UInt8]] = [:]
  private var lastClient = ClientAddress.none
  private var lastClientPiece: [UInt8] = []
  private var time = ByteBuffer()
  private var millisecond = Int64.min

  /// Clients whose text is kept.
  static let clientLimit = 4_096

  mutating func learn(_ fragment: Fragment) {
    switch fragment {
    case .session(let index, let id):
      while sessions.count <= Int(index) { sessions.append(Digest32()) }
      sessions[Int(index)] = id
    case .payer(let index, let payer): Self.set(&payers, Int(index), ",\"payer\":\(AuditText.quoted(payer))")
    case .wallet(let index, let key): Self.set(&wallets, Int(index), ",\"wallet\":\"\(AuditText.wallet(key))\"")
    case .merchant(let index, let name): Self.set(&merchants, Int(index), ",\"recipient\":\(AuditText.quoted(name))")
    case .currency(let index, let code):
      Self.set(&currencies, Int(index), "\"currency\":\"\(code)\",")
      while codes.count <= Int(index) { codes.append("") }
      codes[Int(index)] = code
    }
  }

  /// Routes that are known; labels count from one.
  var routeCount: Int { routes.count }

  mutating func learn(routes names: ArraySlice<String>) {
    for name in names { routes.append(Array(",\"route\":\(AuditText.quoted(name))".utf8)) }
  }

  private static func set(_ pieces: inout [[UInt8]], _ index: Int, _ text: String) {
    while pieces.count <= index { pieces.append([]) }
    pieces[index] = Array(text.utf8)
  }

  func code(_ currency: UInt8) -> String { codes[Int(currency)] }

  /// Appends `{"amount":…` up to the event.
  mutating func appendBeforePrevious(_ entry: Entry, _ words: EntryWords?, to line: inout ByteBuffer) {
    line.append("{" as StaticString)
    if entry.kind.saysAccepted {
      line.append("\"accepted\":\"" as StaticString)
      line.append(decimal: entry.accepted)
      line.append("\"," as StaticString)
    }
    if entry.kind.saysAmount, entry.currency != .max || words?.amount != nil {
      line.append("\"amount\":\"" as StaticString)
      line.append(decimal: words?.amount ?? entry.amount)
      line.append("\"," as StaticString)
    }
    if let captured = words?.chain?.captured {
      line.append("\"captured\":\"" as StaticString)
      line.append(decimal: captured)
      line.append("\"," as StaticString)
    }
    if let cause = words?.cause {
      line.append("\"cause\":" as StaticString)
      JCS.append(string: cause, to: &line)
      line.append("," as StaticString)
    }
    if let chain = words?.chain?.chain {
      line.append("\"chain\":\"" as StaticString)
      line.append(decimal: chain)
      line.append("\"," as StaticString)
    }
    if entry.client != .none { appendClient(entry.client, to: &line) }
    if let count = words?.count {
      line.append("\"count\":\"" as StaticString)
      line.append(decimal: count)
      line.append("\"," as StaticString)
    }
    if entry.currency != .max {
      line.append(currencies[Int(entry.currency)])
    } else if let code = words?.currency {
      line.append("\"currency\":" as StaticString)
      JCS.append(string: code, to: &line)
      line.append("," as StaticString)
    }
    if let deposit = words?.chain?.deposit {
      line.append("\"deposit\":\"" as StaticString)
      line.append(decimal: deposit)
      line.append("\"," as StaticString)
    }
    if entry.kind.saysEarned {
      line.append("\"earned\":\"" as StaticString)
      line.append(decimal: entry.earned)
      line.append("\"," as StaticString)
    }
    line.append(entry.kind.member)
    if let chain = words?.chain {
      chain.appendBeforePrevious(to: &line)
    } else if entry.kind.saysEarned, entry.session != Entry.nothing {
      line.append(payers[Int(entry.session)])
    }
  }

  /// Appends what follows `prev`, and closes the object.
  mutating func appendAfterPrevious(_ entry: Entry, _ words: EntryWords?, sequence: UInt64, to line: inout ByteBuffer) {
    if let purpose = words?.chain?.purpose { ChainWords.append(",\"purpose\":\"", purpose, to: &line) }
    if entry.merchant != Entry.nothing {
      line.append(merchants[Int(entry.merchant)])
    } else if let recipient = words?.recipient {
      line.append(",\"recipient\":" as StaticString)
      JCS.append(string: recipient, to: &line)
    }
    if let reference = words?.reference {
      line.append(",\"reference\":" as StaticString)
      JCS.append(string: reference, to: &line)
    } else if entry.reference != 0 {
      line.append(",\"reference\":\"" as StaticString)
      line.append(decimal: entry.reference)
      line.append("\"" as StaticString)
    }
    if entry.kind == .sessionClosed {
      line.append(",\"refunded\":\"" as StaticString)
      line.append(decimal: entry.amount)
      line.append("\"" as StaticString)
    } else if let refunded = words?.chain?.refunded {
      ChainWords.append(",\"refunded\":\"", refunded, to: &line)
    }
    if entry.route != .none { line.append(routes[Int(entry.route.index) - 1]) }
    if let sender = words?.chain?.sender { line.append(",\"sender\":\"0x\(AuditText.hex(sender))\"") }
    line.append(",\"seq\":" as StaticString)
    line.append(decimal: sequence)
    if entry.session != Entry.nothing {
      line.append(",\"session\":\"" as StaticString)
      sessions[Int(entry.session)].withUnsafeBytes { Hex.append($0, to: &line) }
      line.append("\"" as StaticString)
    } else if let session = words?.session {
      line.append(",\"session\":" as StaticString)
      JCS.append(string: session, to: &line)
    }
    if entry.kind.saysSpent {
      line.append(",\"spent\":\"" as StaticString)
      line.append(decimal: entry.spent)
      line.append("\"" as StaticString)
    }
    words?.chain?.appendBeforeTime(to: &line)
    appendTime(entry.time, to: &line)
    words?.chain?.appendAfterTime(to: &line)
    if entry.kind.saysUnits {
      line.append(",\"units\":\"" as StaticString)
      line.append(decimal: entry.units)
      line.append("\"" as StaticString)
    }
    if entry.wallet != Entry.nothing {
      line.append(wallets[Int(entry.wallet)])
    } else if let wallet = words?.wallet {
      line.append(",\"wallet\":" as StaticString)
      JCS.append(string: wallet, to: &line)
    }
    line.append("}" as StaticString)
  }

  private mutating func appendClient(_ client: ClientAddress, to line: inout ByteBuffer) {
    if client != lastClient {
      lastClient = client
      lastClientPiece = piece(client)
    }
    line.append(lastClientPiece)
  }

  private mutating func piece(_ client: ClientAddress) -> [UInt8] {
    if let known = clients[client] { return known }
    if clients.count >= Self.clientLimit { clients.removeAll(keepingCapacity: true) }
    let piece = Array("\"client\":\"\(client.description)\",".utf8)
    clients[client] = piece
    return piece
  }

  private mutating func appendTime(_ now: Timestamp, to line: inout ByteBuffer) {
    let stamp = now.microseconds / 1_000
    if stamp != millisecond {
      millisecond = stamp
      time.removeAll()
      time.append(",\"time\":\"" as StaticString)
      now.append(rfc3339Milliseconds: &time)
      time.append("\"" as StaticString)
    }
    line.append(time)
  }
}

extension AuditEventKind {
  /// The member `event`, without a comma.
  var member: StaticString {
    switch self {
    case .start: "\"event\":\"start\""
    case .stop: "\"event\":\"stop\""
    case .configurationLoaded: "\"event\":\"configuration.loaded\""
    case .challenges: "\"event\":\"challenges\""
    case .keysRotated: "\"event\":\"keys.rotated\""
    case .ledgerRestored: "\"event\":\"ledger.restored\""
    case .auditRemoved: "\"event\":\"audit.removed\""
    case .chargeSettled: "\"event\":\"charge.settled\""
    case .chargeVoided: "\"event\":\"charge.voided\""
    case .paymentRefused: "\"event\":\"payment.refused\""
    case .sessionOpened: "\"event\":\"session.opened\""
    case .sessionDebited: "\"event\":\"session.debited\""
    case .sessionReturned: "\"event\":\"session.returned\""
    case .sessionToppedUp: "\"event\":\"session.toppedup\""
    case .sessionClosed: "\"event\":\"session.closed\""
    case .sessionConfirmed: "\"event\":\"session.confirmed\""
    case .walletCreated: "\"event\":\"wallet.created\""
    case .walletFunded: "\"event\":\"wallet.funded\""
    case .walletDefunded: "\"event\":\"wallet.defunded\""
    case .walletPolicy: "\"event\":\"wallet.policy\""
    case .walletFrozen: "\"event\":\"wallet.frozen\""
    case .walletThawed: "\"event\":\"wallet.thawed\""
    case .walletRekeyed: "\"event\":\"wallet.rekeyed\""
    case .merchantPayout: "\"event\":\"merchant.payout\""
    case .refund: "\"event\":\"refund\""
    case .checkpoint: "\"event\":\"checkpoint\""
    case .paymentClaimed: "\"event\":\"payment.claimed\""
    case .paymentSubmitted: "\"event\":\"payment.submitted\""
    case .paymentSettled: "\"event\":\"payment.settled\""
    case .paymentFailed: "\"event\":\"payment.failed\""
    case .paymentWrittenOff: "\"event\":\"payment.writtenoff\""
    case .chainTransaction: "\"event\":\"chain.transaction\""
    case .channelOpened: "\"event\":\"channel.opened\""
    case .channelDebited: "\"event\":\"channel.debited\""
    case .channelReturned: "\"event\":\"channel.returned\""
    case .channelToppedUp: "\"event\":\"channel.toppedup\""
    case .channelSettled: "\"event\":\"channel.settled\""
    case .channelClosed: "\"event\":\"channel.closed\""
    case .channelSuspended: "\"event\":\"channel.suspended\""
    case .channelResumed: "\"event\":\"channel.resumed\""
    }
  }

  var saysSpent: Bool {
    switch self {
    case .sessionDebited, .sessionReturned, .sessionToppedUp, .sessionClosed, .sessionConfirmed, .channelDebited, .channelReturned, .channelToppedUp,
      .channelSettled, .channelClosed:
      true
    case .start, .stop, .configurationLoaded, .challenges, .keysRotated, .ledgerRestored, .auditRemoved, .chargeSettled, .chargeVoided, .paymentRefused,
      .sessionOpened, .walletCreated, .walletFunded, .walletDefunded, .walletPolicy, .walletFrozen, .walletThawed, .walletRekeyed, .merchantPayout, .refund, .checkpoint,
      .paymentClaimed, .paymentSubmitted, .paymentSettled, .paymentFailed, .paymentWrittenOff, .chainTransaction,
      .channelOpened, .channelSuspended, .channelResumed:
      false
    }
  }

  /// Whether a line says its amount in the member of that name, where it has one.
  var saysAmount: Bool {
    switch self {
    // A wallet's session that is closed says what is refunded; nothing moves where a channel is opened or topped up.
    case .sessionClosed, .sessionConfirmed, .ledgerRestored, .auditRemoved, .channelOpened, .channelToppedUp, .channelSuspended, .channelResumed: false
    case .start, .stop, .configurationLoaded, .challenges, .keysRotated, .chargeSettled, .chargeVoided, .paymentRefused, .sessionOpened,
      .sessionDebited, .sessionReturned, .sessionToppedUp, .walletCreated, .walletFunded, .walletDefunded, .walletPolicy, .walletFrozen,
      .walletThawed, .walletRekeyed, .merchantPayout, .refund, .checkpoint, .paymentClaimed, .paymentSubmitted, .paymentSettled, .paymentFailed,
      .paymentWrittenOff, .chainTransaction, .channelDebited, .channelReturned, .channelSettled, .channelClosed:
      true
    }
  }

  /// Whether a line says the budget of its channel.
  var saysAccepted: Bool { saysEarned || self == .channelOpened || self == .channelToppedUp }

  var saysUnits: Bool {
    saysSpent && self != .sessionToppedUp && self != .channelToppedUp && self != .channelSettled
  }
}

/// How names stand in lines.
enum AuditText {
  /// The wallet's id: its key as did:key.
  static func wallet(_ key: Digest32) -> String { DIDKey.encode(Ed25519.PublicKey(key)) }

  /// Lower-case hexadecimal digits.
  static func hex(_ octets: [UInt8]) -> String { Hex.encode(octets) }

  static func quoted(_ text: String) -> String {
    var buffer = ByteBuffer()
    JCS.append(string: text, to: &buffer)
    return buffer.string()
  }
}
