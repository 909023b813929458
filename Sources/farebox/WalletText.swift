import Configuration
import Encoding
import Proxy

/// Shows wallets to people, and runs the commands that answer with one.
enum WalletText {
  /// Runs a command whose only argument is the wallet.
  static func show(_ command: Administration.Command, _ wallet: String, _ options: OperatorOptions) throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      let answer = try backend.run(command, ["wallet": .string(wallet)])
      options.show(answer) { lines(answer, backend.settings) }
    }
  }

  /// Runs a command that moves money in or out.
  static func move(
    _ command: Administration.Command, _ wallet: String, _ amount: String, _ reference: String, _ options: OperatorOptions
  ) throws {
    try options.perform { () throws(CommandFailure) in
      let backend = Backend(try options.settings())
      let answer = try backend.run(command, ["wallet": .string(wallet), "amount": .string(amount), "reference": .string(reference)])
      options.show(answer) {
        let note = answer["repeated"] == true ? ["reference \(reference) is known: nothing has changed"] : []
        return note + lines(answer, backend.settings)
      }
    }
  }

  static func lines(_ wallet: JSONValue, _ settings: Settings) -> [String] {
    let money = Money(settings)
    var rows = [
      ["wallet", wallet["wallet"]?.stringValue ?? ""], ["state", wallet["state"]?.stringValue ?? ""],
      ["balance", money.words(wallet["balances"])], ["policy", policy(wallet["policy"], money)],
    ]
    let today = (wallet["today"]?.objectValue?.members ?? []).compactMap { currency, day -> String? in
      guard day["outflow"]?.stringValue != "0" || day["left"] != nil else { return nil }
      let left = day["left"].map { ", \(money.words($0.stringValue, currency)) left" } ?? ""
      return "\(money.words(day["outflow"]?.stringValue, currency)) spent\(left)"
    }
    if !today.isEmpty { rows.append(["today", today.joined(separator: "; ")]) }
    let sessions = wallet["sessions"]?.arrayValue?.compactMap(\.stringValue) ?? []
    rows += volumes(wallet)
    rows.append(["sessions", sessions.isEmpty ? "none open" : sessions.joined(separator: "\n          ")])
    return Columns.lines(rows)
  }

  /// What a wallet has used of what is free or cheaper by volume, a row for each route.
  static func volumes(_ object: JSONValue) -> [[String]] {
    (object["volumes"]?.arrayValue ?? []).map { entry in
      var words: [String] = []
      if let free = entry["freeUnits"] {
        words.append("\(text(free, "used")) of \(text(free, "units")) free requests used this \(text(free, "period"))")
      }
      if let volume = entry["volume"] {
        let price = volume["tier"].map { ", now at \(text($0, "price"))" } ?? ""
        let next = volume["next"].map { ", beyond \(text($0, "beyond")) at \(text($0, "price"))" } ?? ""
        words.append("\(text(volume, "requests")) requests this \(text(volume, "period"))\(price)\(next)")
      }
      return ["volume", "\(text(entry, "route")): \(words.joined(separator: "; "))"]
    }
  }

  private static func text(_ object: JSONValue, _ name: String) -> String { object[name]?.stringValue ?? "" }

  private static func policy(_ policy: JSONValue?, _ money: Money) -> String {
    let words = (policy?.objectValue?.members ?? []).map { name, value in
      if value.objectValue != nil { return "\(name) \(money.words(value))" }
      if let names = value.arrayValue { return "\(name) \(names.compactMap(\.stringValue).joined(separator: ", "))" }
      return "\(name) \(value.stringValue ?? value.intValue.map { String($0) } ?? "")"
    }
    return words.isEmpty ? "no limits" : words.joined(separator: "; ")
  }
}
