import ArgumentParser
import Configuration
import Encoding
import Proxy

/// `farebox merchant …`: the accounts that are paid.
struct MerchantCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "merchant", abstract: "Show what merchants have earned, and book what they were paid out.",
    subcommands: [MerchantList.self, MerchantPayout.self])
}

struct MerchantList: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "list", abstract: "List merchants and their balances.")

  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      let answer = try backend.run(.merchantList)
      options.show(answer) { LedgerText.merchants(answer, backend.settings) }
    }
  }
}

struct MerchantPayout: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "payout", abstract: "Book that a merchant was paid, outside, from its balance.",
    discussion: """
      The reference makes repeating safe: the same command again does nothing. Money of a chain has an account of its own: what was \
      moved on from the merchant's address there is booked with '5 USDC@base', or with --account.
      """)

  @Argument(help: ArgumentHelp("The merchant's id.", valueName: "merchant")) var merchant: String
  @Argument(help: ArgumentHelp("How much, such as '5 USDC' or '5 USDC@base'.", valueName: "amount")) var amount: String
  @Option(help: ArgumentHelp("The account that is meant, such as usdc@eip155:8453.", valueName: "account")) var account: String?
  @Option(help: ArgumentHelp("Names this payment, and no other: a bank's transaction.", valueName: "text")) var reference: String
  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      var arguments: JSONObject = ["merchant": .string(merchant), "amount": .string(amount), "reference": .string(reference)]
      if let account { arguments.set("account", .string(account)) }
      let answer = try backend.run(.merchantPayout, arguments)
      options.show(answer) {
        let note = answer["repeated"] == true ? ["reference \(reference) is known: nothing has changed"] : []
        return note + LedgerText.merchants(answer, backend.settings)
      }
    }
  }
}

/// `farebox refund`: gives a charge back.
struct RefundCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "refund", abstract: "Give a settled charge back from the merchant to its wallet.",
    discussion: "A session is closed instead: `farebox session close` gives back what was not used.")

  @Argument(help: ArgumentHelp("The reference in the charge's receipt and audit line.", valueName: "reference")) var reference: String
  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let answer = try Backend(try options.settings()).run(.refund, ["reference": .string(reference)])
      options.show(answer) { ["charge \(reference) was refunded (entry \(answer["entry"]?.stringValue ?? ""))"] }
    }
  }
}

/// `farebox ledger …`: the books.
struct LedgerCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ledger", abstract: "Show and prove the books, back them up and restore them.",
    subcommands: [LedgerBalance.self, LedgerVerify.self, LedgerBackup.self, LedgerRestore.self])
}

struct LedgerBalance: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "balance", abstract: "Show all accounts by currency.")

  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      let answer = try backend.run(.ledgerBalance)
      options.show(answer) { LedgerText.books(answer, backend.settings) }
    }
  }
}

struct LedgerVerify: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify", abstract: "Prove that all accounts add up to zero in every currency.",
    discussion: "Exit status 2 where they do not.")

  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      let answer = try backend.run(.ledgerVerify)
      options.show(answer) {
        let currencies = answer["currencies"]?.arrayValue ?? []
        return currencies.map { books in
          let code = Money(backend.settings).account(books["currency"]?.stringValue ?? "")
          guard let sum = books["sum"]?.stringValue else { return "\(code): the accounts cannot be added up" }
          return sum == "0" ? "\(code): wallets + sessions + held + merchants + paid out = issued" : "\(code): the accounts are off by \(sum) base units"
        }
      }
      guard answer["balanced"] == true else {
        throw CommandFailure(
          .faulty, "unbalanced", "the books do not balance",
          advice: "stop the proxy, keep its files as they are, and compare with `farebox audit verify`")
      }
    }
  }
}

/// Shows accounts to people.
enum LedgerText {
  static func merchants(_ answer: JSONValue, _ settings: Settings) -> [String] {
    let money = Money(settings)
    let rows = (answer["merchants"]?.arrayValue ?? []).map { merchant in
      [merchant["merchant"]?.stringValue ?? "", merchant["name"]?.stringValue ?? "", money.words(merchant["balances"])]
    }
    return Columns.lines([["MERCHANT", "NAME", "BALANCE"]] + rows)
  }

  static func books(_ answer: JSONValue, _ settings: Settings) -> [String] {
    let money = Money(settings)
    var lines: [String] = []
    for books in answer["currencies"]?.arrayValue ?? [] {
      let code = books["currency"]?.stringValue
      let names = [
        ("wallets", "wallets"), ("sessions", "open sessions"), ("held", "held for charges"), ("merchants", "merchants"), ("paidOut", "paid out"),
        ("issued", "issued"),
      ]
      let rows = names.map { [$0.1, ($0.0 == "issued" ? "-" : "") + money.words(books[$0.0]?.stringValue, code)] }
      lines += Columns.lines(rows + [["sum", money.words(books["sum"]?.stringValue, code)]])
    }
    return lines
  }
}

/// `farebox keys …`: the proxy's own keys.
struct KeysCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "keys", abstract: "List and rotate the proxy's own keys.", subcommands: [KeysList.self, KeysRotate.self])
}

struct KeysList: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List keys; nothing secret is shown.",
    discussion: "The line `verifier` is the key that checkpoints of the audit log are signed with, in C2SP's form: keep it elsewhere.")

  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let answer = try Backend(try options.settings()).run(.keysList)
      options.show(answer) { Self.lines(answer) }
    }
  }

  static func lines(_ answer: JSONValue) -> [String] {
    let rows = (answer["keys"]?.arrayValue ?? []).map { key in
      [
        key["kind"]?.stringValue ?? "", key["current"] == true ? "current" : "retired", key["created"]?.stringValue ?? "",
        key["kid"]?.stringValue ?? "secret",
      ]
    }
    let verifier = answer["checkpointVerifier"]?.stringValue.map { ["verifier  \($0)"] } ?? []
    return Columns.lines([["KEY", "STATE", "CREATED", "ID"]] + rows) + verifier
  }
}

struct KeysRotate: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rotate", abstract: "Make new keys: the challenge secret, the key of receipts and invoices, or both.",
    discussion: """
      Previous challenge secrets go on being accepted, and retired public keys stay in /.well-known/jwks.json for ever. The \
      key of the audit log's checkpoints is the log's identity, and is never rotated.
      """)

  @Argument(help: ArgumentHelp("challenge or receipt; both where left out.", valueName: "kind")) var kind: String?
  @OptionGroup var options: OperatorOptions

  func validate() throws {
    if let kind, KeyRing.Kind(rawValue: kind) == nil { throw ValidationError("'\(kind)' is no kind of key: challenge or receipt.") }
  }

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      var answer = JSONValue.null
      for kind in kind.map({ [$0] }) ?? KeyRing.Kind.allCases.map(\.rawValue) { answer = try backend.run(.keysRotate, ["kind": .string(kind)]) }
      options.show(answer) { KeysList.lines(answer) }
    }
  }
}

/// `farebox metrics`: what the running proxy counts.
struct MetricsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "metrics", abstract: "Print the running proxy's counters as Prometheus text.",
    discussion: "The same as GET /metrics on the operators' socket. With --json, an object of names and numbers.")

  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let settings = try options.settings()
      guard let octets = try Backend(settings).page("/metrics") else {
        throw CommandFailure(
          .unavailable, "not-running", "no proxy listens on \(settings.admin.socketPath)",
          advice: "start one with `farebox serve`, or name its configuration with --config")
      }
      let text = String(decoding: octets, as: UTF8.self)
      options.show(Self.json(text)) { [String(text.hasSuffix("\n") ? text.dropLast() : text[...])] }
    }
  }

  private static func json(_ text: String) -> JSONValue {
    var object = JSONObject()
    for line in text.split(separator: "\n") where !line.hasPrefix("#") {
      guard let space = line.lastIndex(of: " ") else { continue }
      object.set(String(line[..<space]), .string(String(line[line.index(after: space)...])))
    }
    return .object(object)
  }
}
