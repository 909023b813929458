import Agent
import Encoding
import Payments

/// Lists what is kept of sessions, without asking anybody.
struct PaySessions {
  let options: Pay

  func run() throws(PayFailure) {
    let origin = options.url == nil ? nil : try options.address().origin
    let agent = try options.agent()
    let sessions = try failing { () throws(AgentError) in try agent.sessions() }.filter { origin == nil || $0.origin == origin }
    let channels = try failing { () throws(AgentError) in try agent.channels() }.filter { origin == nil || $0.origin == origin }
    if options.output.json {
      let documents = sessions.map { document($0) } + channels.map { channel in
        var object = PayText.document(channel)
        object.set("origin", .string(channel.origin))
        return JSONValue.object(object)
      }
      return try StandardOutput.print(String(decoding: JSON.serialize(.array(documents), pretty: true), as: UTF8.self))
    }
    guard !sessions.isEmpty || !channels.isEmpty else { return try StandardOutput.tell("no kept session") }
    let heading = ["ORIGIN", "RAIL", "STATE", "DEPOSIT", "SIGNED", "SPENT", "LEFT", "SESSION"]
    for line in Columns.lines([heading] + sessions.map { row($0) } + channels.map { row($0) }) {
      try StandardOutput.tell(PayText.printable(line))
    }
  }

  private func row(_ session: KeptSession) -> [String] {
    let currency = session.currency
    return [
      session.origin, "prepaid", session.state.rawValue, "\(currency.format(session.deposit)) \(currency.symbol)", "",
      currency.format(session.spent), currency.format(session.remaining), session.sessionID,
    ]
  }

  private func row(_ channel: KeptChannel) -> [String] {
    let currency = channel.currency
    return [
      channel.origin, "evm on \(TrustedToken.chainName(channel.chain))", channel.state.rawValue,
      "\(currency.format(channel.deposit)) \(currency.symbol)", currency.format(channel.signed), currency.format(channel.spent),
      currency.format(channel.remaining), "0x\(channel.channelID.hex)",
    ]
  }

  private func document(_ session: KeptSession) -> JSONValue {
    [
      "rail": "prepaid", "session": .string(session.sessionID), "origin": .string(session.origin), "state": .string(session.state.rawValue),
      "currency": .string(session.currency.code), "deposit": .string("\(session.deposit)"), "spent": .string("\(session.spent)"),
      "remaining": .string("\(session.remaining)"), "recipient": .string(session.recipient),
    ]
  }
}

extension PayText {
  /// A channel for programs; amounts in base units.
  static func document(_ channel: KeptChannel) -> JSONObject {
    [
      "rail": "evm", "channel": .string("0x" + channel.channelID.hex), "network": .string("eip155:\(channel.chain)"),
      "state": .string(channel.state.rawValue), "currency": .string(channel.currency.code), "deposit": .string("\(channel.deposit)"),
      "signed": .string("\(channel.signed)"), "spent": .string("\(channel.spent)"), "remaining": .string("\(channel.remaining)"),
      "escrow": .string(channel.escrow.checksummed), "recipient": .string(channel.payee.checksummed), "payer": .string(channel.payer.checksummed),
    ]
  }
}
