import Bytes

/// Shortens octets that are mostly zeros, as the images of records are: numbers of sixteen octets with small values in them.
///
/// The length (4 octets, little-endian), then for each eight octets one whose bits say which of them are not zero, the first at the lowest
/// bit, and those octets. The last group may be short.
enum Squeezing {
  /// Octets of a group.
  private static let groupCount = 8
  /// Octets of the length.
  private static let headerCount = 4

  /// Appends the short form of `octets`.
  static func append(_ octets: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
    out.put(UInt32(octets.count))
    let groups = (octets.count + groupCount - 1) / groupCount
    out.withUnsafeWritable(minimumCapacity: groups * (groupCount + 1)) { room in
      var written = 0
      var offset = 0
      while offset < octets.count {
        // Safe because: a group writes its bits and at most its octets, and there is room for that many times all groups.
        let place = written
        var bits: UInt8 = 0
        written &+= 1
        if octets.count &- offset >= groupCount {
          let group = UInt64(littleEndian: octets.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
          if group != 0 {
            for index in 0..<groupCount {
              let octet = UInt8(truncatingIfNeeded: group >> UInt64(groupCount &* index))
              room[written] = octet
              let isKept: UInt8 = octet != 0 ? 1 : 0
              bits |= isKept << UInt8(truncatingIfNeeded: index)
              written &+= Int(isKept)
            }
          }
        } else {
          for index in 0..<(octets.count &- offset) where octets[offset &+ index] != 0 {
            room[written] = octets[offset &+ index]
            bits |= 1 << UInt8(truncatingIfNeeded: index)
            written &+= 1
          }
        }
        room[place] = bits
        offset &+= groupCount
      }
      return written
    }
  }

  /// Appends the octets whose short form `short` is; false, and nothing appended, where it is none.
  static func expand(_ short: UnsafeRawBufferPointer, to out: inout ByteBuffer) -> Bool {
    guard short.count >= headerCount else { return false }
    let count = Int(UInt32(littleEndian: short.loadUnaligned(as: UInt32.self)))
    // No group is shorter than its bits, so damage cannot ask for memory without end.
    guard count <= (short.count - headerCount) * groupCount else { return false }
    let start = out.count
    var offset = headerCount
    var left = count
    while left > 0 {
      guard offset < short.count else { break }
      let bits = short[offset]
      offset += 1
      let length = min(groupCount, left)
      guard bits.nonzeroBitCount <= short.count - offset, Int(bits) < 1 << length else { break }
      for index in 0..<length {
        let isKept = bits & (1 << UInt8(index)) != 0
        out.append(byte: isKept ? short[offset] : 0)
        if isKept { offset += 1 }
      }
      left -= length
    }
    if left == 0, offset == short.count { return true }
    out.truncate(to: start)
    return false
  }
}
