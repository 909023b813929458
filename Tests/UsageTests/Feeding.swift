import Bytes
import Usage

/// A small generator with a seed, so that every finding replays.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

/// Cuts octets at the given offsets.
func pieces(_ octets: [UInt8], at cuts: [Int]) -> [ArraySlice<UInt8>] {
  let bounds = [0] + cuts.sorted() + [octets.count]
  return zip(bounds, bounds.dropFirst()).map { octets[$0..<$1] }
}

/// Cuts octets into pieces of a random length each.
func pieces(_ octets: [UInt8], upTo length: Int, _ generator: inout SeededGenerator) -> [ArraySlice<UInt8>] {
  var result: [ArraySlice<UInt8>] = []
  var start = 0
  while start < octets.count {
    let end = min(octets.count, start + Int.random(in: 1...length, using: &generator))
    result.append(octets[start..<end])
    start = end
  }
  return result
}

/// What a reader knows at the end.
struct Knowledge: Equatable, CustomStringConvertible {
  var usage: TokenUsage?
  var isFinal: Bool
  var outcome: UsageReader.Outcome
  var octets: UInt64
  var malformed: UInt64

  init(_ usage: TokenUsage?, final: Bool = true, _ outcome: UsageReader.Outcome = .done, octets: UInt64, malformed: UInt64 = 0) {
    self.usage = usage
    isFinal = final
    self.outcome = outcome
    self.octets = octets
    self.malformed = malformed
  }

  init(_ reader: UsageReader) {
    self.init(reader.usage, final: reader.hasFinalUsage, reader.outcome, octets: reader.contentOctets, malformed: reader.malformedRecords)
  }

  var description: String {
    let tokens = usage.map { "(\($0.input), \($0.cachedInput), \($0.output), \($0.cacheWrite))" } ?? "nil"
    return "\(tokens) final \(isFinal) \(outcome) octets \(octets) malformed \(malformed)"
  }
}

func read(_ pieces: [ArraySlice<UInt8>], _ format: UsageFormat, _ framing: UsageFraming) -> UsageReader {
  var reader = UsageReader(format: format, framing: framing)
  for piece in pieces { piece.withUnsafeBytes { reader.read($0) } }
  reader.finish()
  return reader
}

func read(_ text: String, _ format: UsageFormat, _ framing: UsageFraming) -> Knowledge {
  Knowledge(read([Array(text.utf8)[...]], format, framing))
}

/// Reads a text whole, cut once at every place, and octet by octet; all must come to the same.
func readEverySplit(_ text: String, _ format: UsageFormat, _ framing: UsageFraming) -> Set<String> {
  let octets = Array(text.utf8)
  var found: Set<String> = [Knowledge(read([octets[...]], format, framing)).description]
  for cut in 0...octets.count { found.insert(Knowledge(read(pieces(octets, at: [cut]), format, framing)).description) }
  found.insert(Knowledge(read(octets.indices.map { octets[$0...$0] }, format, framing)).description)
  return found
}

extension String {
  /// The text with the first occurrence of a part exchanged.
  func exchanging(_ part: String, for other: String) -> String {
    let octets = Array(utf8)
    let sought = Array(part.utf8)
    guard let start = (0...max(0, octets.count - sought.count)).first(where: { octets[$0...].starts(with: sought) }) else { return self }
    return String(decoding: octets[..<start] + Array(other.utf8) + octets[(start + sought.count)...], as: UTF8.self)
  }
}
