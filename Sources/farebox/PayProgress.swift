import Agent
import Encoding
import Payments

/// Draws one line on a terminal while an answer arrives: octets, rate, the units of the price, what was spent and what is left.
struct PayProgress {
  /// The shortest time between two drawings.
  private static let interval = Duration.milliseconds(200)

  private let isShown: Bool
  private let total: UInt64?
  private let began: Instant
  private var drawn: Instant?
  private var width = 0

  init(isShown: Bool, total: UInt64?, at now: Instant) {
    self.isShown = isShown
    self.total = total
    began = now
  }

  /// Draws the line anew, unless that was done just now.
  mutating func show(_ byteCount: UInt64, used: [UsedUnits], budget: SessionBudget?, at now: Instant, isLast: Bool = false) {
    guard isShown else { return }
    if let drawn, now - drawn < Self.interval, !isLast { return }
    drawn = now
    let line = Self.line(byteCount, of: total, elapsed: now - began, used: used, budget: budget)
    let padding = String(repeating: " ", count: max(0, width - line.count))
    width = line.count
    StandardError.write("\r" + line + padding + (isLast ? "\n" : ""))
  }

  /// Ends the line so that something else can be written below it.
  mutating func interrupt() {
    guard isShown, drawn != nil else { return }
    StandardError.write("\n")
    drawn = nil
    width = 0
  }

  static func line(_ byteCount: UInt64, of total: UInt64?, elapsed: Duration, used: [UsedUnits], budget: SessionBudget?) -> String {
    var parts: [String] = []
    if let total, total > 0 {
      let share = min(1, Double(byteCount) / Double(total))
      let filled = Int(share * 20)
      let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: 20 - filled)
      parts.append("[\(bar)] \(Int(share * 100))%")
      parts.append("\(size(Double(byteCount))) of \(size(Double(total)))")
    } else {
      parts.append(size(Double(byteCount)))
    }
    let seconds = Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) / 1e18
    if seconds > 0 { parts.append("\(size(Double(byteCount) / seconds))/s") }
    parts += used.compactMap { words($0) }
    if let budget {
      parts.append("spent \(budget.currency.format(budget.spent))")
      parts.append("left \(budget.currency.format(budget.remaining)) \(budget.currency.symbol)")
    }
    return parts.joined(separator: "  ")
  }

  /// A number of units in the price's own words; nil where there is nothing to tell that is not told already.
  private static func words(_ used: UsedUnits) -> String? {
    guard let count = used.count, used.name != "octets", count > 0 || !used.isEstimate else { return nil }
    let name = count == 1 && used.name.hasSuffix("s") ? String(used.name.dropLast()) : used.name
    return "\(used.isEstimate ? "~" : "")\(count) \(name)"
  }

  /// A number of octets in the largest decimal unit that leaves at least 1, with one decimal.
  static func size(_ octets: Double) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"]
    var value = octets
    var index = 0
    while value >= 1000, index < units.count - 1 {
      value /= 1000
      index += 1
    }
    guard index > 0 else { return "\(Int(value)) B" }
    let tenths = Int((value * 10).rounded(.down))
    return "\(tenths / 10).\(tenths % 10) \(units[index])"
  }
}
