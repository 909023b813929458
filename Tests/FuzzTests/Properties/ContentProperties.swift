import Bytes
import Coding

private let coded: [[UInt8]] = [
  // gzip, zlib, deflate, Brotli and Zstandard of "hello hello hello hello".
  [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 2, 3, 0xCB, 0x48, 0xCD, 0xC9, 0xC9, 0x57, 0xC8, 0x40, 0x27, 0, 0x1D, 0xFF, 0xBB, 0xD0, 0x17, 0, 0, 0],
  [0x78, 0x9C, 0xCB, 0x48, 0xCD, 0xC9, 0xC9, 0x57, 0xC8, 0x40, 0x27, 0, 0x6B, 0x57, 0x08, 0xB5], [0xCB, 0x48, 0xCD, 0xC9, 0xC9, 0x57, 0xC8, 0x40, 0x27, 0],
  [0x0B, 0x02, 0x80, 0x68, 0x65, 0x6C, 0x6C, 0x6F, 0x03], [0x28, 0xB5, 0x2F, 0xFD, 0x20, 0x05, 0x29, 0, 0, 0x68, 0x65, 0x6C, 0x6C, 0x6F],
]

private func decoded(_ octets: [UInt8], _ cuts: [Int], _ coding: ContentCoding, _ limits: CodingLimits) throws -> (octets: [UInt8], error: CodingError?) {
  var output: [UInt8] = []
  do throws(CodingError) {
    guard var decoder = try ContentDecoder(coding, limits: limits) else { return ([], nil) }
    var start = 0
    for end in cuts + [octets.count] {
      try octets.withUnsafeBufferPointer { (all) throws(CodingError) in
        try decoder.decode(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(all)[start..<end])) { output += $0 }
      }
      start = end
    }
    try decoder.finish()
  } catch { return (output, error) }
  return (output, nil)
}

extension Property {
  /// Coded content, as upstreams send it.
  static let contents: [Property] = [
    Property("content-codings", coded) { octets in
      let limits = CodingLimits(octets: 1 << 16, ratio: 64, allowance: 4 << 10)
      for coding in [ContentCoding.gzip, .deflate, .brotli, .zstandard] {
        let cuts = cuts(of: octets)
        let (whole, pieces) = (try decoded(octets, [], coding, limits), try decoded(octets, cuts, coding, limits))
        try require(whole.octets.count <= 1 << 16 && pieces.octets.count <= 1 << 16, "\(coding): more than the limit came out")
        if coding == .zstandard, (whole.error == nil) != (pieces.error == nil) {
          // libzstd compares a frame's declared size with what came out only where the frame comes whole, or its last block is not empty.
          let longer = whole.octets.count > pieces.octets.count ? whole.octets : pieces.octets
          try require(longer.starts(with: whole.octets) && longer.starts(with: pieces.octets), "\(coding): \(whole) in one, \(pieces) cut at \(cuts)")
        } else if whole.error == nil || pieces.error == nil {
          try require(whole == pieces, "\(coding): \(whole) in one, \(pieces) cut at \(cuts)")
        }
      }
    },
  ]
}
