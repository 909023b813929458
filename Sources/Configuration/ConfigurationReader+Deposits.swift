import Metering
import Payments

extension ConfigurationReader {
  /// What the suggested deposit pays for where the configuration names none: so many requests, octets, messages, seconds
  /// and so on.
  private static let suggestedRequests: UInt128 = 100
  private static let suggestedOctets: UInt64 = 100_000_000
  private static let suggestedMessages: UInt64 = 1000
  private static let suggestedSeconds: UInt64 = 3600
  private static let suggestedEvents: UInt64 = 10000
  private static let suggestedTokens: UInt64 = 1_000_000
  private static let suggestedUnits: UInt64 = 1000

  /// Reads the deposits of a route's sessions; without a price their keys are only made known.
  func readDeposits(_ table: TableReader, _ price: Price?, _ route: inout Settings.Route) {
    guard let price else {
      _ = table.node("minimum-deposit")
      _ = table.node("suggested-deposit")
      return
    }
    let least = max(1, price.leastAmount)
    let minimum = deposit(table, "minimum-deposit", price.currency)
    let suggested = deposit(table, "suggested-deposit", price.currency)
    route.minimumDeposit = minimum ?? least
    route.suggestedDeposit = suggested ?? max(Self.suggestion(price), route.minimumDeposit)
    // Each answer of a pricer has deposits of its own; what is written here is only their least.
    if route.pricer != nil {
      route.minimumDeposit = minimum ?? 0
      route.suggestedDeposit = suggested ?? 0
    }
    if !route.intents.contains(.session), !route.batch {
      for key in ["minimum-deposit", "suggested-deposit"] where table.has(key) {
        table.report(.conflict, key, expected: "a route that sells sessions")
      }
      return
    }
    let words = "\(price.currency.format(least)) \(price.currency.symbol)"
    guard route.pricer == nil else { return }
    if let minimum, minimum < least {
      table.report(.outOfRange, "minimum-deposit", expected: "at least \(words), what one request costs")
    }
    if let suggested, suggested < route.minimumDeposit {
      let bound = "\(price.currency.format(route.minimumDeposit)) \(price.currency.symbol)"
      table.report(.outOfRange, "suggested-deposit", expected: "at least the minimum deposit, \(bound)")
    }
  }

  func deposit(_ table: TableReader, _ key: String, _ currency: Currency) -> UInt128? {
    let expected = "an amount in the price's currency, such as \"0.5 \(currency.symbol)\""
    guard let text = table.string(key, expected: expected) else { return nil }
    let words = text.split(separator: " ")
    guard words.count == 2, words[1].lowercased() == currency.code, let units = try? currency.parse(words[0]), units > 0 else {
      table.report(.invalidValue, key, expected: expected)
      return nil
    }
    return units
  }

  /// A hundred requests and, of what is sold, a hundred megabytes, a thousand messages, an hour, a million tokens and so on; never more
  /// than a hundred exchanges may cost, and the least where the sum cannot be said.
  private static func suggestion(_ price: Price) -> UInt128 {
    let least = price.leastAmount
    let (requests, overflows) = least.multipliedReportingOverflow(by: suggestedRequests)
    guard !overflows else { return least }
    var metered = ExactCost.zero
    for part in price.parts where !part.unit.isOnce {
      guard let cost = ExactCost(units: suggestedUnits(part.unit), rate: part), let next = metered.adding(cost) else { return requests }
      metered = next
    }
    let (sum, carries) = requests.addingReportingOverflow(metered.ceiling)
    guard !carries else { return requests }
    let (bound, isWide) = price.maximum.multipliedReportingOverflow(by: suggestedRequests)
    return isWide ? sum : min(sum, bound)
  }

  private static func suggestedUnits(_ unit: Unit) -> UInt64 {
    switch unit {
    case .request, .call: 1
    case .requestByte, .responseByte: suggestedOctets
    case .byte: 2 * suggestedOctets
    case .requestMessage, .responseMessage, .message: suggestedMessages
    case .second: suggestedSeconds
    case .event: suggestedEvents
    case .inputToken, .cachedInputToken, .outputToken: suggestedTokens
    case .reported: suggestedUnits
    }
  }
}
