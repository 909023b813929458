import ArgumentParser
import Configuration
import Encoding
import Proxy

/// `farebox session …`: budgets that are being used.
struct SessionCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "session", abstract: "Watch and close the sessions that agents have opened.",
    subcommands: [SessionList.self, SessionShow.self, SessionClose.self, SessionConfirm.self])
}

struct SessionList: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "list", abstract: "List open and closing sessions, those over payment channels too.")

  @Option(help: ArgumentHelp("Only those of one wallet.", valueName: "did:key:…")) var wallet: String?
  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      let sessions = try backend.list(.sessionList, "sessions", wallet.map { ["wallet": .string($0)] } ?? [:])
      let money = Money(backend.settings)
      options.show(["sessions": .array(sessions)]) {
        guard !sessions.isEmpty else { return ["no session is open"] }
        let rows = sessions.map { session in
          let currency = session["currency"]?.stringValue
          return [
            session["session"]?.stringValue ?? "", session["state"]?.stringValue ?? "", money.words(session["deposit"]?.stringValue, currency),
            money.words(session["spent"]?.stringValue, currency), money.words(session["remaining"]?.stringValue, currency),
            session["inFlight"]?.intValue.map { String($0) } ?? "", AuditText.short(wallet: (session["wallet"] ?? session["payer"])?.stringValue ?? ""),
          ]
        }
        return Columns.lines([["SESSION", "STATE", "DEPOSIT", "SPENT", "REMAINING", "IN FLIGHT", "WALLET OR PAYER"]] + rows)
      }
    }
  }
}

/// The session that a command is about.
struct SessionArgument: ParsableArguments {
  @Argument(help: ArgumentHelp("The session's id: 64 hexadecimal digits.", valueName: "session")) var session: String

  /// Runs a command whose only argument is the session.
  func run(_ command: Administration.Command, _ options: OperatorOptions) throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      let answer = try backend.run(command, ["session": .string(session)])
      options.show(answer) { lines(answer, Money(backend.settings)) }
    }
  }

  private func lines(_ session: JSONValue, _ money: Money) -> [String] {
    let currency = session["currency"]?.stringValue
    var rows: [[String]] = []
    for name in ["session", "state", "cause", "closed", "wallet", "payer", "merchant", "transaction"] {
      if let text = session[name]?.stringValue { rows.append([name, text]) }
    }
    for name in ["deposit", "spent", "held", "remaining", "required", "refunded", "captured", "overpaid", "lost"] {
      if let units = session[name]?.stringValue, !["held", "required", "overpaid", "lost"].contains(name) || units != "0" {
        rows.append([name, money.words(units, currency)])
      }
    }
    if let units = session["units"]?.stringValue { rows.append(["units", units]) }
    if let count = session["inFlight"]?.intValue { rows.append(["in flight", "\(count)"]) }
    for route in session["routes"]?.arrayValue ?? [] {
      rows.append(["route", "\(route["route"]?.stringValue ?? "") at \(route["price"]?.stringValue ?? "")"])
    }
    return Columns.lines(rows + WalletText.volumes(session))
  }
}

struct SessionShow: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Show a session's account.", discussion: "Closed sessions are shown for a day; then the audit log has them.")

  @OptionGroup var target: SessionArgument
  @OptionGroup var options: OperatorOptions

  func run() throws { try target.run(.sessionShow, options) }
}

struct SessionClose: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "close", abstract: "Close a session, and give what is left back to its wallet.",
    discussion: "Exchanges in flight stop within a second, and are charged for what they delivered. A session over a payment channel ends on its chain: `farebox channel close`.")

  @OptionGroup var target: SessionArgument
  @OptionGroup var options: OperatorOptions

  func run() throws { try target.run(.sessionClose, options) }
}

struct SessionConfirm: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "confirm", abstract: "Open sessions again that were suspended when the ledger was restored from a backup.",
    discussion: """
      What a session spent after the backup is not in the books, so confirming it gives that to its payer once more. Channels that wait \
      are confirmed in the same way. A session that is not to go on is closed instead.
      """)

  @Argument(help: ArgumentHelp("The session's or channel's id: 64 hexadecimal digits.", valueName: "session")) var session: String?
  @Flag(help: "Confirm all of them.") var all = false
  @OptionGroup var options: OperatorOptions

  func validate() throws {
    guard (session == nil) == all else { throw ValidationError("Name a session, or --all of them.") }
  }

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      let answer = try backend.run(.sessionConfirm, session.map { ["session": .string($0)] } ?? ["all": true])
      options.show(answer) { ["\(answer["confirmed"]?.intValue ?? 0) confirmed"] }
    }
  }
}
