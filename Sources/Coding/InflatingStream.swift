internal import CZlib

/// zlib's state: gzip (RFC 1952), zlib (RFC 1950) or deflate alone (RFC 1951).
final class InflatingStream {
  /// How the deflated octets are wrapped.
  enum Wrapping {
    case gzip, zlib, none

    /// What zlib calls it, with the largest window.
    fileprivate var windowBits: Int32 {
      switch self {
      case .gzip: 15 + 16
      case .zlib: 15
      case .none: -15
      }
    }
  }

  /// The first octet of a gzip member.
  private static let gzipMark: UInt8 = 0x1F

  private let stream: z_streamp
  private let wrapping: Wrapping

  init(_ wrapping: Wrapping) throws(CodingError) {
    self.wrapping = wrapping
    stream = .allocate(capacity: 1)
    stream.initialize(to: z_stream())
    guard zlib_start_inflating(stream, wrapping.windowBits) == Z_OK else {
      // Safe because: zlib keeps nothing of a stream that it refused.
      stream.deallocate()
      throw .outOfMemory
    }
  }

  deinit {
    // Safe because: the stream was started, at this address, and this object is its only owner.
    inflateEnd(stream)
    stream.deallocate()
  }

  func step(_ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) throws(CodingError) -> CodingStep {
    let offered = min(input.count, Int(UInt32.max))
    // Safe because: both pointers are used during the call only, and zlib does not write to its input.
    stream.pointee.next_in = UnsafeMutablePointer(mutating: input.baseAddress?.assumingMemoryBound(to: UInt8.self))
    stream.pointee.avail_in = UInt32(offered)
    stream.pointee.next_out = output.baseAddress?.assumingMemoryBound(to: UInt8.self)
    stream.pointee.avail_out = UInt32(clamping: output.count)
    let result = inflate(stream, Z_NO_FLUSH)
    let consumed = offered - Int(stream.pointee.avail_in)
    let produced = min(output.count, Int(UInt32.max)) - Int(stream.pointee.avail_out)
    stream.pointee.next_in = nil
    stream.pointee.next_out = nil
    switch result {
    case Z_STREAM_END: return CodingStep(consumed: consumed, produced: produced, state: .ended)
    // Z_BUF_ERROR says only that nothing could be done.
    case Z_OK, Z_BUF_ERROR:
      return CodingStep(consumed: consumed, produced: produced, state: stream.pointee.avail_out == 0 ? .needsOutput : .needsInput)
    case Z_MEM_ERROR: throw .outOfMemory
    default: throw .malformed
    }
  }

  func beginNext(_ rest: UnsafeRawBufferPointer) -> Bool {
    guard case .gzip = wrapping, rest.first == Self.gzipMark else { return false }
    return inflateReset(stream) == Z_OK
  }
}
