import Agent
import Encoding
import Payments

/// Does what `farebox pay` can do beside a request: wallet report, closing sessions, keys.
struct PayWallet {
  let options: Pay

  // MARK: - Keys

  func makeKey() throws(PayFailure) {
    let (wallet, place) = try failing { () throws(AgentError) -> (String, String) in
      if let path = options.payment.key { return (try WalletKey.create(path: path).wallet, path) }
      let keeper = try Keeper.standard()
      return (try keeper.createWalletKey().wallet, keeper.walletKeyPath)
    }
    guard options.output.json else { return try StandardOutput.tell(wallet) }
    try printJSON(["wallet": .string(wallet), "key": .string(place)])
  }

  func forget() throws(PayFailure) {
    let origin = try options.address().origin
    try failing { () throws(AgentError) in try Keeper.standard().forgetServer(origin) }
  }

  // MARK: - Report

  func report() throws(PayFailure) {
    let address = try options.address()
    let agent = try options.agent()
    let report = try failing { () throws(AgentError) in try agent.walletReport(at: address) }
    if options.output.json { return try printJSON(report.document) }
    try StandardOutput.tell("wallet    \(report.wallet)")
    try StandardOutput.tell("ledger    \(report.ledger)")
    for balance in report.balances {
      try StandardOutput.tell("balance   \(balance.currency.format(balance.available)) \(balance.currency.symbol)")
    }
    for (name, value) in report.policy.members {
      let left = report.left[name].map { ", left \(text($0, report))" } ?? ""
      try StandardOutput.tell("limit     \(name) \(text(value, report))\(left)")
    }
    for session in report.sessions {
      let currency = report.balances.first { $0.currency.code == session.currency }?.currency
      func amount(_ units: UInt128) -> String { currency.map { $0.format(units) } ?? String(units) }
      try StandardOutput.tell(
        "session   \(session.sessionID)  \(session.state.phase.rawValue)  deposit \(amount(session.state.deposit))"
          + "  spent \(amount(session.state.spent))  left \(amount(session.state.remaining)) \(session.currency.uppercased())"
          + "  to \(session.recipient)")
    }
    if report.sessions.isEmpty { try StandardOutput.tell("session   none open") }
  }

  /// A limit as the ledger gives it: amounts by currency in whole units, everything else as it stands.
  private func text(_ value: JSONValue, _ report: WalletReport) -> String {
    if let object = value.objectValue {
      return object.members.map { name, value in
        guard let currency = report.balances.first(where: { $0.currency.code == name })?.currency,
          let words = value.stringValue, let units = UInt128(words)
        else { return "\(name) \(text(value, report))" }
        return "\(currency.format(units)) \(currency.symbol)"
      }.joined(separator: ", ")
    }
    if let list = value.arrayValue { return list.map { text($0, report) }.joined(separator: ", ") }
    return value.stringValue ?? String(decoding: JSON.serialize(value), as: UTF8.self)
  }

  // MARK: - Closing

  /// Closes every kept session of the URL's server; goes on after a failure, and reports the first one at the end.
  func close() throws(PayFailure) {
    let origin = options.url == nil ? nil : try options.address().origin
    let agent = try options.agent()
    let sessions = try failing { () throws(AgentError) in try agent.sessions() }
      .filter { origin == nil || $0.origin == origin }
    let channels = try failing { () throws(AgentError) in try agent.channels() }.filter { origin == nil || $0.origin == origin }
    var failure: PayFailure?
    var documents: [JSONValue] = []
    for channel in channels {
      do throws(PayFailure) {
        let closed = try failing { () throws(AgentError) in try agent.close(channel) }
        documents.append(.object(document(closed)))
        if !options.output.json { try tell(closed) }
      } catch {
        if failure == nil { failure = error }
      }
    }
    for session in sessions {
      do throws(PayFailure) {
        let closed = try failing { () throws(AgentError) in try agent.close(session) }
        documents.append(document(closed))
        if !options.output.json { try tell(closed) }
      } catch {
        if failure == nil { failure = error }
      }
    }
    if options.output.json { try StandardOutput.print(String(decoding: JSON.serialize(.array(documents), pretty: true), as: UTF8.self)) }
    if sessions.isEmpty, channels.isEmpty, !options.output.json { try StandardOutput.tell("no kept session") }
    if let failure { throw failure }
  }

  private func tell(_ closed: ClosedChannel) throws(PayFailure) {
    let currency = closed.channel.currency
    let name = "0x\(closed.channel.channelID.hex)"
    guard let spent = closed.spent, let refunded = closed.refunded else {
      let escrow = "\(closed.channel.escrow.checksummed) on \(TrustedToken.chainName(closed.channel.chain))"
      return try StandardOutput.tell(
        "\(name)  is closed or was never opened; the server says no more (no valid receipt). What still lies in the escrow \(escrow) is got back "
          + "by its requestClose and, after its grace period, withdraw, both from \(closed.channel.payer.checksummed)")
    }
    let transaction = closed.transaction.map { "  transaction 0x\($0.hex)" } ?? ""
    try StandardOutput.tell(
      "\(name)  closed  spent \(currency.format(spent))  refunded \(currency.format(refunded)) \(currency.symbol) by the server's word\(transaction)")
  }

  private func document(_ closed: ClosedChannel) -> JSONObject {
    var object = PayText.document(closed.channel)
    object.set("origin", .string(closed.channel.origin))
    object.set("state", "closed")
    if let spent = closed.spent { object.set("spent", .string("\(spent)")) }
    if let refunded = closed.refunded { object.set("refunded", .string("\(refunded)")) }
    if let transaction = closed.transaction { object.set("transaction", .string("0x" + transaction.hex)) }
    if let receipt = closed.receipt { object.set("receipt", .string(String(decoding: receipt.fieldValue, as: UTF8.self))) }
    return object
  }

  private func tell(_ closed: ClosedSession) throws(PayFailure) {
    let currency = closed.session.currency
    guard let result = closed.result else {
      return try StandardOutput.tell("\(closed.session.sessionID)  was closed before")
    }
    let note = closed.receipt == nil ? "  (no valid receipt)" : ""
    try StandardOutput.tell(
      "\(closed.session.sessionID)  closed  spent \(currency.format(result.spent))"
        + "  refunded \(currency.format(result.refunded)) \(currency.symbol)\(note)")
  }

  private func document(_ closed: ClosedSession) -> JSONValue {
    var object: JSONObject = [
      "session": .string(closed.session.sessionID), "origin": .string(closed.session.origin),
      "currency": .string(closed.session.currency.code),
    ]
    if let result = closed.result {
      object.set("spent", .string(String(result.spent)))
      object.set("refunded", .string(String(result.refunded)))
    }
    if let receipt = closed.receipt {
      object.set("receipt", .string(String(decoding: receipt.encoded, as: UTF8.self)))
    }
    return .object(object)
  }

  private func printJSON(_ object: JSONObject) throws(PayFailure) {
    try StandardOutput.print(String(decoding: JSON.serialize(.object(object), pretty: true), as: UTF8.self))
  }
}
