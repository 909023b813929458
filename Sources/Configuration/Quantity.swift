/// Reads times and sizes as people write them: `30s`, `5 min`, `64 KiB`, `10 MB`.
enum Quantity {
  /// The units of time in nanoseconds.
  private static let times: [(name: String, factor: Int64)] = [
    ("ms", 1_000_000), ("s", 1_000_000_000), ("min", 60_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
  ]

  /// The units of size in octets: MB is 10^6, MiB 2^20.
  private static let sizes: [(name: String, factor: Int64)] = [
    ("B", 1), ("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40),
  ]

  /// Reads a time; nil where it is none, is negative, or passes a hundred years.
  static func duration(_ text: String) -> Duration? {
    guard let nanoseconds = product(text, times), nanoseconds <= 3_155_760_000 * 1_000_000_000 else { return nil }
    return .nanoseconds(nanoseconds)
  }

  /// Reads a size in octets; nil where it is none or is negative.
  static func size(_ text: String) -> UInt64? {
    product(text, sizes).map { UInt64($0) }
  }

  /// The units of fees, in wei.
  private static let fees: [(name: String, factor: Int64)] = [("wei", 1), ("gwei", 1_000_000_000)]
  /// The highest fee for a unit of gas that is ever meant, in wei: a million gwei.
  private static let feeLimit: Int64 = 1_000_000_000_000_000

  /// Reads a fee for a unit of gas in wei; nil where it is none, is zero, or is beyond reason.
  static func wei(_ text: String) -> UInt128? {
    guard let wei = product(text, fees), (1...feeLimit).contains(wei) else { return nil }
    return UInt128(wei)
  }

  /// Writes a fee in whole gwei where it is that, else in wei: `50 gwei`.
  static func words(wei: UInt128) -> String {
    let (gwei, rest) = wei.quotientAndRemainder(dividingBy: 1_000_000_000)
    return rest == 0 ? "\(gwei) gwei" : "\(wei) wei"
  }

  /// Writes a time in its largest whole unit: `5 min`.
  static func words(_ duration: Duration) -> String {
    let (seconds, attoseconds) = duration.components
    if attoseconds != 0 { return "\(seconds * 1000 + attoseconds / 1_000_000_000_000_000) ms" }
    for (unit, factor) in [("d", Int64(86_400)), ("h", 3600), ("min", 60)] where seconds >= factor && seconds % factor == 0 {
      return "\(seconds / factor) \(unit)"
    }
    return "\(seconds) s"
  }

  /// Writes a size in its largest whole binary or decimal unit: `64 KiB`.
  static func words(_ octets: UInt64) -> String {
    for (unit, factor) in sizes.reversed() where octets >= UInt64(factor) && octets % UInt64(factor) == 0 && factor > 1 {
      return "\(octets / UInt64(factor)) \(unit)"
    }
    return "\(octets) B"
  }

  /// Multiplies a decimal number, with up to three digits after the point, by the unit that follows it.
  private static func product(_ text: String, _ units: [(name: String, factor: Int64)]) -> Int64? {
    let number = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    let unit = text.dropFirst(number.count).drop { $0 == " " }
    guard let factor = units.first(where: { $0.name == unit })?.factor else { return nil }
    let parts = number.split(separator: ".", omittingEmptySubsequences: false)
    guard (1...2).contains(parts.count), let whole = Int64(parts[0]) else { return nil }
    let (base, overflows) = whole.multipliedReportingOverflow(by: factor)
    guard !overflows else { return nil }
    guard parts.count == 2 else { return base }
    guard (1...3).contains(parts[1].count), let digits = Int64(parts[1]) else { return nil }
    let scale: Int64 = [10, 100, 1000][parts[1].count - 1]
    let (scaled, overflow) = digits.multipliedReportingOverflow(by: factor)
    guard !overflow, scaled % scale == 0 else { return nil }
    let (sum, carries) = base.addingReportingOverflow(scaled / scale)
    return carries ? nil : sum
  }
}
