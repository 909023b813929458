import Foundation
import Testing

@testable import Coding

/// The same numbers for the same seed, everywhere.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

@Suite struct ContentDecoderFuzzTests {
  private static let codings: [(ContentCoding, @Sendable ([UInt8]) -> [UInt8])] = [
    (.gzip, Encoders.gzip), (.deflate, { Encoders.deflated($0, windowBits: 15) }), (.deflate, { Encoders.deflated($0, windowBits: -15) }),
    (.brotli, Encoders.brotli), (.zstandard, { Encoders.zstandard($0) }),
  ]

  @Test func survivesWhatWasChangedOnTheWay() throws {
    let environment = ProcessInfo.processInfo.environment
    let seed = environment["FAREBOX_FUZZ_SEED"].flatMap { UInt64($0) } ?? 1
    let seconds = environment["FAREBOX_FUZZ_SECONDS"].flatMap { Double($0) } ?? 1
    let end = Date().addingTimeInterval(seconds)
    var generator = SplitMix(state: seed)
    let limits = CodingLimits(octets: 1 << 20, ratio: 64, allowance: 64 << 10)
    var rounds = 0
    while Date() < end || rounds < 50 {
      rounds += 1
      let (coding, encode) = Self.codings.randomElement(using: &generator)!
      let plain = (0..<Int.random(in: 0...3000, using: &generator)).map { _ in UInt8(truncatingIfNeeded: generator.next() % 23) }
      var coded = encode(plain)
      let changes = Int.random(in: 0...3, using: &generator)
      for _ in 0..<changes where !coded.isEmpty {
        let place = Int.random(in: 0..<coded.count, using: &generator)
        switch Int.random(in: 0...2, using: &generator) {
        case 0: coded[place] = UInt8(truncatingIfNeeded: generator.next())
        case 1: coded.remove(at: place)
        default: coded.insert(UInt8(truncatingIfNeeded: generator.next()), at: place)
        }
      }
      var out: [UInt8] = []
      do {
        var decoder = try started(coding, limits: limits)
        var start = 0
        while start < coded.count {
          let count = min(Int.random(in: 1...700, using: &generator), coded.count - start)
          try Array(coded[start..<start + count]).withUnsafeBytes { octets in try decoder.decode(octets) { out += $0 } }
          start += count
        }
        try decoder.finish()
      } catch is CodingError {
        #expect(changes > 0, "seed \(seed), round \(rounds)")
      }
      #expect(changes > 0 || out == plain, "seed \(seed), round \(rounds)")
      #expect(out.count <= 1 << 20)
    }
  }
}
