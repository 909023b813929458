import ArgumentParser
import Configuration
import Encoding
import Glibc
import Proxy

/// `farebox payment …`: what was paid on chains.
struct PaymentCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "payment", abstract: "Look after payments on chains: under way, settled and not served.",
    subcommands: [PaymentList.self, PaymentShow.self, PaymentWriteOff.self, PaymentResolve.self])
}

struct PaymentList: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List payments on chains, the newest first.",
    discussion: """
      Payments are kept for a day after their authorization has ended; then the audit log has them. --open lists those that have neither \
      settled nor failed, --unserved those that have settled and for which nothing was served yet, both the oldest first.
      """)

  @Flag(help: "Only those that have neither settled nor failed.") var open = false
  @Flag(help: "Only those that have settled and for which nothing was served.") var unserved = false
  @Option(help: ArgumentHelp("How many at most, where neither is given.", valueName: "count")) var limit = 100
  @OptionGroup var options: OperatorOptions

  func validate() throws {
    guard !open || !unserved else { throw ValidationError("--open and --unserved exclude each other.") }
    guard (1...Administration.pageLimit).contains(limit) else { throw ValidationError("--limit needs a number from 1 to \(Administration.pageLimit).") }
  }

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      let payments: [JSONValue]
      if open || unserved {
        payments = try backend.list(.paymentList, "payments", ["state": open ? "open" : "unserved"])
      } else {
        payments = try backend.run(.paymentList, ["limit": .integer(limit)])["payments"]?.arrayValue ?? []
      }
      options.show(["payments": .array(payments)]) { PaymentText.table(payments, Money(backend.settings)) }
    }
  }
}

/// The payment that a command is about.
struct PaymentArgument: ParsableArguments {
  @Argument(help: ArgumentHelp("The payment's id: 64 hexadecimal digits.", valueName: "payment")) var payment: String
}

struct PaymentShow: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "show", abstract: "Show a payment.")

  @OptionGroup var target: PaymentArgument
  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      let answer = try backend.run(.paymentShow, ["payment": .string(target.payment)])
      options.show(answer) { PaymentText.lines(answer, Money(backend.settings)) }
    }
  }
}

struct PaymentWriteOff: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "write-off", abstract: "Give a payment for which nothing was served to its merchant.",
    discussion: "The payer cannot be served for it any more. Asks first; where nobody can be asked, --yes is needed.")

  @OptionGroup var target: PaymentArgument
  @Flag(help: "Do not ask.") var yes = false
  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      let money = Money(backend.settings)
      let arguments: JSONObject = ["payment": .string(target.payment)]
      if !yes { try confirm(try backend.run(.paymentShow, arguments), money) }
      let answer = try backend.run(.paymentWriteOff, arguments)
      options.show(answer) { PaymentText.lines(answer, money) }
    }
  }

  private func confirm(_ payment: JSONValue, _ money: Money) throws(CommandFailure) {
    guard isatty(STDIN_FILENO) == 1, isatty(STDERR_FILENO) == 1 else {
      throw CommandFailure(.usage, "not-confirmed", "nobody can be asked whether the payment is to be written off", advice: "say so with --yes")
    }
    for line in PaymentText.lines(payment, money) { StandardError.write(PayText.printable(line) + "\n") }
    let amount = money.words(payment["amount"]?.stringValue, payment["currency"]?.stringValue)
    StandardError.write("Give \(amount) to \(PayText.printable(payment["merchant"]?.stringValue ?? "")), and serve nothing for it ever? [y/N] ")
    let answer = readLine()?.lowercased() ?? ""
    guard answer == "y" || answer == "yes" else { throw CommandFailure(.refused, "not-confirmed", "nothing has changed") }
  }
}

struct PaymentResolve: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "resolve", abstract: "Say what became of a payment that nobody else can tell anything about.",
    discussion: """
      Look on the chain first. The node that the running proxy asks has to agree: the transaction's Transfer events must show the payment, by the \
      payment's own nonce, and a payment that failed must not be able to land any more. Where no node can be asked, --force says that you have looked. \
      Refused where another payment has the transaction, while a transaction of the proxy's own is on its way for the payment, and while the proxy \
      still finds out by itself what becomes of it. The audit log keeps whose word it was.
      """)

  @OptionGroup var target: PaymentArgument
  @Option(help: ArgumentHelp("The transaction that has paid.", valueName: "transaction")) var settled: String?
  @Flag(help: "Nothing has paid, and nothing will: the payment is forgotten.") var failed = false
  @Flag(help: "Believe it where no node can be asked; with --settled also while the proxy still waits for the payment.") var force = false
  @OptionGroup var options: OperatorOptions

  func validate() throws {
    guard (settled != nil) != failed else { throw ValidationError("Say either --settled TRANSACTION or --failed.") }
  }

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      var arguments: JSONObject = ["payment": .string(target.payment), "operator": .string(Self.person)]
      if let settled { arguments.set("transaction", .string(settled)) }
      if force { arguments.set("force", true) }
      let answer = try backend.run(.paymentResolve, arguments)
      options.show(answer) {
        answer["amount"] == nil ? ["payment \(answer["payment"]?.stringValue ?? "") has failed, and is forgotten"] : PaymentText.lines(answer, Money(backend.settings))
      }
    }
  }

  /// Who runs the command: the account's name, or its number.
  private static var person: String { getpwuid(getuid()).flatMap { $0.pointee.pw_name }.map { String(cString: $0) } ?? "\(getuid())" }
}

/// Shows payments to people.
enum PaymentText {
  static func table(_ payments: [JSONValue], _ money: Money) -> [String] {
    guard !payments.isEmpty else { return ["there is no such payment"] }
    let rows = payments.map { payment in
      [
        text(payment, "since"), state(payment), money.brief(text(payment, "amount"), text(payment, "currency")), text(payment, "merchant"),
        text(payment, "payer"), text(payment, "payment"), text(payment, "transaction"),
      ]
    }
    return Columns.lines([["SINCE", "STATE", "AMOUNT", "MERCHANT", "PAYER", "PAYMENT", "TRANSACTION"]] + rows)
  }

  static func lines(_ payment: JSONValue, _ money: Money) -> [String] {
    var rows = [
      ["payment", text(payment, "payment")], ["state", "\(state(payment)) since \(text(payment, "since"))"],
      ["amount", money.words(text(payment, "amount"), text(payment, "currency"))], ["payer", text(payment, "payer")],
      ["merchant", text(payment, "merchant")],
    ]
    if let transaction = payment["transaction"]?.stringValue { rows.append(["transaction", transaction]) }
    rows += [["request", text(payment, "request")], ["expires", text(payment, "expires")], ["reference", text(payment, "reference")]]
    return Columns.lines(rows)
  }

  private static func state(_ payment: JSONValue) -> String {
    text(payment, "state") + (payment["unresolved"] == true ? ", unresolved" : "")
  }

  private static func text(_ object: JSONValue, _ name: String) -> String { object[name]?.stringValue ?? "" }
}
