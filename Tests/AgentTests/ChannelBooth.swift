import Bytes
import Crypto
import Encoding
import Ethereum
import Foundation
import Methods
import Payments
import Synchronization

@testable import Agent

/// A server that sells by sessions over channels: deposits and vouchers pass the real checks, and nothing is on any chain. How it lies, a test
/// chooses.
///
/// `/page` costs 100 base units, and each event of `/stream` 10.
final class ChannelBooth: Sendable {
  /// What the server does that an honest one would not.
  enum Lie: Sendable {
    case none
    /// Each page is charged twice.
    case overcharges
    /// A stream that has run dry asks for this much in all.
    case asks(UInt128)
    /// Deposits are taken, and nothing is ever answered to them.
    case silentDeposits
    /// Deposits are taken, and the answer is that they were refused.
    case refusedDeposits
    /// A close is said to be done, and nothing of it is told.
    case bareClose
    /// A close by what is settled already needs a voucher for a unit more.
    case settledClose
  }

  struct Channel: Sendable {
    let descriptor: ChannelDescriptor
    var last: SessionVoucher
    var standing: ChannelStanding
    var spent: UInt128 = 0
  }

  struct Books: Sendable {
    var lie = Lie.none
    var suggestedDeposit: UInt128 = 1600
    var events = 40
    var channels: [Digest32: Channel] = [:]
    /// The deposits by what makes each the only one.
    var deposits: [Digest32] = []
    /// The actions of all credentials, in order.
    var actions: [String] = []
    var closed: [Digest32: UInt128] = [:]
  }

  static let merchant = Address("0x1563915e194D8CfBA1943570603F7606A3115508")!
  static let escrow = TrustedEscrow("eip155:84532:0x5CbDd86a2FA8Dc4bDdd8a8f69dBa48572EeC07FB")!
  static let transaction = Digest32(hex: String(repeating: "cd", count: 32))!

  let books = Mutex(Books())
  private let secrets: ChallengeSecrets
  private let token = TrustedToken.known.first { $0.token.chain == 84532 }!.token
  private let sessionEscrow = SessionEscrow(rules: .evm, chain: 84532, address: ChannelBooth.escrow.address)

  init() throws { secrets = try ChallengeSecrets(current: SecretBytes(Random.bytes(32))) }

  func serve() -> ScriptedServer {
    ScriptedServer { [self] connection in
      while let request = connection.request() {
        guard answer(request, connection) else { return }
      }
    }
  }

  // MARK: - Offers

  private func session(_ path: String) -> ChannelSession {
    var details = ChannelDetails(chainID: 84532, escrow: Self.escrow.address)
    details.paysFees = true
    details.credentialTypes = [.authorization, .hash]
    let isStream = path == "/stream"
    return ChannelSession(
      rules: .evm, amount: isStream ? 10 : 100, unitType: isStream ? "event" : "request",
      suggestedDeposit: books.withLock { $0.suggestedDeposit }, currency: token.address, recipient: Self.merchant, details: details)
  }

  private func challenge(_ path: String) -> String {
    let challenge = try? Challenge(
      realm: "127.0.0.1", method: "evm", intent: "session", request: session(path).object, expires: Timestamp.now() + .seconds(300),
      opaque: ["once": .string(Random.digest32().hex)], secrets: secrets)
    return "WWW-Authenticate: \(challenge?.fieldValue ?? "")\r\n"
  }

  // MARK: - Requests

  private func answer(_ request: ScriptedServer.Connection.Request, _ connection: ScriptedServer.Connection) -> Bool {
    let path = request.target
    guard let value = request.first("authorization"), let credential = read(value) else {
      return send(connection, request, 402, challenge(path))
    }
    let quote = try? ChannelSession(parsing: credential.request, method: "evm")
    guard credential.isAuthentic(secrets), let quote, let payload = try? ChannelPayload(parsing: credential.payload, rules: .evm) else {
      return send(connection, request, 402, challenge(path), problem: "invalid-challenge")
    }
    books.withLock { $0.actions.append(credential.payload["action"]?.stringValue ?? "") }
    guard take(payload, quote, credential) else {
      let isKnown = books.withLock { $0.channels[payload.channelID] != nil }
      if !isKnown, payload.isManagement || payload.voucher != nil, case .voucher = payload {
        return send(connection, request, 410, "", problem: "session/channel-not-found")
      }
      return send(connection, request, 402, challenge(path), problem: "verification-failed")
    }
    if case .silentDeposits = books.withLock({ $0.lie }) {
      switch payload {
      case .open, .topUp: return false
      case .voucher, .close: break
      }
    }
    if case .refusedDeposits = books.withLock({ $0.lie }) {
      switch payload {
      case .open, .topUp: return send(connection, request, 402, challenge(path), problem: "verification-failed")
      case .voucher, .close: break
      }
    }
    if case .close(let voucher, _) = payload, case .settledClose = books.withLock({ $0.lie }) {
      books.withLock { $0.lie = .none }
      let more: JSONObject = ["requiredCumulative": .string("\(voucher.cumulativeAmount + 1)")]
      return send(connection, request, 402, challenge(path), problem: "verification-failed", more: more)
    }
    if case .close = payload, case .bareClose = books.withLock({ $0.lie }) { return send(connection, request, 204, "") }
    if case .close = payload {
      return send(connection, request, 204, receipt(payload.channelID, credential.challenge.id, transaction: Self.transaction))
    }
    let isBare = request.method == "HEAD" || (request.method == "POST" && request.body.isEmpty)
    if payload.isManagement || isBare { return send(connection, request, 204, receipt(payload.channelID, credential.challenge.id)) }
    return path == "/stream"
      ? stream(payload.channelID, credential.challenge.id, connection) : page(payload.channelID, credential.challenge.id, request, connection)
  }

  private func read(_ value: String) -> Credential? {
    Array(value.dropFirst(8).utf8).withUnsafeBytes { try? Credential.parse($0, field: .authorization) }
  }

  /// Verifies what a credential holds, and keeps it.
  private func take(_ payload: ChannelPayload, _ quote: ChannelSession, _ credential: Credential) -> Bool {
    let latest = credential.expires ?? Timestamp.now()
    switch payload {
    case .open(let opening):
      if books.withLock({ $0.channels[opening.channelID] != nil }) { return true }
      let checked = try? quote.check(
        opening, source: credential.source, token: token, escrow: sessionEscrow, latest: latest, now: .now())
      guard let checked, let deposit = checked.deposit, let id = checked.transaction.id else { return false }
      books.withLock { books in
        books.deposits.append(id)
        books.channels[checked.channelID] = Channel(
          descriptor: checked.channel, last: checked.voucher, standing: ChannelStanding(deposit: deposit))
      }
      return true
    case .topUp(let topUp):
      guard let channel = books.withLock({ $0.channels[topUp.channelID] }) else { return false }
      let checked = try? quote.check(
        topUp, source: credential.source, channel: channel.descriptor, standing: channel.standing, token: token, escrow: sessionEscrow,
        latest: latest, now: .now())
      guard let id = checked?.id else { return false }
      books.withLock { books in
        guard !books.deposits.contains(id) else { return }
        books.deposits.append(id)
        books.channels[topUp.channelID]?.standing.deposit += topUp.additionalDeposit
      }
      return true
    case .voucher(let voucher, _, _): return accept(voucher)
    case .close(let voucher, _):
      guard let channel = books.withLock({ $0.channels[voucher.channelID] }) else { return false }
      let closing = try? VoucherKey(channel.descriptor, escrow: sessionEscrow).close(
        voucher, after: channel.last, standing: channel.standing, spent: channel.spent, rules: .evm)
      guard let closing else { return false }
      books.withLock { books in
        books.closed[voucher.channelID] = closing.captured
        books.channels[voucher.channelID]?.last = closing.voucher
      }
      return true
    }
  }

  private func accept(_ voucher: SessionVoucher) -> Bool {
    books.withLock { books in
      guard books.closed[voucher.channelID] == nil, let channel = books.channels[voucher.channelID],
        let (effect, _) = try? VoucherKey(channel.descriptor, escrow: sessionEscrow).check(
          voucher, after: channel.last, standing: channel.standing, rules: .evm)
      else { return false }
      if effect == .advances { books.channels[voucher.channelID]?.last = voucher }
      return true
    }
  }

  // MARK: - Answers

  private func receipt(_ id: Digest32, _ challenge: String, transaction: Digest32? = nil) -> String {
    guard let channel = books.withLock({ $0.channels[id] }) else { return "" }
    let receipt = ChannelReceipt(
      escrow: sessionEscrow, challengeID: challenge, channelID: id, acceptedCumulative: channel.last.cumulativeAmount, spent: channel.spent,
      timestamp: .now(), transaction: transaction)
    return "Payment-Receipt: \(String(decoding: receipt.fieldValue, as: UTF8.self))\r\n"
  }

  /// Charges; false where what was signed does not pay for it.
  private func charge(_ id: Digest32, _ cost: UInt128) -> Bool {
    books.withLock { books in
      guard let channel = books.channels[id], channel.last.cumulativeAmount >= channel.spent + cost else { return false }
      books.channels[id]?.spent += cost
      return true
    }
  }

  private func page(
    _ id: Digest32, _ challenge: String, _ request: ScriptedServer.Connection.Request, _ connection: ScriptedServer.Connection
  ) -> Bool {
    guard charge(id, 100) else {
      let channel = books.withLock { $0.channels[id] }
      let accepted = channel?.last.cumulativeAmount ?? 0
      let missing = (channel?.spent ?? 0) + 100 - accepted
      return send(
        connection, request, 402, self.challenge(request.target), problem: "session/insufficient-balance",
        more: ["channelId": .string("0x" + id.hex), "requiredTopUp": .string("\(missing)"), "acceptedCumulative": .string("\(accepted)")])
    }
    if case .overcharges = books.withLock({ $0.lie }) { books.withLock { $0.channels[id]?.spent += 100 } }
    return send(connection, request, 200, receipt(id, challenge), body: Array("page".utf8))
  }

  /// Sends events as long as they are paid for; waits for a voucher for three seconds.
  private func stream(_ id: Digest32, _ challenge: String, _ connection: ScriptedServer.Connection) -> Bool {
    let count = books.withLock { $0.events }
    connection.send("HTTP/1.1 200 Booth\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\(receipt(id, challenge))\r\n")
    for index in 0..<count {
      if !charge(id, 10) {
        guard askForVoucher(id, connection) else { return false }
      }
      guard connection.send("data: \(index)\n\n") else { return false }
    }
    guard let channel = books.withLock({ $0.channels[id] }) else { return false }
    var text = ByteBuffer()
    ChannelReceipt(
      escrow: sessionEscrow, challengeID: challenge, channelID: id, acceptedCumulative: channel.last.cumulativeAmount, spent: channel.spent,
      timestamp: .now()
    ).append(to: &text)
    connection.send(ChannelStreamEvent.receipt(text: text.array()).octets)
    return false
  }

  private func askForVoucher(_ id: Digest32, _ connection: ScriptedServer.Connection) -> Bool {
    guard let channel = books.withLock({ $0.channels[id] }) else { return false }
    var required = channel.spent + 10
    if case .asks(let sum) = books.withLock({ $0.lie }) { required = sum }
    connection.send(
      ChannelStreamEvent.needVoucher(
        channelID: id, requiredCumulative: required, acceptedCumulative: channel.last.cumulativeAmount, deposit: channel.standing.deposit
      ).octets)
    for _ in 0..<300 {
      if charge(id, 10) { return true }
      usleep(10_000)
    }
    return false
  }

  private func send(
    _ connection: ScriptedServer.Connection, _ request: ScriptedServer.Connection.Request, _ status: Int, _ fields: String,
    body: [UInt8] = [], problem: String? = nil, more: JSONObject = [:]
  ) -> Bool {
    var octets = body
    var text = "HTTP/1.1 \(status) Booth\r\n\(fields)"
    if let problem {
      var object: JSONObject = ["type": .string("https://paymentauth.org/problems/\(problem)"), "title": "Booth", "status": .integer(status)]
      for member in more.members { object.set(member.name, member.value) }
      octets = JSON.serialize(.object(object))
      text += "Content-Type: application/problem+json\r\n"
    }
    if status != 204 { text += "Content-Length: \(octets.count)\r\n" }
    return connection.send(Array((text + "\r\n").utf8) + (request.method == "HEAD" || status == 204 ? [] : octets))
  }
}
