import HTTP
import Metering

// How the usage of an exchange is learned where its price counts tokens or the upstream's units.
extension ConfigurationReader {
  private static let tokenKeys = ["usage-format", "default-output-tokens", "octets-per-token", "include-usage", "keep-usage-chunk", "content-coding"]
  private static let unitKeys = ["units-field", "most-units"]

  /// Reads a route's keys of usage.
  static func readUsage(_ table: TableReader, _ route: inout Settings.Route) {
    var usage = Settings.UsageReading()
    usage.format = format(table)
    usage.defaultOutputTokens = table.integer("default-output-tokens", in: 1...10_000_000).map { UInt64($0) } ?? usage.defaultOutputTokens
    usage.octetsPerToken = table.integer("octets-per-token", in: 1...256).map { UInt64($0) } ?? usage.octetsPerToken
    usage.refusesBeyondBudget = word(table, "over-budget", of: ["refuse", "ceiling"]) != "ceiling"
    usage.includesUsage = table.boolean("include-usage") ?? usage.includesUsage
    usage.keepsUsageChunk = table.boolean("keep-usage-chunk") ?? usage.keepsUsageChunk
    usage.decodesContent = word(table, "content-coding", of: ["narrow", "decode"]) == "decode"
    usage.unitsField = fieldName(table) ?? usage.unitsField
    usage.mostUnits = table.integer("most-units", in: 0...1_000_000_000_000).map { UInt64($0) } ?? usage.mostUnits
    usage.bodyLimit = table.size("usage-body-limit", in: 1024...(64 << 20)).map { Int($0) } ?? usage.bodyLimit
    route.usage = usage
  }

  /// Reports keys of usage on a route none of whose prices counts what they are about.
  static func checkUsage(_ table: TableReader, _ prices: [Price]) {
    let needed = [
      (tokenKeys, prices.contains { $0.countsTokens }, "a price per input or output tokens"),
      (unitKeys, prices.contains { $0.countsUnits }, "a price per unit"),
      (["over-budget"], prices.contains { $0.isComposite }, "a price per token, event, second or unit"),
    ]
    for (keys, isUsed, expected) in needed where !isUsed {
      for key in keys where table.has(key) { table.report(.conflict, key, expected: expected) }
    }
  }

  private static func format(_ table: TableReader) -> String? {
    let name = word(table, "usage-format", of: ["auto"] + Settings.UsageReading.formats)
    return name == "auto" ? nil : name
  }

  /// Reads one of a few words.
  private static func word(_ table: TableReader, _ key: String, of words: [String]) -> String? {
    let expected = words.map { "\"\($0)\"" }.joined(separator: ", ")
    guard let text = table.string(key, expected: expected) else { return nil }
    guard words.contains(text) else {
      table.report(.invalidValue, key, expected: expected, nearest: Nearest.name(to: text, in: words))
      return nil
    }
    return text
  }

  private static func fieldName(_ table: TableReader) -> String? {
    let marks = Set("!#$%&'*+-.^_`|~".utf8)
    return table.string("units-field", expected: "the name of a response field, such as \"Metered-Units\"") { name in
      (1...64).contains(name.utf8.count)
        && name.utf8.allSatisfy { ($0 >= 0x30 && $0 <= 0x39) || ($0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x7A) || marks.contains($0) }
    }
  }
}
