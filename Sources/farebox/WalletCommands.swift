import ArgumentParser
import Configuration
import Encoding

/// `farebox wallet …`: what agents may spend.
struct WalletCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "wallet", abstract: "Make, fund and watch the wallets that agents pay from.",
    subcommands: [
      WalletCreate.self, WalletFund.self, WalletDefund.self, WalletPolicy.self, WalletFreeze.self, WalletThaw.self, WalletRekey.self,
      WalletShow.self, WalletList.self,
    ])
}

/// The wallet that a command is about.
struct WalletArgument: ParsableArguments {
  @Argument(help: ArgumentHelp("The wallet's id; `farebox pay --new-key` makes a key and prints it.", valueName: "did:key:…"))
  var wallet: String
}

/// The limits of a policy.
struct PolicyOptions: ParsableArguments {
  @Option(help: ArgumentHelp("The most that may leave the wallet in one UTC day, such as '5 USDC', or 'none'.", valueName: "amount"))
  var dailyCap: [String] = []

  @Option(help: ArgumentHelp("The most for one charge, or 'none'.", valueName: "amount"))
  var paymentCap: [String] = []

  @Option(help: ArgumentHelp("The most deposited in one session, top-ups included, or 'none'.", valueName: "amount"))
  var sessionCap: [String] = []

  @Option(help: ArgumentHelp("The most sessions open at once, or 'none'.", valueName: "count"))
  var maxSessions: String?

  @Option(help: ArgumentHelp("A merchant that may be paid; may be given several times, and then no other is.", valueName: "merchant"))
  var allow: [String] = []

  @Flag(help: "Allow every merchant again.")
  var allowAny = false

  @Option(help: ArgumentHelp("No payment after this time, such as 2027-01-31T00:00:00Z, or 'none'.", valueName: "time"))
  var expires: String?

  func validate() throws {
    guard allow.isEmpty || !allowAny else { throw ValidationError("--allow and --allow-any exclude each other.") }
    for (name, words) in [("--daily-cap", dailyCap), ("--payment-cap", paymentCap), ("--session-cap", sessionCap)] {
      guard words.count < 2 || !words.contains("none") else { throw ValidationError("\(name) none stands alone.") }
    }
    if let maxSessions, maxSessions != "none", UInt32(maxSessions) == nil {
      throw ValidationError("--max-sessions needs a whole number, or 'none'.")
    }
  }

  /// The members of a policy change; empty where no option was given.
  var members: JSONObject {
    var members = JSONObject()
    for (name, words) in [("daily-cap", dailyCap), ("payment-cap", paymentCap), ("session-cap", sessionCap)] where !words.isEmpty {
      members.set(name, words == ["none"] ? .null : .array(words.map { .string($0) }))
    }
    if let maxSessions { members.set("max-sessions", UInt32(maxSessions).map { .integer($0) } ?? .null) }
    if allowAny { members.set("allow", .null) }
    if !allow.isEmpty { members.set("allow", .array(allow.map { .string($0) })) }
    if let expires { members.set("expires", expires == "none" ? .null : .string(expires)) }
    return members
  }
}

struct WalletCreate: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "create", abstract: "Make a wallet for an agent's key, with a balance of zero.",
    discussion: "Without limits the agent may spend all that the wallet is funded with.")

  @OptionGroup var target: WalletArgument
  @OptionGroup(title: "Policy") var policy: PolicyOptions
  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      let answer = try backend.run(.walletCreate, ["wallet": .string(target.wallet), "policy": .object(policy.members)])
      options.show(answer) { WalletText.lines(answer, backend.settings) }
    }
  }
}

struct WalletPolicy: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "policy", abstract: "Change limits of a wallet; those that are not named stay as they are.",
    discussion: "A changed policy binds the next charge, open or top-up. `farebox wallet show` shows the present one.")

  @OptionGroup var target: WalletArgument
  @OptionGroup(title: "Policy") var policy: PolicyOptions
  @OptionGroup var options: OperatorOptions

  func validate() throws {
    guard !policy.members.isEmpty else { throw ValidationError("Name at least one limit, such as --daily-cap '5 USDC'.") }
  }

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      let answer = try backend.run(.walletPolicy, ["wallet": .string(target.wallet), "policy": .object(policy.members)])
      options.show(answer) { WalletText.lines(answer, backend.settings) }
    }
  }
}

struct WalletFund: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fund", abstract: "Add money to a wallet.",
    discussion: "The reference makes repeating safe: the same command again does nothing.")

  @OptionGroup var target: WalletArgument
  @Argument(help: ArgumentHelp("How much, such as '5 USDC'.", valueName: "amount")) var amount: String
  @Option(help: ArgumentHelp("Names this funding, and no other: an invoice, a bank's transaction.", valueName: "text")) var reference: String
  @OptionGroup var options: OperatorOptions

  func run() throws { try WalletText.move(.walletFund, target.wallet, amount, reference, options) }
}

struct WalletDefund: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "defund", abstract: "Take money out of a wallet.",
    discussion: "The reference makes repeating safe: the same command again does nothing.")

  @OptionGroup var target: WalletArgument
  @Argument(help: ArgumentHelp("How much, such as '5 USDC'.", valueName: "amount")) var amount: String
  @Option(help: ArgumentHelp("Names this movement, and no other.", valueName: "text")) var reference: String
  @OptionGroup var options: OperatorOptions

  func run() throws { try WalletText.move(.walletDefund, target.wallet, amount, reference, options) }
}

struct WalletFreeze: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "freeze", abstract: "Stop everything that leaves a wallet, at once and in the middle of streams.")

  @OptionGroup var target: WalletArgument
  @OptionGroup var options: OperatorOptions

  func run() throws { try WalletText.show(.walletFreeze, target.wallet, options) }
}

struct WalletThaw: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "thaw", abstract: "Let a frozen wallet pay again.")

  @OptionGroup var target: WalletArgument
  @OptionGroup var options: OperatorOptions

  func run() throws { try WalletText.show(.walletThaw, target.wallet, options) }
}

struct WalletShow: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "show", abstract: "Show a wallet's balance, policy and open sessions.")

  @OptionGroup var target: WalletArgument
  @OptionGroup var options: OperatorOptions

  func run() throws { try WalletText.show(.walletShow, target.wallet, options) }
}

struct WalletRekey: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rekey", abstract: "Move a wallet to a new key.",
    discussion: "The old key is dead at once and for ever; open sessions are closed.")

  @OptionGroup var target: WalletArgument
  @Argument(help: ArgumentHelp("The new key's id.", valueName: "new did:key:…")) var next: String
  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      let answer = try backend.run(.walletRekey, ["wallet": .string(target.wallet), "to": .string(next)])
      options.show(answer) { WalletText.lines(answer, backend.settings) }
    }
  }
}

struct WalletList: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "list", abstract: "List every wallet.")

  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      let wallets = try backend.list(.walletList, "wallets")
      let money = Money(backend.settings)
      options.show(["wallets": .array(wallets)]) {
        guard !wallets.isEmpty else { return ["no wallets: `farebox wallet create` makes one"] }
        let rows = wallets.map { wallet in
          [
            wallet["wallet"]?.stringValue ?? "", wallet["state"]?.stringValue ?? "", money.words(wallet["balances"]),
            "\(wallet["sessions"]?.arrayValue?.count ?? 0)",
          ]
        }
        return Columns.lines([["WALLET", "STATE", "BALANCE", "SESSIONS"]] + rows)
      }
    }
  }
}
