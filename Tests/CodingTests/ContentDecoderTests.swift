import Testing

@testable import Coding

private struct Sample: CustomStringConvertible, Sendable {
  let name: String
  let coding: ContentCoding
  let encode: @Sendable ([UInt8]) -> [UInt8]
  var description: String { name }
}

private let samples: [Sample] = [
  Sample(name: "gzip", coding: .gzip, encode: Encoders.gzip),
  Sample(name: "gzip, stored", coding: .gzip) { Encoders.deflated($0, windowBits: 31, level: 0) },
  Sample(name: "gzip, two members", coding: .gzip) { octets in
    Encoders.gzip(Array(octets[..<(octets.count / 3)])) + Encoders.gzip(Array(octets[(octets.count / 3)...]))
  },
  Sample(name: "gzip, an empty member first", coding: .gzip) { Encoders.gzip([]) + Encoders.gzip($0) },
  Sample(name: "deflate", coding: .deflate) { Encoders.deflated($0, windowBits: 15) },
  Sample(name: "deflate without wrapping", coding: .deflate) { Encoders.deflated($0, windowBits: -15) },
  Sample(name: "br", coding: .brotli, encode: Encoders.brotli),
  Sample(name: "zstd", coding: .zstandard) { Encoders.zstandard($0) },
  Sample(name: "zstd, two frames", coding: .zstandard) { octets in
    Encoders.zstandard(Array(octets[..<(octets.count / 2)])) + Encoders.zstandard(Array(octets[(octets.count / 2)...]), level: 9)
  },
  Sample(name: "zstd, a skippable frame between", coding: .zstandard) { octets in
    Encoders.zstandard(Array(octets[..<(octets.count / 2)])) + [0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3]
      + Encoders.zstandard(Array(octets[(octets.count / 2)...]))
  },
]

private let stream = Array(
  (0..<40).map { "data: {\"id\":\"chunk-\($0)\",\"choices\":[{\"delta\":{\"content\":\"word \($0 * 7919 % 101)\"}}]}\n\n" }.joined().utf8)

/// A decoder for content that is coded.
func started(_ coding: ContentCoding, limits: CodingLimits = .standard) throws(CodingError) -> ContentDecoder {
  guard let decoder = try ContentDecoder(coding, limits: limits) else { preconditionFailure("there is nothing to decode") }
  return decoder
}

/// Decodes pieces; what came out, and how it ended.
private func decoded(_ coding: ContentCoding, _ pieces: [ArraySlice<UInt8>], limits: CodingLimits = .standard) -> (octets: [UInt8], error: CodingError?) {
  var out: [UInt8] = []
  do throws(CodingError) {
    guard var decoder = try ContentDecoder(coding, limits: limits) else { return (pieces.flatMap { $0 }, nil) }
    for piece in pieces {
      let octets = Array(piece)
      try octets.span.bytes.withUnsafeBytes { (octets) throws(CodingError) in try decoder.decode(octets) { out += $0 } }
    }
    try decoder.finish()
    return (out, nil)
  } catch {
    return (out, error)
  }
}

@Suite struct ContentDecoderTests {
  @Test(arguments: samples) private func decodesAtEverySplitPoint(_ sample: Sample) {
    let coded = sample.encode(stream)
    for cut in 0...coded.count {
      let (octets, error) = decoded(sample.coding, [coded[..<cut], coded[cut...]])
      #expect(octets == stream && error == nil, "\(sample.name) cut at \(cut)")
    }
  }

  @Test(arguments: samples) private func decodesOctetByOctet(_ sample: Sample) {
    let coded = sample.encode(stream)
    let (octets, error) = decoded(sample.coding, coded.indices.map { coded[$0...$0] })
    #expect(octets == stream && error == nil)
  }

  @Test(arguments: samples) private func comesOutInBoundedPieces(_ sample: Sample) throws {
    var generator = SplitMix(state: 7)
    let long = (0..<300_000).map { _ in UInt8(truncatingIfNeeded: generator.next() % 16) }
    let coded = sample.encode(long)
    var out: [UInt8] = []
    var largest = 0
    var decoder = try started(sample.coding)
    try coded.withUnsafeBytes { octets in
      try decoder.decode(octets) { piece in
        largest = max(largest, piece.count)
        out += piece
      }
    }
    try decoder.finish()
    #expect(out == long)
    #expect(largest <= ContentDecoder.pieceSize)
    #expect(decoder.produced == UInt64(long.count) && decoder.consumed == UInt64(coded.count))
  }

  @Test(arguments: samples) private func tellsWhereItWasCutShort(_ sample: Sample) {
    let coded = sample.encode(stream)
    // Where a first member ends, what came is whole for all that anybody can know.
    let isSeveral = sample.name.contains(",")
    for cut in 1..<coded.count {
      let (octets, error) = decoded(sample.coding, [coded[..<cut]])
      #expect(stream.starts(with: octets))
      #expect(error == .truncated || (isSeveral && error == nil), "\(sample.name) cut at \(cut)")
    }
    #expect(decoded(sample.coding, []).error == nil)
  }

  @Test func refusesWhatFollowsTheEnd() {
    for (coding, coded) in [
      (ContentCoding.gzip, Encoders.gzip(stream)), (.deflate, Encoders.deflated(stream, windowBits: 15)), (.brotli, Encoders.brotli(stream)),
    ] {
      #expect(decoded(coding, [coded[...], [0x20]]).error == .trailingOctets)
      #expect(decoded(coding, [(coded + [0x20])[...]]).error == .trailingOctets)
    }
    #expect(decoded(.zstandard, [Encoders.zstandard(stream)[...], [1, 2, 3, 4, 5, 6, 7, 8]]).error == .malformed)
  }

  @Test(arguments: [ContentCoding.gzip, .deflate, .brotli, .zstandard]) func refusesOtherOctets(_ coding: ContentCoding) {
    let (_, error) = decoded(coding, [Array("{\"usage\":{\"prompt_tokens\":1}}".utf8)[...]])
    #expect(error == .malformed || error == .truncated)
  }

  @Test func staysRefusedAfterAnError() throws {
    var decoder = try started(.gzip)
    let wrong = Array("not gzip at all".utf8)
    for _ in 0..<2 {
      #expect(throws: CodingError.malformed) { try wrong.withUnsafeBytes { try decoder.decode($0) { _ in } } }
    }
    #expect(throws: CodingError.malformed) { try decoder.finish() }
  }

  @Test(arguments: samples) private func bombsEndEarly(_ sample: Sample) throws {
    // What nothing compresses is none.
    guard sample.name != "gzip, stored" else { return }
    let bomb = sample.encode([UInt8](repeating: 0x41, count: 40 << 20))
    var produced = 0
    // Deflate cannot do more than the standard limits allow, but for the total.
    let isDeflated = sample.coding == .gzip || sample.coding == .deflate
    var decoder = try started(sample.coding, limits: isDeflated ? CodingLimits(octets: 16 << 20) : .standard)
    #expect(throws: CodingError.tooLarge) { try bomb.withUnsafeBytes { try decoder.decode($0) { produced += $0.count } } }
    #expect(produced <= Int(CodingLimits.standard.allowance) + bomb.count * Int(CodingLimits.standard.ratio))
    #expect(produced < 20 << 20)
  }

  @Test func repetitiveTextIsNoBomb() {
    // Events like these a model sends that repeats itself: a thousand octets come out of one.
    let events = Array(repeating: Array("data: {\"choices\":[{\"delta\":{\"content\":\"na \"}}]}\n\n".utf8), count: 150_000).flatMap { $0 }
    let coded = Encoders.gzip(events)
    #expect(coded.count * 200 < events.count && events.count < 8 << 20)
    let (octets, error) = decoded(.gzip, [coded[...]], limits: CodingLimits(allowance: 1))
    #expect(error == nil && octets.count == events.count)
    for (coding, coded) in [(ContentCoding.brotli, Encoders.brotli(events)), (.zstandard, Encoders.zstandard(events))] {
      #expect(decoded(coding, [coded[...]]).error == nil)
    }
  }

  @Test func theTotalIsBounded() {
    let limits = CodingLimits(octets: 1000)
    let (octets, error) = decoded(.gzip, [Encoders.gzip(stream)[...]], limits: limits)
    #expect(error == .tooLarge)
    #expect(octets.count <= 1000)
  }

  @Test func largeWindowsAreRefused() throws {
    // A frame header that asks for a window of 128 MiB: magic, no content size, window descriptor 0x88, and an empty last block.
    let frame: [UInt8] = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x88, 0x01, 0x00, 0x00]
    #expect(decoded(.zstandard, [frame[...]]).error == .outOfMemory)
  }

  @Test func readsTheFieldsValue() {
    func coding(_ text: String) -> ContentCoding { ContentCoding(Array(text.utf8).span.bytes) }
    #expect(coding("") == .identity)
    #expect(coding("identity") == .identity)
    #expect(coding(" GZip ") == .gzip)
    #expect(coding("x-gzip") == .gzip)
    #expect(coding("deflate") == .deflate)
    #expect(coding("br,") == .brotli)
    #expect(coding("identity , zstd") == .zstandard)
    #expect(coding("gzip, br") == .unreadable)
    #expect(coding("gzip, gzip") == .unreadable)
    #expect(coding("compress") == .unreadable)
    #expect(coding("gzi") == .unreadable)
    #expect(coding("gzip;q=1") == .unreadable)
    var two = ContentCoding.identity
    two.add(.gzip)
    two.add(.identity)
    #expect(two == .gzip)
    two.add(.brotli)
    #expect(two == .unreadable)
    #expect(throws: CodingError.malformed) { _ = try ContentDecoder(.unreadable) }
  }
}
