/// Something that holds for whatever octets a peer sends.
///
/// The tests try it on mutated samples, `scripts/fuzz --coverage` on what libFuzzer finds to reach new code. A finding is reproduced from
/// its octets alone: what else a property chooses, as where to cut, it derives from them.
struct Property: Sendable, CustomStringConvertible {
  /// The name of its folders of inputs, and what `scripts/fuzz` calls it.
  let name: String
  /// What is mutated first.
  let samples: [[UInt8]]
  let check: @Sendable ([UInt8]) throws -> Void

  init(_ name: String, _ samples: [[UInt8]], _ check: @escaping @Sendable ([UInt8]) throws -> Void) {
    self.name = name
    self.samples = samples
    self.check = check
  }

  init(_ name: String, _ samples: [String], _ check: @escaping @Sendable ([UInt8]) throws -> Void) {
    self.init(name, samples.map { Array($0.utf8) }, check)
  }

  var description: String { name }

  static let all: [Property] = codecs + credentials + sessions + ethereum + messages + words + usages + contents
}

/// Says how a property was broken.
struct Violation: Error, CustomStringConvertible {
  let description: String
}

/// Requires a condition, as of anything that holds always.
func require(_ condition: Bool, _ description: @autoclosure () -> String) throws {
  if !condition { throw Violation(description: description()) }
}

/// A small generator with a seed, so that every finding replays.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  /// Takes its seed from octets (FNV-1a).
  init(from octets: [UInt8]) { state = octets.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 } }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

/// Up to five places where octets are cut, in order; the same for the same octets.
func cuts(of octets: [UInt8]) -> [Int] {
  guard !octets.isEmpty else { return [] }
  var generator = SeededGenerator(from: octets)
  return (0..<Int.random(in: 1...5, using: &generator)).map { _ in Int.random(in: 0..<octets.count, using: &generator) }.sorted()
}
