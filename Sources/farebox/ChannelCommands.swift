import ArgumentParser
import Configuration
import Encoding
import Glibc
import Proxy

/// `farebox channel …`: sessions over payment channels, whose money lies in escrow on a chain until it is settled.
struct ChannelCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "channel", abstract: "Watch, settle and close payment channels, whose money lies in escrow on a chain.",
    subcommands: [ChannelList.self, ChannelShow.self, ChannelSettle.self, ChannelClose.self])
}

struct ChannelList: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List channels that are not closed, in the order in which they were opened.",
    discussion: """
      SIGNED is what vouchers allow to be taken, SPENT what was charged, SETTLED what has arrived. What is signed and not settled stands in no \
      balance of the books yet: it arrives with the next settlement, or the close.
      """)

  @Flag(help: "Only those with vouchers above what is settled.") var unsettled = false
  @Flag(help: "Only those that wait to be closed.") var closing = false
  @OptionGroup var options: OperatorOptions

  func validate() throws {
    guard !unsettled || !closing else { throw ValidationError("--unsettled and --closing exclude each other.") }
  }

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      let channels = try backend.list(
        .channelList, "channels", unsettled ? ["state": "unsettled"] : closing ? ["state": "closing"] : [:])
      options.show(["channels": .array(channels)]) { ChannelText.table(channels, Money(backend.settings)) }
    }
  }
}

/// The channel that a command is about.
struct ChannelArgument: ParsableArguments {
  @Argument(help: ArgumentHelp("The channel's id: 64 hexadecimal digits, 0x before them or not.", valueName: "channel")) var channel: String

  func run(_ command: Administration.Command, _ options: OperatorOptions, then: (JSONValue) -> String? = { _ in nil }) throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      let answer = try backend.run(command, ["channel": .string(channel)])
      options.show(answer) { ChannelText.lines(answer, Money(backend.settings)) + (then(answer).map { [$0] } ?? []) }
    }
  }
}

struct ChannelShow: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Show a channel's account.", discussion: "Closed channels are shown for a day; then the audit log has them.")

  @OptionGroup var target: ChannelArgument
  @OptionGroup var options: OperatorOptions

  func run() throws { try target.run(.channelShow, options) }
}

struct ChannelSettle: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "settle", abstract: "Settle a channel's last voucher now, before settle-amount and settle-after ask for it.",
    discussion: "Costs gas. The money is in the books once the chain has confirmed the transaction; until then `farebox channel show` names it.")

  @OptionGroup var target: ChannelArgument
  @OptionGroup var options: OperatorOptions

  func run() throws {
    try target.run(.channelSettle, options) { answer in
      if answer["underWay"] != nil { return "the settlement is on its way" }
      return answer["unsettled"]?.stringValue == "0" ? "nothing is unsettled" : "the settlement is asked for, and not sent yet"
    }
  }
}

struct ChannelClose: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "close", abstract: "Close a channel: what was spent is settled, and what is left goes back to its payer.",
    discussion: """
      Exchanges in flight stop within a second, and are charged for what they delivered. Costs gas; the payer has to open another channel to go \
      on. The chain takes its time: `farebox channel show` says when it is done. Asks first; where nobody can be asked, --yes is needed.
      """)

  @OptionGroup var target: ChannelArgument
  @Flag(help: "Do not ask.") var yes = false
  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      let money = Money(backend.settings)
      let arguments: JSONObject = ["channel": .string(target.channel)]
      if !yes { try confirm(try backend.run(.channelShow, arguments), money) }
      let answer = try backend.run(.channelClose, arguments)
      options.show(answer) {
        ChannelText.lines(answer, money) + (answer["state"] == "closed" ? [] : ["the close is on its way, or waits for a proxy that runs"])
      }
    }
  }

  private func confirm(_ channel: JSONValue, _ money: Money) throws(CommandFailure) {
    guard channel["state"] != "closed" else { return }
    guard isatty(STDIN_FILENO) == 1, isatty(STDERR_FILENO) == 1 else {
      throw CommandFailure(.usage, "not-confirmed", "nobody can be asked whether the channel is to be closed", advice: "say so with --yes")
    }
    for line in ChannelText.lines(channel, money) { StandardError.write(PayText.printable(line) + "\n") }
    StandardError.write("Close it? [y/N] ")
    let answer = readLine()?.lowercased() ?? ""
    guard answer == "y" || answer == "yes" else { throw CommandFailure(.refused, "not-confirmed", "nothing has changed") }
  }
}

/// Shows channels to people.
enum ChannelText {
  static func table(_ channels: [JSONValue], _ money: Money) -> [String] {
    guard !channels.isEmpty else { return ["there is no such channel"] }
    let rows = channels.map { channel in
      let amount = { (name: String) in money.brief(text(channel, name), text(channel, "currency")) }
      return [
        text(channel, "state"), amount("deposit"), amount("signed"), amount("spent"), amount("settled"), text(channel, "merchant"),
        text(channel, "payer"), text(channel, "channel"),
      ]
    }
    return Columns.lines([["STATE", "DEPOSIT", "SIGNED", "SPENT", "SETTLED", "MERCHANT", "PAYER", "CHANNEL"]] + rows)
  }

  static func lines(_ channel: JSONValue, _ money: Money) -> [String] {
    var rows: [[String]] = []
    for name in ["channel", "state", "cause", "closed", "chain", "payer", "merchant"] {
      if let text = channel[name]?.stringValue { rows.append([name, text]) }
    }
    for name in ["deposit", "signed", "spent", "settled", "unsettled", "refunded", "overpaid", "lost"] {
      guard let units = channel[name]?.stringValue, units != "0" || !["overpaid", "lost"].contains(name) else { continue }
      rows.append([name, money.words(units, text(channel, "currency"))])
    }
    if let count = channel["inFlight"]?.intValue { rows.append(["in flight", "\(count)"]) }
    for (name, label) in [
      ("opened", "opened"), ("lastUse", "last use"), ("unsettledSince", "unsettled since"), ("closeRequested", "forced close"),
      ("openedBy", "opened by"), ("transaction", "closed by"),
    ] {
      if let text = channel[name]?.stringValue { rows.append([label, text]) }
    }
    if let transaction = channel["underWay"]?.stringValue { rows.append(["on its way", "\(text(channel, "underWayFor")) by \(transaction)"]) }
    for route in channel["routes"]?.arrayValue ?? [] { rows.append(["route", "\(text(route, "route")) at \(text(route, "price"))"]) }
    return Columns.lines(rows)
  }

  private static func text(_ object: JSONValue, _ name: String) -> String { object[name]?.stringValue ?? "" }
}
