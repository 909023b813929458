import ArgumentParser
import Configuration
import Encoding
import Payments
import Proxy

/// `farebox chain …`: the chains that money comes from.
struct ChainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "chain", abstract: "See whether payments on chains can be settled, and what is on its way.", subcommands: [ChainStatusCommand.self])
}

struct ChainStatusCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "Show each chain: whether it can be used, who pays for gas and how long that lasts, and what was sent.",
    discussion: """
      Exit status 1 where something needs an operator: a chain that cannot be used, gas money for fewer than 100 payments, a facilitator that \
      does not answer, a stuck transaction, a payment of which nobody says what became of it. Without a running proxy it tells what the ledger \
      knows.
      """)

  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let answer = try Backend(try options.settings()).run(.chainStatus)
      options.show(answer) { ChainText.lines(answer) }
      let problems = ChainText.problems(answer)
      guard problems.isEmpty else { throw CommandFailure(.refused, "chains-unwell", problems.joined(separator: "\n")) }
    }
  }
}

/// Shows chains to people.
enum ChainText {
  static func lines(_ answer: JSONValue) -> [String] {
    var lines = answer["running"] == true ? [] : ["no proxy runs: this is what the ledger knows"]
    let chains = answer["chains"]?.arrayValue ?? []
    if chains.isEmpty { lines.append("no chain is configured") }
    for chain in chains {
      lines.append("\(name(chain)): \(chain["fault"]?["message"]?.stringValue ?? text(chain, "state"))")
      lines += Columns.lines(rows(chain), indent: "  ")
    }
    if let payments = answer["payments"] {
      let count = { (name: String) in payments[name]?.intValue ?? 0 }
      lines.append("payments under way \(count("open")) (\(count("unresolved")) of them unresolved), settled and not served \(count("unserved"))")
    }
    return lines
  }

  /// What needs an operator, each with its chain.
  static func problems(_ answer: JSONValue) -> [String] {
    let ofChains = (answer["chains"]?.arrayValue ?? []).flatMap { chain in
      strings(chain["problems"]).map { "\(name(chain)): \($0)" }
    }
    return strings(answer["problems"]) + ofChains
  }

  private static func rows(_ chain: JSONValue) -> [[String]] {
    var rows: [[String]] = []
    if let block = chain["block"]?.intValue { rows.append(["block", "\(block)"]) }
    if let price = chain["gasPriceWei"]?.stringValue {
      rows.append(["gas", "\(gwei(price)) a unit, at most \(gwei(text(chain, "gasPriceLimitWei")))"])
    }
    if let signer = chain["signer"] {
      let balance = signer["balanceWei"]?.stringValue.map { ", \(coins($0)) for gas" } ?? ""
      let left = signer["paymentsLeft"]?.stringValue.map { ", enough for \($0) payments at this price" } ?? ""
      rows.append(["signer", text(signer, "address") + balance + left])
      for money in signer["feeMoney"]?.arrayValue ?? [] {
        let sum = "\(text(money, "balance")) base units of \(text(money, "currency"))"
        rows.append(["fees", "\(sum), enough for \(text(money, "paymentsLeft")) payments at this price"])
      }
    }
    let nodes = strings(chain["nodes"])
    if !nodes.isEmpty { rows.append(["nodes", nodes.joined(separator: ", ")]) }
    if let facilitator = chain["facilitator"] {
      let answers = facilitator["answers"].map { $0 == true ? ", answers" : ", does not answer" } ?? ""
      rows.append(["facilitator", "\(text(facilitator, "name")) at \(text(facilitator, "url"))\(answers)"])
    }
    if let sessions = chain["sessions"] {
      let watch = sessions["watched"].map { $0 == true ? ", watched" : ", not watched" } ?? ""
      rows.append(["sessions", "deposit in \(text(sessions, "escrow"))\(watch)"])
      for total in sessions["channels"]?.arrayValue ?? [] {
        let count = { (name: String) in total[name]?.intValue ?? 0 }
        rows.append([
          "channels",
          "\(text(total, "account")): \(count("open")) open, \(count("suspended")) suspended, \(count("closing")) closing; \(text(total, "earned")) base units earned and not settled, \(text(total, "claimable")) signed",
        ])
      }
    }
    for sender in chain["sent"]?.arrayValue ?? [] {
      let counts = "\(sender["succeeded"]?.intValue ?? 0) transactions succeeded, \(sender["failed"]?.intValue ?? 0) failed"
      rows.append(["sent", "by \(text(sender, "sender")): \(counts), \(coins(text(sender, "gasWei"))) spent for gas"])
    }
    for transaction in chain["outbox"]?.arrayValue ?? [] {
      let replaced = transaction["replaced"]?.intValue ?? 0
      let versions = replaced == 0 ? "" : ", version \(replaced + 1)"
      let age = "for \(transaction["seconds"]?.intValue ?? 0) s"
      rows.append([
        "on its way",
        "nonce \(text(transaction, "nonce")), \(text(transaction, "transaction")), \(age)\(versions), for \(text(transaction, "purpose")) \(text(transaction, "for"))",
      ])
    }
    return rows
  }

  private static func name(_ chain: JSONValue) -> String {
    chain["name"]?.stringValue.map { "\($0) (\(text(chain, "chain")))" } ?? text(chain, "chain")
  }

  /// Wei as whole coins of the chain.
  private static func coins(_ wei: String) -> String { "\(decimal(wei, 18)) coins" }

  private static func gwei(_ wei: String) -> String { "\(decimal(wei, 9)) gwei" }

  private static func decimal(_ wei: String, _ decimals: UInt8) -> String {
    guard let number = UInt128(wei), let unit = Currency(code: "wei", decimals: decimals) else { return wei }
    return unit.format(number)
  }

  private static func text(_ object: JSONValue, _ name: String) -> String { object[name]?.stringValue ?? "" }

  private static func strings(_ value: JSONValue?) -> [String] { value?.arrayValue?.compactMap(\.stringValue) ?? [] }
}
