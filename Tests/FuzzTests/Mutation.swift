import Foundation

/// Changes samples as a fuzzer does: octets flipped, removed, repeated, exchanged for ones that parsers find special,
/// pieces of other samples spliced in.
struct Mutation {
  private static let special: [[UInt8]] = [
    [0], [0x0A], [0x0D], [0x0D, 0x0A], [0x0D, 0x0A, 0x0D, 0x0A], [0x20], [0x09], [0x22], [0x5C], [0x2C], [0x3B], [0x3A], [0x25], [0x2E, 0x2E], [0x2F], [0x7F], [0x80], [0xC3, 0x28], [0xED, 0xA0, 0x80], [0xFF],
    Array("Content-Length: 5\r\n".utf8), Array("Transfer-Encoding: chunked\r\n".utf8), Array("%2f".utf8), Array("%2e".utf8), Array("\\ud800".utf8), Array("1e309".utf8), Array("18446744073709551616".utf8), Array("event: payment-".utf8),
  ]

  let samples: [[UInt8]]

  func callAsFunction(_ generator: inout SeededGenerator) -> [UInt8] {
    var octets = samples.randomElement(using: &generator)!
    for _ in 0..<Int.random(in: 0...6, using: &generator) {
      let position = Int.random(in: 0...octets.count, using: &generator)
      switch Int.random(in: 0..<6, using: &generator) {
      case 0 where !octets.isEmpty: octets[position % octets.count] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
      case 1 where !octets.isEmpty: octets.remove(at: position % octets.count)
      case 2: octets.insert(contentsOf: Self.special.randomElement(using: &generator)!, at: position)
      case 3:
        let end = Int.random(in: position...octets.count, using: &generator)
        octets.insert(contentsOf: Array(octets[position..<end].prefix(64)), at: position)
      case 4: octets.removeLast(min(octets.count, Int.random(in: 0...8, using: &generator)))
      default:
        let other = samples.randomElement(using: &generator)!
        octets = Array(octets.prefix(position)) + other.suffix(Int.random(in: 0...other.count, using: &generator))
      }
    }
    return octets
  }
}

/// How long each property is tried, and from which seed: `FAREBOX_FUZZ_SECONDS` (default 0.3) and `FAREBOX_FUZZ_SEED`.
enum Fuzzing {
  static let seconds = ProcessInfo.processInfo.environment["FAREBOX_FUZZ_SECONDS"].flatMap(Double.init) ?? 0.3
  static let seed = ProcessInfo.processInfo.environment["FAREBOX_FUZZ_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 0..<UInt64.max)

  /// Tries `property` on mutated samples until the time is up; gives how many were tried.
  static func run(_ name: String, _ samples: [String], _ property: ([UInt8], inout SeededGenerator) throws -> Void) rethrows -> Int {
    try run(name, samples.map { Array($0.utf8) }, property)
  }

  /// Tries `property` on mutated samples of octets.
  static func run(_ name: String, _ samples: [[UInt8]], _ property: ([UInt8], inout SeededGenerator) throws -> Void) rethrows -> Int {
    var generator = SeededGenerator(seed: seed)
    let mutation = Mutation(samples: samples)
    let end = Date(timeIntervalSinceNow: seconds)
    var count = 0
    while count % 64 != 0 || Date() < end {
      try property(mutation(&generator), &generator)
      count += 1
    }
    print("\(name): \(count) inputs from seed \(seed)")
    return count
  }
}
